"""Building the database anew from the files.

The one rule: what either copy has is in the new database. So the old one, as far as it can be read, first
mends the files, and is only then set aside.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sessiond.clock import Clock
from sessiond.storage.catalog import purged_ulids
from sessiond.storage.database import rows
from sessiond.storage.directory import DataDirectory, mark_suspect, set_database_aside
from sessiond.storage.mending import Mending
from sessiond.storage.operations import MarkSettled
from sessiond.storage.settling import CannotSettle, settle
from sessiond.storage.store import Store

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it."""


class Rebuilt(NamedTuple):
    """What came of it: sessions and events in the new database, files mended before, counts of recovery."""

    sessions: int
    events: int
    mended: int
    recovery: dict[str, int]


def rebuild(path: Path, clock: Clock, progress: Progress) -> Rebuilt:
    """Set the database aside and build it anew. Raises StartupRefused, StorageFailed, apsw.Error, OSError."""

    def taken_in(done: int, total: int) -> None:
        progress("taking in the files", done, total)

    if (path / "sessiond.db").exists():
        mark_suspect(path)
    directory = DataDirectory.open(path, clock, progress=taken_in)
    mended = 0
    try:
        if "databases_rebuilt" not in directory.recovery.counters:
            mended = _mend_files(directory, clock, progress)
            _let_files_follow(directory, clock)
            directory.close()
            set_database_aside(path, directory.files, "replaced", clock.now())
            directory = DataDirectory.open(path, clock, progress=taken_in)
        settle_all(directory, clock)
        sql = "SELECT count(*), coalesce(sum(next_seq), 0) FROM session WHERE shelf IN ('kept', 'trashed')"
        sessions, events = rows(directory.database.connection, sql)[0]
    finally:
        directory.close()
    return Rebuilt(sessions, events, mended, dict(directory.recovery.counters))


def _mend_files(directory: DataDirectory, clock: Clock, progress: Progress) -> int:
    mending = Mending(directory, clock)
    total, done, mended = mending.checking.total_size(), 0, 0
    for _, compared in mending.sessions():
        done += compared.size
        mended += bool(compared.faults)
        progress("comparing with the old database", done, total)
    return mended + len(mending.state())


def _let_files_follow(directory: DataDirectory, clock: Clock) -> None:
    """What was changed since a file was written, or is to be purged, only the old database knows."""
    settle_all(directory, clock)
    for ulid in purged_ulids(directory.database.connection):
        directory.files.remove(ulid)


def settle_all(directory: DataDirectory, clock: Clock) -> None:
    """Let the files follow: those of the trash were taken in where all others are."""
    store = Store(directory.database, directory.files, directory.state_file, clock)
    sql = "SELECT ulid FROM session WHERE unsettled = 1 AND sealed = 1 AND shelf IN ('kept', 'trashed')"
    for (ulid,) in rows(directory.database.connection, sql):
        try:
            done = settle(directory.database.connection, directory.files, ulid)
        except (CannotSettle, ValueError):  # other events, or a row that does not say what a session is
            continue  # it stays marked, and `check` says what is wrong with it
        if done is not None:
            store.commit([MarkSettled(session=ulid, header=done.header, shelf=done.shelf, size=done.size)])
