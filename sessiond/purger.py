"""Removes purged sessions for good: files first, then their rows, a slice at a time.

The one rule: a session is marked as purged before anything of it goes, so that a removal that is cut short is
finished at the next start; nobody waits long for a slice.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import anyio
import anyio.to_thread

from sessiond.commits import Wakeup
from sessiond.errors import Refused
from sessiond.storage.files import SessionFiles
from sessiond.storage.operations import Purged, PurgeEvents, PurgeSession
from sessiond.writer import Writer
from sessiond_client.wire.messages import ErrorCode

SLICE_EVENTS = 2000
RETRY_SECONDS = 1.0

logger = logging.getLogger("sessiond.purger")


class Purger:
    """`run` works until it is cancelled. `forget` makes the search index forget a session, by ULID."""

    def __init__(
        self,
        writer: Writer,
        files: SessionFiles,
        forget: Callable[[str], Awaitable[None]],
        purged: Iterable[str],
    ) -> None:
        self._writer = writer
        self.on_removal: Callable[[str], None] = lambda ulid: None  # noqa: ARG005
        """Called before the files of a session, by ULID, are removed."""
        self._files = files
        self._forget = forget
        self._wanted = dict.fromkeys(purged)
        self._gone: dict[str, anyio.Event] = {}
        self._work = Wakeup()
        if self._wanted:
            self._work.set()

    async def purged(self, ulid: str) -> None:
        """Return once nothing is left of a session that was marked as purged."""
        gone = self._gone.setdefault(ulid, anyio.Event())
        self._wanted[ulid] = None
        self._work.set()
        await gone.wait()

    async def run(self) -> None:
        """Remove what is marked, one session at a time."""
        while True:
            await self._work.wait()
            while self._wanted:
                ulid = next(iter(self._wanted))
                try:
                    await self._purge(ulid)
                except OSError as error:
                    logger.error("files cannot be removed yet", extra={"session": ulid, "reason": str(error)})  # noqa: TRY400
                    await anyio.sleep(RETRY_SECONDS)
                    self._wanted[ulid] = self._wanted.pop(ulid)
                    continue
                del self._wanted[ulid]
                if gone := self._gone.pop(ulid, None):
                    gone.set()

    async def _purge(self, ulid: str) -> None:
        lane = ("purge", ulid)
        marked = await self._writer.ask(PurgeEvents(session=ulid, limit=0), lane)
        if isinstance(marked, Refused) and marked.code is ErrorCode.NOT_FOUND:
            return  # it was gone before, and what has its name now must stay
        await self._forget(ulid)
        self.on_removal(ulid)
        await anyio.to_thread.run_sync(self._files.remove, ulid)
        while True:
            outcome = await self._writer.ask(PurgeEvents(session=ulid, limit=SLICE_EVENTS), lane)
            if isinstance(outcome, Refused) and outcome.code is ErrorCode.NOT_FOUND:
                return  # it was gone before
            if isinstance(outcome, Purged) and not outcome.events:
                break
            if isinstance(outcome, Refused):
                await anyio.sleep(RETRY_SECONDS)  # the disk is full, or the database is held: it will pass
        await self._writer.ask(PurgeSession(session=ulid), lane)
        logger.info("session purged", extra={"session": ulid})
