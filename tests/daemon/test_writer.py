"""The writer's queue: order within a connection, turns between them, limits."""

from __future__ import annotations

from pathlib import Path

import anyio
import apsw
import pytest

from sessiond.clock import Clock
from sessiond.commits import Commits
from sessiond.errors import Refused
from sessiond.storage.commit.operations import Appended, AppendEvents, Outcome, StartSession
from sessiond.storage.directory import DataDirectory
from sessiond.storage.store import Store
from sessiond.writer import BATCH_OPERATIONS_MAX, QUEUE_BYTES_MAX, Writer
from sessiond_client.wire.messages import ErrorCode, NewEvent, Source
from tests.checker import check

SESSION = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def append(text: str) -> AppendEvents:
    return AppendEvents(session=SESSION, events=[NewEvent(kind="a", text=text)], received_at=0)


def open_store(path: Path) -> tuple[DataDirectory, Store]:
    """A real store with one session."""
    directory = DataDirectory.open(path, Clock())
    store = Store(directory.database, directory.files, directory.state_file, Clock())
    store.commit([StartSession(ulid=SESSION, name="x", source=Source.APP, started_at=0, received_at=0)])
    return directory, store


@pytest.mark.anyio
async def test_a_flood_on_one_connection_does_not_hold_up_another(tmp_path: Path) -> None:
    directory, store = open_store(tmp_path)
    writer = Writer(store, Commits(), Clock())
    answered: list[tuple[str, Outcome]] = []
    flood = 5 * BATCH_OPERATIONS_MAX
    for number in range(flood):
        writer.submit(
            append(str(number)), "flooder", 100, lambda outcome: answered.append(("flooder", outcome))
        )
    writer.submit(append("polite"), "polite", 100, lambda outcome: answered.append(("polite", outcome)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        await writer.drain()
        tasks.cancel_scope.cancel()

    last = BATCH_OPERATIONS_MAX - 1
    assert answered[last] == ("polite", Appended(last, last))
    assert [outcome for who, outcome in answered if who == "flooder"] == [
        Appended(seq, seq) for seq in range(flood + 1) if seq != last
    ]
    assert writer.commit_count == 6
    writer.close()
    directory.close()


@pytest.mark.anyio
async def test_a_full_queue_says_so_until_half_of_it_is_committed(tmp_path: Path) -> None:
    directory, store = open_store(tmp_path)
    writer = Writer(store, Commits(), Clock())
    room: list[bool] = []
    writer.on_room = lambda: room.append(writer.is_full)
    size = QUEUE_BYTES_MAX // 4
    for number in range(4):
        assert not writer.is_full
        writer.submit(append(str(number)), number, size, lambda _: None)
    assert writer.is_full

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        await writer.drain()
        tasks.cancel_scope.cancel()

    assert room
    assert room[-1] is False
    assert writer.queue_length == 0
    writer.close()
    directory.close()


@pytest.mark.anyio
async def test_what_waits_behind_a_refused_batch_is_refused_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond.storage.database.BUSY_TIMEOUT_MS", 20)
    directory, store = open_store(tmp_path)
    writer = Writer(store, Commits(), Clock())
    answers: list[Outcome] = []
    intruder = apsw.Connection(str(directory.database.path))
    intruder.execute("BEGIN IMMEDIATE")
    for number in range(2 * BATCH_OPERATIONS_MAX):
        writer.submit(append(str(number)), "lane", 100, answers.append)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        await writer.drain()
        refused = list(answers)
        intruder.execute("ROLLBACK")
        stored = await writer.ask(append("again"), "lane")
        tasks.cancel_scope.cancel()

    assert len(refused) == 2 * BATCH_OPERATIONS_MAX
    assert {answer.code for answer in refused if isinstance(answer, Refused)} == {"busy"}
    assert writer.commit_count == 2
    assert stored == Appended(0, 0)
    intruder.close()
    writer.close()
    directory.close()


def test_a_fault_in_one_operation_costs_the_others_of_its_batch_nothing(tmp_path: Path) -> None:
    directory, store = open_store(tmp_path)
    poison = AppendEvents(session=SESSION, events=[None], received_at=0)  # type: ignore[list-item]

    committed = store.commit([append("one"), poison, append("two")])

    one, refused, two = committed.outcomes
    assert (one, two) == (Appended(0, 0), Appended(1, 1))
    assert isinstance(refused, Refused)
    assert refused.code is ErrorCode.INTERNAL
    assert (committed.event_count, committed.refusal, committed.lagging) == (2, None, frozenset())
    directory.close()
    lines = (tmp_path / "sessions" / f"{SESSION}.ndjson").read_bytes().split(b"\n")
    assert len(lines) == 4
    check(tmp_path)


def test_beside_a_fault_nothing_small_overtakes_what_the_full_disk_refused(tmp_path: Path) -> None:
    directory, store = open_store(tmp_path)
    directory.database.connection.execute("PRAGMA max_page_count = 1")  # as many as there are
    fault = AppendEvents(session=SESSION, events=[None], received_at=0)  # type: ignore[list-item]

    committed = store.commit([append("x" * 500_000), append("small"), fault])

    assert [getattr(outcome, "code", None) for outcome in committed.outcomes] == [ErrorCode.DISK_FULL] * 3
    assert store.commit([append("small")]).outcomes == [Appended(0, 0)]
    directory.close()
