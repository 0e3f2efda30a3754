"""One process on a simulated disk: the real stores, driven as the parts of the daemon drive them.

The one rule: what writer, syncer, settler and purger do with the stores is done here in the same steps and
the same order, one step at a time, so that a fault can come between any two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import apsw

from sessiond.clock import Clock
from sessiond.errors import Refused
from sessiond.storage.commit.operations import (
    MarkSettled,
    MarkSynced,
    Operation,
    Outcome,
    Purged,
    PurgeEvents,
    PurgeSession,
)
from sessiond.storage.database import CHECKPOINT_PAGES, rows
from sessiond.storage.directory import DataDirectory, mark_suspect
from sessiond.storage.settling import CannotSettle, settle
from sessiond.storage.store import DirtyFile, Store
from tests.simulation.database import DatabaseVFS, FilesOnDisk
from tests.simulation.disk import SimulatedDisk

DATA = Path("/data")
PURGE_EVENTS = 3
"""Small, so that a purge takes several slices."""

ROUNDS_MAX = 8
"""So often the files are synced, mended and settled until nothing is left to do."""


class SteadyClock(Clock):
    """Every look at it is a millisecond later."""

    def __init__(self) -> None:
        self._now = count(1_795_000_000_000_000, 1000)

    def now(self) -> int:
        """Microseconds since 1970."""
        return next(self._now)


def _checkpoints_after(limit: int) -> Callable[[apsw.Connection, str, int], int]:
    """What SQLite does after a commit, word for word: it asks nobody whether the checkpoint went well.

    Done by SQLite itself, apsw would raise what the simulated disk raised, and the commit would seem to fail.
    """

    def checkpoint(connection: apsw.Connection, name: str, pages: int) -> int:
        if pages >= limit:
            with suppress(apsw.Error):
                connection.wal_checkpoint(name)
        return int(apsw.SQLITE_OK)

    return checkpoint


class Machine:
    """A running process. Whatever it raises, `StorageFailed` is the end of it, as it is of the daemon."""

    store_class = Store

    def __init__(self, disk: SimulatedDisk, checkpoint_pages: int | None = None) -> None:
        self.disk = disk
        self._clock = SteadyClock()
        self._vfs = DatabaseVFS(disk)
        if str(DATA) not in disk.names:
            disk.make_directory(str(DATA))
        try:
            self._files = FilesOnDisk(disk)
            self.directory = DataDirectory.open(DATA, self._clock, self._files, self._vfs.name)
            connection = self.directory.database.connection
            connection.set_wal_hook(_checkpoints_after(checkpoint_pages or CHECKPOINT_PAGES))
            self.store = self.store_class(
                self.directory.database,
                self.directory.files,
                self.directory.state_file,
                self._clock,
                self.directory.recovery.lagging,
            )
        except BaseException:
            self._vfs.unregister()
            raise
        self._connection = connection
        self.dirty: dict[str, DirtyFile] = {}
        self.lagging = self.store.lagging
        self._unsynced: set[str] = set()
        self.marks: list[Operation] = []
        """What the syncer and the settler have to tell the writer."""

    def commit(self, batch: Sequence[Operation]) -> list[Outcome]:
        """One batch, as `Writer` does it. Raises StorageFailed."""
        committed = self.store.commit(batch)
        self.lagging = committed.lagging
        self.dirty.update(committed.dirty)
        return committed.outcomes

    def mark(self) -> None:
        """Tell the writer what was synced and settled."""
        self.commit_with_marks([])

    def commit_with_marks(self, batch: Sequence[Operation]) -> list[Outcome]:
        """A batch, and in it what the syncer and the settler have to tell. Raises StorageFailed."""
        marks, self.marks = self.marks, []
        if not marks and not batch:
            return []
        outcomes = self.commit([*marks, *batch])
        for mark, outcome in reversed(list(zip(marks, outcomes, strict=False))):
            if isinstance(outcome, Refused) and isinstance(mark, MarkSynced):
                self.dirty.setdefault(mark.session, DirtyFile(mark.size, mark.seq, mark.sealed))
        return outcomes[len(marks) :]

    def sync(self) -> None:
        """Sync what was written to, as `Syncer.sync` does; `mark` comes later."""
        written, self.dirty = self.dirty, {}
        dirty = {ulid: file for ulid, file in written.items() if ulid not in self._unsynced}
        synced = []
        for ulid in dirty:
            try:
                self._files.sync(self.directory.files.path(ulid))
                synced.append(ulid)
            except OSError:
                self._unsynced.add(ulid)
        if not dirty:
            return
        try:
            self._files.sync_directory(self.directory.files.directory)
        except OSError:
            self._unsynced.update(synced)
            return
        for ulid in synced:
            size, seq, sealed = dirty[ulid]
            self.marks.append(MarkSynced(session=ulid, size=size, seq=seq, sealed=sealed))

    def mend(self) -> None:
        """Let files catch up, as `Syncer` does. Raises StorageFailed."""
        for ulid in sorted(self.lagging | self._unsynced):
            try:
                self.store.mend(ulid, self.directory.recovery, anew=ulid in self._unsynced)
            except OSError:
                continue
            self._unsynced.discard(ulid)
            self.lagging -= {ulid}

    def settle(self) -> None:
        """Let the files of ended sessions follow, as `Settler` does; `mark` comes later."""
        sql = "SELECT ulid FROM session WHERE unsettled = 1 AND sealed = 1 AND shelf IN ('kept', 'trashed')"
        for (ulid,) in self._asked(sql):
            try:
                done = settle(self._connection, self.directory.files, ulid)
            except (OSError, CannotSettle, apsw.IOError):
                continue
            if done is not None:
                self.marks.append(
                    MarkSettled(session=ulid, header=done.header, shelf=done.shelf, size=done.size)
                )

    def _asked(self, sql: str) -> list[tuple[str]]:
        """As `Reader` answers; what cannot be read now is looked at again later."""
        try:
            return rows(self._connection, sql)
        except apsw.IOError:
            return []

    def purge(self) -> None:
        """Remove what is to be removed, as `Purger` does."""
        for (ulid,) in self._asked("SELECT ulid FROM session WHERE shelf = 'purged'"):
            try:
                self.directory.files.remove(ulid)
            except OSError:
                continue
            outcome: Outcome = None
            while not (isinstance(outcome, Purged) and not outcome.events):
                (outcome,) = self.commit([PurgeEvents(session=ulid, limit=PURGE_EVENTS)])
                if not isinstance(outcome, Purged):
                    break  # the disk is full; later
            else:
                self.commit([PurgeSession(session=ulid)])

    def is_quiet(self) -> bool:
        """Whether the files have followed the database in everything."""
        sql = (
            "SELECT 1 FROM session WHERE unsettled = 1 OR shelf = 'purged'"
            " OR (sealed = 0 AND status != 'recording') LIMIT 1"
        )
        behind = self.dirty or self.lagging or self._unsynced or self.marks
        return not behind and not rows(self._connection, sql)

    def calm_down(self) -> None:
        """Do what the daemon does until there is nothing left to do."""
        for _ in range(ROUNDS_MAX):
            self.sync()
            self.mark()
            self.mend()
            self.settle()
            self.mark()
            self.purge()
            if self.is_quiet():
                return

    def close(self) -> None:
        """Stop in order."""
        self.sync()
        self.mark()
        with suppress(apsw.Error):  # a last checkpoint that fails is no error of SQLite's, only of apsw's
            self.directory.close()
        self._vfs.unregister()

    def kill(self) -> None:
        """The process is gone from one moment to the next."""
        self._vfs.is_killed = True
        with suppress(apsw.Error):
            self.directory.database.close()
        self._vfs.unregister()

    def fail(self) -> None:
        """Exit with 70, as the daemon does on StorageFailed."""
        with suppress(OSError):
            mark_suspect(DATA, self._files)
        self.kill()
