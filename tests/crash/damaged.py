"""A small data directory with one session that has ended and one that has not, to be damaged byte by byte.

The one rule: it is made by the real stores and holds no more than a damage of every byte can afford.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sessiond.clock import Clock
from sessiond.storage.check.checking import AtRest
from sessiond.storage.commit.operations import (
    AppendEvents,
    EndSession,
    MarkSynced,
    Operation,
    RenameSession,
    SetLabel,
    SetMilestone,
    StartSession,
)
from sessiond.storage.directory import DataDirectory
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond.storage.repair.mending import Mending
from sessiond.storage.repair.rebuilding import settle_all
from sessiond.storage.store import Store
from sessiond_client.wire.messages import EndReason, Fault, NewEvent, Source, Status

SEALED = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
OPEN = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
AT = 1_763_717_071_123_456
TEXTS = ["one", "zwölf", "three"]


class Opened(NamedTuple):
    """The stores of a directory, as a daemon has them."""

    directory: DataDirectory
    store: Store


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Start on a directory as a daemon does, recovery and all."""
    with closing(DataDirectory.open(path, Clock())) as directory:
        recovery = directory.recovery
        store = Store(directory.database, directory.files, directory.state_file, Clock(), recovery.lagging)
        yield Opened(directory, store)


def started(ulid: str, name: str) -> StartSession:
    """The start of a session whose header is short."""
    return StartSession(ulid=ulid, name=name, source=Source.APP, started_at=AT, received_at=AT, tags=["t"])


def appended(ulid: str, *texts: str) -> AppendEvents:
    """An event for each text."""
    return AppendEvents(
        session=ulid, events=[NewEvent(kind="prompt", text=text) for text in texts], received_at=AT
    )


def ended(ulid: str) -> EndSession:
    """The end of a session."""
    return EndSession(
        session=ulid, status=Status.COMPLETED, end_reason=EndReason.STOPPED, ended_at=AT, exit_code=0
    )


def commit(store: Store, *operations: Operation, synced: bool = True) -> None:
    """Commit one after the other; `synced`: and note that the files are on disk, as the daemon does soon."""
    for operation in operations:
        done = store.commit([operation])
        assert not isinstance(done.outcomes[0], Exception), done.outcomes[0]
        if synced:
            store.commit(
                [
                    MarkSynced(session=ulid, size=file.size, seq=file.seq, sealed=file.sealed)
                    for ulid, file in done.dirty.items()
                ]
            )


def make(path: Path, *, synced: bool = True) -> None:
    """The directory; `synced`: also the file of the open session is known to be on disk."""
    path.mkdir(mode=0o700)
    with opened(path) as (_, store):
        commit(store, started(SEALED, "sealed"), appended(SEALED, *TEXTS), ended(SEALED))
        commit(store, started(OPEN, "open"), appended(OPEN, *TEXTS[:2]), synced=synced)
        commit(store, RenameSession(session=OPEN, name="opened", at=AT), synced=synced)
        commit(store, appended(OPEN, TEXTS[2]), synced=synced)
        commit(store, SetLabel(label="release", session=SEALED, at=AT))
        commit(store, SetMilestone(key="build", value="8", if_absent=False, expect=None, at=AT))


def faults(path: Path) -> list[Fault]:
    """What a check of a directory at rest finds."""
    return list(AtRest(path, SessionFiles(path, Disk())).faults())


def mend(path: Path) -> None:
    """What `sessiond rebuild --mend` does."""
    with opened(path) as (directory, _):
        settle_all(directory, Clock())
        mending = Mending(directory, Clock())
        list(mending.sessions())
        mending.rest()


def copied(pattern: Path, target: Path) -> Path:
    """A fresh copy of a directory."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(pattern, target)
    return target


def quarantined(path: Path) -> list[bytes]:
    """The contents of what was set aside."""
    return [each.read_bytes() for each in sorted((path / "quarantine").iterdir()) if each.is_file()]
