"""The rows of events, on their way into the database.

Owns how they are inserted. The one rule: Python is asked once for a run of events, not once for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, groupby, repeat

import apsw

INSERT_EVENT = "INSERT INTO event (id, session_id, seq, kind, at, line) VALUES (?, ?, ?, ?, ?, ?)"

TIME_DIGITS = 20
"""As many as any time has that the database can hold, with its sign."""

_TIME_FORMAT = b"%%0%dd" % TIME_DIGITS

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


class Run:
    """Consecutive events of one session and one kind: the ids and seqs count on from those before it."""

    __slots__ = ("before_id", "before_seq", "kind", "lines", "session_id", "times")

    def __init__(self, before_id: int, session_id: int, before_seq: int, kind: str) -> None:
        self.before_id = before_id
        self.session_id = session_id
        self.before_seq = before_seq
        self.kind = kind
        self.times: list[Sequence[int]] = []
        """Of each append."""
        self.lines: list[str] = []

    def ends_before(self, first_id: int, session_id: int, first_seq: int, kind: str) -> bool:
        """Whether this is the next event."""
        next_one = len(self.lines) + 1
        return (
            session_id == self.session_id
            and kind == self.kind
            and first_id == self.before_id + next_one
            and first_seq == self.before_seq + next_one
        )

    def is_long(self) -> bool:
        """Whether it is worth a statement of its own."""
        return _HAS_ARRAYS and len(self.lines) >= RUN_EVENTS_MIN

    def insert(self, connection: apsw.Connection) -> None:
        """Bring it to the database."""
        digits = b"".join(map(_digits, self.times))
        connection.execute(
            INSERT_RUN,
            (
                self.before_id, self.session_id, self.before_seq, self.kind,
                digits, TIME_DIGITS, apsw.carray(tuple(self.lines)),
            ),
        )  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """Its events one by one."""
        ids, seqs = count(self.before_id + 1), count(self.before_seq + 1)
        times = chain.from_iterable(self.times)
        return zip(ids, repeat(self.session_id), seqs, repeat(self.kind), times, self.lines, strict=False)


class EventRows:
    """Collects rows, by rising id; `write` inserts them."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
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
        self.count += len(kinds)
        for kind, begin, end in _stretches(kinds):
            run = self._run(first_id + begin, session_id, first_seq + begin, kind)
            run.times.append(times[begin:end])
            run.lines += lines[begin:end]

    def _run(self, first_id: int, session_id: int, first_seq: int, kind: str) -> Run:
        """The run that goes on with this event."""
        if not self._runs or not self._runs[-1].ends_before(first_id, session_id, first_seq, kind):
            self._runs.append(Run(first_id - 1, session_id, first_seq - 1, kind))
        return self._runs[-1]

    def write(self, connection: apsw.Connection) -> None:
        """Insert all that was added, and let go of it. Raises apsw.Error."""
        collected, self._runs = self._runs, []
        for long, runs in groupby(collected, Run.is_long):
            if long:
                for run in runs:
                    run.insert(connection)
            else:
                connection.executemany(INSERT_EVENT, chain.from_iterable(map(Run.rows, runs)))


def _digits(times: Sequence[int]) -> bytes:
    """The times of an append in equally many digits; mostly it has one, which is formatted once."""
    if times.count(times[0]) == len(times):
        return (_TIME_FORMAT % times[0]) * len(times)
    return _TIME_FORMAT * len(times) % tuple(times)


def _stretches(kinds: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Each kind, and where it begins and ends; mostly there is one."""
    if kinds and kinds.count(kinds[0]) == len(kinds):
        yield kinds[0], 0, len(kinds)
        return
    begin = 0
    for kind, same in groupby(kinds):
        end = begin + len(list(same))
        yield kind, begin, end
        begin = end
