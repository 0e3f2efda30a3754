"""The blocking client: one connection, any number of threads, one request at a time.

Owns a `Link` and the courier that uses it. The one rule: every verb is one request and one reply, and either
returns what the daemon answered or raises one of `sessiond_client.errors`. `AsyncClient` has the same verbs.
Where no daemon can be reached, `start`, `append` and `end` go to the spool, and it takes them over later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from sessiond_client import paths
from sessiond_client.archive import Archive
from sessiond_client.autostart import Connector
from sessiond_client.catalogue import Catalogue
from sessiond_client.courier import Courier
from sessiond_client.errors import DaemonUnavailable
from sessiond_client.follow import Follower
from sessiond_client.link import Link
from sessiond_client.protocol import checked
from sessiond_client.requests import can_wait, end_request, fork_request, start_request, take_over_request
from sessiond_client.session import RecordingSession
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

if TYPE_CHECKING:
    from sessiond_client.aiolink import AsyncLink

TIMEOUT_SECONDS = 30.0
"""How long a verb may take, reconnecting included, unless `connect` is told otherwise."""


class Client(Catalogue, Archive):
    """A connection to the daemon. Made by `Client.connect`; close it, or use it as a context manager.

    Threads may share it. A process forked from this one gets a connection of its own on first use.
    """

    def __init__(self, link: Link, spool: bool | None) -> None:
        self._link = link
        self._spool = spool
        self._courier = self._new_courier()

    def _new_courier(self) -> Courier:
        self._link.spool = None if self._spool is None else spool_of(self._link)
        return Courier(self._link, self._link.spool if self._spool else None)

    @classmethod
    def connect(
        cls,
        path: Path | None = None,
        *,
        autostart: bool | None = None,
        timeout: float = TIMEOUT_SECONDS,
        name: str = CLIENT_NAME,
        spool: bool | None = True,
    ) -> Self:
        """Connect to the daemon at `path` (default: the user's), starting it if need be.

        `autostart` None: unless `SESSIOND_AUTOSTART` is 0. `timeout` is what every later verb may take in
        all. With `spool`, where no daemon can be reached this returns all the same, and `start`, `append` and
        `end` are kept on disk until one takes them over; without, it raises `DaemonUnavailable`. Either way
        it returns only once the daemon has what waited there before, so that this is read, too; with None it
        does not wait for that. Raises `ProtocolError` if the daemon speaks another version.
        """
        client = cls(Link(Connector(path, autostart), timeout, name), spool)
        client._courier.greet()
        return client

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
        self._renew_after_fork()
        return self._courier.spool

    def take_over(self, directory: Path) -> int:
        """Have the daemon take over what recorders left in their `spill_dir`; how many files it could not."""
        protocol = self._link.protocol
        self.call(take_over_request(protocol.producer, protocol.name, directory))
        return len(leftovers(directory))

    def call(self, request: Request[ReplyT], *, timeout: float | None = None) -> ReplyT:
        """Send any request of the wire and return its reply; a lost connection is made again meanwhile.

        `timeout` takes the place of the one given to `connect`. Raises `RequestFailed` if it is refused,
        `DaemonUnavailable` if it could not be sent, `ConnectionLost` if it was sent and the answer did not
        come in time. A `Start` with a ULID, an `End`, and an `Append` with `producer` and `n` but without
        `expect` go to the spool instead, if there is one; then `NotSpooled` if they cannot.
        """
        self._renew_after_fork()
        return checked(request, self._courier.exchange(lambda: request, timeout, waits=can_wait(request)))

    def start(
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
    ) -> RecordingSession:
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
        info = self.call(request).session
        return RecordingSession(self, info.ulid, info)

    def append(self, session: str, events: Sequence[NewEvent], *, expect: int | None = None) -> Appended:
        """Add events to a session, all or none; they are on disk when this returns, and stored once.

        Where they are on disk in the spool, `first` and `last` are `SPOOLED`: the daemon numbers them when it
        takes them over. With `expect`, only if the session's `next_seq` is that; else `RequestFailed`
        (`conflict`); such an append never waits in the spool.
        """
        self._renew_after_fork()
        request = Append(session=session, events=list(events), expect=expect)
        protocol = self._link.protocol

        def numbered() -> Append:
            return msgspec.structs.replace(request, producer=protocol.producer, n=protocol.next_n())

        return checked(request, self._courier.exchange(numbered, waits=expect is None))

    def end(
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
        return self.call(end_request(session, status, end_reason, exit_code, ended_at)).session

    def fork(
        self, session: str, *, at: int | None = None, name: str | None = None, owner_pid: int | None = None
    ) -> RecordingSession:
        """Begin a child of a session, from its event `at` on (default: its last; -1: before its first).

        No events are copied; `read` with `inherit` gives those of the parent first. The parent goes on as it
        was. `owner_pid` as in `start`; without `name`, that of the parent gets a suffix.
        """
        info = self.call(fork_request(session, at, name, owner_pid)).session
        return RecordingSession(self, info.ulid, info)

    def follow(self, session: str | None = None, *, after: int | None = None) -> Follower:
        """Events as they are committed, of one session or of all; on a connection of its own.

        `after`: a seq (of all sessions: a position), -1 from the start, None only what is new. The iterator
        ends when the session ends; close it, or use it in a `with` block, to stop earlier.
        """
        connector = Connector(self.path, self.autostart)
        return Follower(
            Link(connector, self._link.timeout, self._link.name), Follow(session=session, after=after)
        )

    def status(self) -> StatusReply:
        """The daemon's health."""
        return self.call(StatusRequest())

    def ping(self) -> None:
        """Return when the daemon has answered."""
        self.call(Ping())

    def session(self, ulid: str) -> RecordingSession:
        """A handle on a session that exists; nothing is asked."""
        return RecordingSession(self, ulid)

    def close(self) -> None:
        """Close the connection, and leave what waits to the daemon. A later verb makes a new one."""
        self._renew_after_fork()
        self._courier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _renew_after_fork(self) -> None:
        """In a forked child: a fresh lock too, for another thread of the parent may have held the old one."""
        if self._link.inherited:
            self._link.renew()
            self._courier = self._new_courier()


def spool_of(link: Link | AsyncLink) -> Spool:
    """The spool for what a link cannot deliver."""
    protocol = link.protocol
    return Spool(paths.spool_dir(link.connector.path), protocol.producer, protocol.name)
