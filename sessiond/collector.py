"""Takes over what clients wrote into the spool while no daemon could be reached.

Owns the rounds in which that is done, and the sessions for what comes after an end. The one rule: a line is
done through the same handlers as a request on a connection, is marked once it is answered, and only then does
the next chunk begin; so whatever cuts a round short, the next one goes on there and stores nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import msgspec

from sessiond import processes
from sessiond.clock import Clock
from sessiond.commits import Wakeup
from sessiond.decoding import BadMessage, decode_request
from sessiond.errors import Refused, RowUnreadable, StorageFailed, internal
from sessiond.handlers import Handlers
from sessiond.reader import Reader
from sessiond.spooled import Backlog, Item, NoSpoolFile, SpooledFile, require_private, waiting
from sessiond.storage.catalog import get_session
from sessiond.storage.files import SessionFiles
from sessiond.storage.operations import Owner
from sessiond.storage.recovery import Counters
from sessiond_client.wire.messages import (
    NAME_LENGTH_MAX,
    Append,
    End,
    Error,
    ErrorCode,
    Reply,
    Session,
    Start,
    Status,
)
from sessiond_client.wire.spool import Spoolable

DIRECTORIES_MAX = 16
"""So many places that clients have named are remembered."""

RETRY_SECONDS = 2.0
"""While something cannot be stored (the disk is full), it is tried again after this."""

REST_SUFFIX = "-rest"

_ULID_TIME_LETTERS = 10
_ULID_RANDOM_LETTERS = 16
_PASSING = {ErrorCode.BUSY, ErrorCode.CORRUPT, ErrorCode.DISK_FULL, ErrorCode.READ_ONLY}
"""Refusals that pass: what they concern waits, and all that comes after it."""

T = TypeVar("T")

logger = logging.getLogger("sessiond.spool")


class Replay:
    """Stands where a connection would, for the lines of one chunk; replies are told apart by their ids."""

    def __init__(self, handlers: Handlers) -> None:
        self.producer: str | None = None
        self._handlers = handlers
        self._written_at = 0.0
        self._replies: dict[int, asyncio.Future[Reply]] = {}

    def ask(
        self, request: Spoolable, size: int, producer: str | None, written_at: float
    ) -> asyncio.Future[Reply]:
        """Have a request done as one of this producer, written at this Unix time or before."""
        self.producer = producer
        self._written_at = written_at
        number = len(self._replies) + 1
        answered = self._replies[number] = asyncio.get_running_loop().create_future()
        self._handlers.store(self, msgspec.structs.replace(request, id=number), size)
        return answered

    def reply(self, reply: Reply, size: int) -> None:  # noqa: ARG002 - as a connection has it
        """Answer a request."""
        answered = self._replies[reply.id]
        if not answered.cancelled():
            answered.set_result(reply)

    def owner_of(self, pid: int | None) -> Owner | None:
        """Whose end ends the session: the process of this number that was there when the line was written."""
        return processes.identify_before(pid, self._written_at) if pid else None


class Refusal(NamedTuple):
    """A line that will never be stored, and why."""

    item: Item
    code: str


class Collector:
    """`run` works until it is cancelled. `counters` are those of the recovery, which `status` shows."""

    def __init__(
        self,
        directories: Sequence[Path],
        handlers: Handlers,
        reader: Reader,
        files: SessionFiles,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._directories = list(dict.fromkeys(directories))
        self._handlers = handlers
        self._reader = reader
        self._files = files
        self._clock = clock
        self._counters = counters
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collector")
        self._work = Wakeup()
        self._work.set()
        self._asked: list[anyio.Event] = []
        self._rests: dict[tuple[str, str], str] = {}
        """The sessions begun for what came after an end, by producer and the session that had ended."""
        self._is_stuck = False
        self._is_stopping = False
        self._hindrance = ""
        """Why the last round came to nothing, if it did."""
        self._passed_over: set[Path] = set()

    # --- when

    def look(self) -> None:
        """There may be something to take over."""
        self._work.set()

    async def settled(self) -> None:
        """Return once everything that waits now was taken over, as far as it can be."""
        done = anyio.Event()
        self._asked.append(done)
        self._work.set()
        await done.wait()

    async def take_over(self, directory: str) -> int:
        """Take over what waits in a directory that a client names; how many files stay. Raises Refused."""
        path = Path(directory)
        if not path.is_absolute():
            raise Refused(ErrorCode.INVALID, f"{directory} is no absolute path", "send one", field="spool")
        await self._in_thread(lambda: require_private(path))
        if path not in self._directories:
            del self._directories[DIRECTORIES_MAX - 1 :]
            self._directories.append(path)
        await self.settled()
        return await self._in_thread(lambda: waiting([path])) if self._is_stuck else 0

    def waits(self) -> bool:
        """Whether there is anything that may have to be taken over; for the start, as it blocks."""
        return waiting(self._directories) > 0

    async def run(self) -> None:
        """Take over, whenever there may be something."""
        while True:
            with anyio.move_on_after(RETRY_SECONDS if self._is_stuck else None):
                await self._work.wait()
            asked, self._asked = self._asked, []
            await self._round()
            for done in asked:
                done.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_stopping = True

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=True)

    # --- one round

    async def _round(self) -> None:
        self._is_stuck = False
        backlog = Backlog(self._directories)
        try:
            await self._in_thread(backlog.open)
            while not self._is_stopping and not self._is_stuck:
                chunk = await self._in_thread(backlog.take)
                await self._set_aside(backlog)
                if not chunk and not backlog.ended:
                    break
                done, refused = await self._replay(chunk)
                await self._in_thread(partial(self._finish, backlog, chunk, done, refused))
            if not self._is_stuck:
                await self._end_rests()
        except (OSError, Refused) as error:
            self._put_off(error)
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001 - what waits stays where it is, and the daemon serves on
            self._put_off(error, unforeseen=True)
        else:
            self._hindrance = ""
        finally:
            self._thread.submit(backlog.close)

    def _put_off(self, error: Exception, *, unforeseen: bool = False) -> None:
        """Try again later, and say why once."""
        self._is_stuck = True
        if str(error) != self._hindrance:
            self._hindrance = str(error)
            logger.error(
                "the spool cannot be taken over yet",
                extra={"reason": str(error)},
                exc_info=error if unforeseen else None,
            )

    async def _replay(self, chunk: Sequence[Item]) -> tuple[list[Item], list[Refusal]]:
        """Do these lines; returns those that are stored, and those that never will be."""
        replay = Replay(self._handlers)
        done: list[Item] = []
        refused: list[Refusal] = []
        asked: list[tuple[Item, Spoolable, asyncio.Future[Reply]]] = []
        for item in chunk:
            try:
                request = _request(item.line)
            except Refused as refusal:
                refused.append(Refusal(item, refusal.code))
            else:
                answer = replay.ask(request, len(item.line), item.file.producer, item.file.written_at)
                asked.append((item, request, answer))
        for item, request, answer in asked:
            reply = await answer
            if isinstance(request, Append) and _came_too_late(reply):
                reply = await self._store_in_rest(item, request, reply)
            if not isinstance(reply, Error):
                done.append(item)
            elif reply.code in _PASSING:
                self._is_stuck = True
            else:
                refused.append(Refusal(item, reply.code))
        return done, refused

    def _finish(
        self, backlog: Backlog, chunk: Sequence[Item], done: Sequence[Item], refused: Sequence[Refusal]
    ) -> None:
        """In the thread: keep what was refused, mark what is dealt with, remove the files that are done."""
        self._keep_refused(refused)
        dealt = [*done, *(refusal.item for refusal in refused)]
        self._count("spooled_requests_taken", len(done))
        whole = len(dealt) == len(chunk)
        ended = set(backlog.ended) if whole else set()
        by_file: dict[SpooledFile, list[int]] = {}
        for item in dealt:
            if item.file not in ended:
                by_file.setdefault(item.file, []).append(item.start)
        for file, starts in by_file.items():
            file.mark(starts)
        for file in ended:
            if file.torn:
                self._keep(file, "torn", file.torn)
                self._count("spool_tails_torn")
            file.remove()
        if whole:
            backlog.ended.clear()

    def _keep_refused(self, refused: Sequence[Refusal]) -> None:
        """Lines that will never be stored go into the quarantine, as a file that could be taken over."""
        together: dict[tuple[SpooledFile, str], list[bytes]] = {}
        for (file, _, line), code in refused:
            together.setdefault((file, code), [file.hello]).append(line)
        for (file, code), lines in together.items():
            self._keep(file, code, b"".join(lines))
            self._count("spooled_requests_refused", len(lines) - 1)

    def _keep(self, file: SpooledFile, reason: str, data: bytes) -> None:
        name = f"{file.path.name}.{reason}-{self._clock.now()}"
        self._files.keep(name, [data])
        logger.error("kept of the spool", extra={"path": str(file.path), "reason": reason, "kept": name})

    async def _set_aside(self, backlog: Backlog) -> None:
        while backlog.damaged:
            finding = backlog.damaged.pop()
            await self._in_thread(partial(self._set_one_aside, finding))

    def _set_one_aside(self, finding: NoSpoolFile) -> None:
        if finding.path in self._passed_over:
            return
        try:
            kept = self._files.set_aside(finding.path, finding.reason, self._clock.now())
        except OSError as error:
            self._passed_over.add(finding.path)
            logger.error("spool file passed over", extra={"path": str(finding.path), "reason": str(error)})  # noqa: TRY400
            return
        self._count("spool_files_refused")
        logger.error("spool file set aside", extra={"path": str(finding.path), "kept": str(kept)})

    def _count(self, what: str, number: int = 1) -> None:
        if number:
            self._counters.add(what, number)

    # --- what came after an end

    async def _store_in_rest(self, item: Item, request: Append, refusal: Reply) -> Reply:
        """Events of a session that has ended meanwhile go into one of their own, its child."""
        try:
            ended = await self._reader.ask(lambda database: get_session(database, request.session))
        except RowUnreadable as unread:
            # The next start mends a damaged database; a damaged row would hold up the rest for ever.
            logger.error(  # noqa: TRY400
                "a session cannot be read", extra={"session": request.session, "reason": unread.message}
            )
            return internal().reply(0)
        except Refused as unread:
            return unread.reply(0)
        except Exception:
            logger.exception("a session cannot be read", extra={"session": request.session})
            return internal().reply(0)
        producer = item.file.producer
        if ended is None or ended.status is Status.RECORDING or producer is None:
            return refusal
        replay = Replay(self._handlers)
        if (producer, ended.ulid) not in self._rests:
            rest = _rest_of(ended, producer)
            assert rest.ulid is not None
            began = await replay.ask(rest, 0, producer, time.time())
            if isinstance(began, Error):
                return began
            self._rests[producer, ended.ulid] = rest.ulid
        moved = msgspec.structs.replace(request, session=self._rests[producer, ended.ulid])
        return await replay.ask(moved, len(item.line), producer, item.file.written_at)

    async def _end_rests(self) -> None:
        replay = Replay(self._handlers)
        for ulid in self._rests.values():
            await replay.ask(End(session=ulid), 0, None, 0)
        self._rests.clear()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _request(line: bytes) -> Spoolable:
    """The request in a line. Raises Refused for what is none, or could be stored twice."""
    try:
        request = decode_request(line)
    except BadMessage as bad:
        raise bad.refusal from None
    match request:
        case Append():
            safe = request.producer is not None and request.n is not None
        case Start():
            safe = request.ulid is not None
        case _:
            safe = isinstance(request, End)
    if not safe:
        raise Refused(ErrorCode.INVALID, "no request that can wait in the spool")
    assert isinstance(request, Spoolable)
    return request


def _came_too_late(reply: Reply) -> bool:
    """Whether the session has ended, or this append went elsewhere for that reason the last time."""
    if not isinstance(reply, Error):
        return False
    return reply.code is ErrorCode.SESSION_ENDED or (reply.code is ErrorCode.INVALID and reply.field == "n")


def _rest_of(ended: Session, producer: str) -> Start:
    """The session for the rest. Its id follows from both, so that another try finds the same session.

    It is ours: should we be killed, the next round goes on with it before it is interrupted.
    """
    digest = hashlib.sha256(f"{producer}{ended.ulid}".encode()).hexdigest().upper()
    return Start(
        ulid=producer[:_ULID_TIME_LETTERS] + digest[:_ULID_RANDOM_LETTERS],
        name=ended.name[: NAME_LENGTH_MAX - len(REST_SUFFIX)] + REST_SUFFIX,
        source=ended.source,
        cli_version=ended.cli_version,
        parent_ulid=ended.ulid,
        shell=ended.shell,
        os=ended.os,
        hostname=ended.hostname,
        cwd=ended.cwd,
        env=ended.env,
        tags=ended.tags,
        meta={"rest_of": ended.ulid},
        owner_pid=os.getpid(),
    )
