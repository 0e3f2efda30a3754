"""The index: which words stand in which events, their texts in pages, and the names of sessions.

Owns `search.db` and its one writing connection. The one rule: each slice of work is one transaction that also
notes how far the index is, so that whatever stops it, it goes on where it was.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from sessiond.clock import Clock
from sessiond.search.pages import PAGE_BYTES, Page
from sessiond.search.recorded import NOTHING, Extent, Recorded
from sessiond.storage.database import BUSY_TIMEOUT_MS, CORRUPTION, READER_CACHE_KIB, opened_at_rest, rows
from sessiond.storage.disk import Disk

INDEX_VERSION = 2
"""An index of another version is built anew."""

SLICE_EVENTS_MAX = 8192
SLICE_BYTES_MAX = 1024 * 1024
SLICE_SECONDS_MAX = 0.02
SLICE_SESSIONS_MAX = 512
"""What one slice takes up at most; it ends with the event that reaches one of these. The seconds are those of
reading; writing takes about twice as long again."""

SMALL_SLICE_EVENTS_MAX = 2048
"""The same while others are to be disturbed as little as can be."""

FORGET_PAGES_MAX = 16
"""How many pages a slice of forgetting writes anew at most."""

TIDY_PAGES = 256
"""How much of the index a slice of tidying merges, in pages of 4 KiB."""

UNPAGED_EVENTS_MAX = 16_384
"""Events, with a text or without, that may wait for a page to become full; a search reads them one by one."""

LOG_PAGES = 1000
EMPTY = "it is empty"

SCHEMA = """
    CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) WITHOUT ROWID;
    CREATE VIRTUAL TABLE event_word USING fts5 (
        text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
    );
    CREATE TABLE page (
        first  INTEGER PRIMARY KEY,
        last   INTEGER NOT NULL,
        ids    BLOB    NOT NULL,
        starts BLOB    NOT NULL,
        text   BLOB    NOT NULL
    );
    CREATE TABLE session (id INTEGER PRIMARY KEY, started_at INTEGER NOT NULL, text BLOB NOT NULL);
    CREATE INDEX session_by_start ON session (started_at, id);
    CREATE VIRTUAL TABLE session_word USING fts5 (
        text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
    );
"""

logger = logging.getLogger("sessiond.search")


class IndexDamaged(Exception):  # noqa: N818 - it is a finding more than an error
    """The index cannot be used; built anew, it can."""


def open_index(path: Path, *, is_at_rest: bool = False) -> apsw.Connection:
    """A read-only connection to the index, `is_at_rest` as for `open_reader`. Raises IndexDamaged."""
    with damage_told():
        connection = (
            opened_at_rest(path, Disk())
            if is_at_rest
            else apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        )
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        connection.execute("PRAGMA query_only = ON")
        return connection


@contextmanager
def damage_told() -> Iterator[None]:
    """What SQLite says of a file that is damaged or gone becomes IndexDamaged.

    Raises apsw.CantOpenError where no file at all can be opened: that is no damage.
    """
    try:
        yield
    except (*CORRUPTION, apsw.CantOpenError) as error:
        if isinstance(error, apsw.CantOpenError) and not _descriptors_left():
            raise
        raise IndexDamaged(f"{type(error).__name__}: {error}") from error


def _descriptors_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


class Index:
    """The writing end. Use it from one thread at a time; the umask must be 077 before."""

    def __init__(self, path: Path, database: Path, clock: Clock) -> None:
        self.path = path
        self.extent: Extent | None = None
        """How far the index is; None as long as it is not open."""
        self._database = database
        self._clock = clock
        self._recorded: Recorded | None = None
        self._connection: apsw.Connection | None = None
        self._unpaged: list[tuple[int, bytes]] = []
        self._unpaged_bytes = 0
        self._paged = 0
        self._is_untidy = False

    # --- opening ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the index if it is not open; one that does not belong to the database is built anew."""
        if self._connection is not None:
            return
        if self._recorded is None:
            self._recorded = Recorded(self._database)
        try:
            reason = self._take_up()
            if reason is not None:
                if reason != EMPTY:
                    logger.warning("the search index is built anew", extra={"reason": reason})
                self.drop()
                self._create()
        except BaseException:
            self._disconnect()
            raise

    def _take_up(self) -> str | None:
        """Open what is there and go on with it; or why that cannot be."""
        try:
            with damage_told():
                self._connect()
                reason = self._strangeness()
                if reason is None:
                    self._load()
                return reason
        except (IndexDamaged, apsw.SQLError, KeyError) as damage:
            return str(damage)

    def drop(self) -> None:
        """Delete the index; nobody may be reading it."""
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close both connections."""
        self._disconnect()
        if self._recorded is not None:
            self._recorded.close()
            self._recorded = None

    def _disconnect(self) -> None:
        self.extent = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # on a disk that fails this does, too; the connection is of no more use then

    def _connect(self) -> None:
        self._connection = connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        connection.execute("PRAGMA secure_delete = ON")

    def _create(self) -> None:
        self._connect()
        with self._transaction():
            self._db.execute(SCHEMA)
            self._note(version=INDEX_VERSION, database_id=self._main.database_id(), paged=0)
            self._note_extent(NOTHING)
        self._load()

    def _strangeness(self) -> str | None:
        """Why this is not the index of this database, or None if it is."""
        if not rows(self._db, "SELECT 1 FROM sqlite_schema LIMIT 1"):
            return EMPTY
        facts = self._facts()
        if facts.get("version") != INDEX_VERSION:
            return f"it is of version {facts.get('version')}, not {INDEX_VERSION}"
        if facts.get("database_id") != self._main.database_id():
            return "it is that of another database"
        position = int(str(facts["position"]))
        found = self._main.line_hash(position)
        if found != facts["line_hash"] and (found is not None or not self._main.may_be_purged(position)):
            return "the database is not as it was"
        if int(str(facts["changed"])) > self._main.extent().changed:
            return "the database is older"
        return None

    def _load(self) -> None:
        """Take up the state as it was last committed."""
        facts = {name: value for name, value in self._facts().items() if isinstance(value, int)}
        self._paged = facts["paged"]
        self._is_untidy = bool(facts.get("untidy"))
        extent = Extent(facts["position"], facts["changed"], facts["unchanged"])
        limit = UNPAGED_EVENTS_MAX + SLICE_EVENTS_MAX
        self._unpaged, _, _ = self._main.texts(self._paged, extent.position, limit, lambda _: False)
        self._unpaged_bytes = sum(len(text) + 1 for _, text in self._unpaged)
        self.extent = extent

    # --- catching up -----------------------------------------------------------------------------------

    def advance(self, events_max: int = SLICE_EVENTS_MAX) -> bool:
        """Take up one slice of what was committed meanwhile; whether there may be more."""
        self.open()
        assert self.extent is not None
        with self._reloading(), self._transaction():
            extent, more_sessions = self._take_sessions(self.extent)
            extent, more_events = self._take_events(extent, events_max)
            if extent != self.extent:
                self._note_extent(extent)
        self.extent = extent
        if not more_events and not more_sessions and self._is_untidy:
            return self._tidy()
        return more_events or more_sessions

    def _take_sessions(self, extent: Extent) -> tuple[Extent, bool]:
        found = self._main.sessions(extent, SLICE_SESSIONS_MAX)
        self._db.executemany(
            "REPLACE INTO session (id, started_at, text) VALUES (?, ?, ?)", [row[:3] for row in found]
        )
        self._db.executemany(
            "REPLACE INTO session_word (rowid, text) VALUES (?, CAST(? AS TEXT))",
            [(row.row_id, row.text) for row in found],
        )
        for row in found:
            if row.changed:
                extent = extent._replace(changed=row.changed)
            else:
                extent = extent._replace(unchanged=row.row_id)
        return extent, len(found) == SLICE_SESSIONS_MAX

    def _take_events(self, extent: Extent, events_max: int) -> tuple[Extent, bool]:
        pairs, position, more = self._main.texts(extent.position, None, events_max, self._limit_of_slice())
        self._db.executemany("INSERT INTO event_word (rowid, text) VALUES (?, CAST(? AS TEXT))", pairs)
        self._lay_on_pages(pairs, position)
        return extent._replace(position=position), more

    def _limit_of_slice(self) -> Callable[[int], bool]:
        size = 0
        end = self._clock.monotonic() + SLICE_SECONDS_MAX

        def is_enough(more: int) -> bool:
            nonlocal size
            size += more
            return size >= SLICE_BYTES_MAX or self._clock.monotonic() >= end

        return is_enough

    def _lay_on_pages(self, pairs: list[tuple[int, bytes]], position: int) -> None:
        for pair in pairs:
            self._unpaged.append(pair)
            self._unpaged_bytes += len(pair[1]) + 1
            if self._unpaged_bytes >= PAGE_BYTES:
                self._write_page(pair[0])
        if position - self._paged >= UNPAGED_EVENTS_MAX:
            self._write_page(position)

    def _write_page(self, position: int) -> None:
        if self._unpaged:
            sql = "INSERT INTO page (first, last, ids, starts, text) VALUES (?, ?, ?, ?, ?)"
            self._db.execute(sql, Page.of(self._unpaged).packed())
        self._unpaged, self._unpaged_bytes = [], 0
        self._paged = position
        self._note(paged=position)

    # --- forgetting ------------------------------------------------------------------------------------

    def forget(self, ulid: str, after: int) -> int | None:
        """Remove some of a session that is to be purged, after a seq; the seq it got to, None at the end."""
        self.open()
        session = self._main.row_id(ulid)
        if session is None:
            return None
        events = self._main.events_of(session, after, SMALL_SLICE_EVENTS_MAX)
        positions = [position for position, _ in events]
        with self._reloading(), self._transaction():
            done = self._blank_pages(positions)
            self._db.executemany("DELETE FROM event_word WHERE rowid = ?", [(each,) for each in done])
            if not positions:
                self._forget_names(session)
            self._note(untidy=1)
        self._is_untidy = True
        gone = set(done)
        self._unpaged = [pair for pair in self._unpaged if pair[0] not in gone]
        self._unpaged_bytes = sum(len(text) + 1 for _, text in self._unpaged)
        if not positions:
            return None
        return events[len(done) - 1][1]

    def _forget_names(self, session: int) -> None:
        assert self.extent is not None
        self._db.execute("DELETE FROM session_word WHERE rowid = ?", (session,))
        self._db.execute("DELETE FROM session WHERE id = ?", (session,))
        # The numbers of the session's changes may be given again once it is gone.
        changed = min(self.extent.changed, self._main.extent().changed)
        self._note(changed=changed)
        self.extent = self.extent._replace(changed=changed)

    def _blank_pages(self, positions: list[int]) -> list[int]:
        """Take events out of their pages; those that were done, which are the first ones."""
        done = 0
        for _ in range(FORGET_PAGES_MAX):
            if done == len(positions):
                break
            found = rows(
                self._db,
                "SELECT first, last, ids, starts, text FROM page WHERE last >= ? ORDER BY first LIMIT 1",
                (positions[done],),
            )
            if not found:
                return positions
            first, last, *parts = found[0]
            upto = bisect_right(positions, last)
            page = Page.unpacked(*parts)
            left = page.without(set(positions[done:upto]))
            if len(left.ids) < len(page.ids):
                sql = "UPDATE page SET ids = ?, starts = ?, text = ? WHERE first = ?"
                self._db.execute(sql, (left.ids.tobytes(), left.starts.tobytes(), left.text, first))
            done = upto
        return positions[:done]

    def _tidy(self) -> bool:
        """Merge some of the word index, so that the words of what was forgotten go; whether there is more."""
        before = self._db.total_changes()
        with self._transaction():
            self._db.execute("INSERT INTO event_word (event_word, rank) VALUES ('merge', ?)", (-TIDY_PAGES,))
            more = self._db.total_changes() - before > 1
            if not more:
                self._db.execute("INSERT INTO session_word (session_word) VALUES ('optimize')")
                self._note(untidy=0)
        if not more:
            self._is_untidy = False
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return more

    # --- state -----------------------------------------------------------------------------------------

    @property
    def _main(self) -> Recorded:
        assert self._recorded is not None
        return self._recorded

    @property
    def _db(self) -> apsw.Connection:
        assert self._connection is not None
        return self._connection

    def _facts(self) -> dict[str, object]:
        return dict(rows(self._db, "SELECT name, value FROM fact"))

    def _note(self, **facts: int | str) -> None:
        self._db.executemany("REPLACE INTO fact (name, value) VALUES (?, ?)", list(facts.items()))

    def _note_extent(self, extent: Extent) -> None:
        self._note(line_hash=self._main.line_hash(extent.position) or "", **extent._asdict())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with damage_told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reloading(self) -> Iterator[None]:
        """What fails leaves nothing half done in memory: the index is opened again."""
        try:
            yield
        except BaseException:
            self._disconnect()
            raise
