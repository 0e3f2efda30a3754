"""One session put together from what its file and its rows still have.

The one rule: an event counts if a line of it holds in either copy, and no other line says something else;
where one copy is proven by its digest or its counts, it decides.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from sessiond.storage.disk import Disk
from sessiond.storage.file_reading import LineDamage, Sequence, event_facts, lines_of
from sessiond_client.wire.lines import FooterLine
from sessiond_client.wire.messages import Session, Status

Events = Iterator[tuple[int, bytes]]
"""Seq and line of events, in the order of seq, newlines left out."""


class Examined(NamedTuple):
    """What events come to. The first `number` of them have no gap, and `byte_count`, `commands` and `digest`
    are theirs; `rest` is how many hold behind the gap, and `end` the seq after the last one known of."""

    number: int
    commands: int
    byte_count: int
    digest: str
    rest: int
    end: int

    def gives(self, session: Session) -> bool:
        """Whether these are exactly the events of a session, as its row says."""
        if session.status is not Status.RECORDING:
            return (self.number, self.digest) == (session.next_seq, session.digest)
        return self.end == self.number and (self.number, self.byte_count) == (
            session.next_seq,
            session.byte_count,
        )

    def ends_as(self, footer: FooterLine | None) -> bool:
        """Whether these are exactly the events of a footer."""
        if footer is None:
            return False
        return (self.number, self.commands, self.digest) == (
            footer.event_count,
            footer.command_count,
            footer.digest,
        )


class Copies:
    """The two copies of one session. Each of the two gives its events anew whenever it is called."""

    def __init__(
        self, rows: Callable[[], Events], file: Callable[[], Events], session: Session | None
    ) -> None:
        self._rows = rows
        self._file = file
        alone = examine(rows())
        self._rows_decide = session is not None and alone.gives(session)
        if session is not None and self._rows_decide and session.status is not Status.RECORDING:
            self._file = lambda: iter(())  # what the file has beyond its end is none of its events
        self.examined = examine(self._events())

    def _events(self) -> Iterator[tuple[int, bytes | None]]:
        of_rows = ((seq, 0, line) for seq, line in self._rows())
        of_file = ((seq, 1, line) for seq, line in self._file())
        for seq, found in groupby(heapq.merge(of_rows, of_file), itemgetter(0)):
            lines = [line for _, _, line in found]
            yield seq, lines[0] if self._rows_decide or len(set(lines)) == 1 else None

    def lines(self) -> Iterator[bytes]:
        """The event lines before the first gap."""
        for seq, line in self._events():
            if seq == self.examined.number or line is None:
                return
            yield line

    def rest(self) -> Iterator[bytes]:
        """Those behind it."""
        return (line for seq, line in self._events() if seq >= self.examined.number and line is not None)


def examine(events: Iterator[tuple[int, bytes | None]]) -> Examined:
    """Count events up to the first gap, and those behind it. None is a line that nobody can tell."""
    sequence, digest = Sequence(), hashlib.sha256()
    rest = end = 0
    is_whole = True
    for seq, line in events:
        end = seq + 1
        if is_whole:
            is_whole = line is not None and _goes_on(sequence, line)
            if is_whole and line is not None:
                digest.update(line + b"\n")
                continue
        rest += line is not None
    return Examined(sequence.next_seq, sequence.commands, sequence.byte_count, digest.hexdigest(), rest, end)


def _goes_on(sequence: Sequence, line: bytes) -> bool:
    try:
        sequence.take(event_facts(line), line)
    except LineDamage:
        return False
    return True


def lines_that_hold(disk: Disk, path: Path) -> Events:
    """The events of a file that may be damaged anywhere. Raises OSError.

    A line that is out of step may have a damaged seq: it counts if the next one goes on from it, or if, at
    the end of the file, just as many lines before it do not hold.
    """
    expected = damaged = 0
    waiting: tuple[int, bytes] | None = None
    for line in _whole_lines(disk, path):
        try:
            seq = event_facts(line).seq
        except LineDamage:
            damaged += 1
            continue
        if waiting is not None and seq == waiting[0] + 1:
            yield waiting
            expected, damaged = seq, 0
        waiting = (seq, line) if seq > expected else None
        if seq == expected:
            yield seq, line
            expected, damaged = seq + 1, 0
    # The header, or a footer, is counted among the damaged at most: one more or less.
    if waiting is not None and waiting[0] <= expected + damaged:
        yield waiting


def _whole_lines(disk: Disk, path: Path) -> Iterator[bytes]:
    descriptor = disk.open_read(path)
    try:
        for _, line in lines_of(disk, descriptor):
            yield line
    except LineDamage:
        return  # torn, or too long for a line: nothing behind it can be told
    finally:
        disk.close(descriptor)
