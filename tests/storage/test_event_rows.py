"""Events come into the database the same, however they are inserted."""

from __future__ import annotations

from collections import Counter
from itertools import count

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as some

from sessiond.storage.commit import event_rows
from sessiond.storage.commit.event_rows import INSERT_EVENT, EventRows
from sessiond.storage.database import migrations

TABLE = "CREATE TABLE event (id INTEGER PRIMARY KEY, session_id, seq, kind TEXT, at INTEGER, line TEXT)"
FIRST_ID, FIRST_SEQ = 1000, 40

Event = tuple[str, int, str]
"""A kind, a time, and a line."""

Append = tuple[int, list[Event]]
"""A session, and what it gets."""

events = some.tuples(
    some.sampled_from(["output", "input"]),
    some.one_of(some.integers(-(2**63), 2**63 - 1), some.just(1_795_000_000_000_000)),
    some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
alike = some.tuples(some.just("output"), some.integers(-9, 9), some.text("é{", max_size=3))
batches = some.lists(
    some.tuples(
        some.sampled_from([7, 7, 8]),
        some.one_of(some.lists(events, min_size=1, max_size=12), some.lists(alike, min_size=1, max_size=9)),
    ),
    max_size=6,
)


def inserted(batch: list[Append]) -> list[tuple[object, ...]]:
    """What is in the table after these appends."""
    connection = apsw.Connection(":memory:")
    connection.execute(TABLE)
    rows = EventRows()
    done = Counter[int]()
    for session, append in batch:
        kinds, times, lines = map(list, zip(*append, strict=True))
        rows.add(FIRST_ID + done.total(), session, FIRST_SEQ + done[session], kinds, times, [*lines, ""])
        done[session] += len(append)
    assert rows.count == done.total()
    rows.write(connection)
    return connection.execute("SELECT *, typeof(at), typeof(line) FROM event ORDER BY id").fetchall()


def expected(batch: list[Append]) -> list[tuple[object, ...]]:
    """What should be."""
    seqs = {session: count(FIRST_SEQ) for session, _ in batch}
    flat = [(session, *event) for session, append in batch for event in append]
    return [
        (FIRST_ID + number, session, next(seqs[session]), kind, at, line, "integer", "text")
        for number, (session, kind, at, line) in enumerate(flat)
    ]


@given(batches)
def test_a_run_of_events_is_stored_as_its_events_one_by_one(batch: list[Append]) -> None:
    assert inserted(batch) == expected(batch)


def test_an_sqlite_without_arrays_stores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [(7, [("output", at, f"line {at}") for at in range(9)]), (7, [("input", 1, "é")])]
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
