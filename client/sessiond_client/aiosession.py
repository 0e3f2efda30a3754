"""A handle on one session, and a recorder, for asynchronous programs: the same verbs, awaited.

The one rule: nothing is decided here; `RecordingSession` and `Recorder` say what each verb does.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio
import anyio.lowlevel
import anyio.to_thread

from sessiond_client.aiofollow import AsyncFollower
from sessiond_client.errors import SessiondError
from sessiond_client.events import EventPage, event
from sessiond_client.filters import EventFilters
from sessiond_client.recorder import CLOSE_SECONDS, Recorder
from sessiond_client.requests import merged
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import (
    READ_LIMIT_DEFAULT,
    Appended,
    Counted,
    End,
    EndReason,
    Labelled,
    NewEvent,
    Session,
    Status,
)

if TYPE_CHECKING:
    from sessiond_client.aio import AsyncClient
    from sessiond_client.spool import Spool

ROOM_SECONDS = 0.5
"""How long a full queue is waited for in a thread before a cancellation is looked at."""


class AsyncRecordingSession:
    """One session. As an async context manager it ends itself: completed, or interrupted by an exception."""

    def __init__(self, client: AsyncClient, ulid: str, info: Session | None = None) -> None:
        self.client = client
        self.ulid = ulid
        self._info = info
        self._ended = False
        self._entered_by = 0

    @property
    def info(self) -> Session:
        """The session as last heard of; `RuntimeError` if nothing was heard yet (await `client.get`)."""
        if self._info is None:
            raise RuntimeError(f"nothing was heard of session {self.ulid} yet; await client.get(ulid)")
        return self._info

    async def append(
        self,
        kind: str,
        text: str | None = None,
        data: Mapping[str, Any] | None = None,
        at: datetime | None = None,
        *,
        expect: int | None = None,
    ) -> int:
        """Add one event; it is on disk when this returns. Returns its seq, or `SPOOLED` (-1)."""
        return (await self.append_many([event(kind, text, data, at)], expect=expect)).first

    async def append_many(self, events: Sequence[NewEvent], *, expect: int | None = None) -> Appended:
        """Add events, all or none; see `sessiond_client.event`."""
        return await self.client.append(self.ulid, events, expect=expect)

    async def end(
        self,
        *,
        status: Status | str = Status.COMPLETED,
        end_reason: EndReason | str = EndReason.STOPPED,
        exit_code: int | None = None,
        ended_at: datetime | None = None,
    ) -> Session:
        """End the session and seal its file. Ending it again changes nothing."""
        ended = await self.client.end(
            self.ulid, status=status, end_reason=end_reason, exit_code=exit_code, ended_at=ended_at
        )
        self._info = merged(self._info, ended)
        self._ended = True
        return self._info

    async def rename(self, name: str) -> Session:
        """Give it another name; see `AsyncClient.rename`."""
        self._info = await self.client.rename(self.ulid, name)
        return self._info

    async def tag(self, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Session:
        """Remove and add tags; see `AsyncClient.tag`."""
        self._info = await self.client.tag(self.ulid, add, remove)
        return self._info

    async def label(self, label: str) -> Labelled:
        """Let a label stand for it from now on; see `AsyncClient.label`."""
        return await self.client.label(label, self.ulid)

    async def fork(
        self, *, at: int | None = None, name: str | None = None, owner_pid: int | None = None
    ) -> AsyncRecordingSession:
        """Begin a child of it; see `AsyncClient.fork`."""
        return await self.client.fork(self.ulid, at=at, name=name, owner_pid=owner_pid)

    async def read(
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
        """A page of its events; see `AsyncClient.read`."""
        return await self.client.read(
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

    def events(self, **filters: Unpack[EventFilters]) -> AsyncIterator[Event]:
        """All its events, page after page; see `AsyncClient.events`."""
        return self.client.events(self.ulid, **filters)

    async def count(self) -> Counted:
        """How many events and commands it has."""
        return await self.client.count(self.ulid)

    def follow(self, *, after: int | None = None) -> AsyncFollower:
        """Its events as they come; see `AsyncClient.follow`."""
        return self.client.follow(self.ulid, after=after)

    def recorder(self, *, spill_dir: Path | None = None) -> AsyncRecorder:
        """A recorder for many events in a row, on a connection of its own; see `RecordingSession`."""
        return AsyncRecorder(
            self.client.path,
            self.ulid,
            spill_dir=spill_dir,
            autostart=self.client.autostart,
            spool=self.client.spool,
        )

    def environ(self) -> dict[str, str]:
        """What a child process needs in its environment to record into this session."""
        return {"SESSIOND_SESSION": self.ulid, "SESSIOND_SOCKET": os.path.abspath(self.client.path)}

    async def __aenter__(self) -> Self:
        self._entered_by = os.getpid()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended or self._entered_by != os.getpid():
            return
        if error is None:
            await self.end()
            return
        try:
            # Also when cancelled: the session is over either way, and this is the last chance to say so.
            with anyio.CancelScope(shield=True):
                await self.end(status=Status.INTERRUPTED, end_reason=EndReason.EXITED)
        except SessiondError as failure:
            error.add_note(f"session {self.ulid} could not be ended: {failure}")


class AsyncRecorder:
    """A `Recorder` whose waiting does not hold up the event loop."""

    def __init__(
        self,
        path: Path | None,
        session: str,
        *,
        spill_dir: Path | None = None,
        autostart: bool | None = None,
        spool: Spool | None = None,
    ) -> None:
        self.recorder = Recorder(path, session, spill_dir=spill_dir, autostart=autostart, spool=spool)

    async def record(
        self,
        kind: str,
        text: str | None = None,
        data: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Add an event, as of now unless `at` is given; see `Recorder.record`."""
        await anyio.lowlevel.checkpoint()
        if self.recorder.offer(kind, text, data, at):
            return
        wait = partial(self.recorder.offer, kind, text, data, at, timeout=ROOM_SECONDS)
        while not await anyio.to_thread.run_sync(wait):
            pass

    __call__ = record

    async def flush(self, *, timeout: float | None = None) -> None:
        """Return when everything recorded so far is acknowledged; see `Recorder.flush`."""
        wait = partial(self.recorder.flush, timeout=timeout)
        await anyio.to_thread.run_sync(wait, abandon_on_cancel=True)

    async def close(
        self, *, timeout: float = CLOSE_SECONDS, room_seconds: float = 0.0, end: End | None = None
    ) -> None:
        """Deliver the rest and stop; see `Recorder.close`."""
        close = partial(self.recorder.close, timeout=timeout, room_seconds=room_seconds, end=end)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
            return
        try:
            await self.close()
        except Exception as failure:  # noqa: BLE001 - told along with the caller's own, which matters more
            error.add_note(f"and the recording: {failure}")
