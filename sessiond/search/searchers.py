"""Threads in which searches run, each with connections of its own to the main database and to the index.

The one rule: the index is replaced only while nobody reads it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from sessiond.search.index import open_index
from sessiond.search.query import Stores
from sessiond.search.recorded import Recorded

SEARCHERS_MAX = 2

T = TypeVar("T")


class _Seat:
    """The connections of one thread, opened when they are first needed."""

    def __init__(self, database: Path, *, is_at_rest: bool) -> None:
        self.lock = threading.Lock()
        self.recorded = Recorded(database, is_at_rest=is_at_rest)
        self.index: apsw.Connection | None = None

    def leave_index(self) -> None:
        if self.index is not None:
            self.index.close()
            self.index = None


class Searchers:
    """A few threads that answer searches."""

    def __init__(self, database: Path, index: Path, *, is_at_rest: bool = False) -> None:
        self._is_at_rest = is_at_rest
        self._database = database
        self._index = index
        self._threads = ThreadPoolExecutor(SEARCHERS_MAX, thread_name_prefix="searcher")
        self._local = threading.local()
        self._seats: list[_Seat] = []
        self._seating = threading.Lock()
        self.is_closing = False

    async def ask(self, question: Callable[[], T]) -> T:
        """What `question` returns."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    async def ask_recorded(self, question: Callable[[Recorded], T]) -> T:
        """What `question` returns when it is given the main database. Raises Refused."""
        return await self.ask(lambda: question(self._seat().recorded))

    async def ask_stores(self, question: Callable[[Stores], T]) -> T:
        """What `question` returns when it is given both. Raises Refused or IndexDamaged."""
        return await self.ask(lambda: self._answer(question))

    def _answer(self, question: Callable[[Stores], T]) -> T:
        seat = self._seat()
        with seat.lock:
            if seat.index is None:
                seat.index = open_index(self._index, is_at_rest=self._is_at_rest)
            return question(Stores(seat.recorded, seat.index))

    def _seat(self) -> _Seat:
        seat: _Seat | None = getattr(self._local, "seat", None)
        if seat is None:
            with self._seating:
                seat = self._local.seat = _Seat(self._database, is_at_rest=self._is_at_rest)
                self._seats.append(seat)
        return seat

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Nobody reads the index meanwhile, and whoever does later opens it anew."""
        with self._seating, ExitStack() as stack:
            for seat in self._seats:
                stack.enter_context(seat.lock)
                seat.leave_index()
            yield

    def close(self) -> None:
        """Have what is being answered come to its end, then close the connections."""
        self.is_closing = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for seat in self._seats:
            seat.leave_index()
            seat.recorded.close()
