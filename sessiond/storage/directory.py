"""One data directory: its database and files, opened, made durable and recovered.

The one rule: what comes out of `open` is sound and durable; a damaged database has been set aside and built
anew from the files by then.
"""

from __future__ import annotations

import logging
from pathlib import Path

import apsw

from sessiond.clock import Clock
from sessiond.errors import StartupRefused, StorageFailed
from sessiond.storage.check.orphans import require_way_ahead
from sessiond.storage.database import (
    CORRUPTION,
    Database,
    DiskFull,
    check_library,
    failing,
    lacks_room,
    not_opened,
    require_file,
)
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond.storage.recovery.recovery import Progress, Recovery
from sessiond.storage.repair.old_database import OldDatabase
from sessiond.storage.repair.salvaging import Incomplete, Salvage, Salvaged
from sessiond.storage.repair.salvaging import Progress as SalvageProgress
from sessiond.storage.state_file import STATE_NAME, StateFile

DATABASE_NAME = "sessiond.db"
INDEX_NAME = "search.db"
SUSPECT_NAME = "suspect"
"""A file of this name asks the next start to check the whole database first."""

DAMAGE = (*CORRUPTION, apsw.SQLError, ValueError, TypeError, LookupError)
"""What a start stumbles over where the database is damaged: SQLite tells it, a table is gone, or a row says
nothing. Damage in a file is dealt with where that file is read."""

logger = logging.getLogger("sessiond.storage")


class DataDirectory:
    """The stores of one user."""

    def __init__(
        self,
        path: Path,
        database: Database,
        session_files: SessionFiles,
        state_file: StateFile,
        recovery: Recovery,
    ) -> None:
        self.path = path
        self.database = database
        self.files = session_files
        self.state_file = state_file
        self.recovery = recovery
        self.incomplete: list[Incomplete] = []
        """Sessions that could not be had whole from the files and an old database."""

    @classmethod
    def open(
        cls,
        path: Path,
        clock: Clock,
        disk: Disk | None = None,
        vfs: str | None = None,
        progress: Progress | None = None,
        *,
        is_salvaged: bool = False,
    ) -> DataDirectory:
        """Open, migrate, make durable, recover. Raises StartupRefused or StorageFailed.

        `progress` is told of the files that the database did not know: how many of how many were taken in.
        `is_salvaged`: there is no database, because `salvage_files` was done with it.
        """
        check_library()
        disk = disk or Disk()
        session_files = SessionFiles(path, disk)
        is_alone = disk.file_size(path / DATABASE_NAME) is None
        incomplete: list[Incomplete] = []
        try:
            if is_alone:
                # The directory may be new, and a power cut would take it away with all that is stored in it.
                disk.sync_above(path)
            _make_directories(session_files)
            if is_alone and not is_salvaged:  # of what the files lack nothing else will tell
                incomplete = salvage_files(path, clock, session_files, vfs).incomplete
            try:
                directory = cls._open(path, clock, session_files, vfs, progress)
            except DAMAGE as error:
                if (first := _of_the_disk(error)) is not None:
                    raise not_opened("opening", path, first) from error
                reason = f"{type(error).__name__}: {error}"
                logger.error("database is damaged", extra={"reason": reason})  # noqa: TRY400
                incomplete = salvage_files(path, clock, session_files, vfs).incomplete
                set_database_aside(path, session_files, "damaged", clock.now())
                directory = cls._open(path, clock, session_files, vfs, progress)
                directory.recovery.counters.add("databases_rebuilt")
            directory.incomplete = incomplete
            if incomplete:
                directory.recovery.counters.add("sessions_incomplete", len(incomplete))
            return directory
        except (apsw.Error, OSError) as error:
            raise not_opened("opening", path, error) from error
        except StorageFailed as failure:
            if lacks_room(path, failure.cause):
                raise DiskFull(path) from failure
            raise

    @classmethod
    def _open(
        cls,
        path: Path,
        clock: Clock,
        session_files: SessionFiles,
        vfs: str | None,
        progress: Progress | None,
    ) -> DataDirectory:
        disk = session_files.disk
        require_file(path / DATABASE_NAME, disk)
        _set_odd_aside(path, session_files, clock.now())
        _set_log_aside(path, session_files, clock.now())
        database = Database(path / DATABASE_NAME, disk, vfs)
        try:
            suspect = path / SUSPECT_NAME
            if disk.file_size(suspect) is not None:
                database.require_sound()
                disk.unlink(suspect)
            database.migrate()
            require_way_ahead(database.connection)
            database.barrier()
            disk.sync_directory(path)
            state_file = StateFile(path, disk)
            recovery = Recovery(database.connection, session_files, state_file, clock, progress)
            recovery.run()
        except BaseException:
            database.close()
            raise
        return cls(path, database, session_files, state_file, recovery)

    def close(self) -> None:
        """Close the files and the database. Raises StorageFailed."""
        with failing(f"closing {self.path}"):
            self.files.close_all()
            self.database.close()


def _of_the_disk(error: BaseException | None) -> Exception | None:
    """What the disk said before anything else went wrong, if it did: the database may well be sound."""
    while error is not None:
        if isinstance(error, (OSError, apsw.Error)) and not isinstance(error, DAMAGE):
            return error
        error = error.__context__
    return None


def mark_suspect(path: Path, disk: Disk | None = None) -> None:
    """Ask the next start to check the whole database. Raises OSError."""
    disk = disk or Disk()
    if disk.file_size(path / SUSPECT_NAME) is None:
        disk.close(disk.create(path / SUSPECT_NAME))


def salvage_files(
    path: Path,
    clock: Clock,
    session_files: SessionFiles,
    vfs: str | None = None,
    progress: SalvageProgress = lambda *_: None,
) -> Salvaged:
    """Bring into the files what the database has and they have not; it is to be set aside. Raises OSError."""
    _set_odd_aside(path, session_files, clock.now())
    old = OldDatabase.at(path / DATABASE_NAME, session_files.disk, vfs)
    try:
        state_file = StateFile(path, session_files.disk)
        return Salvage(old, session_files, state_file, clock, progress).run()
    finally:
        old.close()


def set_database_aside(path: Path, session_files: SessionFiles, reason: str, moment: int) -> None:
    """Move the database and what belongs to it into the quarantine, together."""
    for suffix in ("", "-wal", "-shm"):
        part = path / f"{DATABASE_NAME}{suffix}"
        if session_files.disk.file_size(part) is not None:
            session_files.set_aside(part, reason, moment)
    if session_files.disk.file_size(path / SUSPECT_NAME) is not None:
        session_files.disk.unlink(path / SUSPECT_NAME)


def _make_directories(session_files: SessionFiles) -> None:
    try:
        session_files.make_directories()
    except FileExistsError as error:
        raise StartupRefused(f"{error.filename} is no directory", "move it away") from error


def _set_odd_aside(path: Path, session_files: SessionFiles, moment: int) -> None:
    """What has the name of one of our files and is none: SQLite would wait for a pipe."""
    disk = session_files.disk
    names = [f"{DATABASE_NAME}{suffix}" for suffix in ("-wal", "-shm")]
    of_index = [f"{INDEX_NAME}{suffix}" for suffix in ("", "-wal", "-shm")]  # it is built anew
    for name in (*names, SUSPECT_NAME, STATE_NAME, *of_index):
        odd = path / name
        if disk.file_size(odd) is not None and not disk.is_file(odd):
            target = session_files.set_aside(odd, "no-file", moment)
            logger.error("no file of ours is set aside", extra={"path": str(target)})
            if name in names:
                mark_suspect(path, disk)


def _set_log_aside(path: Path, session_files: SessionFiles, moment: int) -> None:
    """A log without its database is of no use to SQLite, which would remove it: keep it."""
    size = session_files.disk.file_size
    if size(path / f"{DATABASE_NAME}-wal") is not None and size(path / DATABASE_NAME) is None:
        set_database_aside(path, session_files, "alone", moment)
