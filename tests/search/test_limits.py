"""The limits of a search: how long it looks, and how long it waits for the index."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from sessiond.clock import Clock
from sessiond.commits import Commits
from sessiond.errors import Refused
from sessiond.search import indexer
from sessiond.search.index import Index, open_index
from sessiond.search.indexer import Indexer
from sessiond.search.query import Query, Stores
from sessiond.search.recorded import Recorded
from sessiond.search.searchers import Searchers
from sessiond.storage.directory import DATABASE_NAME, INDEX_NAME, DataDirectory
from sessiond.writer import Writer
from sessiond_client.wire.messages import Search, SearchMode
from tests.running import RunningDaemon
from tests.search.asking import hits, recorded


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("mode", list(SearchMode))
def test_a_search_whose_time_is_up_goes_on_from_its_cursor(daemon: RunningDaemon, mode: SearchMode) -> None:
    peer = daemon.peer()
    for number in range(12):
        session = recorded(peer, name=f"elm-{number}")
        peer.append(session, *(f"elm {number} {each} " + "leaf " * 100 for each in range(100)))
    whole = [(hit["session"], hit["seq"]) for hit in hits(peer, "elm", mode=mode.value, limit=1000)]
    assert daemon.stop() == 0
    stores = Stores(Recorded(daemon.data_dir / DATABASE_NAME), open_index(daemon.data_dir / INDEX_NAME))
    position = stores.recorded.extent().position

    found, before, pages = [], None, 0
    while pages == 0 or before is not None:
        query = Query(Search(query="elm", mode=mode, limit=1000, before=before))
        query.compile()
        page = query.answer(stores, position, lambda: True)
        found += [(hit.session, hit.seq) for hit in page.hits]
        before, pages = page.next, pages + 1

    stores.recorded.close()
    stores.indexed.close()
    assert pages > 5
    assert found[:1000] == whole
    assert len(set(found)) == len(found) == 12 + 1200


@pytest.mark.anyio
async def test_a_search_that_waits_too_long_for_the_index_is_told_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "CATCH_UP_SECONDS_MAX", 0.01)
    DataDirectory.open(tmp_path, Clock()).close()
    database, path = tmp_path / DATABASE_NAME, tmp_path / INDEX_NAME
    # Nobody runs it, so it never gets there.
    part = Indexer(Index(path, database, Clock()), Searchers(database, path), Commits(), cast("Writer", None))

    with pytest.raises(Refused) as refused:
        await part.search(lambda _stores, _position: None)

    part.close()
    assert refused.value.code == "busy"
    assert "events behind" in refused.value.message
    assert refused.value.hint
