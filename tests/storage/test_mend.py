"""Mending a file while the daemon runs: what a purge took away does not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.storage.commit.operations import AppendEvents, StartSession
from sessiond.storage.directory import DataDirectory
from sessiond.storage.store import Store
from sessiond_client.wire.messages import NewEvent, Source

SESSION = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.mark.parametrize("anew", [True, False])
@pytest.mark.parametrize(
    "purged",
    ["UPDATE session SET shelf = 'purged'", "DELETE FROM session", "SELECT 1"],
    ids=["marked", "gone", "kept"],
)
def test_the_file_of_a_session_that_is_purged_is_not_written_again(
    tmp_path: Path, purged: str, anew: bool
) -> None:
    directory = DataDirectory.open(tmp_path, Clock())
    store = Store(directory.database, directory.files, directory.state_file, Clock())
    store.commit(
        [
            StartSession(ulid=SESSION, name="x", source=Source.APP, started_at=0, received_at=0),
            AppendEvents(session=SESSION, events=[NewEvent(kind="a", text="b")], received_at=0),
        ]
    )
    directory.database.connection.execute(purged)
    directory.files.close(SESSION)
    directory.files.path(SESSION).unlink()

    store.mend(SESSION, directory.recovery, anew=anew)

    assert directory.files.path(SESSION).exists() == (purged == "SELECT 1")
    assert store.lagging == frozenset()
    directory.close()
