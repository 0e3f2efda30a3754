"""The daemon's own schema in an SQLite database that processes write themselves, by whichever module.

The one rule: the same table, journal and durability as the daemon's, whichever module writes.
"""

from __future__ import annotations

import os
import shutil
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sessiond.storage.database import migrations
from tests.benchmarks.events import KIND, line, now
from tests.benchmarks.sides.side import NotDurable, Side, require_count
from tests.benchmarks.work import POLL_SECONDS, Producer

BUSY_TIMEOUT_MS = 60_000
FULL = 2
SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA mmap_size = 0",
    "PRAGMA cache_size = -16384",
)
EVENT_SQL = "INSERT INTO event (session_id, seq, kind, at, line) VALUES (?, ?, ?, ?, ?)"
NEXT_SQL = "SELECT next_seq FROM session WHERE id = ?"
NOTE_SQL = "UPDATE session SET next_seq = ? WHERE id = ?"
COUNT_SQL = "SELECT count(*), coalesce(max(seq), -1) + 1 FROM event WHERE session_id = ?"
TAIL_SQL = "SELECT line FROM event WHERE session_id = ? ORDER BY seq DESC LIMIT ?"
AFTER_SQL = "SELECT line FROM event WHERE session_id = ? AND seq >= ? ORDER BY seq"

Row = tuple[int, int, str, int, str]


def rows_of(session: int, first: int, texts: Sequence[str], kind: str) -> list[Row]:
    """The rows of one batch."""
    moment = now()
    return [
        (session, seq, kind, moment.microseconds, line(seq, moment.text, text, kind)[:-1].decode())
        for seq, text in enumerate(texts, first)
    ]


class SqliteProducer(Producer):
    """Writes each batch in a transaction of its own, as a program without a daemon would.

    The modules' connections are of no common type, but are asked alike.
    """

    _connection: Any

    def prepare(self) -> None:
        """The same journal and durability as the daemon's."""
        for setting in SETTINGS:
            self._connection.execute(setting)

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One transaction."""
        connection = self._connection
        number = int(session)
        connection.execute("BEGIN IMMEDIATE")
        (first,) = connection.execute(NEXT_SQL, (number,)).fetchone()
        connection.executemany(EVENT_SQL, rows_of(number, first, texts, kind))
        connection.execute(NOTE_SQL, (first + len(texts), number))
        connection.execute("COMMIT")

    def close(self) -> None:
        """The last connection brings the log back into the database."""
        self._connection.close()

    @abstractmethod
    def query(self, sql: str, bindings: Sequence[int | str] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement, which commits by itself."""

    @abstractmethod
    def make(self, script: str) -> None:
        """Execute the statements of a script."""

    def tail(self, session: str, count: int) -> int:
        """One query."""
        return len(self.query(TAIL_SQL, (int(session), count)))

    def follow(self, session: str, until: float) -> Iterator[Sequence[bytes]]:
        """Nobody tells that there is something new: `data_version` is looked at, every millisecond."""
        seen, version = 0, None
        while time.monotonic() < until:
            if version == (version := self.query("PRAGMA data_version")):
                time.sleep(POLL_SECONDS)
                continue
            found = [str(row[0]).encode() for row in self.query(AFTER_SQL, (int(session), seen))]
            seen += len(found)
            if found:
                yield found


class SqliteStore(Side):
    """A database without a server; this process only makes the sessions and counts.

    It does so by the same module as the producers: two copies of SQLite in one process drop each other's
    locks.
    """

    writes_itself = True

    @staticmethod
    @abstractmethod
    def producer(address: str) -> SqliteProducer:
        """A connection of its own."""

    def start(self) -> None:
        """Make the tables."""
        self.address = str(self.directory / "direct.db")
        self._store = self.producer(self.address)
        for script in migrations():
            self._store.make(script)
        self._sessions = 0

    def durability(self) -> str:
        """Asked of a connection made as the producers make theirs."""
        found = [self._store.query(f"PRAGMA {name}")[0][0] for name in ("synchronous", "journal_mode")]
        if found != [FULL, "wal"]:
            raise NotDurable(f"synchronous and journal_mode are {found}")
        return "WAL, synchronous=FULL"

    def open_sessions(self, count: int) -> list[str]:
        """New rows in `session`."""
        sql = (
            "INSERT INTO session (id, ulid, name, source, status, started_at, header)"
            " VALUES (?1, ?1, 'benchmark', 'app', 'recording', 0, '')"
        )
        opened = []
        for _ in range(count):
            self._sessions += 1
            self._store.query(sql, (self._sessions,))
            opened.append(str(self._sessions))
        return opened

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """The rows must be what was committed."""
        for session, count in zip(sessions, counts, strict=True):
            require_rows(self._store.query(COUNT_SQL, (int(session),)), count)
        os.sync()

    def close(self) -> None:
        """Remove the database."""
        self._store.close()
        shutil.rmtree(self.directory)


def require_rows(found: Iterable[tuple[Any, ...]], expected: int) -> None:
    """`found` by COUNT_SQL. Raises CountsDiffer unless there are so many events, with consecutive seqs."""
    ((rows, beyond),) = found
    require_count("the database has rows", rows, expected)
    require_count("seqs in the database reach", beyond, expected)
