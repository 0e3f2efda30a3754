"""Events come into the database the same, however they are inserted."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sessiond.storage.commit import event_rows
from sessiond.storage.commit.event_rows import INSERT_EVENT, EventRows
from sessiond.storage.database import migrations

TABLE = "CREATE TABLE event (id INTEGER PRIMARY KEY, session_id, seq, kind TEXT, at INTEGER, line TEXT)"
FIRST_ID, SESSION, FIRST_SEQ = 1000, 7, 40

Event = tuple[str, int, str]
"""A kind, a time, and a line."""

events = some.tuples(
    some.sampled_from(["output", "input"]),
    some.one_of(some.integers(-(2**63), 2**63 - 1), some.just(1_795_000_000_000_000)),
    some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
appends = some.lists(
    some.one_of(
        some.lists(events, min_size=1, max_size=12),
        some.lists(
            some.tuples(some.just("output"), some.integers(-9, 9), some.text("é{", max_size=3)), max_size=9
        ),
    ).filter(bool),
    max_size=6,
)


def inserted(batch: list[list[Event]]) -> list[tuple[object, ...]]:
    """What is in the table after these appends to one session."""
    connection = apsw.Connection(":memory:")
    connection.execute(TABLE)
    rows = EventRows()
    done = 0
    for append in batch:
        kinds, times, lines = map(list, zip(*append, strict=True))
        rows.add(FIRST_ID + done, SESSION, FIRST_SEQ + done, kinds, times, [*lines, ""])
        done += len(append)
    assert rows.count == done
    rows.write(connection)
    return connection.execute("SELECT *, typeof(at), typeof(line) FROM event ORDER BY id").fetchall()


def expected(batch: list[list[Event]]) -> list[tuple[object, ...]]:
    """What should be."""
    flat = [event for append in batch for event in append]
    return [
        (FIRST_ID + number, SESSION, FIRST_SEQ + number, kind, at, line, "integer", "text")
        for number, (kind, at, line) in enumerate(flat)
    ]


@given(appends)
def test_a_run_of_events_is_stored_as_its_events_one_by_one(batch: list[list[Event]]) -> None:
    assert inserted(batch) == expected(batch)


def test_an_sqlite_without_arrays_stores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [[("output", at, f"line {at}") for at in range(9)], [("input", 1, "é")]]
    with_arrays = inserted(batch)
    monkeypatch.setattr(event_rows, "_HAS_ARRAYS", False)

    assert inserted(batch) == with_arrays == expected(batch)


def test_storing_an_event_computes_nothing_from_its_line_and_whoever_asks_finds_its_text() -> None:
    connection = apsw.Connection(":memory:")
    for script in migrations():
        connection.execute(script)

    connection.execute(INSERT_EVENT, (1, 1, 0, "prompt", 0, '{"text":"hello"}'))
    connection.execute(INSERT_EVENT, (2, 1, 1, "command", 0, '{"command":"make"}'))

    computing = [step[1] for step in connection.execute(f"EXPLAIN {INSERT_EVENT}", (None,) * 6)]
    assert "PureFunc" not in computing
    assert connection.execute("SELECT text FROM event_text ORDER BY id").fetchall() == [("hello",), ("make",)]
