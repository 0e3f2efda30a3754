"""Brings written files to the disk behind the commits, and lets lagging ones catch up.

The one rule: the database has everything these files have, so nobody waits for this; what it buys is that
recovery need not look at what is known to be on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio

from sessiond.commits import Wakeup
from sessiond.errors import Refused
from sessiond.storage.commit.operations import MarkSynced
from sessiond.storage.files import SessionFiles
from sessiond.storage.recovery.recovery import Recovery
from sessiond.storage.store import DirtyFile, Store
from sessiond.writer import Writer

SYNC_DELAY_SECONDS = 0.5
"""A file is synced this long after it was written to, and all that were written to meanwhile with it."""

MEND_DELAY_SECONDS = 1.0

logger = logging.getLogger("sessiond.syncer")


class Syncer:
    """Syncs in a thread of its own; `run` works until it is cancelled."""

    def __init__(self, writer: Writer, store: Store, recovery: Recovery, session_files: SessionFiles) -> None:
        self._writer = writer
        self._store = store
        self._recovery = recovery
        self._files = session_files
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="syncer")
        self._work = Wakeup()
        self._hurried = Wakeup()
        self._turn = anyio.Lock()
        self._failed: set[str] = set()
        self._forgotten: set[str] = set()
        self.on_sealed: Callable[[], None] = lambda: None
        """Called when the whole files of sessions that ended are on disk."""
        self.on_trouble: Callable[[], None] = lambda: None
        """Called when a file could not be synced or lags; may raise StorageFailed."""
        writer.on_dirty = self._work.set
        if writer.lagging:
            self._work.set()

    async def run(self) -> None:
        """Sync and mend whenever there is something to, at a steady pace."""
        while True:
            await self._work.wait()
            with anyio.move_on_after(SYNC_DELAY_SECONDS):
                await self._hurried.wait()
            await self.sync()
            if self._writer.lagging or self._failed:
                self.on_trouble()
                await anyio.sleep(MEND_DELAY_SECONDS)
                await self._mend()

    def forget(self, ulid: str) -> None:
        """The file of a session is about to be removed: what was to be done for it is void."""
        self._writer.dirty.pop(ulid, None)
        self._failed.discard(ulid)
        self._forgotten.add(ulid)

    def hurry(self) -> None:
        """Somebody waits for a file to be on disk: sync without the usual delay."""
        self._hurried.set()

    async def sync(self) -> None:
        """Sync what was written to up to now, and note in the database that it is."""
        async with self._turn:  # who stops us waits for what is under way, too
            await self._sync()

    async def _sync(self) -> None:
        written, self._writer.dirty = self._writer.dirty, {}
        # After a failed sync the next one succeeds and proves nothing; such a file is written anew, whole.
        dirty = {ulid: file for ulid, file in written.items() if ulid not in self._failed}
        self._forgotten.clear()
        if not dirty:
            return
        loop = asyncio.get_running_loop()
        synced, failed = await loop.run_in_executor(self._thread, self._sync_files, dirty)
        self._failed.update(failed - self._forgotten)
        synced = [ulid for ulid in synced if ulid not in self._forgotten]
        async with anyio.create_task_group() as tasks:
            for ulid in synced:
                tasks.start_soon(self._mark, ulid, dirty[ulid])
        if any(dirty[ulid].sealed for ulid in synced):
            self.on_sealed()

    async def _mark(self, ulid: str, file: DirtyFile) -> None:
        mark = MarkSynced(session=ulid, size=file.size, seq=file.seq, sealed=file.sealed)
        outcome = await self._writer.ask(mark, ("synced", ulid))
        if isinstance(outcome, Refused):  # the disk is full, or the database is held: it will pass
            self._writer.dirty.setdefault(ulid, file)
            self._work.set()

    def _sync_files(self, dirty: dict[str, DirtyFile]) -> tuple[list[str], set[str]]:
        """Which files are on disk now, and which are not."""
        synced: list[str] = []
        failed: set[str] = set()
        for ulid in dirty:
            try:
                self._files.disk.sync(self._files.path(ulid))
                synced.append(ulid)
            except OSError as error:
                if ulid in self._forgotten:
                    continue  # it was removed meanwhile
                failed.add(ulid)
                logger.error("sync of a file failed", extra={"session": ulid, "reason": str(error)})  # noqa: TRY400
        try:
            self._files.disk.sync_directory(self._files.directory)
        except OSError as error:
            logger.error("sync of the directory failed", extra={"reason": str(error)})  # noqa: TRY400
            return [], set(dirty)
        return synced, failed

    async def _mend(self) -> None:
        for ulid in self._writer.lagging | self._failed:
            anew = ulid in self._failed
            try:
                await self._writer.in_thread(
                    lambda ulid=ulid, anew=anew: self._store.mend(ulid, self._recovery, anew=anew)  # type: ignore[misc]
                )
            except OSError as error:
                logger.warning("file still lags", extra={"session": ulid, "reason": str(error)})
                self._work.set()
            else:
                self._failed.discard(ulid)
                self._writer.lagging -= {ulid}
                logger.info("file caught up", extra={"session": ulid})
                self.on_sealed()

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=True)
