"""The rows of a session from its file, where the file is right: it holds together by itself, and they do not,
or they are older.

The one rule: rows that say the same already keep their place among all events; only what differs is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec

from sessiond.storage.catalog import last_position
from sessiond.storage.commit.amendments import PREVIOUS_NAMES_MAX
from sessiond.storage.commit.event_rows import INSERT_EVENT
from sessiond.storage.commit.tags import replace_tags
from sessiond.storage.database import rows
from sessiond.storage.disk import Disk
from sessiond.storage.encoding import encode
from sessiond.storage.file_reading import FileReading, LineDamage, amend_of, called_in, require_end
from sessiond.storage.recovery.beginning import take_beginning
from sessiond.storage.recovery.surplus import store_end
from sessiond.storage.view import View
from sessiond_client.wire.lines import FooterLine, HeaderLine
from sessiond_client.wire.messages import Session

FOOTER_BYTES_MAX = 4096

_footer_decoder: msgspec.json.Decoder[FooterLine] = msgspec.json.Decoder(FooterLine)


def footer_at_end(disk: Disk, path: Path) -> FooterLine | None:
    """The footer that a file ends with, told from its last bytes alone. Raises OSError."""
    descriptor = disk.open_read(path)
    try:
        size = disk.size(descriptor)
        tail = disk.read_at(descriptor, max(0, size - FOOTER_BYTES_MAX), FOOTER_BYTES_MAX)
    finally:
        disk.close(descriptor)
    try:
        footer = _footer_decoder.decode(tail[:-1].rpartition(b"\n")[2])
        require_end(footer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LineDamage):
        return None
    return footer if tail.endswith(b"\n") else None


def is_newer(disk: Disk, path: Path, view: View, digest_of: Callable[[int], str]) -> bool:
    """Whether a file is sealed, holds together, begins with the events of a session's rows, and goes on.

    Of a session that has ended it goes on with more events, or with a name that came after that of the row.
    `digest_of` gives the digest of the rows, for their session's `row_id`. Raises OSError.
    """
    if footer_at_end(disk, path) is None:
        return False
    count = view.session.next_seq
    begun = hashlib.sha256()

    def feed(seq: int, _kind: str, _at: int, line: bytes) -> None:
        if seq < count:
            begun.update(line + b"\n")

    reading = FileReading(disk, path, feed)
    if reading.damage is not None or reading.header is None or reading.header.id != view.session.ulid:
        return False
    goes_on = reading.sequence.next_seq >= count
    if view.has_ended:
        goes_on = reading.sequence.next_seq > count or is_called_later(
            names_in(reading), names_of(view.session)
        )
    return goes_on and begun.hexdigest() == digest_of(view.row_id)


def names_in(reading: FileReading) -> list[str]:
    """All names that a session had by its file, the present one last."""
    assert reading.header is not None
    return names_said(reading.header, reading.amends)


def names_said(header: HeaderLine, amends: list[tuple[int, bytes]]) -> list[str]:
    """All names by header and amend lines, the present one last. Raises LineDamage."""
    amended = [amend_of(line).name for _, line in amends]
    names = [*(header.previous_names or []), header.name]
    return [*names, *(name for name in amended if name is not None)]


def names_of(session: Session) -> list[str]:
    """All names that a session had by its row, the present one last."""
    return [*session.previous_names, session.name]


def is_called_later(names: list[str], others: list[str]) -> bool:
    """Whether `names` go on from where `others` end. Of either, the oldest may have been dropped."""
    for shared in range(min(len(others), len(names) - 1), 0, -1):
        is_all = shared == len(others) or len(names) > PREVIOUS_NAMES_MAX
        if is_all and others[-shared:] == names[:shared]:
            return True
    return False


def is_called_as(session: Session, said: list[str], *, is_behind: bool) -> bool:
    """Whether the names of a row are those that its file says, or later ones where the file is behind."""
    names, said = names_of(session), said[-PREVIOUS_NAMES_MAX - 1 :]
    return names == said or (is_behind and is_called_later(names, said))


def take_rows(connection: apsw.Connection, disk: Disk, path: Path, view: View) -> int:
    """Bring the rows of a session in line with its file, in one transaction; returns how many it has now.

    Raises apsw.Error, OSError, and LineDamage for a header that says nothing.
    """
    with connection:
        reading = FileReading(disk, path, _row_taker(connection, view.row_id))
        assert reading.damage is None, "it held together when it was compared"
        assert reading.header is not None
        _take_counts(connection, view.row_id, reading)
        take_beginning(connection, view.row_id, reading.header)
        _take_names(connection, view, reading)
        if reading.footer is not None:
            store_end(connection, view.row_id, reading.footer)
        mark_whole(connection, view.row_id, reading.size)
        # The search index may have texts that are no longer there: it is to be built anew.
        connection.execute("UPDATE fact SET value = lower(hex(randomblob(16))) WHERE name = 'database_id'")
    return reading.sequence.next_seq


def mark_whole(connection: apsw.Connection, row_id: int, size: int) -> None:
    """The file of a session has everything, `size` bytes, and is on disk."""
    sql = (
        "UPDATE session SET synced_bytes = ?, synced_seq = next_seq, sealed = (status != 'recording')"
        " WHERE id = ?"
    )
    connection.execute(sql, (size, row_id))


def _row_taker(connection: apsw.Connection, row_id: int) -> Callable[[int, str, int, bytes], None]:
    position = last_position(connection)

    def take(seq: int, kind: str, at: int, line: bytes) -> None:
        nonlocal position
        sql = "SELECT CAST(kind AS BLOB), at, CAST(line AS BLOB) FROM event WHERE session_id = ? AND seq = ?"
        found = rows(connection, sql, (row_id, seq))
        if not found:
            position += 1
            connection.execute(INSERT_EVENT, (position, row_id, seq, kind, at, line.decode()))
        elif found[0] != (kind.encode(), at, line):
            sql = "UPDATE event SET kind = ?, at = ?, line = ? WHERE session_id = ? AND seq = ?"
            connection.execute(sql, (kind, at, line.decode(), row_id, seq))

    return take


def _take_counts(connection: apsw.Connection, row_id: int, reading: FileReading) -> None:
    sequence = reading.sequence
    sql = "DELETE FROM event WHERE session_id = ? AND (seq >= ? OR seq < 0)"
    connection.execute(sql, (row_id, sequence.next_seq))
    connection.execute(
        "UPDATE session SET next_seq = ?, command_count = ?, byte_count = ?, last_event_at = ?,"
        " recovered = 1 WHERE id = ?",
        (sequence.next_seq, sequence.commands, sequence.byte_count, reading.last_at, row_id),
    )


def _take_names(connection: apsw.Connection, view: View, reading: FileReading) -> None:
    row_id, header = view.row_id, reading.header
    assert header is not None
    connection.execute("DELETE FROM amend WHERE session_id = ?", (row_id,))
    connection.executemany(
        "INSERT INTO amend (session_id, position, line) VALUES (?, ?, ?)",
        [(row_id, position, line.decode()) for position, line in reading.amends],
    )
    size = sum(len(line) + 1 for _, line in reading.amends)
    sql = "UPDATE session SET header = ?, amend_bytes = ?, unsettled = max(unsettled, ?) WHERE id = ?"
    behind = bool(size) and reading.footer is not None
    connection.execute(sql, (reading.first_line.decode(), size, behind, row_id))
    names = names_in(reading)
    if view.unsettled and view.has_ended and is_called_as(view.session, names, is_behind=True):
        return  # it is called otherwise by now, and the file is to follow
    name, tags = called_in(header.name, header.tags, reading.amends)
    if names != names_of(view.session):
        previous = encode(names[:-1][-PREVIOUS_NAMES_MAX:])
        sql = "UPDATE session SET name = ?, previous_names = ? WHERE id = ?"
        connection.execute(sql, (name, previous.decode(), row_id))
    replace_tags(connection, row_id, tags)
