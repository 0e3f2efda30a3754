"""The asynchronous client: one connection, any number of tasks, each with its own request on the way.

Owns a link and the courier that uses it. The one rule: the verbs, their parameters and what they promise are
those of `Client`; only the waiting differs. Runs on anyio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from sessiond_client.aioarchive import AsyncArchive
from sessiond_client.aiocatalogue import AsyncCatalogue
from sessiond_client.aiocourier import AsyncCourier
from sessiond_client.aiofollow import AsyncFollower
from sessiond_client.aiolink import AsyncLink
from sessiond_client.aiosession import AsyncRecorder, AsyncRecordingSession
from sessiond_client.autostart import Connector
from sessiond_client.client import TIMEOUT_SECONDS, spool_of
from sessiond_client.errors import DaemonUnavailable
from sessiond_client.protocol import checked
from sessiond_client.requests import can_wait, end_request, fork_request, start_request, take_over_request
from sessiond_client.spool import Spool, leftovers
from sessiond_client.version import CLIENT_NAME
from sessiond_client.wire.messages import (
    RECORDED_ENV_DEFAULT,
    Append,
    Appended,
    EndReason,
    Follow,
    NewEvent,
    Ping,
    ReplyT,
    Request,
    Session,
    Source,
    Status,
    StatusReply,
    StatusRequest,
    Welcome,
)

__all__ = ["AsyncClient", "AsyncFollower", "AsyncRecorder", "AsyncRecordingSession"]


class AsyncClient(AsyncCatalogue, AsyncArchive):
    """A connection to the daemon, made by `async with AsyncClient.connect() as client`.

    Tasks may share it; their requests travel together. It does not survive a fork.
    """

    def __init__(self, link: AsyncLink, timeout: float, spool: bool | None) -> None:
        self._link = link
        self._timeout = timeout
        link.spool = None if spool is None else spool_of(link)
        self._courier = AsyncCourier(link, timeout, link.spool if spool else None)

    @classmethod
    def connect(
        cls,
        path: Path | None = None,
        *,
        autostart: bool | None = None,
        timeout: float = TIMEOUT_SECONDS,
        name: str = CLIENT_NAME,
        spool: bool | None = True,
    ) -> AbstractAsyncContextManager[Self]:
        """Connect to the daemon at `path` (default: the user's), starting it if need be.

        `autostart` None: unless `SESSIOND_AUTOSTART` is 0. `timeout` is what every later verb may take in
        all. With `spool`, where no daemon can be reached this returns all the same, and `start`, `append` and
        `end` are kept on disk until one takes them over; without, it raises `DaemonUnavailable`. Either way
        it returns only once the daemon has what waited there before, so that this is read, too; with None it
        does not wait for that. Raises `ProtocolError` if the daemon speaks another version.
        """
        return cls._connected(AsyncLink(Connector(path, autostart), name), timeout, spool)

    @property
    def path(self) -> Path:
        """The daemon's socket."""
        return self._link.connector.path

    @property
    def autostart(self) -> bool:
        """Whether this client starts a daemon where none answers."""
        return self._link.connector.autostart

    @property
    def welcome(self) -> Welcome:
        """The daemon's last greeting: its version, pid and data directory.

        Raises `DaemonUnavailable` if there was none yet.
        """
        welcome = self._link.protocol.welcome
        if welcome is None:
            raise DaemonUnavailable(self.path, "it has not answered yet")
        return welcome

    @property
    def spooled(self) -> int:
        """How many requests of this client wait in the spool, as far as it knows."""
        return self._courier.spool.waiting if self._courier.spool else 0

    @property
    def spool_dir(self) -> Path | None:
        """Where they wait; None: this client was connected without a spool."""
        return self._courier.spool.directory if self._courier.spool else None

    @property
    def spool(self) -> Spool | None:
        """The spool, for whoever records beside this client; None: it was connected without one."""
        return self._courier.spool

    async def take_over(self, directory: Path) -> int:
        """Have the daemon take over what recorders left in their `spill_dir`; how many files it could not."""
        protocol = self._link.protocol
        await self.call(take_over_request(protocol.producer, protocol.name, directory))
        return len(await anyio.to_thread.run_sync(leftovers, directory))

    async def call(self, request: Request[ReplyT], *, timeout: float | None = None) -> ReplyT:
        """Send any request of the wire and return its reply; a lost connection is made again meanwhile.

        `timeout` takes the place of the one given to `connect`. Raises `RequestFailed` if it is refused,
        `DaemonUnavailable` if it could not be sent, `ConnectionLost` if it was sent and the answer did not
        come in time. A `Start` with a ULID, an `End`, and an `Append` with `producer` and `n` but without
        `expect` go to the spool instead, if there is one; then `NotSpooled` if they cannot.
        """
        waits = can_wait(request)
        return checked(request, await self._courier.exchange(lambda: request, timeout, waits=waits))

    async def start(
        self,
        name: str | None = None,
        *,
        source: Source | str = Source.APP,
        ulid: str | None = None,
        cli_version: str | None = None,
        engine_base_url: str | None = None,
        parent_ulid: str | None = None,
        shell: str | None = None,
        os: str | None = None,
        hostname: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
        owner_pid: int | None = None,
        started_at: datetime | None = None,
    ) -> AsyncRecordingSession:
        """Begin a session. `owner_pid`: whose end ends it (default: this process; 0: nobody's).

        `cwd` and `env` default to those of this process; of `env`, what the daemon records. Where it waits in
        the spool, the `next_seq` of its `info` is `SPOOLED`, and the name is what was asked for.
        """
        welcome = self._link.protocol.welcome
        request = start_request(
            name,
            source=source,
            ulid=ulid,
            cli_version=cli_version,
            engine_base_url=engine_base_url,
            parent_ulid=parent_ulid,
            shell=shell,
            os=os,
            hostname=hostname,
            cwd=cwd,
            env=env,
            tags=tags,
            meta=meta,
            owner_pid=owner_pid,
            started_at=started_at,
            recorded_env=RECORDED_ENV_DEFAULT if welcome is None else welcome.env,
        )
        info = (await self.call(request)).session
        return AsyncRecordingSession(self, info.ulid, info)

    async def append(
        self, session: str, events: Sequence[NewEvent], *, expect: int | None = None
    ) -> Appended:
        """Add events to a session, all or none; they are on disk when this returns, and stored once.

        Where they are on disk in the spool, `first` and `last` are `SPOOLED`: the daemon numbers them when it
        takes them over. With `expect`, only if the session's `next_seq` is that; else `RequestFailed`
        (`conflict`); such an append never waits in the spool.
        """
        request = Append(session=session, events=list(events), expect=expect)
        protocol = self._link.protocol

        def numbered() -> Append:
            return msgspec.structs.replace(request, producer=protocol.producer, n=protocol.next_n())

        return checked(request, await self._courier.exchange(numbered, waits=expect is None))

    async def end(
        self,
        session: str,
        *,
        status: Status | str = Status.COMPLETED,
        end_reason: EndReason | str = EndReason.STOPPED,
        exit_code: int | None = None,
        ended_at: datetime | None = None,
    ) -> Session:
        """End a session and seal its file. Ending it again returns the first end.

        Where it waits in the spool, what is returned has the ULID and the end only; `next_seq` is `SPOOLED`.
        """
        return (await self.call(end_request(session, status, end_reason, exit_code, ended_at))).session

    async def fork(
        self, session: str, *, at: int | None = None, name: str | None = None, owner_pid: int | None = None
    ) -> AsyncRecordingSession:
        """Begin a child of a session, from its event `at` on (default: its last; -1: before its first).

        No events are copied; `read` with `inherit` gives those of the parent first. The parent goes on as it
        was. `owner_pid` as in `start`; without `name`, that of the parent gets a suffix.
        """
        info = (await self.call(fork_request(session, at, name, owner_pid))).session
        return AsyncRecordingSession(self, info.ulid, info)

    def follow(self, session: str | None = None, *, after: int | None = None) -> AsyncFollower:
        """Events as they are committed, of one session or of all; on a connection of its own.

        `after`: a seq (of all sessions: a position), -1 from the start, None only what is new. The
        subscription stands once the iterator is awaited, entered or first iterated. It ends when the session
        ends; close it, or use it in an `async with` block, to stop earlier.
        """
        link = AsyncLink(Connector(self.path, self.autostart), self._link.protocol.name)
        return AsyncFollower(link, Follow(session=session, after=after), self._timeout)

    async def status(self) -> StatusReply:
        """The daemon's health."""
        return await self.call(StatusRequest())

    async def ping(self) -> None:
        """Return when the daemon has answered."""
        await self.call(Ping())

    def session(self, ulid: str) -> AsyncRecordingSession:
        """A handle on a session that exists; nothing is asked."""
        return AsyncRecordingSession(self, ulid)

    async def close(self) -> None:
        """Close the connection, and leave what waits to the daemon. A later verb makes a new one."""
        self._courier.hang_up()
        await anyio.lowlevel.checkpoint()

    @classmethod
    @asynccontextmanager
    async def _connected(cls, link: AsyncLink, timeout: float, spool: bool | None) -> AsyncIterator[Self]:
        """A client while its tasks run. The caller's own exception leaves as it is, in no group."""
        client = cls(link, timeout, spool)
        await client._courier.greet()
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client._courier.receive)
                tasks.start_soon(link.drain)
                try:
                    yield client
                except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            link.close()
            client._courier.hang_up()
        if failure is not None:
            raise failure
