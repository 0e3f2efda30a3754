"""A session file that the database does not know: it was lost, rebuilt, or restored from an older copy.

The one rule: the rows say what the file says up to its first damage, and no session goes on that has nobody
to go on with it.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec

from sessiond.clock import parse_time
from sessiond.storage.commit.tags import insert_tags
from sessiond.storage.disk import Disk
from sessiond.storage.encoding import encode
from sessiond.storage.file_lines import BadFile
from sessiond.storage.file_reading import LineDamage, header_of
from sessiond.storage.recovery.surplus import digest_of, take_surplus
from sessiond.storage.recovery.tail import Tail
from sessiond_client.wire.lines import HeaderLine
from sessiond_client.wire.messages import EndReason, Status

INSERT_FROM_HEADER = """
    INSERT INTO session (ulid, name, source, status, started_at, cli_version, engine_base_url, parent_ulid,
                         parent_seq, shell, os, hostname, cwd, env, meta, previous_names, header, recovered,
                         changed)
    VALUES (?, ?, ?, 'recording', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1,
            1 + (SELECT coalesce(max(changed), 0) FROM session))
"""

_header_decoder = msgspec.json.Decoder(HeaderLine)


def take_unknown(connection: apsw.Connection, disk: Disk, path: Path, ulid: str) -> int:
    """Store the session of a file, in one transaction; returns how many events it has.

    The file is not changed, whatever stands behind what was taken. Raises BadFile and apsw.Error, and what
    Python raises for a value that nobody thought of.
    """
    events = 0
    try:
        if not disk.is_file(path):
            raise BadFile("no-file")
        with connection, Tail(disk, path) as tail:
            events = _take(connection, tail, ulid)
    except OSError as error:
        raise BadFile(f"unreadable-{type(error).__name__.lower()}") from None
    return events


def _take(connection: apsw.Connection, tail: Tail, ulid: str) -> int:
    lines = tail.lines()
    try:
        _, first = next(lines, (0, b""))
    except LineDamage:
        raise BadFile("no-header") from None
    row_id = _insert(connection, _header_of(first, ulid), first)
    taken = take_surplus(connection, row_id, 0, lines, len(first) + 1)
    if not taken.has_ended:
        _interrupt(connection, row_id)
    return taken.events


def _header_of(first: bytes, ulid: str) -> HeaderLine:
    try:
        _header_decoder.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadFile("no-header") from None
    try:
        header = header_of(first)
    except LineDamage:
        raise BadFile("foreign-header") from None
    if header.id != ulid:
        raise BadFile("foreign-header")
    return header


def _insert(connection: apsw.Connection, header: HeaderLine, first: bytes) -> int:
    connection.execute(
        INSERT_FROM_HEADER,
        (
            header.id, header.name, header.source, parse_time(header.started_at), header.cli_version,
            header.engine_base_url, header.parent_ulid, header.parent_seq, header.shell, header.os,
            header.hostname, header.cwd, encode(header.env).decode(), encode(header.meta).decode(),
            encode(header.previous_names or []).decode(), first.decode(),
        ),
    )  # fmt: skip
    row_id = connection.last_insert_rowid()
    insert_tags(connection, row_id, header.tags)
    return row_id


def _interrupt(connection: apsw.Connection, row_id: int) -> None:
    """A file without a footer tells no owner who could go on: the session is over."""
    connection.execute(
        "UPDATE session SET status = ?, end_reason = ?, ended_at = coalesce(last_event_at, started_at),"
        " digest = ? WHERE id = ?",
        (Status.INTERRUPTED.value, EndReason.DAEMON_LOST.value, digest_of(connection, row_id), row_id),
    )
