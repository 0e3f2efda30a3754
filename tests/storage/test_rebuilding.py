"""A database that is built anew says what the right copy said."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.storage.repair.rebuilding import rebuild
from tests import checker
from tests.crash.damaged import OPEN, SEALED, appended, commit, faults, opened, started
from tests.storage.test_checking import in_file, path, sql

__all__ = ["path"]

STATE = "../state"
WRONG = {
    "event of an open session": (OPEN, b'"three"', b'"thref"'),
    "name of an open session": (OPEN, b'"opened"', b'"opener"'),
    "source": (SEALED, b'"source":"app"', b'"source":"api"'),
    "start": (SEALED, b'"started_at":"2025', b'"started_at":"2024'),
    "name": (SEALED, b'"name":"sealed"', b'"name":"sealer"'),
    "exit code": (SEALED, b'"exit_code":0', b'"exit_code":1'),
    "label": (STATE, b'"release"', b'"releasf"'),
    "milestone": (STATE, b'"8"', b'"9"'),
}


def said(path: Path) -> tuple[object, ...]:
    """What the database says of everything but how the open session goes on."""
    questions = [
        "SELECT ulid, name, source, started_at FROM session ORDER BY ulid",
        f"SELECT ended_at, exit_code, digest FROM session WHERE ulid = '{SEALED}'",
        "SELECT label, ulid FROM label JOIN session ON session.id = session_id",
        "SELECT key, value FROM milestone",
    ]
    with closing(sqlite3.connect(path / "sessiond.db")) as database:
        return tuple(tuple(database.execute(question)) for question in questions)


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("way", ["rebuild", "start"])
def test_a_file_that_is_whole_and_says_something_else_than_right_rows_is_written_from_them(
    path: Path, what: str, way: str
) -> None:
    lines, before = checker.lines_in_database(path), said(path)
    in_file(*WRONG[what])(path)
    assert faults(path) != []

    if way == "rebuild":
        assert rebuild(path, Clock(), lambda *_: None).mended == 1
    else:
        sql("DROP TABLE receipt")(path)
        with opened(path):
            pass

    assert (checker.lines_in_database(path), said(path)) == (lines, before)
    assert [kept for kept in (path / "quarantine").iterdir() if ".ndjson.damaged" in kept.name]
    assert faults(path) == []


def test_rows_that_are_right_and_older_are_not_taken_for_more_than_the_file(path: Path) -> None:
    old = path.parent / "old.db"
    shutil.copy(path / "sessiond.db", old)
    with opened(path) as (_, store):
        commit(store, appended(OPEN, "later"), started("01CX5ZZKBKACTAV9WEVGEMMVRZ", "another"))
    lines = checker.lines_in_database(path)
    shutil.copy(old, path / "sessiond.db")

    rebuild(path, Clock(), lambda *_: None)

    assert checker.lines_in_database(path) == lines
