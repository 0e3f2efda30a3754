"""SQLite written directly by every process through apsw, the module that the daemon uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from tests.benchmarks.sides.sqlite_store import BUSY_TIMEOUT_MS, SqliteProducer, SqliteStore


class ApswProducer(SqliteProducer):
    """A connection with the same journal and durability as the daemon's own."""

    def __init__(self, path: str) -> None:
        self._connection = apsw.Connection(path)
        self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        self.prepare()

    def query(self, sql: str, bindings: Sequence[int | str] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        return list(self._connection.execute(sql, tuple(bindings)))

    def make(self, script: str) -> None:
        """apsw takes scripts as they are."""
        self._connection.execute(script)


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
