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

from sessiond import collector as collecting
from sessiond import owners as owning
from sessiond import purger as purging
from sessiond import settler as settling
from sessiond import syncer as syncing
from sessiond.clock import Clock
from sessiond.collector import Collector
from sessiond.commits import Commits
from sessiond.errors import Refused
from sessiond.owners import Owners
from sessiond.purger import Purger
from sessiond.reader import Reader
from sessiond.replay import Replay
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
from sessiond.storage.files import SessionFiles
from sessiond.storage.recovery.recovery import Counters
from sessiond.storage.store import Committed, Store
from sessiond.syncer import Syncer
from sessiond.writer import Writer
from sessiond_client.wire.messages import Append, Appended, EndReason, ErrorCode, Source, Status
from sessiond_client.wire.spool import PASSING
from tests.checker import check
from tests.daemon.left import SpoolFile

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
    for module in (collecting, owning, purging, settling):
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
        self.refusal = DISK_FULL

    @property
    def lagging(self) -> frozenset[str]:
        return self.store.lagging

    def commit(self, batch: Sequence[Operation]) -> Committed:
        if self.refusals_left and any(isinstance(operation, self.refused_kind) for operation in batch):
            self.refusals_left -= 1
            return Committed([self.refusal] * len(batch), [], 0, {}, self.lagging, self.refusal)
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


async def _hang_up(_pid: int, _quiet_seconds: float) -> None:
    """Nobody is connected."""


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


def held_sync(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """From now on a sync says that it has begun, and goes on when it is told to."""
    begun, go_on = threading.Event(), threading.Event()
    sync = Disk.sync

    def slow(disk: Disk, path: Path) -> None:
        begun.set()
        assert go_on.wait(WAIT_SECONDS_MAX)
        sync(disk, path)

    monkeypatch.setattr(Disk, "sync", slow)
    return begun, go_on


@pytest.mark.anyio
async def test_who_stops_waits_for_the_sync_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind(tmp_path) as parts:
        await parts.until("sealed = 1")
        begun, go_on = held_sync(monkeypatch)
        await parts.do(StartSession(ulid=OTHER, name="y", source=Source.APP, started_at=0, received_at=0))
        assert await anyio.to_thread.run_sync(begun.wait, WAIT_SECONDS_MAX)
        asyncio.get_running_loop().call_later(0.01, go_on.set)

        await parts.syncer.sync()

        sql = "SELECT synced_bytes FROM session ORDER BY id DESC LIMIT 1"
        assert await parts.reader.ask(lambda database: database.execute(sql).get) > 0


@pytest.mark.anyio
async def test_a_file_that_is_purged_while_it_is_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with behind(tmp_path) as parts:
        parts.purger.on_removal = parts.syncer.forget
        await parts.until("sealed = 1")
        begun, go_on = held_sync(monkeypatch)
        await parts.do(StartSession(ulid=OTHER, name="y", source=Source.APP, started_at=0, received_at=0))
        assert await anyio.to_thread.run_sync(begun.wait, WAIT_SECONDS_MAX)

        await parts.do(DeleteSession(session=OTHER, force=True, purge=True, at=2))
        await parts.purger.purged(OTHER)
        go_on.set()
        await parts.syncer.sync()

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


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


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of owners."""
    return [record.getMessage() for record in caplog.records if record.name == "sessiond.owners"]


@pytest.mark.anyio
@pytest.mark.parametrize("code", sorted(PASSING))
async def test_sessions_whose_owner_is_gone_end_once_they_can_and_are_called_ended_only_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: ErrorCode
) -> None:
    caplog.set_level("INFO", "sessiond.owners")
    left = [f"01ARZ3NDEKTSV4RRFFQ69G5FB{number}" for number in range(5)]
    async with behind(tmp_path) as parts, anyio.create_task_group() as tasks:
        owners = Owners(parts.writer, Clock(), _hang_up)
        owners.start(tasks)
        for ulid in left:
            await parts.do(StartSession(ulid=ulid, name=ulid, source=Source.APP, started_at=0, received_at=0))
        parts.store.refusal = Refused(code, "not now", "later")
        parts.store.refuse(EndSession, REFUSALS)

        await owners.interrupt(dict.fromkeys(left, EndReason.CLIENT_LOST), recovered=False)

        assert parts.store.refusals_left == REFUSALS - 1  # one is tried in vain, not all of them
        assert not told(caplog)
        await parts.until("(SELECT count(*) FROM session WHERE status = 'interrupted') = 5")
        with anyio.fail_after(WAIT_SECONDS_MAX):
            while len(told(caplog)) < len(left):
                await anyio.lowlevel.checkpoint()
        assert told(caplog) == ["session ended with its owner"] * len(left)
        tasks.cancel_scope.cancel()
    check(tmp_path)


class FullHandlers:
    """In the place of the handlers: they refuse so many appends, as a full disk does, and take the others."""

    def __init__(self, refusals: int) -> None:
        self.refusing = None
        self.refusals_left = refusals
        self.stored: list[str | None] = []

    def store(self, asker: Replay, request: Append, size: int) -> None:
        if self.refusals_left:
            self.refusals_left -= 1
            asker.reply(DISK_FULL.reply(request.id), size)
        else:
            self.stored += [event.text for event in request.events]
            asker.reply(Appended(id=request.id, session=request.session, first=0, last=0), size)


@pytest.mark.anyio
async def test_the_spool_is_settled_only_once_there_is_room_for_what_waits(home: Path) -> None:
    spooled = SpoolFile(home).append("first", "second", "third")
    handlers = FullHandlers(refusals=3 * REFUSALS)
    files = SessionFiles(home / "data", Disk())
    reader = Reader(home / "data" / "none.db")
    collector = Collector([spooled.directory], handlers, reader, files, Clock(), Counters())  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collector.run)

        with anyio.fail_after(WAIT_SECONDS_MAX):
            await collector.settled()

        assert handlers.stored == ["first", "second", "third"]
        assert not spooled.path.exists()
        tasks.cancel_scope.cancel()
    collector.close()
    reader.close()
