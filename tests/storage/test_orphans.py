"""Rows whose session is gone, and files that say what no session is: told, and never taken for good."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.storage.catalog import get_session
from sessiond.storage.database import open_reader
from sessiond.storage.repair.rebuilding import rebuild
from tests import checker
from tests.crash.damaged import SEALED, appended, commit, faults, mend, opened, started
from tests.storage.test_checking import INTO_EVENT, OF_SEALED, STRANGER, in_file, path, sql

__all__ = ["path"]


@pytest.mark.parametrize(
    "statement",
    [
        INTO_EVENT + " VALUES (900, {owner}, 0, 'note', 1, '{{{{}}}}')",
        "INSERT INTO tag VALUES ({owner}, 'x', 0)",
        "INSERT INTO label VALUES ('x', {owner})",
        "INSERT INTO amend VALUES ({owner}, 5, '{{{{}}}}')",
    ],
)
@pytest.mark.parametrize("owner", [0, 3])
def test_rows_of_a_session_that_is_gone_are_told_and_the_next_one_does_not_stumble_over_them(
    path: Path, statement: str, owner: int
) -> None:
    lines = checker.lines_in_database(path)
    sql(statement.format(owner=owner))(path)

    assert [each.code for each in faults(path)] == ["rows_orphaned"]
    if owner:
        with opened(path) as (_, store):
            commit(store, started(STRANGER, "next"), appended(STRANGER, "one"))
        assert faults(path) == []
    rebuild(path, Clock(), lambda *_: None)
    assert faults(path) == []
    assert {ulid: each for ulid, each in checker.lines_in_database(path).items() if ulid != STRANGER} == lines


def test_a_number_of_a_change_that_is_none_is_told_and_the_start_builds_the_database_anew(path: Path) -> None:
    lines = checker.lines_in_database(path)
    sql("UPDATE session SET changed = 'abc' WHERE ulid = '{open}'")(path)
    assert [each.code for each in faults(path)] == ["row_differs"]

    with opened(path) as (_, store):
        commit(store, started(STRANGER, "next"), appended(STRANGER, "one"))

    assert faults(path) == []
    assert checker.lines_in_database(path).items() >= lines.items()


def test_a_session_whose_row_alone_is_gone_is_taken_in_by_the_next_start(path: Path) -> None:
    lines = checker.lines_in_database(path)
    sql("DELETE FROM session WHERE ulid = '{open}'")(path)

    with opened(path):
        pass

    assert faults(path) == []
    assert checker.lines_in_database(path) == lines


ENDS_AS_NONE = {
    "status": (b'"status":"completed"', b'"status":"bogus"'),
    "still recording": (b'"status":"completed"', b'"status":"recording"'),
    "reason": (b'"end_reason":"stopped"', b'"end_reason":"bogus"'),
    "end": (b'"footer","ended_at":"2', b'"footer","ended_at":"x2'),
    "name": (b'"name":"sealed"', b'"name":"a/.."'),
    "long name": (b'"name":"sealed"', b'"name":"' + b"a" * 129 + b'"'),
    "start": (b'"started_at":"2', b'"started_at":"x2'),
    "source": (b'"source":"app"', b'"source":"bogus"'),
}


@pytest.mark.parametrize("what", ENDS_AS_NONE)
def test_a_file_that_says_what_no_session_is_does_not_bring_its_rows_in_line_with_it(
    path: Path, what: str
) -> None:
    in_file(SEALED, *ENDS_AS_NONE[what])(path)
    sql(f"UPDATE event SET line = replace(line, 'one', 'One') WHERE session_id = {OF_SEALED}")(path)

    assert all("neither copy is whole" in each.repair for each in faults(path))
    mend(path)
    with closing(open_reader(path / "sessiond.db")) as connection:
        session = get_session(connection, SEALED)

    assert session is not None
    assert (session.name, session.status, session.end_reason) == ("sealed", "completed", "stopped")
