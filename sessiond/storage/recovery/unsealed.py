"""A session whose file is not known to be whole, and that file as the database has it.

The one rule: a file is made of the rows part by part, so that no more of it is in memory than a part and a
line, however long it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import apsw

from sessiond.storage.catalog import get_session
from sessiond.storage.database import rows
from sessiond.storage.encoding import footer_line
from sessiond.storage.file_lines import in_file_order, in_parts
from sessiond_client.wire.messages import Status

_UNSEALED = """
    SELECT id, ulid, shelf, status, header, next_seq, synced_bytes, synced_seq, sealed FROM session
    WHERE ulid = ?
"""
_EVENTS = "SELECT CAST(line AS BLOB) FROM event WHERE session_id = ? AND seq >= ? ORDER BY seq"
_AMENDS = """
    SELECT position, CAST(line AS BLOB) FROM amend WHERE session_id = ? AND position >= ? ORDER BY position
"""


class Unsealed(NamedTuple):
    """What the database says of such a session."""

    row_id: int
    ulid: str
    shelf: str
    status: str
    header: str
    next_seq: int
    synced_bytes: int
    synced_seq: int
    sealed: int


def unsealed(connection: apsw.Connection, ulid: str) -> Unsealed:
    """The session with this ULID, which must be there. Raises ValueError if its header is no text."""
    session = Unsealed(*rows(connection, _UNSEALED, (ulid,))[0])
    if not isinstance(session.header, str):
        raise ValueError(f"the header of session {ulid} is no text")  # noqa: TRY004 - damage, and no fault of ours
    return session


def expected(connection: apsw.Connection, session: Unsealed, offset: int, seq: int) -> Iterator[bytes]:
    """The file from `offset` on, where event `seq` begins, in parts of whole lines."""
    begin = [] if offset else [session.header.encode()]
    events = (row[0] for row in connection.execute(_EVENTS, (session.row_id, seq)))
    amends = connection.execute(_AMENDS, (session.row_id, offset))
    lines = in_file_order(events, amends, offset or len(begin[0]) + 1)
    return in_parts(chain(begin, lines, _end(connection, session)))


def _end(connection: apsw.Connection, session: Unsealed) -> Iterator[bytes]:
    if session.status != Status.RECORDING:
        whole = get_session(connection, session.ulid)
        assert whole is not None
        yield footer_line(whole)


def missing(connection: apsw.Connection, session: Unsealed, offset: int) -> Iterator[bytes]:
    """The file from `offset` on, where a line begins behind what is known to be on disk."""
    known = offset - session.synced_bytes
    for part in expected(connection, session, session.synced_bytes, session.synced_seq):
        if known < len(part):
            yield part[known:]
        known = max(0, known - len(part))
