"""The SQLite library, the schema and the barrier."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path

import anyio
import apsw
import pytest

from sessiond.clock import Clock
from sessiond.errors import Refused, StartupRefused, StorageFailed
from sessiond.reader import Reader
from sessiond.storage.database import Database, DiskFull, check_library, migrations, not_opened
from sessiond.storage.directory import DataDirectory
from sessiond.storage.disk import Disk
from sessiond.storage.store import Store

DISK_ERRORS = [
    *[apsw.BusyError, apsw.LockedError, apsw.ProtocolError, apsw.CorruptError, apsw.NotADBError],
    *[apsw.IOError, apsw.FullError, apsw.NoMemError, apsw.PermissionsError, apsw.ReadOnlyError],
    apsw.CantOpenError,
]
"""What SQLite says where not we, but the disk or another program is at fault."""


@pytest.mark.parametrize("version", ["3.40.1", "3.44.5", "3.50.6", "3.51.2", "3.52.0", "3.7.0"])
def test_an_affected_sqlite_is_refused(version: str) -> None:
    with pytest.raises(StartupRefused, match=r"install apsw 3\.51\.3\.0"):
        check_library(version)


@pytest.mark.parametrize("version", ["3.44.6", "3.50.7", "3.51.3", "3.53.0", "3.54.1", "4.0"])
def test_a_fixed_sqlite_is_accepted(version: str) -> None:
    check_library(version)


def test_this_sqlite_is_accepted() -> None:
    check_library()


def test_commits_are_synced_in_full(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", Disk())

    assert database.connection.execute("PRAGMA synchronous").get == 2
    assert database.connection.execute("PRAGMA journal_mode").get == "wal"
    database.close()


def test_a_failed_migration_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "x.db", Disk())
    monkeypatch.setattr(
        "sessiond.storage.database.migrations", lambda: ["CREATE TABLE a (b); CREATE TABLE broken ("]
    )

    with pytest.raises(apsw.SQLError):
        database.migrate()

    assert database.connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    assert database.connection.execute("PRAGMA user_version").get == 0
    database.close()


def test_a_new_database_has_all_of_its_schema_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = [*migrations(), "CREATE TABLE broken ("]
    monkeypatch.setattr("sessiond.storage.database.migrations", lambda: scripts)
    database = Database(tmp_path / "x.db", Disk())

    with pytest.raises(apsw.SQLError):
        database.migrate()

    assert database.connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    assert database.connection.execute("PRAGMA user_version").get == 0
    database.close()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/d/x"),
            78,
            "/d/x: Permission denied; see who owns",
        ),
        (apsw.CantOpenError("unable"), 78, "/d: unable; see who owns it"),
        (apsw.ReadOnlyError("readonly"), 78, "/d: readonly; see who owns it"),
        (OSError(errno.ENOSPC, "No space left"), 70, "the disk of /d is full; free some space"),
        (apsw.FullError("full"), 70, "the disk of /d is full; free some space"),
        (OSError(errno.EROFS, "Read-only"), 70, "/d is mounted for reading only; mount it for writing"),
    ],
)
def test_what_keeps_a_directory_from_being_opened_comes_with_what_to_do(
    error: Exception, code: int, words: str
) -> None:
    told = not_opened("opening", Path("/d"), error)

    assert isinstance(told, StartupRefused)
    assert told.exit_code == code
    assert words in str(told)
    assert isinstance(not_opened("opening", Path("/d"), apsw.IOError("disk I/O error")), StorageFailed)


@pytest.mark.parametrize(
    ("code", "free", "full"),
    [
        (apsw.SQLITE_IOERR_SHMSIZE, 0, True),
        (apsw.SQLITE_IOERR_WRITE, 4096, True),
        (apsw.SQLITE_IOERR_WRITE, 10**9, False),
        (apsw.SQLITE_IOERR_FSYNC, 0, False),
        (apsw.SQLITE_IOERR_READ, 0, False),
    ],
)
def test_what_sqlite_cannot_write_is_put_down_to_a_full_disk_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, free: int, full: bool
) -> None:
    monkeypatch.setattr(Disk, "free_bytes", lambda *_: free)
    error = apsw.IOError("disk I/O error")
    vars(error)["extendedresult"] = code

    assert isinstance(not_opened("opening", tmp_path, error), DiskFull if full else StorageFailed)


def test_a_database_is_copied_before_it_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.db"
    database = Database(path, Disk())
    database.migrate()
    scripts = [*migrations(), "CREATE TABLE later (a)"]
    monkeypatch.setattr("sessiond.storage.database.migrations", lambda: scripts)

    database.migrate()

    copy = apsw.Connection(str(tmp_path / f"x.db.before-schema-{len(scripts)}"))
    assert copy.execute("PRAGMA user_version").get == len(scripts) - 1
    assert database.connection.execute("PRAGMA user_version").get == len(scripts)
    copy.close()
    database.close()


def test_the_barrier_empties_the_log(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", Disk())
    database.migrate()
    assert (tmp_path / "x.db-wal").stat().st_size > 0

    database.barrier()

    assert (tmp_path / "x.db-wal").stat().st_size == 0
    database.close()


def test_the_barrier_rewrites_the_log_while_a_reader_blocks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond.storage.database.BARRIER_TIMEOUT_MS", 10)
    path = tmp_path / "x.db"
    database = Database(path, Disk())
    database.migrate()
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN; SELECT * FROM session")
    before = (tmp_path / "x.db-wal").read_bytes()
    synced: list[int] = []
    monkeypatch.setattr("sessiond.storage.disk.os.fsync", synced.append)

    database.barrier()

    assert len(synced) == 1
    assert (tmp_path / "x.db-wal").read_bytes() == before
    reader.close()
    database.close()


def test_what_fails_right_after_the_opening_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path, Clock())
    directory.database.connection.close()  # as good as a disk that is not read any more

    with pytest.raises(StorageFailed, match="reading where to go on"):
        Store(directory.database, directory.files, directory.state_file, Clock())


@pytest.mark.parametrize("error", DISK_ERRORS)
def test_whatever_a_failing_disk_makes_of_a_question_is_a_refusal(
    tmp_path: Path, error: type[apsw.Error]
) -> None:
    def question(_: apsw.Connection) -> None:
        raise error("it failed")

    with closing(Database(tmp_path / "x.db", Disk())) as database, closing(Reader(database.path)) as reader:
        database.migrate()
        with pytest.raises(Refused):
            anyio.run(reader.ask, question)
