"""Building the database anew from the files.

The one rule: what either copy has is in the new database. So what the old one has, as far as it can be read,
is first brought into the files; then it is set aside, whatever state it is in. Cut short anywhere, it is
simply done again.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sessiond.clock import Clock
from sessiond.storage.commit.operations import MarkSettled
from sessiond.storage.database import Database, migrations, open_unchanged, rows
from sessiond.storage.directory import DATABASE_NAME, DataDirectory, salvage_files, set_database_aside
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond.storage.repair.old_database import NOT_TO_BE_HAD
from sessiond.storage.repair.salvaging import Incomplete, Progress, Salvaged
from sessiond.storage.settling import CannotSettle, settle
from sessiond.storage.store import Store


class Rebuilt(NamedTuple):
    """What came of it: sessions and events in the new database, files mended before, sessions that could not
    be had whole, counts of recovery. `unread`: there was an old database, and nothing in it could be read."""

    sessions: int
    events: int
    mended: int
    unread: bool
    incomplete: list[Incomplete]
    recovery: dict[str, int]


def rebuild(path: Path, clock: Clock, progress: Progress) -> Rebuilt:
    """Set the database aside, if there is one, and build it anew.

    Raises StartupRefused, StorageFailed and OSError.
    """

    def taken_in(done: int, total: int) -> None:
        progress("taking in the files", done, total)

    files = SessionFiles(path, Disk())
    files.make_directories()
    files.sweep()
    _bring_up_to_date(path / DATABASE_NAME, files.disk)
    salvaged = salvage_files(path, clock, files, progress=progress)
    if files.disk.file_size(path / DATABASE_NAME) is not None:
        set_database_aside(path, files, "replaced", clock.now())
    with closing(DataDirectory.open(path, clock, progress=taken_in, is_salvaged=True)) as directory:
        settle_all(directory, clock)
        return _rebuilt(directory, salvaged)


def _bring_up_to_date(database: Path, disk: Disk) -> None:
    """An old version's database has other columns. One that this cannot be done with is read as it is."""
    try:
        with closing(open_unchanged(database, disk)) as connection:
            is_old = 0 < int(connection.execute("PRAGMA user_version").get) < len(migrations())
        if is_old:
            with closing(Database(database, disk)) as opened:
                opened.migrate()
    except NOT_TO_BE_HAD:
        return


def _rebuilt(directory: DataDirectory, salvaged: Salvaged) -> Rebuilt:
    sql = "SELECT count(*), coalesce(sum(next_seq), 0) FROM session WHERE shelf IN ('kept', 'trashed')"
    sessions, events = rows(directory.database.connection, sql)[0]
    counts = dict(directory.recovery.counters)
    return Rebuilt(sessions, events, salvaged.mended, salvaged.unread, salvaged.incomplete, counts)


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
