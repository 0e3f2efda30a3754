"""Questions about sessions and events, asked on any connection, the writer's or a reader's.

The one rule: only SELECTs, each answered by an index, so that its cost is that of the answer and not of the
store. Times come in and go out as the database keeps them or as `Session` says them, never in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import apsw
import msgspec

from sessiond.clock import microseconds_of, optional_time_text, time_text
from sessiond.errors import Refused, not_found
from sessiond.storage.database import rows
from sessiond_client.wire import messages
from sessiond_client.wire.messages import EndReason, ErrorCode, Session, Source, Status

_list_cursor = re.compile(r"(-?[0-9]{1,19})\.([0-9A-Z]{26})")

NEEDLE_LENGTH_MIN = 4
CANDIDATES_MAX = 10
SUGGESTIONS_MAX = 3
PAGE_BYTES_MAX = 4 * 1024 * 1024
"""A page of events, or of sessions, ends before the one that would pass this many bytes, however many were
asked for; a longer one is a page by itself."""

SESSION_FACTS = """
    ulid, name, source, status, started_at, ended_at, end_reason, exit_code, recovered, cli_version,
    engine_base_url, parent_ulid, parent_seq, shell, os, hostname, cwd, env, meta, next_seq, command_count,
    byte_count, digest, last_event_at, previous_names, trashed_at
"""
"""What the row of a session itself says."""

SESSION_COLUMNS = f"""
    {SESSION_FACTS},
    (SELECT json_group_array(tag) FROM (SELECT tag FROM tag WHERE session_id = session.id ORDER BY position)),
    (SELECT json_group_array(label) FROM label WHERE session_id = session.id)
"""  # noqa: S608 - only ours


class Page(NamedTuple):
    """Some event lines in the order asked for, and the seq or position of the first and last of them."""

    lines: list[bytes]
    first: int
    last: int
    more: bool


class RowDamaged(ValueError):  # noqa: N818 - it is a finding more than an error
    """A row does not say what a session is, or what happened in it; `session` is which, if that is known."""

    def __init__(self, reason: str, session: str | None = None) -> None:
        super().__init__(reason)
        self.session = session


@contextmanager
def reading_of(ulid: str) -> Iterator[None]:
    """What is read here is of this session. Raises RowDamaged, which says so."""
    try:
        yield
    except (RowDamaged, UnicodeDecodeError) as error:
        raise RowDamaged(str(error), ulid) from None


_text, _number = (str,), (int,)
_text_or_none, _number_or_none = (str, type(None)), (int, type(None))
_SESSION_TYPES = (
    *(_text, _text, _text, _text, _number, _number_or_none, _text_or_none, _number_or_none, _number),
    *(_text_or_none, _text_or_none, _text_or_none, _number_or_none, *(_text_or_none,) * 4, _text, _text),
    *(_number, _number, _number, _text_or_none, _number_or_none, _text, _number_or_none, _text, _text),
)


_env_decoder = msgspec.json.Decoder(dict[str, str])
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_raw_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_texts_decoder = msgspec.json.Decoder(list[str])


def session_from_row(row: tuple[Any, ...], *, as_it_stands: bool = False) -> Session:
    """A row of `SESSION_COLUMNS` as a `Session`. Raises RowDamaged.

    With `as_it_stands` its JSON is only passed on: made into objects, `[],[],…` would take twenty times its
    bytes.
    """
    for value, types in zip(row, _SESSION_TYPES, strict=True):
        if type(value) not in types:
            raise RowDamaged(f"a value is of the type {type(value).__name__}")
    try:
        session = _session(row, as_it_stands)
    except (ValueError, OverflowError, RecursionError) as error:
        raise RowDamaged(str(error)) from None
    ending = (session.ended_at, session.end_reason, session.digest)
    if session.status is not Status.RECORDING and None in ending:
        raise RowDamaged("the session has ended, and it is not said how")
    return session


def _session(row: tuple[Any, ...], as_it_stands: bool) -> Session:
    env: Any = _env_decoder.decode(row[17])
    meta: Any
    if as_it_stands:
        _raw_decoder.decode(row[18])
        env, meta = (msgspec.Raw(text.encode()) for text in row[17:19])
    else:
        meta = _object_decoder.decode(row[18])
    return Session(
        ulid=row[0],
        name=row[1],
        source=Source(row[2]),
        status=Status(row[3]),
        started_at=time_text(row[4]),
        ended_at=optional_time_text(row[5]),
        end_reason=EndReason(row[6]) if row[6] is not None else None,
        exit_code=row[7],
        recovered=bool(row[8]),
        cli_version=row[9],
        engine_base_url=row[10],
        parent_ulid=row[11],
        parent_seq=row[12],
        shell=row[13],
        os=row[14],
        hostname=row[15],
        cwd=row[16],
        env=env,
        meta=meta,
        next_seq=row[19],
        event_count=row[19],
        command_count=row[20],
        byte_count=row[21],
        digest=row[22],
        last_event_at=optional_time_text(row[23]),
        previous_names=_texts_decoder.decode(row[24]),
        trashed_at=optional_time_text(row[25]),
        tags=_texts_decoder.decode(row[26]),
        labels=_texts_decoder.decode(row[27]),
    )


def get_session(connection: apsw.Connection, ulid: str) -> Session | None:
    """The session with exactly this ULID, also from the trash. Raises RowDamaged."""
    sql = f"SELECT {SESSION_COLUMNS} FROM session WHERE ulid = ? AND shelf IN ('kept', 'trashed')"  # noqa: S608
    with reading_of(ulid):
        found = rows(connection, sql, (ulid,))
        return session_from_row(found[0]) if found else None


def require_id(connection: apsw.Connection, ulid: str) -> int:
    """The row id of a session; refused with `not_found` if there is none."""
    sql = "SELECT id FROM session WHERE ulid = ? AND shelf IN ('kept', 'trashed')"
    found = rows(connection, sql, (ulid,))
    if not found:
        raise not_found(ulid)
    return int(found[0][0])


def find_session(connection: apsw.Connection, needle: str, *, trashed: bool = False) -> Session:
    """By ULID, then label, then unique prefix or suffix of the ULID, then name (the newest of it)."""
    shelf = "trashed" if trashed else "kept"
    ulid = _find_ulid(connection, needle, shelf)
    if ulid is None:
        raise not_found(needle, _suggestions(connection, needle, shelf))
    session = get_session(connection, ulid)
    assert session is not None
    return session


def _find_ulid(connection: apsw.Connection, needle: str, shelf: str) -> str | None:
    upper = needle.upper()
    labelled = "SELECT session_id FROM label WHERE label = ?"
    exact = (
        ("SELECT ulid FROM session WHERE ulid = ? AND shelf = ?", upper),
        (f"SELECT ulid FROM session WHERE id = ({labelled}) AND shelf = ?", needle),  # noqa: S608 - ours
    )
    for sql, value in exact:
        if found := rows(connection, sql, (value, shelf)):
            return str(found[0][0])
    if len(needle) >= NEEDLE_LENGTH_MIN and upper.isascii() and upper.isalnum():
        partial = _partial_matches(connection, upper, shelf)
        if len(partial) > 1:
            raise Refused(
                ErrorCode.AMBIGUOUS,
                f"{needle!r} could be {len(partial)} sessions or more",
                "give more characters of the id",
                candidates=partial[:CANDIDATES_MAX],
            )
        if partial:
            return partial[0]
    named = rows(
        connection,
        "SELECT ulid FROM session WHERE name = ? AND shelf = ? ORDER BY started_at DESC LIMIT 1",
        (needle, shelf),
    )
    return str(named[0][0]) if named else None


def _partial_matches(connection: apsw.Connection, part: str, shelf: str) -> list[str]:
    """ULIDs that begin or end with `part`; the suffix is looked for in the index alone, never in the rows."""
    limit = CANDIDATES_MAX + 1
    prefixed = rows(
        connection,
        "SELECT ulid FROM session WHERE ulid >= ?1 AND ulid < ?1 || '~' AND shelf = ?2"
        " ORDER BY ulid DESC LIMIT ?3",
        (part, shelf, limit),
    )
    suffixed = rows(
        connection,
        "SELECT ulid FROM session WHERE shelf = ?2 AND ulid IN"
        " (SELECT ulid FROM session INDEXED BY sqlite_autoindex_session_1 WHERE ulid LIKE '%' || ?1)"
        " LIMIT ?3",
        (part, shelf, limit),
    )
    return list(dict.fromkeys(row[0] for row in [*prefixed, *suffixed]))


def _suggestions(connection: apsw.Connection, needle: str, shelf: str) -> list[str]:
    """Names and labels that look like the needle, at most three, among the newest thousand sessions."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a mistyped name

    sql = (
        "SELECT name FROM (SELECT name FROM session WHERE shelf = ? ORDER BY started_at DESC LIMIT 1000)"
        " UNION SELECT label FROM (SELECT label FROM label LIMIT 1000)"
    )
    names = [row[0] for row in readable(connection.execute(sql, (shelf,)))]
    return get_close_matches(needle, names, SUGGESTIONS_MAX)


def readable(cursor: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows without those whose text is none."""
    while True:
        with suppress(UnicodeDecodeError):
            if (row := next(cursor, None)) is None:
                return
            yield row


def list_sessions(
    connection: apsw.Connection, request: messages.List, any_tags: list[str], all_tags: list[str]
) -> tuple[list[Session], str | None, int]:
    """A page of sessions, newest first, the cursor of the next page, and how many could not be read.

    The tags are normalised.
    """
    if request.limit == 0:
        return [], None, 0
    conditions, bindings = _list_conditions(request, any_tags, all_tags)
    where = f"WHERE {' AND '.join(conditions)}"
    sql = (
        f"SELECT {SESSION_COLUMNS} FROM session {where}"  # noqa: S608 - conditions are ours, values are bound
        " ORDER BY started_at DESC, ulid DESC LIMIT ?"
    )
    wanted = request.limit + 1
    while True:
        found = _Listed(request.limit)
        count = found.take(connection.execute(sql, (*bindings, wanted)))
        if found.following is not None or count < wanted:
            return found.page, found.following, found.unreadable
        wanted = 2 * wanted  # so many could not be read


class _Listed:
    """A page of sessions. Those whose row cannot be read are left out, and counted with the next that can."""

    def __init__(self, limit: int) -> None:
        self.page: list[Session] = []
        self.following: str | None = None
        self.unreadable = 0
        self._limit = limit
        self._size = 0
        self._last = ""

    def take(self, cursor: Iterator[tuple[Any, ...]]) -> int:
        """Take sessions until the page is full; how many rows were looked at."""
        count = 0
        unreadable = 0
        while True:
            try:
                row = next(cursor, None)
                session = None if row is None else session_from_row(row, as_it_stands=True)
            except ValueError:
                unreadable += 1
                count += 1
                continue
            if row is None or session is None:
                self.unreadable += unreadable
                return count
            # A character may take six bytes in JSON, as \u0000 does.
            self._size += sum(len(msgspec.json.encode(value)) for value in row if isinstance(value, str))
            if len(self.page) == self._limit or (self.page and self._size > PAGE_BYTES_MAX):
                self.following = self._last
                return count
            self.page.append(session)
            self.unreadable, unreadable = self.unreadable + unreadable, 0
            self._last = f"{row[4]}.{row[0]}"
            count += 1


def _list_conditions(
    request: messages.List, any_tags: list[str], all_tags: list[str]
) -> tuple[list[str], list[Any]]:
    conditions = ["shelf = ?"]
    bindings: list[Any] = ["trashed" if request.trashed else "kept"]

    def add(condition: str, *values: Any) -> None:
        conditions.append(condition)
        bindings.extend(values)

    if request.before is not None:
        add("(started_at, ulid) < (?, ?)", *_parse_cursor(request.before))
    for column, value in (
        ("status", request.status),
        ("source", request.source),
        ("parent_ulid", request.parent_ulid),
        ("cwd", request.cwd),
        ("hostname", request.hostname),
    ):
        if value is not None:
            add(f"{column} = ?", str(value))
    if request.since is not None:
        add("started_at >= ?", microseconds_of(request.since))
    if request.until is not None:
        add("started_at < ?", microseconds_of(request.until))
    if request.name_prefix:
        # A character above all that a name can have ends the range, which the index answers.
        add("name >= ? AND name < ?", request.name_prefix, f"{request.name_prefix}\U0010ffff")
    if any_tags:
        marks = ", ".join("?" * len(any_tags))
        add(f"id IN (SELECT session_id FROM tag WHERE tag IN ({marks}))", *any_tags)  # noqa: S608
    for tag in all_tags:
        add("id IN (SELECT session_id FROM tag WHERE tag = ?)", tag)
    return conditions, bindings


def _parse_cursor(cursor: str) -> tuple[int, str]:
    found = _list_cursor.fullmatch(cursor)
    if not found or abs(int(found[1])) >= 1 << 63:
        raise Refused(
            ErrorCode.INVALID,
            f"{cursor[:80]!r} is no cursor",
            "pass on the `next` of an earlier reply as it is",
            field="before",
        )
    return int(found[1]), found[2]


def read_events(connection: apsw.Connection, request: messages.Read) -> Page:
    """A page of one session's event lines; see `messages.Read`."""
    session_id = require_id(connection, request.session)
    conditions, filters = event_conditions(request)
    bindings: list[Any] = [session_id, request.after, *filters]
    if request.before is not None:
        conditions.append("seq < ?")
        bindings.append(request.before)
    limit = request.limit if request.tail is None else min(request.tail, request.limit)
    direction = "ASC" if request.tail is None else "DESC"
    if limit == 0:
        return Page([], 0, 0, more=False)
    sql = (
        f"SELECT seq, line FROM event WHERE {' AND '.join(['session_id = ?', 'seq > ?', *conditions])}"  # noqa: S608
        f" ORDER BY seq {direction} LIMIT ?"
    )
    with reading_of(request.session):
        page = collect(connection.execute(sql, (*bindings, limit + 1)), limit)
    if request.tail is not None:
        page.lines.reverse()
        return Page(page.lines, page.last, page.first, page.more)
    return page


def event_conditions(request: messages.Read) -> tuple[list[str], list[Any]]:
    """The filters of a `read` that do not depend on where an event stands, and what to bind to them."""
    conditions: list[str] = []
    bindings: list[Any] = []
    if request.kinds:
        conditions.append(f"kind IN ({', '.join('?' * len(request.kinds))})")
        bindings.extend(request.kinds)
    if request.since is not None:
        conditions.append("at >= ?")
        bindings.append(microseconds_of(request.since))
    if request.until is not None:
        conditions.append("at < ?")
        bindings.append(microseconds_of(request.until))
    return conditions, bindings


def events_after_position(connection: apsw.Connection, position: int, limit: int) -> Page:
    """Event lines of all sessions from a global position on, each with its `session` added."""
    cursor = connection.execute(
        "SELECT event.id, line, ulid FROM event JOIN session ON session.id = session_id"
        " WHERE event.id > ? AND shelf IN ('kept', 'trashed') ORDER BY event.id LIMIT ?",
        (position, limit + 1),
    )
    return collect(((row[0], marked(row[1], row[2])) for row in cursor), limit)


def marked(line: str, ulid: str) -> str:
    """An event line with its `session` added."""
    return f'{line[:-1]},"session":"{ulid}"}}'


def collect(cursor: Iterable[tuple[int, str]], limit: int) -> Page:
    """The first `limit` lines, fewer if they are large; there is one more in `cursor` if there is more.

    They go into replies as they are: one that is no object on a line of its own would spoil the whole reply.
    Raises RowDamaged.
    """
    page = _collected(cursor, limit)
    if not _are_objects(page.lines):
        raise RowDamaged(f"among the lines from {page.first} to {page.last} is one that is no JSON object")
    return page


def _are_objects(lines: list[bytes]) -> bool:
    """Whether each of them is one JSON object; all are looked at together, for that is cheap."""
    joined = b"[" + b",".join(lines) + b"]"
    if b"\n" in joined or not all(line.startswith(b"{") for line in lines):
        return False
    try:
        return len(_raws_decoder.decode(joined)) == len(lines)
    except (msgspec.DecodeError, RecursionError):
        return False


def _collected(cursor: Iterable[tuple[int, str]], limit: int) -> Page:
    lines: list[bytes] = []
    first = last = 0
    size = 0
    for number, line in cursor:
        if type(line) is not str:
            raise RowDamaged(f"the line at {number} is no text")
        encoded = line.encode()
        size += len(encoded)
        if len(lines) == limit or (lines and size > PAGE_BYTES_MAX):
            return Page(lines, first, last, more=True)
        if not lines:
            first = number
        last = number
        lines.append(encoded)
    return Page(lines, first, last, more=False)


def last_position(connection: apsw.Connection) -> int:
    """The highest global position that any event has or, if it was purged, had; 0 if there was none."""
    sql = (
        "SELECT max(coalesce((SELECT max(id) FROM event), 0),"
        " (SELECT value FROM fact WHERE name = 'position_floor'))"
    )
    return int(connection.execute(sql).get)


def counts(connection: apsw.Connection, ulid: str) -> tuple[int, int]:
    """Events and commands of a session."""
    sql = "SELECT next_seq, command_count FROM session WHERE ulid = ? AND shelf IN ('kept', 'trashed')"
    found = rows(connection, sql, (ulid,))
    if not found:
        raise not_found(ulid)
    return found[0]  # type: ignore[no-any-return]


def being_moved(ulid: str, shelf: str) -> Refused:
    """The refusal of an id whose session is on its way in, or out."""
    doing = "brought in" if shelf == "incoming" else "purged"
    return Refused(ErrorCode.BUSY, f"session {ulid} is being {doing}", "try again in a moment")


def purged_ulids(connection: apsw.Connection) -> list[str]:
    """The sessions that are being removed for good."""
    # The first condition is that of the index: without it the whole table would be gone through.
    sql = "SELECT ulid FROM session WHERE shelf != 'kept' AND shelf = 'purged'"
    return [row[0] for row in rows(connection, sql)]
