"""The rows of events, on their way into the database.

Owns how they are inserted. The one rule: Python is asked once for a run of events, not once for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

import apsw

INSERT_EVENT = "INSERT INTO event (id, session_id, seq, kind, at, line) VALUES (?, ?, ?, ?, ?, ?)"

TIME_DIGITS = 20
"""As many as any time has that the database can hold, with its sign."""

INSERT_RUN = """
    INSERT OR FAIL INTO event (id, session_id, seq, kind, at, line)
    SELECT ?1 + rowid, ?2, ?3 + rowid, ?4, CAST(substr(?5, ?6 * (rowid - 1) + 1, ?6) AS INTEGER), value
    FROM carray(?7)
"""
"""A failure ends the whole transaction, so SQLite need not be able to undo the run alone (OR FAIL). `rowid`
counts from 1. SQLite takes the lines from an array, and the times, which may differ, from digits
that are equally wide: so all of it happens without Python, and the daemon's other threads go on meanwhile."""

RUN_EVENTS_MIN = 4
"""Shorter ones are quicker one by one, many appends together."""

_HAS_ARRAYS = "ENABLE_CARRAY" in apsw.compile_options
"""The builds on PyPI have them; what a distribution builds need not."""

Row = tuple[int, int, int, str, int, str]
"""`id`, `session_id`, `seq`, `kind`, `at`, `line`."""


class Run(NamedTuple):
    """Consecutive events of one session and one kind: the ids and seqs count on from those before it."""

    before_id: int
    session_id: int
    before_seq: int
    kind: str
    times: tuple[int, ...]
    lines: tuple[str, ...]

    def insert(self, connection: apsw.Connection) -> None:
        """Bring it to the database."""
        *columns, times, lines = self
        digits = f"%0{TIME_DIGITS}d" * len(times) % times
        connection.execute(INSERT_RUN, (*columns, digits.encode(), TIME_DIGITS, apsw.carray(lines)))


class EventRows:
    """Collects rows, by rising id; `write` inserts them."""

    def __init__(self) -> None:
        self._parts: list[Run | list[Row]] = []
        self._single: list[Row] | None = None
        self.count = 0

    def add(
        self,
        first_id: int,
        session_id: int,
        first_seq: int,
        kinds: Sequence[str],
        times: Sequence[int],
        lines: Sequence[str],
    ) -> None:
        """Add consecutive events of one session; an odd one at the end of `lines` is left out.

        No line may hold a NUL, at which SQLite would end it; no JSON does.
        """
        count = len(kinds)
        self.count += count
        if _HAS_ARRAYS and count >= RUN_EVENTS_MIN and kinds.count(kinds[0]) == count:
            run = Run(first_id - 1, session_id, first_seq - 1, kinds[0], tuple(times), tuple(lines[:count]))
            self._parts.append(run)
            self._single = None
            return
        if self._single is None:
            self._single = []
            self._parts.append(self._single)
        ids, seqs = range(first_id, first_id + count), range(first_seq, first_seq + count)
        self._single += zip(ids, repeat(session_id), seqs, kinds, times, lines, strict=False)

    def write(self, connection: apsw.Connection) -> None:
        """Insert all that was added, and let go of it. Raises apsw.Error."""
        parts, self._parts, self._single = self._parts, [], None
        for part in parts:
            if isinstance(part, Run):
                part.insert(connection)
            else:
                connection.executemany(INSERT_EVENT, part)
