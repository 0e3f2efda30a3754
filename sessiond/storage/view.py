"""What the database says of one session at one moment, as far as its file is concerned.

The one rule: everything in a view is of the same moment; events below `next_seq` and amend lines in it are
never changed afterwards, so they can be read page by page without holding a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import apsw

from sessiond.storage.catalog import RowDamaged, get_session
from sessiond.storage.database import rows
from sessiond.storage.encoding import footer_line, header_line
from sessiond_client.wire.messages import Session, Status

PAGE_EVENTS_MAX = 1000
PAGE_BYTES_MAX = 1024 * 1024
"""A page of rows ends with the one that reaches either; so much is in memory at once, and one line more."""

_VIEW = """
    SELECT id, shelf, header, synced_bytes, sealed, amend_bytes, unsettled,
        EXISTS (SELECT 1 FROM event WHERE session_id = session.id AND seq >= next_seq)
        OR EXISTS (SELECT 1 FROM event WHERE session_id = session.id AND seq < 0) FROM session
    WHERE ulid = ? AND shelf IN ('kept', 'trashed')
"""
_PAGE = """
    SELECT CAST(seq AS INTEGER), CAST(kind AS BLOB), at, coalesce(CAST(line AS BLOB), x'') FROM event
    WHERE session_id = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?
"""


class EventRow(NamedTuple):
    """A row of the table `event`; the line is without its newline."""

    seq: int
    kind: bytes
    at: int
    line: bytes


class View(NamedTuple):
    """A session that is kept or in the trash. `amends` are its amend lines, and where each begins;
    `has_surplus`: there are events whose seq it has not come to."""

    row_id: int
    shelf: str
    header: str
    synced_bytes: int
    sealed: bool
    amend_bytes: int
    unsettled: bool
    has_surplus: bool
    session: Session
    amends: list[tuple[int, bytes]]

    @property
    def has_ended(self) -> bool:
        """Whether a footer belongs into the file."""
        return self.session.status is not Status.RECORDING

    @property
    def begin(self) -> bytes:
        """The first line."""
        return self.header.encode() + b"\n"

    @property
    def end(self) -> bytes:
        """The last line, nothing while the session records."""
        return footer_line(self.session) + b"\n" if self.has_ended else b""

    @property
    def size(self) -> int:
        """How many bytes the file has once it has everything."""
        return len(self.begin) + self.session.byte_count + self.amend_bytes + len(self.end)

    def settled(self) -> View:
        """As the file is once it has followed what the session is called now: no amend lines are left."""
        return self._replace(header=header_line(self.session).decode(), amend_bytes=0, amends=[])


def take_view(connection: apsw.Connection, ulid: str) -> View | None:
    """The view of a session, None if there is none to see.

    Raises ValueError (RowDamaged, or UnicodeDecodeError) if the row does not say what a session is.
    """
    view = None
    with connection:
        view = _view(connection, ulid)
    return view  # noqa: RET504 - mypy cannot know that the transaction swallows nothing


def _view(connection: apsw.Connection, ulid: str) -> View | None:
    session = get_session(connection, ulid)
    if session is None:
        return None
    found = rows(connection, _VIEW, (ulid,))
    if not found or not isinstance(found[0][2], str) or not all(isinstance(it, int) for it in found[0][3:]):
        raise RowDamaged("it does not say what file the session has")
    row_id, shelf, header, synced_bytes, sealed, amend_bytes, unsettled, has_surplus = found[0]
    sql = "SELECT position, CAST(line AS BLOB) FROM amend WHERE session_id = ? ORDER BY position"
    amends = rows(connection, sql, (row_id,))
    flags = bool(unsettled), bool(has_surplus)
    return View(row_id, shelf, header, synced_bytes, bool(sealed), amend_bytes, *flags, session, amends)


def event_pages(connection: apsw.Connection, row_id: int, end: int) -> Iterator[list[EventRow]]:
    """The events of a session below `end`, page by page, in order. Between two pages nothing is held."""
    seq = 0
    while page := _page(connection, row_id, seq, end):
        yield page
        seq = page[-1].seq + 1


def _page(connection: apsw.Connection, row_id: int, seq: int, end: int) -> list[EventRow]:
    page: list[EventRow] = []
    size = 0
    cursor = connection.execute(_PAGE, (row_id, seq, end, PAGE_EVENTS_MAX))
    for row in cursor:
        page.append(EventRow(*row))
        size += len(row[3])
        if size >= PAGE_BYTES_MAX:
            cursor.close()
            break
    return page


class FileOrder:
    """Puts the amend lines of a view where they are in the file, between its events."""

    def __init__(self, view: View) -> None:
        self._amends = view.amends
        self._number = 0
        self._position = len(view.begin)

    def piece(self, page: list[EventRow]) -> bytes:
        """The bytes of the next events, and of the amend lines that stand before each of them."""
        if self._number == len(self._amends):
            return b"\n".join([*(row.line for row in page), b""])
        lines = []
        for row in page:
            lines += [*self._due(), row.line]
            self._position += len(row.line) + 1
        return b"\n".join([*lines, b""])

    def rest(self) -> bytes:
        """The amend lines behind the last event."""
        return b"".join(line + b"\n" for _, line in self._amends[self._number :])

    def _due(self) -> Iterator[bytes]:
        while self._number < len(self._amends) and self._amends[self._number][0] <= self._position:
            line = self._amends[self._number][1]
            self._number += 1
            self._position += len(line) + 1
            yield line


def whole_file(connection: apsw.Connection, view: View) -> Iterator[bytes]:
    """The file that belongs to a view, piece by piece."""
    order = FileOrder(view)
    yield view.begin
    for page in event_pages(connection, view.row_id, view.session.next_seq):
        yield order.piece(page)
    yield order.rest() + view.end
