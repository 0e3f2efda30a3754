"""Answers from the database that need no writer: read-only connections in threads of their own.

The one rule: a reader never waits for the writer and never keeps a transaction open between two questions,
so that checkpoints are not held up. Of a database at rest, to which nobody may write, it leaves everything
as it is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

from sessiond.errors import row_unreadable
from sessiond.storage.catalog import RowDamaged
from sessiond.storage.database import CORRUPTION, open_reader, refusing
from sessiond.storage.directory import mark_suspect

READERS_MAX = 4

T = TypeVar("T")


class Reader:
    """A few threads, each with a connection that is opened when it is first needed."""

    def __init__(self, path: Path, *, is_at_rest: bool = False) -> None:
        self._path = path
        self._is_at_rest = is_at_rest
        self._threads = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="reader")
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """What `question` returns when it is given a connection. Raises Refused."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)

    def _answer(self, question: Callable[[apsw.Connection], T]) -> T:
        with refusing(self._path):
            try:
                return question(self._connection())
            except CORRUPTION:
                if not self._is_at_rest:
                    with suppress(OSError):  # who asked is told all the same
                        mark_suspect(self._path.parent)
                raise
            except (RowDamaged, UnicodeDecodeError) as error:
                raise row_unreadable(self._path, error, getattr(error, "session", None)) from None

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path, is_at_rest=self._is_at_rest)
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Wait for what is being answered, then close the connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
