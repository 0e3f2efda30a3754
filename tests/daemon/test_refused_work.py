"""What the daemon does by itself is done again where the store refused it; nobody waits for that for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from sessiond import purger as purging
from sessiond import settler as settling
from sessiond import syncer as syncing
from sessiond.clock import Clock
from sessiond.commits import Commits
from sessiond.errors import Refused
from sessiond.purger import Purger
from sessiond.reader import Reader
from sessiond.settler import Settler
from sessiond.storage.commit.operations import (
    DeleteSession,
    EndSession,
    MarkSettled,
    MarkSynced,
    Operation,
    PurgeEvents,
    PurgeSession,
    RenameSession,
    StartSession,
)
from sessiond.storage.directory import DataDirectory
from sessiond.storage.disk import Disk
from sessiond.storage.store import Committed, Store
from sessiond.syncer import Syncer
from sessiond.writer import Writer
from sessiond_client.wire.messages import EndReason, ErrorCode, Source, Status
from tests.checker import check

SESSION, OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ"
DISK_FULL = Refused(ErrorCode.DISK_FULL, "the disk is full; nothing was stored", "free some space")
REFUSALS = 2
WAIT_SECONDS_MAX = 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried again is tried again at once."""
    for module in (purging, settling):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(syncing, "SYNC_DELAY_SECONDS", 0.01)


class FullAtTimes:
    """A real store that refuses operations of one kind as often as it is told to, as a full disk does."""

    def __init__(self, path: Path) -> None:
        self.directory = DataDirectory.open(path, Clock())
        files, state_file = self.directory.files, self.directory.state_file
        self.store = Store(self.directory.database, files, state_file, Clock())
        self.refused_kind: type = type(None)
        self.refusals_left = 0

    @property
    def lagging(self) -> frozenset[str]:
        return self.store.lagging

    def commit(self, batch: Sequence[Operation]) -> Committed:
        if self.refusals_left and any(isinstance(operation, self.refused_kind) for operation in batch):
            self.refusals_left -= 1
            return Committed([DISK_FULL] * len(batch), [], 0, {}, self.lagging, DISK_FULL)
        return self.store.commit(batch)

    def refuse(self, kind: type, times: int = REFUSALS) -> None:
        self.refused_kind, self.refusals_left = kind, times


class Behind:
    """What works behind the commits of one store, and a session that has ended."""

    def __init__(self, path: Path) -> None:
        self.store = FullAtTimes(path)
        directory = self.store.directory
        self.writer = Writer(self.store, Commits(), Clock())
        self.reader = Reader(directory.database.path)
        self.syncer = Syncer(self.writer, self.store.store, directory.recovery, directory.files)
        self.settler = Settler(self.writer, self.reader, directory.files, self.syncer.hurry)
        self.syncer.on_sealed = self.settler.look
        self.purger = Purger(self.writer, directory.files, _forget, [])

    async def do(self, *operations: Operation) -> None:
        for operation in operations:
            outcome = await self.writer.ask(operation, "test")
            assert not isinstance(outcome, Refused), outcome

    async def until(self, condition: str) -> None:
        """Wait until this holds of the row of the session."""
        sql = f"SELECT count(*) FROM session WHERE ulid = '{SESSION}' AND {condition}"
        with anyio.fail_after(WAIT_SECONDS_MAX):
            while not await self.reader.ask(lambda database: database.execute(sql).get):
                await anyio.lowlevel.checkpoint()

    async def until_refused(self) -> None:
        """Wait until the store has refused all that it was told to."""
        with anyio.fail_after(WAIT_SECONDS_MAX):
            while self.store.refusals_left:
                await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        for part in (self.syncer, self.writer, self.reader, self.store.directory):
            part.close()


async def _forget(_ulid: str) -> None:
    """There is no index."""


@asynccontextmanager
async def behind(path: Path) -> AsyncIterator[Behind]:
    parts = Behind(path)
    async with anyio.create_task_group() as tasks:
        for part in (parts.writer, parts.syncer, parts.settler, parts.purger):
            tasks.start_soon(part.run)
        start = StartSession(ulid=SESSION, name="x", source=Source.APP, started_at=0, received_at=0)
        end = EndSession(session=SESSION, status=Status.COMPLETED, end_reason=EndReason.STOPPED, ended_at=1)
        await parts.do(start, end)
        yield parts
        tasks.cancel_scope.cancel()
    parts.close()


@pytest.mark.anyio
async def test_a_file_that_was_synced_counts_as_synced_once_the_disk_takes_the_note(tmp_path: Path) -> None:
    async with behind(tmp_path) as parts:
        parts.store.refuse(MarkSynced)

        await parts.until("sealed = 1")

        assert parts.store.refusals_left == 0


@pytest.mark.anyio
async def test_who_stops_waits_for_the_sync_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    sync = Disk.sync

    def slow(disk: Disk, path: Path) -> None:
        begun.set()
        assert go_on.wait(WAIT_SECONDS_MAX)
        sync(disk, path)

    async with behind(tmp_path) as parts:
        await parts.until("sealed = 1")
        monkeypatch.setattr(Disk, "sync", slow)
        await parts.do(StartSession(ulid=OTHER, name="y", source=Source.APP, started_at=0, received_at=0))
        assert await anyio.to_thread.run_sync(begun.wait, WAIT_SECONDS_MAX)
        asyncio.get_running_loop().call_later(0.01, go_on.set)

        await parts.syncer.sync()

        sql = "SELECT synced_bytes FROM session ORDER BY id DESC LIMIT 1"
        assert await parts.reader.ask(lambda database: database.execute(sql).get) > 0


@pytest.mark.anyio
async def test_a_file_that_followed_counts_as_settled_once_the_disk_takes_the_note(tmp_path: Path) -> None:
    async with behind(tmp_path) as parts:
        await parts.until("sealed = 1")
        parts.store.refuse(MarkSettled)

        await parts.do(RenameSession(session=SESSION, name="y", at=2))
        await parts.settler.settled(SESSION)
        await parts.until("unsettled = 0")

        assert parts.store.refusals_left == 0
    check(tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("refused", [PurgeEvents, PurgeSession])
async def test_who_asks_for_a_purge_is_told_of_a_full_disk_and_the_rest_goes_by_itself(
    tmp_path: Path, refused: type
) -> None:
    async with behind(tmp_path) as parts:
        parts.store.refuse(refused)
        await parts.do(DeleteSession(session=SESSION, force=False, purge=True, at=2))

        with pytest.raises(Refused, match=r"gone for everybody.*the disk is full") as told:
            await parts.purger.purged(SESSION)
        await parts.until_refused()
        await parts.purger.purged(SESSION)

        assert told.value.code is ErrorCode.DISK_FULL
        sql = "SELECT count(*) FROM session"
        assert await parts.reader.ask(lambda database: database.execute(sql).get) == 0
    check(tmp_path)


@pytest.mark.anyio
async def test_who_asks_for_a_purge_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "PURGE_SECONDS_MAX", 0.01)
    async with behind(tmp_path) as parts:
        parts.purger._forget = lambda _ulid: anyio.sleep_forever()
        await parts.do(DeleteSession(session=SESSION, force=False, purge=True, at=2))

        with pytest.raises(Refused, match="gone for everybody") as told:
            await parts.purger.purged(SESSION)

        assert told.value.code is ErrorCode.BUSY
