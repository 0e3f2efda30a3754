"""SQLite written directly by every process through the standard library's module."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sessiond.storage.database import version_is_safe
from tests.benchmarks.sides.sqlite_store import BUSY_TIMEOUT_MS, SqliteProducer, SqliteStore


class StdlibProducer(SqliteProducer):
    """A connection with the same journal and durability as the daemon's own."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
        self.prepare()

    def query(self, sql: str, bindings: Sequence[int | str] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        return list(self._connection.execute(sql, tuple(bindings)))

    def make(self, script: str) -> None:
        """A method of its own."""
        self._connection.executescript(script)


class StdlibSide(SqliteStore):
    """By `sqlite3`."""

    name = "sqlite-stdlib"
    title = "SQLite directly, sqlite3"

    @staticmethod
    def producer(address: str) -> StdlibProducer:
        """A connection to the database."""
        return StdlibProducer(address)

    def version(self) -> str:
        """Of the SQLite that Python is linked to, and whether it can be trusted."""
        found = sqlite3.sqlite_version
        bug = "" if version_is_safe(found) else " (has the WAL-reset bug: it can corrupt the database)"
        return f"SQLite {found} of Python{bug}"


SIDE = StdlibSide
