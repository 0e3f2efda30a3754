"""What a session file has beyond the rows of its session: it was committed once, and is taken into them.

The one rule: only lines that go on where the rows end are taken, in the order of the file, up to the first
that does not fit; a session ends only with the footer of exactly its events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import apsw

from sessiond.clock import parse_time
from sessiond.storage.catalog import last_position
from sessiond.storage.commit.amendments import PREVIOUS_NAMES_MAX
from sessiond.storage.commit.event_rows import INSERT_EVENT
from sessiond.storage.commit.tags import replace_tags
from sessiond.storage.file_lines import PART_BYTES, well_formed
from sessiond.storage.file_reading import LineDamage, require_end
from sessiond_client.wire.lines import AmendLine, CommandLine, EventText, FooterLine

BATCH_LINES_MAX = 2000
"""So many rows, or as many as make a part, are in memory before they are stored."""

_COUNT = """
    UPDATE session SET next_seq = ?, command_count = command_count + ?, recovered = 1,
        byte_count = byte_count + ?, last_event_at = coalesce(?, last_event_at) WHERE id = ?
"""
_RENAME = """
    UPDATE session SET name = ?, previous_names = json_insert(
        CASE WHEN json_array_length(previous_names) < ? THEN previous_names
             ELSE json_remove(previous_names, '$[0]') END, '$[#]', name) WHERE id = ?
"""
_END = "UPDATE session SET status = ?, end_reason = ?, ended_at = ?, exit_code = ?, digest = ? WHERE id = ?"


class Taken(NamedTuple):
    """What came of it. `end`: where in the file the first byte is that was not taken."""

    events: int
    end: int
    has_ended: bool


def take_surplus(
    connection: apsw.Connection, row_id: int, next_seq: int, lines: Iterator[tuple[int, bytes]], offset: int
) -> Taken:
    """Store lines that begin at `offset` in the file, in one transaction. Raises OSError and apsw.Error."""
    taking = _Taking(connection, row_id, next_seq)
    end, has_ended = offset, False
    with connection:
        footer: FooterLine | None = None
        for position, raw, line in well_formed(lines):
            if isinstance(line, FooterLine):
                footer = line
                break
            if isinstance(line, AmendLine):
                _amend(connection, row_id, position, raw, line)
            elif not taking.add(raw, line):
                break
            end = position + len(raw) + 1
        taking.finish()
        if footer is not None and _end_as(connection, row_id, footer):
            end, has_ended = end + len(raw) + 1, True
    return Taken(taking.next_seq - next_seq, end, has_ended)


class _Taking:
    """The events of one session, stored batch by batch."""

    def __init__(self, connection: apsw.Connection, row_id: int, next_seq: int) -> None:
        self._connection = connection
        self._row_id = row_id
        self.next_seq = next_seq
        self._position = last_position(connection)
        self._batch: list[tuple[int, int, int, str, int, str]] = []
        self._batch_bytes = 0
        sql = "SELECT command_count FROM session WHERE id = ?"
        self._next_command = int(connection.execute(sql, (row_id,)).get)
        self._commands = 0
        self._byte_count = 0
        self._last_at: int | None = None

    def add(self, raw: bytes, line: EventText | CommandLine) -> bool:
        """One more event, if it is the next one; whether it is."""
        is_command = isinstance(line, CommandLine)
        kind = "command" if isinstance(line, CommandLine) else line.kind
        if line.seq != self.next_seq or is_command != (kind == "command"):
            return False
        if isinstance(line, CommandLine) and line.index != self._next_command + self._commands:
            return False
        try:
            at = parse_time(line.at)
        except ValueError:
            return False
        self._position += 1
        self._batch.append((self._position, self._row_id, self.next_seq, kind, at, raw.decode()))
        self._batch_bytes += len(raw) + 1
        self.next_seq += 1
        self._commands += is_command
        self._last_at = at
        if self._batch_bytes >= PART_BYTES or len(self._batch) == BATCH_LINES_MAX:
            self._store()
        return True

    def _store(self) -> None:
        self._connection.executemany(INSERT_EVENT, self._batch)
        self._byte_count += self._batch_bytes
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> None:
        """Store what is left, and what the session is after all of them."""
        self._store()
        counts = (self.next_seq, self._commands, self._byte_count, self._last_at, self._row_id)
        self._connection.execute(_COUNT, counts)


def _amend(connection: apsw.Connection, row_id: int, position: int, raw: bytes, line: AmendLine) -> None:
    sql = "INSERT OR REPLACE INTO amend (session_id, position, line) VALUES (?, ?, ?)"
    connection.execute(sql, (row_id, position, raw.decode()))
    sql = "UPDATE session SET amend_bytes = amend_bytes + ? WHERE id = ?"
    connection.execute(sql, (len(raw) + 1, row_id))
    if line.name is not None:
        connection.execute(_RENAME, (line.name, PREVIOUS_NAMES_MAX, row_id))
    if line.tags is not None:
        replace_tags(connection, row_id, line.tags)


def _end_as(connection: apsw.Connection, row_id: int, footer: FooterLine) -> bool:
    """End a session as its footer says, if the footer's digest is that of the events."""
    try:
        require_end(footer)
    except LineDamage:
        return False
    if footer.digest != digest_of(connection, row_id):
        return False
    store_end(connection, row_id, footer)
    return True


def store_end(connection: apsw.Connection, row_id: int, footer: FooterLine) -> None:
    """End a session as a footer says. Raises ValueError if its time is none."""
    ended_at = parse_time(footer.ended_at)
    values = (footer.status, footer.end_reason, ended_at, footer.exit_code, footer.digest, row_id)
    connection.execute(_END, values)


def digest_of(connection: apsw.Connection, row_id: int) -> str:
    """The SHA-256 of the event lines that are stored of a session."""
    digest = hashlib.sha256()
    sql = "SELECT CAST(line AS BLOB) FROM event WHERE session_id = ? ORDER BY seq"
    for (line,) in connection.execute(sql, (row_id,)):
        digest.update(line + b"\n")
    return digest.hexdigest()
