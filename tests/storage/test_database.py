"""The SQLite library, the schema and the barrier."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from sessiond.errors import StartupRefused
from sessiond.storage.database import Database, check_library, migrations
from sessiond.storage.disk import Disk


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
