"""The processes that sessions belong to: when one ends, its sessions are interrupted.

The one rule: an owner's end never overtakes what it had sent; its connections are read to their end first,
and what it left in the spool is taken over.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from sessiond import processes
from sessiond.clock import Clock
from sessiond.storage.commit.operations import EndSession, Owner
from sessiond.writer import Writer
from sessiond_client.wire.messages import EndReason, Status

QUIET_SECONDS = 0.5
"""So long an ended owner's connections may say nothing; one that a child has inherited is not waited for."""

LAST_WORDS_SECONDS_MAX = 30.0
"""How long they may take to be read to their end, however much is said."""

POLL_SECONDS = 0.5
"""How often to look where the system has no pidfd."""

logger = logging.getLogger("sessiond.owners")


class Owners:
    """Watches one descriptor an owner, however many sessions it has."""

    def __init__(
        self, writer: Writer, clock: Clock, connections_closed: Callable[[int, float], Awaitable[None]]
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._connections_closed = connections_closed
        self._sessions: dict[int, set[str]] = {}
        self._owner_of: dict[str, int] = {}
        self._descriptors: dict[int, int] = {}
        self._tasks: TaskGroup | None = None
        self.spool_settled: Callable[[], Awaitable[None]] = _nothing_waits
        """Returns once what an owner may have left in the spool is stored."""

    def start(self, tasks: TaskGroup) -> None:
        """Use this task group for what has to be waited for."""
        self._tasks = tasks

    def watch(self, session: str, owner: Owner) -> None:
        """Interrupt this session once its owner ends."""
        assert self._tasks is not None
        if session in self._owner_of:
            return
        self._owner_of[session] = owner.pid
        sessions = self._sessions.setdefault(owner.pid, set())
        sessions.add(session)
        if len(sessions) > 1:
            return
        try:
            descriptor = processes.watch_descriptor(owner.pid)
        except ProcessLookupError:
            self._ended(owner.pid)
            return
        if not processes.lives(owner):
            if descriptor is not None:
                os.close(descriptor)
            self._ended(owner.pid)
        elif descriptor is None:
            self._tasks.start_soon(self._poll, owner)
        else:
            self._descriptors[owner.pid] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._ended, owner.pid)

    def unwatch(self, session: str) -> None:
        """This session has ended."""
        pid = self._owner_of.pop(session, None)
        if pid is None:
            return
        sessions = self._sessions.get(pid)
        if sessions is not None:
            sessions.discard(session)
            if not sessions:
                del self._sessions[pid]
                self._release(pid)

    def _release(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _ended(self, pid: int) -> None:
        assert self._tasks is not None
        self._release(pid)
        sessions = self._sessions.pop(pid, set())
        for session in sessions:
            self._owner_of.pop(session, None)
        self._tasks.start_soon(self._interrupt_after_last_words, pid, sessions)

    async def _interrupt_after_last_words(self, pid: int, sessions: set[str]) -> None:
        with anyio.move_on_after(LAST_WORDS_SECONDS_MAX):
            await self._connections_closed(pid, QUIET_SECONDS)
        await self.spool_settled()
        for session in sessions:
            await self.interrupt(session, EndReason.CLIENT_LOST, recovered=False)

    async def interrupt(self, session: str, reason: EndReason, *, recovered: bool) -> None:
        """End a session whose owner is gone; nothing happens if it was ended before."""
        end = EndSession(
            session=session,
            status=Status.INTERRUPTED,
            end_reason=reason,
            ended_at=self._clock.now(),
            recovered=recovered,
        )
        await self._writer.ask(end, ("owner", session))
        logger.info("session ended with its owner", extra={"session": session, "reason": str(reason)})

    async def _poll(self, owner: Owner) -> None:
        while owner.pid in self._sessions and processes.lives(owner):  # noqa: ASYNC110 - nothing better here
            await anyio.sleep(POLL_SECONDS)
        if owner.pid in self._sessions:
            self._ended(owner.pid)

    def close(self) -> None:
        """Watch nobody any more."""
        for pid in list(self._descriptors):
            self._release(pid)


async def _nothing_waits() -> None:
    """Who only reads has nothing to store."""
