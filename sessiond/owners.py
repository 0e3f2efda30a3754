"""The processes that sessions belong to: when one ends, its sessions are interrupted.

The one rule: an owner's end never overtakes what it had sent; its connections are read to their end first,
and what it left in the spool is taken over. What is refused for now is done once it can be.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping

import anyio
from anyio.abc import TaskGroup

from sessiond import processes
from sessiond.clock import Clock, time_text
from sessiond.commits import Wakeup
from sessiond.errors import Refused
from sessiond.storage.commit.operations import EndSession, Owner
from sessiond.writer import Writer
from sessiond_client.wire.messages import EndReason, Session, Status
from sessiond_client.wire.spool import PASSING

QUIET_SECONDS = 0.5
"""So long an ended owner's connections may say nothing; one that a child has inherited is not waited for."""

LAST_WORDS_SECONDS_MAX = 30.0
"""How long they may take to be read to their end, however much is said."""

POLL_SECONDS = 0.5
"""How often to look where the system has no pidfd."""

RETRY_SECONDS = 2.0
"""While nothing can be stored (the disk is full), one session is tried again after this; then the others."""

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
        self._due: dict[str, EndSession] = {}
        """Sessions that are to be ended and are not yet."""
        self._turn = anyio.Lock()
        self._put_off = Wakeup()
        self.spool_settled: Callable[[], Awaitable[None]] = _nothing_waits
        """Returns once what an owner may have left in the spool is stored."""

    def start(self, tasks: TaskGroup) -> None:
        """Use this task group for what has to be waited for."""
        self._tasks = tasks
        tasks.start_soon(self._try_again)

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
            self._ended(owner.pid, is_replaced=True)
        elif descriptor is None:
            self._tasks.start_soon(self._poll, owner)
        else:
            self._descriptors[owner.pid] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._ended, owner.pid)

    def unwatch(self, session: str) -> None:
        """This session has ended."""
        self._due.pop(session, None)
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

    def _ended(self, pid: int, *, is_replaced: bool = False) -> None:
        """The owner is gone; `is_replaced`: and another process has its number, with other connections."""
        assert self._tasks is not None
        self._release(pid)
        sessions = self._sessions.pop(pid, set())
        for session in sessions:
            self._owner_of.pop(session, None)
        seconds = 0.0 if is_replaced else LAST_WORDS_SECONDS_MAX
        self._tasks.start_soon(self._interrupt_after_last_words, pid, sessions, seconds)

    async def _interrupt_after_last_words(self, pid: int, sessions: set[str], seconds_max: float) -> None:
        with anyio.move_on_after(seconds_max):
            await self._connections_closed(pid, QUIET_SECONDS)
        await self.spool_settled()
        await self.interrupt(dict.fromkeys(sessions, EndReason.CLIENT_LOST), recovered=False)

    async def interrupt(self, sessions: Mapping[str, EndReason], *, recovered: bool) -> None:
        """End sessions whose owners are gone, for these reasons; those that have ended stay as they are.

        On a full disk, or while another program holds the database, they are ended later.
        """
        now = self._clock.now()
        for session, reason in sessions.items():
            self._due[session] = EndSession(
                session=session,
                status=Status.INTERRUPTED,
                end_reason=reason,
                ended_at=now,
                recovered=recovered,
            )
        await self._end_due()

    async def _end_due(self) -> None:
        async with self._turn:
            for session, end in list(self._due.items()):
                if session not in self._due:
                    continue  # ended by somebody else meanwhile
                outcome = await self._writer.ask(end, ("owner", session))
                if not isinstance(outcome, Refused):
                    assert isinstance(outcome, Session)
                    self._tell(end, outcome)
                elif outcome.code not in PASSING:
                    logger.error("session not ended", extra={"session": session, "reason": outcome.message})
                else:
                    self._put_off.set()
                    if self._writer.refusing is not None:
                        return
                    continue  # it is about this session alone
                self._due.pop(session, None)

    def _tell(self, end: EndSession, session: Session) -> None:
        """Log it, unless it had been ended before."""
        if session.ended_at == time_text(end.ended_at):
            reason = str(end.end_reason)
            logger.info("session ended with its owner", extra={"session": session.ulid, "reason": reason})

    async def _try_again(self) -> None:
        while True:
            await self._put_off.wait()
            await anyio.sleep(RETRY_SECONDS)
            await self._end_due()

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
