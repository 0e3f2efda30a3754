"""What each request does.

The one rule: a request that writes goes to the writer, one that reads to a reader; nothing here touches a
store, and each request gets exactly one reply.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import apsw
import msgspec
from anyio.abc import TaskGroup
from msgspec import UNSET, Raw
from ulid import ULID

from sessiond import __version__, checks
from sessiond.adopter import Adopter
from sessiond.answering import submit
from sessiond.clock import Clock, time_text
from sessiond.commits import Commits
from sessiond.config import Config
from sessiond.connection import Asker, Connection
from sessiond.distrust import Distrust
from sessiond.errors import Refused, StorageFailed, internal
from sessiond.follower import Follower
from sessiond.metadata import Metadata
from sessiond.owners import Owners
from sessiond.reader import Reader
from sessiond.searching import Searching
from sessiond.server import Server
from sessiond.settler import Settler
from sessiond.storage import catalog
from sessiond.storage.commit.operations import Appended as AppendedRange
from sessiond.storage.commit.operations import (
    AppendEvents,
    EndSession,
    SaveSession,
    StartSession,
    Stored,
)
from sessiond.storage.lineage import read_chain
from sessiond.verifying import Verifying
from sessiond.writer import Writer
from sessiond_client.wire import messages
from sessiond_client.wire.messages import EndReason, ErrorCode, Reply, Session, Status
from sessiond_client.wire.spool import Spoolable

FOLLOWS_PER_CONNECTION_MAX = 64

logger = logging.getLogger("sessiond.handlers")


class Handlers:
    """Does the requests of all connections."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        writer: Writer,
        reader: Reader,
        adopter: Adopter,
        commits: Commits,
        owners: Owners,
        server: Server,
        metadata: Metadata,
        searching: Searching,
        verifying: Verifying,
        settler: Settler,
        recovery: dict[str, int],
        distrust: Distrust | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._writer = writer
        self._reader = reader
        self._adopter = adopter
        self._commits = commits
        self._owners = owners
        self._server = server
        self._metadata = metadata
        self._settler = settler
        self._recovery = recovery
        self._distrust = distrust
        self._began = clock.monotonic()
        self._env = set(config.settings.record.env)
        machine = os.uname()
        self._system = f"{machine.sysname} {machine.release} {machine.machine}"
        self._hostname = machine.nodename
        self._follows: dict[tuple[Connection, int], anyio.CancelScope] = {}
        self._tasks: TaskGroup | None = None
        self.on_closed: Callable[[], None] = lambda: None
        self.take_over: Callable[[str, str | None], Awaitable[int]] = _leave
        """Takes over what waits in a spool; how many files a producer has to wait for."""
        self._verbs: dict[type, Callable[[Connection, Any, int], None]] = {
            messages.Append: self._append,
            messages.Start: self._start,
            messages.End: self._end,
            messages.Save: self._save,
            messages.Adopt: self._adopt,
            messages.Hello: self._hello,
            messages.Get: self._get,
            messages.Find: self._find,
            messages.List: self._list,
            messages.Read: self._read,
            messages.CountRequest: self._count,
            messages.Follow: self._follow,
            messages.Cancel: self._cancel,
            messages.StatusRequest: self._status,
            messages.Ping: self._ping,
            **metadata.verbs(),
            **searching.verbs(),
            **verifying.verbs(),
        }

    @property
    def refusing(self) -> ErrorCode | None:
        """Why nothing can be stored just now; None: something can."""
        return self._writer.refusing

    def start(self, tasks: TaskGroup) -> None:
        """Run in this task group what goes on after a request was taken."""
        self._tasks = tasks
        self._metadata.start(tasks)

    def handle(self, connection: Connection, request: messages.AnyRequest, size: int) -> None:
        """Do a request."""
        try:
            self._verbs[type(request)](connection, request, size)
        except Refused as refusal:
            connection.reply(refusal.reply(request.id), size)
        except Exception:
            # A fault of ours must not leave its sender waiting, nor end the others' service.
            logger.exception("a request failed", extra={"request": type(request).__name__})
            connection.reply(internal().reply(request.id), size)

    def store(self, asker: Asker, request: Spoolable, size: int) -> None:
        """Do a request that waited in the spool; exactly one reply to it follows."""
        try:
            match request:
                case messages.Start():
                    self._start(asker, request, size)
                case messages.Append():
                    self._append(asker, request, size)
                case messages.End():
                    self._end(asker, request, size)
        except Refused as refusal:
            asker.reply(refusal.reply(request.id), size)
        except Exception:
            logger.exception("a request failed", extra={"request": type(request).__name__})
            asker.reply(internal().reply(request.id), size)

    def closed(self, connection: Connection) -> None:
        """End the follows of a connection that is gone; it may have left something in the spool."""
        self.on_closed()
        for key in [key for key in self._follows if key[0] is connection]:
            self._follows[key].cancel()

    # --- requests that write -----------------------------------------------------------------------------

    def _append(self, asker: Asker, request: messages.Append, size: int) -> None:
        checks.check_append(request, size)
        operation = AppendEvents(
            session=request.session,
            events=request.events,
            received_at=self._clock.now(),
            expect=request.expect,
            producer=request.producer,
            n=request.n,
        )

        def done(stored: AppendedRange) -> None:
            reply = messages.Appended(
                id=request.id, session=request.session, first=stored.first, last=stored.last
            )
            asker.reply(reply, size)

        submit(self._writer, asker, request, size, operation, done)

    def _start(self, asker: Asker, request: messages.Start, size: int) -> None:
        now = self._clock.now()
        checks.check_meta(request.meta, "meta")
        owner = asker.owner_of(request.owner_pid)
        operation = StartSession(
            ulid=request.ulid or str(ULID()),
            name=request.name,
            source=request.source,
            started_at=now if request.started_at is None else checks.moment(request.started_at, "started_at"),
            received_at=now,
            producer=asker.producer,
            owner=owner,
            cli_version=request.cli_version,
            engine_base_url=request.engine_base_url,
            parent_ulid=request.parent_ulid,
            shell=request.shell,
            os=self._system if request.os is None else request.os,
            hostname=self._hostname if request.hostname is None else request.hostname,
            cwd=request.cwd,
            env=self._kept(request.env, "env"),
            tags=checks.normalised_tags(request.tags),
            meta=request.meta,
        )

        def done(session: Session) -> None:
            if owner is not None and session.status is Status.RECORDING:
                self._owners.watch(session.ulid, owner)
            asker.reply(messages.Started(id=request.id, session=session), size)

        submit(self._writer, asker, request, size, operation, done)

    def _kept(self, env: dict[str, str], field: str) -> dict[str, str]:
        """The variables that are recorded. Raises Refused if they are too large."""
        kept = {name: value for name, value in env.items() if name in self._env}
        checks.check_env(kept, field)
        return kept

    def _end(self, asker: Asker, request: messages.End, size: int) -> None:
        if request.status is Status.RECORDING:
            raise Refused(
                ErrorCode.INVALID,
                "a session cannot end as `recording`",
                "say completed or interrupted",
                field="status",
            )
        operation = EndSession(
            session=request.session,
            status=request.status,
            end_reason=request.end_reason,
            ended_at=self._clock.now()
            if request.ended_at is None
            else checks.moment(request.ended_at, "ended_at"),
            exit_code=request.exit_code,
        )

        def done(session: Session) -> None:
            self._owners.unwatch(session.ulid)
            asker.reply(messages.Ended(id=request.id, session=session), size)

        submit(self._writer, asker, request, size, operation, done)

    def _save(self, connection: Connection, request: messages.Save, size: int) -> None:
        checks.check_saved(request, size)
        header, footer = request.header, request.footer
        ended_at = None if footer is None else time_text(checks.moment(footer.ended_at, "footer.ended_at"))
        session = Session(
            ulid=header.ulid or "",
            name=header.name or "",
            source=header.source,
            status=Status.INTERRUPTED if footer is None else footer.status,
            started_at=time_text(checks.moment(header.started_at, "header.started_at")),
            ended_at=ended_at,
            end_reason=EndReason.IMPORTED if footer is None else footer.end_reason,
            exit_code=None if footer is None else footer.exit_code,
            cli_version=header.cli_version,
            engine_base_url=header.engine_base_url,
            parent_ulid=header.parent_ulid,
            parent_seq=header.parent_seq,
            shell=header.shell,
            os=header.os,
            hostname=header.hostname,
            cwd=header.cwd,
            env=self._kept(header.env, "header.env"),
            tags=checks.normalised_tags(header.tags, "header.tags"),
            meta=header.meta,
        )

        def done(stored: Stored) -> None:
            reply = messages.Saved(id=request.id, session=stored.session, existed=stored.existed)
            connection.reply(reply, size)

        operation = SaveSession(session=session, events=request.events)
        submit(self._writer, connection, request, size, operation, done)

    def _adopt(self, connection: Connection, request: messages.Adopt, size: int) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._run_adoption, connection, request, size)

    async def _run_adoption(self, connection: Connection, request: messages.Adopt, size: int) -> None:
        reply: Reply
        try:
            stored, damage = await self._adopter.adopt(request.path, lambda: connection.is_awaited)
            reply = messages.Saved(
                id=request.id, session=stored.session, existed=stored.existed, damage=damage
            )
        except Refused as refusal:
            reply = refusal.reply(request.id)
        except StorageFailed:
            raise
        except Exception:
            logger.exception("a request failed", extra={"request": "Adopt"})
            reply = internal().reply(request.id)
        connection.reply(reply, size)

    # --- requests that read ------------------------------------------------------------------------------

    def _ask(
        self, connection: Connection, request: messages.AnyRequest, size: int,
        question: Callable[[apsw.Connection], Reply],
    ) -> None:  # fmt: skip
        connection.ask(request.id, size, partial(self._reader.ask, question))

    def _get(self, connection: Connection, request: messages.Get, size: int) -> None:
        self._ask(
            connection,
            request,
            size,
            lambda db: messages.SessionReply(id=request.id, session=catalog.get_session(db, request.session)),
        )

    def _find(self, connection: Connection, request: messages.Find, size: int) -> None:
        self._ask(
            connection,
            request,
            size,
            lambda db: messages.SessionReply(
                id=request.id,
                session=catalog.find_session(db, request.needle, trashed=request.trashed),
            ),
        )

    def _list(self, connection: Connection, request: messages.List, size: int) -> None:
        if request.limit == 0:
            connection.reply(messages.Sessions(id=request.id, sessions=[]), size)
            return
        any_tags = checks.normalised_tags(request.tags)
        all_tags = checks.normalised_tags(request.tags_all, "tags_all")

        def question(db: apsw.Connection) -> Reply:
            sessions, cursor, unreadable = catalog.list_sessions(db, request, any_tags, all_tags)
            page = messages.Sessions(id=request.id, sessions=sessions, next=cursor)
            return msgspec.structs.replace(page, unreadable=unreadable) if unreadable else page

        self._ask(connection, request, size, question)

    def _read(self, connection: Connection, request: messages.Read, size: int) -> None:
        def question(db: apsw.Connection) -> Reply:
            page = read_chain(db, request) if request.inherit else catalog.read_events(db, request)
            cursor = page.last if request.tail is None else page.first
            lines = [Raw(line) for line in page.lines]
            return messages.Events(id=request.id, events=lines, next=cursor if page.more else None)

        self._ask(connection, request, size, question)

    def _count(self, connection: Connection, request: messages.CountRequest, size: int) -> None:
        def question(db: apsw.Connection) -> Reply:
            events, commands = catalog.counts(db, request.session)
            return messages.Counted(id=request.id, events=events, commands=commands)

        self._ask(connection, request, size, question)

    # --- following ---------------------------------------------------------------------------------------

    def _follow(self, connection: Connection, request: messages.Follow, size: int) -> None:
        assert self._tasks is not None
        key = (connection, request.id)
        mine = sum(owner is connection for owner, _ in self._follows)
        if key in self._follows:
            raise Refused(
                ErrorCode.INVALID, f"a follow with id {request.id} is running", "use another id", field="id"
            )
        if mine >= FOLLOWS_PER_CONNECTION_MAX:
            raise Refused(
                ErrorCode.BUSY, f"{mine} follows on one connection", "cancel one, or open another connection"
            )
        self._follows[key] = anyio.CancelScope()
        self._tasks.start_soon(self._run_follow, key, Follower(connection, request, size))

    async def _run_follow(self, key: tuple[Connection, int], follower: Follower) -> None:
        connection, _ = key
        connection.hold()
        try:
            with self._follows[key]:
                await follower.run(self._reader, self._commits)
        except Exception:
            logger.exception("a request failed", extra={"request": "Follow"})
            await connection.notify(internal().reply(key[1]))
        finally:
            del self._follows[key]
            connection.release()

    def _cancel(self, connection: Connection, request: messages.Cancel, size: int) -> None:
        scope = self._follows.get((connection, request.id))
        if scope is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no follow with id {request.id} is running")
        scope.cancel()
        connection.reply(messages.Cancelled(id=request.id), size)

    # --- about the daemon --------------------------------------------------------------------------------

    def _hello(self, connection: Connection, request: messages.Hello, size: int) -> None:
        if request.protocol != messages.PROTOCOL_VERSION:
            raise Refused(
                ErrorCode.UNSUPPORTED_PROTOCOL,
                f"this daemon speaks protocol {messages.PROTOCOL_VERSION}, not {request.protocol}",
                "bring client and daemon to the same version, and restart the daemon",
            )
        connection.producer = request.producer
        if request.spool is None:
            connection.reply(self._welcome(request, msgspec.UNSET), size)
        else:
            # As a question: what this connection reads from now on is answered after it, with what waited.
            connection.ask(request.id, size, partial(self._welcome_later, request, request.spool))

    async def _welcome_later(self, request: messages.Hello, spool: str) -> Reply:
        return self._welcome(request, await self.take_over(spool, request.producer))

    def _welcome(self, request: messages.Hello, waiting: int | msgspec.UnsetType) -> messages.Welcome:
        return messages.Welcome(
            id=request.id,
            protocol=messages.PROTOCOL_VERSION,
            version=__version__,
            pid=os.getpid(),
            data_dir=str(self._config.data_dir),
            env=list(self._config.settings.record.env),
            waiting=waiting,
        )

    def _ping(self, connection: Connection, request: messages.Ping, size: int) -> None:
        connection.reply(messages.Pong(id=request.id), size)

    def _status(self, connection: Connection, request: messages.StatusRequest, size: int) -> None:
        connection.ask(request.id, size, partial(self._health, request.id))

    async def _health(self, request_id: int) -> Reply:
        writer = self._writer
        distrust = self._distrust
        times = sorted(writer.commit_seconds)
        return messages.StatusReply(
            id=request_id,
            version=__version__,
            pid=os.getpid(),
            data_dir=str(self._config.data_dir),
            sqlite_version=apsw.sqlite_lib_version(),
            uptime_seconds=round(self._clock.monotonic() - self._began, 3),
            sessions_recording=await self._sessions_recording(),
            connections=self._server.connection_count,
            followers=self._commits.followers,
            queue_length=writer.queue_length,
            events_committed=writer.events_committed,
            commits=writer.commit_count,
            commit_p50_ms=_percentile_ms(times, 0.50),
            commit_p99_ms=_percentile_ms(times, 0.99),
            lagging_files=sorted(writer.lagging | self._settler.lagging),
            recovery=self._recovery,
            refusing=writer.refusing if distrust is None else ErrorCode.READ_ONLY,
            read_only=UNSET if distrust is None else distrust.reason,
            read_only_since=UNSET if distrust is None else distrust.since,
        )

    async def _sessions_recording(self) -> int:
        sql = "SELECT count(*) FROM session WHERE status = 'recording' AND shelf = 'kept'"
        try:
            return await self._reader.ask(lambda db: int(db.execute(sql).get))
        except Refused:
            # A disk that is not even read any more must not keep us from saying so.
            if self._distrust is None:
                raise
            return 0


async def _leave(_spool: str, _producer: str | None) -> int:
    """A daemon that only reads takes nothing over: whatever waits stays."""
    return 1


def _percentile_ms(ordered: list[float], fraction: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] * 1000, 3)
