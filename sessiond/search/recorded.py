"""What is searched: questions to the main database, on a read-only connection of their own.

The one rule: an error of the main database leaves here as a refusal, so that whatever else is damaged is the
index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import apsw

from sessiond.storage.catalog import require_id
from sessiond.storage.database import open_reader, refusing, rows
from sessiond_client.wire.sequences import without_sequences

ESCAPE = b"\x1b"
COMMAND_LENGTH_MAX = 4096
"""So many characters of a recorded command can be searched for."""

SESSION_TEXT = f"""
    CAST(name || ifnull(char(10) || (SELECT group_concat(tag, char(10)) FROM
        (SELECT tag FROM tag WHERE session_id = session.id ORDER BY position)), '')
    || ifnull(char(10) || (SELECT group_concat(label, char(10)) FROM
        (SELECT label FROM label WHERE session_id = session.id ORDER BY label)), '')
    || ifnull(char(10) || (SELECT substr(group_concat(value, ' '), 1, {COMMAND_LENGTH_MAX}) FROM
        json_each(meta, '$.argv')), '') AS BLOB)
"""  # noqa: S608 - the length is ours
"""What of a session is searched: its name, tags and labels, and the command that it recorded, each on a
line."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Extent(NamedTuple):
    """How far the recorded goes, or the index does.

    `position`: an event's id; `changed`: the counter of changes of sessions; `unchanged`: the row id of a
    session that was never counted there.
    """

    position: int
    changed: int
    unchanged: int

    def covers(self, other: Extent) -> bool:
        """Whether all of the other is in here."""
        return all(ours >= theirs for ours, theirs in zip(self, other, strict=True))


NOTHING = Extent(0, 0, 0)


TEXT = "CAST(coalesce(line ->> '$.text', line ->> '$.command') AS BLOB)"
TEXT_IF_ANY = f"CASE WHEN json_valid(line) THEN {TEXT} END"
"""The same, and nothing where the line is damaged: it takes longer."""


class SessionNames(NamedTuple):
    """What the index keeps of a session."""

    row_id: int
    started_at: int
    text: bytes
    changed: int


class Filters(NamedTuple):
    """Conditions on events and on sessions, in SQL, with their values."""

    event_sql: str
    event_values: tuple[Any, ...]
    session_sql: str
    session_values: tuple[Any, ...]


class FoundEvent(NamedTuple):
    """An event as a hit shows it."""

    position: int
    ulid: str
    name: str
    seq: int
    kind: str
    at: int
    text: str


class FoundSession(NamedTuple):
    """A session as a hit shows it."""

    row_id: int
    ulid: str
    name: str
    started_at: int
    text: str


def _translated(
    question: Callable[Concatenate[Recorded, _P], _T],
) -> Callable[Concatenate[Recorded, _P], _T]:
    @wraps(question)
    def ask(self: Recorded, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with refusing(self.path):
            return question(self, *args, **kwargs)

    return ask


class Recorded:
    """The main database, for reading. Use it from one thread at a time. All questions may raise Refused."""

    def __init__(self, path: Path, *, is_at_rest: bool = False) -> None:
        self.path = path
        self._is_at_rest = is_at_rest
        self._opened: apsw.Connection | None = None

    @property
    def _connection(self) -> apsw.Connection:
        """Opened by the first question, so that what is wrong with it is told there."""
        if self._opened is None:
            self._opened = open_reader(self.path, is_at_rest=self._is_at_rest)
        return self._opened

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @_translated
    def database_id(self) -> str:
        """What tells this database from one that was built anew."""
        return str(self._connection.execute("SELECT value FROM fact WHERE name = 'database_id'").get)

    @_translated
    def extent(self) -> Extent:
        """Everything that is committed now."""
        found = rows(
            self._connection,
            "SELECT (SELECT max(id) FROM event),"
            " (SELECT changed FROM session WHERE shelf != 'purged' ORDER BY changed DESC LIMIT 1),"
            " (SELECT max(id) FROM session WHERE changed = 0)",
        )
        return Extent(*(value or 0 for value in found[0]))

    @_translated
    def line_hash(self, position: int) -> str | None:
        """A hash of the line at a position, None if there is no event."""
        found = rows(self._connection, "SELECT line FROM event WHERE id = ?", (position,))
        return hashlib.blake2b(found[0][0].encode(), digest_size=16).hexdigest() if found else None

    @_translated
    def may_be_purged(self, position: int) -> bool:
        """Whether the event at a position may have been removed for good."""
        floor: int = self._connection.execute("SELECT value FROM fact WHERE name = 'position_floor'").get
        return position <= floor

    @_translated
    def texts(
        self, after: int, until: int | None, limit: int, is_enough: Callable[[int], bool]
    ) -> tuple[list[tuple[int, bytes]], int, bool]:
        """Events with their texts: the pairs, the position they reach, and whether there may be more.

        Stops once `is_enough` says so of the bytes of a text. Events of sessions that are being purged, and
        such without a text, are passed over.
        """
        try:
            return self._texts(TEXT, after, until, limit, is_enough)
        except apsw.SQLError:  # one of the lines is no JSON
            return self._texts(TEXT_IF_ANY, after, until, limit, is_enough)

    def _texts(
        self, text_of: str, after: int, until: int | None, limit: int, is_enough: Callable[[int], bool]
    ) -> tuple[list[tuple[int, bytes]], int, bool]:
        top = self.extent().position
        cursor = self._connection.execute(
            f"SELECT id, {text_of} FROM event WHERE id > ? AND id <= ?"  # noqa: S608 - our own words
            " AND session_id NOT IN (SELECT id FROM session WHERE shelf != 'kept' AND shelf = 'purged')"
            " ORDER BY id LIMIT ?",
            (after, top if until is None else until, limit),
        )
        pairs = []
        count = 0
        position = after
        for position, text in cursor:
            count += 1
            if text and (seen := _as_read(text)):
                pairs.append((position, seen))
            if is_enough(len(text or b"")):
                cursor.close()
                return pairs, position, True
        if count == limit:
            return pairs, position, True
        return pairs, max(after, top), False

    @_translated
    def sessions(self, extent: Extent, limit: int) -> list[SessionNames]:
        """Sessions that are not in this extent, those never counted as changed last.

        A session that is being purged does not count: the number of its last change goes with it, and will be
        that of another change.
        """
        sql = f"SELECT id, started_at, {SESSION_TEXT}, changed FROM session WHERE shelf != 'purged'"  # noqa: S608
        found = rows(
            self._connection, f"{sql} AND changed > ? ORDER BY changed LIMIT ?", (extent.changed, limit)
        )
        if len(found) < limit:
            found += rows(
                self._connection,
                f"{sql} AND changed = 0 AND id > ? ORDER BY id LIMIT ?",
                (extent.unchanged, limit - len(found)),
            )
        return [SessionNames(*row) for row in found]

    @_translated
    def events_of(self, session: int, after: int, limit: int) -> list[tuple[int, int]]:
        """The positions and seqs of a session's events after a seq."""
        sql = "SELECT id, seq FROM event WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?"
        return rows(self._connection, sql, (session, after, limit))

    @_translated
    def row_id(self, ulid: str) -> int | None:
        """The row id of a session, None if there is none."""
        found = rows(self._connection, "SELECT id FROM session WHERE ulid = ?", (ulid,))
        return int(found[0][0]) if found else None

    @_translated
    def require_id(self, ulid: str) -> int:
        """The same; refused with `not_found` if there is none."""
        return require_id(self._connection, ulid)

    @_translated
    def bounds(self, session: int) -> tuple[int, int]:
        """The positions of the first and the last event of a session; (1, 0) if it has none."""
        sql = "SELECT id FROM event WHERE session_id = ? ORDER BY seq {} LIMIT 1"
        first = rows(self._connection, sql.format("ASC"), (session,))
        last = rows(self._connection, sql.format("DESC"), (session,))
        return (first[0][0], last[0][0]) if first else (1, 0)

    @_translated
    def admitted_events(self, positions: Sequence[int], filters: Filters) -> list[int]:
        """Those of some events that pass the filters, newest first."""
        sql = (
            "SELECT event.id FROM json_each(?) AS wanted"  # noqa: S608 - conditions are ours
            " CROSS JOIN event ON event.id = wanted.value"
            f" CROSS JOIN session ON session.id = event.session_id WHERE {filters.event_sql}"
        )
        found = rows(self._connection, sql, (json.dumps(list(positions)), *filters.event_values))
        return sorted((row[0] for row in found), reverse=True)

    @_translated
    def admitted_sessions(self, row_ids: Sequence[int], filters: Filters) -> list[FoundSession]:
        """Those of some sessions that pass the filters, newest first."""
        sql = (
            f"SELECT session.id, ulid, name, started_at, {SESSION_TEXT}"  # noqa: S608 - conditions are ours
            " FROM json_each(?) AS wanted CROSS JOIN session ON session.id = wanted.value"
            f" WHERE {filters.session_sql}"
        )
        found = rows(self._connection, sql, (json.dumps(list(row_ids)), *filters.session_values))
        sessions = [
            FoundSession(row_id, ulid, name, started_at, text.decode(errors="replace"))
            for row_id, ulid, name, started_at, text in found
        ]
        return sorted(sessions, key=lambda session: (session.started_at, session.row_id), reverse=True)

    @_translated
    def events(self, positions: Iterable[int]) -> list[FoundEvent]:
        """Events as hits show them, in the order asked for."""
        sql = (
            f"SELECT event.id, ulid, name, seq, kind, at, {TEXT_IF_ANY}"  # noqa: S608 - our own words
            " FROM event JOIN session ON session.id = session_id WHERE event.id = ?"
        )
        found = (row for position in positions for row in rows(self._connection, sql, (position,)))
        return [
            FoundEvent(position, ulid, name, seq, kind, at, _as_read(text or b"").decode(errors="replace"))
            for position, ulid, name, seq, kind, at, text in found
        ]


def _as_read(text: bytes) -> bytes:
    """A text without its control sequences; the most have none, and are not looked through."""
    return without_sequences(text.decode(errors="replace")).encode() if ESCAPE in text else text
