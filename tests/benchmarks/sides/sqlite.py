"""SQLite written directly by every process through apsw, the module that the daemon uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from tests.benchmarks.events import KIND
from tests.benchmarks.sides.sqlite_store import (
    BUSY_TIMEOUT_MS,
    EVENT_SQL,
    NEXT_SQL,
    NOTE_SQL,
    SETTINGS,
    SqliteProducer,
    SqliteStore,
    rows_of,
)


class ApswProducer(SqliteProducer):
    """A connection with the same journal and durability as the daemon's own."""

    def __init__(self, path: str) -> None:
        self._connection = apsw.Connection(path)
        self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        for setting in SETTINGS:
            self._connection.execute(setting)

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One transaction."""
        connection = self._connection
        number = int(session)
        connection.execute("BEGIN IMMEDIATE")
        first = connection.execute(NEXT_SQL, (number,)).get
        connection.executemany(EVENT_SQL, rows_of(number, first, texts, kind))
        connection.execute(NOTE_SQL, (first + len(texts), number))
        connection.execute("COMMIT")

    def query(self, sql: str, bindings: Sequence[int | str] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        return list(self._connection.execute(sql, tuple(bindings)))

    def make(self, script: str) -> None:
        """apsw takes scripts as they are."""
        self._connection.execute(script)

    def close(self) -> None:
        """The last connection brings the log back into the database."""
        self._connection.close()


class ApswSide(SqliteStore):
    """By apsw."""

    name = "sqlite"
    title = "SQLite directly"

    @staticmethod
    def producer(address: str) -> ApswProducer:
        """A connection to the database."""
        return ApswProducer(address)

    def version(self) -> str:
        """Of apsw's SQLite."""
        return f"SQLite {apsw.sqlite_lib_version()} of apsw"


SIDE = ApswSide
