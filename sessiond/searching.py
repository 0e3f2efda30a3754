"""What the request `search` does.

The one rule: a search never meets the writer; it waits for the index only, one search at a time for each
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sessiond.clock import Clock
from sessiond.connection import Connection
from sessiond.search.indexer import Indexer
from sessiond.search.query import SECONDS_MAX, Query, Stores
from sessiond.search.searchers import Searchers
from sessiond.search.standing import StandingIndex
from sessiond_client.wire.messages import Hits, Search


class Searching:
    """Does the requests that search."""

    def __init__(self, indexer: Indexer | StandingIndex, searchers: Searchers, clock: Clock) -> None:
        self._indexer = indexer
        self._searchers = searchers
        self._clock = clock

    def verbs(self) -> dict[type, Callable[[Connection, Any, int], None]]:
        """The requests that are done here."""
        return {Search: self._search}

    def _search(self, connection: Connection, request: Search, size: int) -> None:
        if request.limit == 0:
            connection.reply(Hits(id=request.id, hits=[]), size)
            return
        connection.ask(request.id, size, partial(self._answer, Query(request)))

    async def _answer(self, query: Query) -> Hits:
        await self._searchers.ask(query.compile)
        return await self._indexer.search(partial(self._page, query))

    def _page(self, query: Query, stores: Stores, position: int) -> Hits:
        end = self._clock.monotonic() + SECONDS_MAX
        return query.answer(
            stores, position, lambda: self._searchers.is_closing or self._clock.monotonic() >= end
        )
