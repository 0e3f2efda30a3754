"""A database that is to be replaced, read as far as it can be read.

The one rule: whatever goes wrong with one question is the answer "this cannot be had", and hinders no other;
nothing is changed, not even a file of SQLite beside the database.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

from sessiond.storage.catalog import SESSION_FACTS, session_from_row
from sessiond.storage.database import open_unchanged
from sessiond.storage.disk import Disk
from sessiond.storage.encoding import header_line
from sessiond.storage.file_reading import LineDamage, event_facts, header_of
from sessiond_client.wire.lines import HeaderLine
from sessiond_client.wire.messages import ULID_PATTERN, Session, Status

NOT_TO_BE_HAD = (
    apsw.Error,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    msgspec.MsgspecError,
)
"""What a damaged database raises: of SQLite, of text that is none, of values out of range."""

_ulid = re.compile(ULID_PATTERN.encode())
_SHELVED = f"SELECT {SESSION_FACTS}, '[]', '[]', shelf, unsettled FROM session NOT INDEXED WHERE id = ?"  # noqa: S608
_TABLE = "SELECT id, CAST(ulid AS BLOB), CAST(header AS BLOB) FROM session NOT INDEXED ORDER BY {}"
_INDEX = "SELECT id, CAST(ulid AS BLOB) FROM session ORDER BY ulid"
_TAGS = "SELECT tag FROM tag WHERE session_id = ? ORDER BY position"


class Remains(NamedTuple):
    """What is left of the row of a session; `session` and `header` are None where it says nothing."""

    row_id: int
    ulid: str
    session: Session | None
    header: HeaderLine | None
    shelf: str
    unsettled: bool

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return self.session is not None and self.session.status is not Status.RECORDING


class OldDatabase:
    """What a connection gives; there is none to a file that is no database."""

    def __init__(self, connection: apsw.Connection | None) -> None:
        self._connection = connection

    @classmethod
    def at(cls, path: Path, disk: Disk, vfs: str | None = None) -> OldDatabase:
        """The database of a directory that nobody else has; `close` it before the file is moved."""
        connection: apsw.Connection | None = None
        with suppress(*NOT_TO_BE_HAD):  # then nothing is had of it, and the files are all there is
            if disk.file_size(path) is not None and disk.is_file(path):
                connection = open_unchanged(path, disk, vfs)
                # Where what is said of one table is damaged, the others can be read all the same.
                connection.execute("PRAGMA writable_schema = ON")
        return cls(connection)

    @property
    def says_nothing(self) -> bool:
        """Whether there is nothing in it that can be read."""
        return (
            next(self._had("SELECT count(*) FROM session NOT INDEXED"), None) is None and not self.sessions()
        )

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()

    def sessions(self) -> dict[str, Remains]:
        """Every session of which there is a trace, by ULID."""
        # The table from both ends, up to what is damaged.
        table = {row[0]: row[1:] for way in ("id", "id DESC") for row in self._had(_TABLE.format(way))}
        index = dict(self._had(_INDEX))
        remains = {}
        for row_id in table.keys() | index.keys():
            ulid, header = table.get(row_id, (None, None))
            # Where one of the three is damaged, the other two say what it was.
            named = [it for it in map(_ulid_in, (ulid, index.get(row_id), _id_in(header))) if it is not None]
            if named:
                (agreed, _), *_ = Counter(named).most_common(1)
                remains[agreed] = self.remains(row_id, agreed)
        return remains

    def _had(self, sql: str, bindings: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of an answer up to the first that cannot be had."""
        if self._connection is None:
            return
        try:
            yield from self._connection.execute(sql, bindings)
        except NOT_TO_BE_HAD:
            return

    def remains(self, row_id: int, ulid: str) -> Remains:
        """What is left of one row."""
        session: Session | None = None
        header: HeaderLine | None = None
        shelf, unsettled = "kept", False
        try:
            *facts, shelf, unsettled = next(self._had(_SHELVED, (row_id,)))
            tags = [tag for (tag,) in self._had(_TAGS, (row_id,))]
            session = msgspec.structs.replace(session_from_row(tuple(facts)), ulid=ulid, tags=tags)
            header = header_of(header_line(session))
        except (StopIteration, LineDamage, *NOT_TO_BE_HAD):
            session = None
        return Remains(row_id, ulid, session, header, shelf, bool(unsettled))

    def events(self, remains: Remains) -> Iterator[tuple[int, bytes]]:
        """The events of a session whose lines hold, in the order of `seq`: seq and line, no newline."""
        places = self._places(remains)
        sql = "SELECT session_id, CAST(line AS BLOB) FROM event NOT INDEXED WHERE id = ?"
        for seq in sorted(places):
            for row_id, line in self._had(sql, (places[seq],)):
                try:
                    if row_id == remains.row_id and event_facts(line).seq == seq:
                        yield seq, line
                except (LineDamage, *NOT_TO_BE_HAD):
                    continue  # what is missing then is told with the session

    def _places(self, remains: Remains) -> dict[int, int]:
        """Where each event of a session is: by the index, and if that lacks some, by the table itself."""
        by_index = "SELECT seq, id FROM event INDEXED BY sqlite_autoindex_event_1 WHERE session_id = ?"
        places = dict(self._numbers(by_index, remains.row_id))
        if remains.session is None or len(places) != remains.session.next_seq:
            for way in ("id", "id DESC"):
                sql = f"SELECT seq, id FROM event NOT INDEXED WHERE session_id = ? ORDER BY {way}"  # noqa: S608
                places.update(self._numbers(sql, remains.row_id))
        return places

    def _numbers(self, sql: str, row_id: int) -> Iterator[tuple[int, int]]:
        for seq, place in self._had(sql, (row_id,)):
            if isinstance(seq, int) and isinstance(place, int) and seq >= 0:
                yield seq, place

    def labels(self) -> dict[str, str] | None:
        """The ULID for each label; None if they cannot be had."""
        return self._pairs("SELECT label, ulid FROM label JOIN session ON session.id = session_id")

    def milestones(self) -> dict[str, str] | None:
        """The value for each key; None if they cannot be had."""
        return self._pairs("SELECT key, value FROM milestone")

    def state_bytes(self) -> int | None:
        """The size that state.ndjson had; None if it cannot be had."""
        found = next(self._had("SELECT value FROM fact WHERE name = 'state_bytes'"), (None,))[0]
        return found if isinstance(found, int) else None

    def _pairs(self, sql: str) -> dict[str, str] | None:
        try:
            pairs = None if self._connection is None else dict(self._connection.execute(sql))
        except NOT_TO_BE_HAD:
            return None
        texts = isinstance(pairs, dict) and all(isinstance(it, str) for pair in pairs.items() for it in pair)
        return pairs if texts else None


def _ulid_in(name: object) -> str | None:
    if isinstance(name, bytes) and _ulid.fullmatch(name):
        return name.decode()
    return None


def _id_in(header: object) -> bytes | None:
    try:
        return header_of(header).id.encode() if isinstance(header, bytes) else None
    except (LineDamage, UnicodeEncodeError):
        return None
