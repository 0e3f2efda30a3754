"""Searches on the index as it stands, for a daemon that may not write.

The one rule: as with an index that is kept up, a search sees everything committed before it was asked, or it
is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import apsw

from sessiond.errors import Refused
from sessiond.search.index import INDEX_VERSION, IndexDamaged
from sessiond.search.query import Stores
from sessiond.search.recorded import Extent, Recorded
from sessiond.search.searchers import Searchers
from sessiond.storage.database import rows
from sessiond_client.wire.messages import ErrorCode

T = TypeVar("T")


class StandingIndex:
    """In the place of an `Indexer`, without a thread that writes."""

    def __init__(self, searchers: Searchers) -> None:
        self._searchers = searchers

    async def search(self, question: Callable[[Stores, int], T]) -> T:
        """What `question` returns of an index that has everything committed until now, and its position."""
        target = await self._searchers.ask_recorded(Recorded.extent)
        try:
            return await self._searchers.ask_stores(partial(_ask, target=target, question=question))
        except (IndexDamaged, apsw.Error) as error:
            raise _unusable(str(error)) from None

    async def forget(self, ulid: str) -> None:
        """Nothing is purged while nothing may be written."""

    def close(self) -> None:
        """Let the threads end."""
        self._searchers.close()


def _ask(stores: Stores, target: Extent, question: Callable[[Stores, int], T]) -> T:
    facts = dict(rows(stores.indexed, "SELECT name, value FROM fact"))
    if facts["version"] != INDEX_VERSION or facts["database_id"] != stores.recorded.database_id():
        raise _unusable("it is that of another database")
    if not Extent(facts["position"], facts["changed"], facts["unchanged"]).covers(target):
        raise _unusable("it lacks what was recorded last")
    return question(stores, target.position)


def _unusable(reason: str) -> Refused:
    return Refused(
        ErrorCode.READ_ONLY,
        f"the search index cannot be used as it stands: {reason}",
        "`sessionctl show` and `list` work; search again once the daemon writes again",
    )
