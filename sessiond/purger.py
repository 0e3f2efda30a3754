"""Removes purged sessions for good: files first, then their rows, a slice at a time.

The one rule: a session is marked as purged before anything of it goes, so that a removal that is cut short is
finished at the next start; nobody waits long for a slice, nor for a disk that does not let go.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import anyio
import anyio.to_thread

from sessiond.commits import Wakeup
from sessiond.errors import Refused, StorageFailed, internal
from sessiond.storage.commit.operations import Purged, PurgeEvents, PurgeSession
from sessiond.storage.files import SessionFiles
from sessiond.storage.foreign.incoming import NO_ROOM
from sessiond.writer import Writer
from sessiond_client.wire.messages import ErrorCode

SLICE_EVENTS = 2000

PURGE_SECONDS_MAX = 20.0
"""So long whoever asked for a removal waits for it; after that it is told that the rest goes by itself."""

RETRY_SECONDS = 1.0
"""What could not be removed is tried again once so long nothing else was to be."""

REASONS = {ErrorCode.DISK_FULL: "the disk is full", ErrorCode.BUSY: "another program holds the database"}

logger = logging.getLogger("sessiond.purger")


class _Attempt:
    """The next attempt to remove a session, for those who wait for it; `hindrance` is why it failed."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.hindrance: Refused | None = None


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
        self._hindered: dict[str, None] = {}
        self._awaited: dict[str, _Attempt] = {}
        self._work = Wakeup()
        if self._wanted:
            self._work.set()

    def remove(self, ulid: str) -> None:
        """Remove what is left of a session that was marked as purged, as soon as the disk allows."""
        self._wanted[ulid] = None
        self._work.set()

    async def purged(self, ulid: str) -> None:
        """Return once nothing is left of a session that was marked as purged.

        Raises Refused when something hinders that, or it takes too long; it goes on all the same.
        """
        attempt = self._awaited.setdefault(ulid, _Attempt())
        self.remove(ulid)
        with anyio.move_on_after(PURGE_SECONDS_MAX) as patience:
            await attempt.over.wait()
        if patience.cancelled_caught:
            raise _left(ulid, ErrorCode.BUSY, f"that takes more than {PURGE_SECONDS_MAX:.0f} s")
        if attempt.hindrance is not None:
            raise attempt.hindrance

    async def run(self) -> None:
        """Remove what is marked, one session at a time."""
        while True:
            with anyio.move_on_after(RETRY_SECONDS if self._hindered else None) as pause:
                await self._work.wait()
            if pause.cancelled_caught:
                self._wanted.update(self._hindered)
            while self._wanted:
                ulid = next(iter(self._wanted))
                del self._wanted[ulid]
                await self._attempt(ulid)

    async def _attempt(self, ulid: str) -> None:
        # Who begins to wait from here on may have marked another session of this id: that is another turn.
        attempt = self._awaited.pop(ulid, None) or _Attempt()
        try:
            await self._purge(ulid)
        except (OSError, Refused) as error:
            attempt.hindrance = _hindrance(ulid, error)
            if ulid not in self._hindered:
                logger.error("session not removed yet", extra={"session": ulid, "reason": str(error)})  # noqa: TRY400
            self._hindered[ulid] = None
        except StorageFailed:
            raise
        except Exception:
            attempt.hindrance = internal()
            if ulid not in self._hindered:
                logger.exception("session not removed yet", extra={"session": ulid})
            self._hindered[ulid] = None
        else:
            self._hindered.pop(ulid, None)
        attempt.over.set()

    async def _purge(self, ulid: str) -> None:
        """Raises OSError or Refused, and then it is to be done again."""
        if await self._write(PurgeEvents(session=ulid, limit=0)) is None:
            return  # it was gone before, and what has its name now must stay
        await self._forget(ulid)
        self.on_removal(ulid)
        await anyio.to_thread.run_sync(self._files.remove, ulid)
        while (slice_ := await self._write(PurgeEvents(session=ulid, limit=SLICE_EVENTS))) is not None:
            if not slice_.events:
                await self._write(PurgeSession(session=ulid))
                logger.info("session purged", extra={"session": ulid})
                return

    async def _write(self, operation: PurgeEvents | PurgeSession) -> Purged | None:
        """What a slice took, None where nothing of the session is left. Raises Refused."""
        outcome = await self._writer.ask(operation, ("purge", operation.session))
        if isinstance(outcome, Refused) and outcome.code is not ErrorCode.NOT_FOUND:
            raise outcome
        return outcome if isinstance(outcome, Purged) else None


def _hindrance(ulid: str, error: OSError | Refused) -> Refused:
    if isinstance(error, Refused):
        return _left(ulid, error.code, REASONS.get(error.code, error.message))
    code = ErrorCode.DISK_FULL if error.errno in NO_ROOM else ErrorCode.BUSY
    return _left(ulid, code, f"its file cannot be removed: {error.strerror}")


def _left(ulid: str, code: ErrorCode, reason: str) -> Refused:
    return Refused(
        code,
        f"session {ulid} is gone for everybody, but some of it is still on the disk: {reason}",
        "the rest goes by itself once the disk lets it go",
    )
