"""A handle on one session of the daemon, as `Client.start` and `Client.session` give it.

The one rule: it keeps nothing but the session's ULID and what was last heard of it; every verb asks the
daemon. Leaving its `with` block ends the session, in the process that entered it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from sessiond_client.errors import SessiondError
from sessiond_client.events import EventPage, event
from sessiond_client.filters import EventFilters
from sessiond_client.requests import merged
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import (
    READ_LIMIT_DEFAULT,
    Appended,
    Counted,
    EndReason,
    Labelled,
    NewEvent,
    Session,
    Status,
)

if TYPE_CHECKING:
    from sessiond_client.client import Client
    from sessiond_client.follow import Follower
    from sessiond_client.recorder import Recorder


class RecordingSession:
    """One session. As a context manager it ends itself: completed, or interrupted by an exception."""

    def __init__(self, client: Client, ulid: str, info: Session | None = None) -> None:
        self.client = client
        self.ulid = ulid
        self._info = info
        self._ended = False
        self._entered_by = 0

    @property
    def info(self) -> Session:
        """The session as last heard of; asked for if nothing was heard yet."""
        if self._info is None:
            self._info = self.client.find(self.ulid)
        return self._info

    def append(
        self,
        kind: str,
        text: str | None = None,
        data: Mapping[str, Any] | None = None,
        at: datetime | None = None,
        *,
        expect: int | None = None,
    ) -> int:
        """Add one event; it is on disk when this returns. Returns its seq, or `SPOOLED` (-1).

        That is where no daemon could be reached: the event waits in the spool, and gets its seq from there.
        """
        return self.append_many([event(kind, text, data, at)], expect=expect).first

    def append_many(self, events: Sequence[NewEvent], *, expect: int | None = None) -> Appended:
        """Add events, all or none; see `sessiond_client.event`."""
        return self.client.append(self.ulid, events, expect=expect)

    def end(
        self,
        *,
        status: Status | str = Status.COMPLETED,
        end_reason: EndReason | str = EndReason.STOPPED,
        exit_code: int | None = None,
        ended_at: datetime | None = None,
    ) -> Session:
        """End the session and seal its file. Ending it again changes nothing."""
        ended = self.client.end(
            self.ulid, status=status, end_reason=end_reason, exit_code=exit_code, ended_at=ended_at
        )
        self._info = merged(self._info, ended)
        self._ended = True
        return self._info

    def rename(self, name: str) -> Session:
        """Give it another name; see `Client.rename`."""
        self._info = self.client.rename(self.ulid, name)
        return self._info

    def tag(self, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Session:
        """Remove and add tags; see `Client.tag`."""
        self._info = self.client.tag(self.ulid, add, remove)
        return self._info

    def label(self, label: str) -> Labelled:
        """Let a label stand for it from now on; see `Client.label`."""
        return self.client.label(label, self.ulid)

    def fork(
        self, *, at: int | None = None, name: str | None = None, owner_pid: int | None = None
    ) -> RecordingSession:
        """Begin a child of it; see `Client.fork`."""
        return self.client.fork(self.ulid, at=at, name=name, owner_pid=owner_pid)

    def read(
        self,
        *,
        after: int = -1,
        before: int | None = None,
        tail: int | None = None,
        limit: int = READ_LIMIT_DEFAULT,
        kinds: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        inherit: bool = False,
    ) -> EventPage:
        """A page of its events; see `Client.read`."""
        return self.client.read(
            self.ulid,
            after=after,
            before=before,
            tail=tail,
            limit=limit,
            kinds=kinds,
            since=since,
            until=until,
            inherit=inherit,
        )

    def events(self, **filters: Unpack[EventFilters]) -> Iterator[Event]:
        """All its events, page after page; see `Client.events`."""
        return self.client.events(self.ulid, **filters)

    def count(self) -> Counted:
        """How many events and commands it has."""
        return self.client.count(self.ulid)

    def follow(self, *, after: int | None = None) -> Follower:
        """Its events as they come; see `Client.follow`."""
        return self.client.follow(self.ulid, after=after)

    def recorder(self, *, spill_dir: Path | None = None) -> Recorder:
        """A recorder for many events in a row, on a connection of its own; see `Recorder`.

        What it can neither send nor hold goes to the spool of the client, if it has one, or to `spill_dir`.
        """
        from sessiond_client.recorder import Recorder

        return Recorder(
            self.client.path,
            self.ulid,
            spill_dir=spill_dir,
            autostart=self.client.autostart,
            spool=self.client.spool,
        )

    def environ(self) -> dict[str, str]:
        """What a child process needs in its environment to record into this session."""
        return {"SESSIOND_SESSION": self.ulid, "SESSIOND_SOCKET": os.path.abspath(self.client.path)}

    def __enter__(self) -> Self:
        self._entered_by = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended or self._entered_by != os.getpid():
            return
        if error is None:
            self.end()
            return
        try:
            self.end(status=Status.INTERRUPTED, end_reason=EndReason.EXITED)
        except SessiondError as failure:
            # The caller's own exception matters more; this one is told along with it.
            error.add_note(f"session {self.ulid} could not be ended: {failure}")
