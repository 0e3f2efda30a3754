"""Single faults that were found by the experiments, or beside them, each in the fewest steps that show it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from sessiond.storage.commit.operations import (
    AppendEvents,
    DeleteSession,
    EndSession,
    Operation,
    RestoreSession,
    SetMilestone,
    StartSession,
    TagSession,
)
from sessiond.storage.database import rows
from sessiond_client.wire.messages import EndReason, NewEvent, Source, Status
from tests.simulation.disk import Fault, Kind, SimulatedDisk, states
from tests.simulation.machine import Machine
from tests.simulation.suites import fresh_disk, quietly

SESSION = "01KAJSZ5T0Q4B8M2X7C9D3E6FG"
FILE = f"/data/sessions/{SESSION}.ndjson"
TRASHED = f"/data/trash/{SESSION}.ndjson"
STATE = "/data/state.ndjson"

START = StartSession(ulid=SESSION, name="one", source=Source.APP, started_at=0, received_at=0)
APPEND = AppendEvents(session=SESSION, events=[NewEvent(kind="a", text="x")], received_at=0)
LARGE_APPEND = AppendEvents(session=SESSION, events=[NewEvent(kind="a", text="x" * 9000)], received_at=0)
END = EndSession(session=SESSION, status=Status.COMPLETED, end_reason=EndReason.STOPPED, ended_at=0)
TAG = TagSession(session=SESSION, add=["t"], remove=[], at=0)
TRASH = DeleteSession(session=SESSION, force=False, purge=False, at=0)
MILESTONE = SetMilestone(key="k", value="v", if_absent=False, expect=None, at=0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Recovery speaks to nobody here."""
    with quietly():
        yield


def working(*operations: Operation) -> Machine:
    """A process that did these things and is at rest."""
    machine = Machine(fresh_disk(1))
    machine.commit(operations)
    machine.calm_down()
    return machine


def fail_next(disk: SimulatedDisk, *counted: str, kind: Kind = Kind.ERROR) -> None:
    """Let the next operation of these sorts fail."""
    disk.counted = frozenset(counted)
    disk.fault = Fault(disk.operations + 1, kind)


def lost_power(machine: Machine) -> list[Machine]:
    """Some of the processes that may come after a power cut, at rest; none had a file to set aside."""
    after = [Machine(machine.disk.after_power_cut(Random(seed))) for seed in range(20)]
    for one in after:
        one.calm_down()
        assert "files_quarantined" not in one.directory.recovery.counters
    return after


def test_a_state_file_of_the_right_size_without_its_lines_is_written_anew() -> None:
    machine = working(MILESTONE)
    right = machine.disk.content()[STATE]
    machine.disk.write(machine.disk.file(STATE), 0, bytes(len(right)))
    machine.kill()

    after = Machine(machine.disk)

    assert after.directory.recovery.counters == {"state_files_rewritten": 1}
    assert b'"v"' in after.disk.content()[STATE]


def test_a_state_file_that_could_not_be_written_catches_up_without_another_change() -> None:
    machine = working(START)
    fail_next(machine.disk, "create", kind=Kind.FULL)
    machine.commit([MILESTONE])
    assert machine.lagging

    machine.mend()

    assert not machine.lagging
    assert b'"v"' in machine.disk.content()[STATE]


def test_a_disk_that_fills_up_while_a_file_is_mended_ends_nobody() -> None:
    machine = working(START)
    for nth in range(1, 40):
        machine.store._lagging.add(SESSION)
        machine.commit([APPEND])
        fault = Fault(machine.disk.operations + nth, Kind.FULL, persists=True)
        machine.disk.fault = fault

        machine.mend()

        machine.disk.fault = None
        if machine.disk.operations < fault.at:
            break
        machine.mend()
        assert not machine.lagging
    assert machine.disk.faults_met > 5


def test_a_mark_that_had_to_wait_does_not_undo_what_a_repair_noted_since() -> None:
    machine = working(START)
    machine.commit([APPEND])
    machine.sync()
    machine.store._lagging.add(SESSION)
    machine.commit([END])
    machine.lagging = machine.store.lagging
    machine.mend()

    machine.mark()

    assert rows(machine.directory.database.connection, "SELECT sealed FROM session") == [(1,)]
    machine.calm_down()
    assert machine.is_quiet()


def test_a_file_whose_write_and_whose_sync_failed_ends_once() -> None:
    machine = working(START)
    machine.commit([APPEND])
    machine.disk.fault = Fault(machine.disk.operations + 1, Kind.ERROR, persists=True)
    machine.disk.counted = frozenset({"sync"})
    machine.sync()
    machine.disk.fault = None
    machine.store._lagging.add(SESSION)
    machine.commit([END])
    right = machine.disk.content()[FILE]

    machine.calm_down()
    machine.store.mend(SESSION, machine.directory.recovery, anew=False)

    whole = machine.disk.content()[FILE]
    assert whole.startswith(right)
    assert whole.count(b'"type":"footer"') == 1
    assert machine.is_quiet()


@pytest.mark.parametrize("seed", range(4))  # how much of it is lost
def test_a_file_whose_sync_failed_is_not_marked_as_synced_by_the_next_sync(seed: int) -> None:
    machine = working(START)
    machine.disk.random = Random(seed)
    machine.commit([LARGE_APPEND])
    fail_next(machine.disk, "sync")
    machine.sync()
    machine.disk.fault = None
    machine.commit([APPEND])
    machine.sync()
    machine.mark()

    for after in lost_power(machine):
        assert after.disk.content()[FILE].count(b'"seq"') == 2


@pytest.mark.parametrize("seed", range(4))  # how much of it is lost
def test_a_file_that_was_read_back_after_a_failed_sync_is_written_again_before_it_counts(seed: int) -> None:
    machine = working(START)
    machine.disk.random = Random(seed)
    machine.commit([APPEND])
    fail_next(machine.disk, "sync")
    machine.sync()
    machine.disk.fault = None
    machine.kill()

    for after in lost_power(Machine(machine.disk)):
        assert after.disk.content()[FILE].count(b'"seq"') == 1


def test_a_name_is_on_the_disk_before_its_file_counts_as_whole() -> None:
    machine = Machine(fresh_disk(1))
    machine.commit([START, APPEND, END])
    machine.kill()
    base = machine.disk.copy()
    second = Machine(base.copy())

    for _, state in states(base, second.disk.journal):
        for seed in range(9):
            after = Machine(state.after_power_cut(Random(seed)))
            assert after.disk.content()[FILE].count(b'"seq"') == 1


def test_a_move_into_the_trash_whose_sync_failed_is_synced_before_it_counts() -> None:
    machine = working(START, APPEND, END)
    machine.commit([TRASH])
    fail_next(machine.disk, "sync_directory")
    machine.settle()
    machine.disk.fault = None
    machine.settle()
    machine.mark()

    for after in lost_power(machine):
        assert TRASHED in after.disk.content()


def test_a_backup_that_comes_back_with_the_power_is_removed() -> None:
    machine = working(START, APPEND, END)
    machine.commit([TAG])
    machine.settle()
    machine.mark()

    found = lost_power(machine)

    assert any("backups_removed" in after.directory.recovery.counters for after in found)
    for after in found:
        assert not [path for path in after.disk.content() if path.endswith(".bak")]


def shelf_of(machine: Machine) -> str:
    """On which shelf the one session is."""
    ((shelf,),) = rows(machine.directory.database.connection, "SELECT shelf FROM session")
    return str(shelf)


def cut_while_recovering(disk: SimulatedDisk) -> Iterator[Machine]:
    """Processes at rest, one after a power cut at each operation of the start on this disk."""
    disk.sync_directory("/data")
    machine = Machine(disk.copy())
    machine.calm_down()
    machine.kill()
    for number, state in states(disk, machine.disk.journal):
        after = Machine(state.after_power_cut(Random(number)))
        after.calm_down()
        yield after
        after.kill()


def test_a_trashed_session_that_only_its_file_tells_of_stays_in_the_trash_wherever_the_start_is_cut() -> None:
    machine = working(START, APPEND, END)
    machine.commit([TRASH])
    machine.calm_down()
    machine.kill()
    for name in ("sessiond.db", "sessiond.db-wal"):
        if f"/data/{name}" in machine.disk.names:
            machine.disk.unlink(f"/data/{name}")

    for after in cut_while_recovering(machine.disk):
        assert shelf_of(after) == "trashed"
        assert TRASHED in after.disk.content()
        assert FILE not in after.disk.content()


def test_a_trashed_session_that_an_older_database_has_open_stays_in_the_trash_wherever_it_is_cut() -> None:
    machine = working(START, APPEND)
    machine.kill()
    disk = machine.disk
    machine = Machine(disk.copy())
    machine.commit([END])
    machine.commit([TRASH])
    machine.calm_down()
    disk.write(disk.file(FILE), 0, machine.disk.content()[TRASHED])
    disk.sync(disk.file(FILE))
    disk.rename(FILE, TRASHED)
    disk.sync_directory("/data/trash")

    for after in cut_while_recovering(disk):
        assert shelf_of(after) == "trashed"
        assert TRASHED in after.disk.content()
        assert FILE not in after.disk.content()


def test_a_session_that_is_restored_before_its_file_was_mended_is_not_trashed_again() -> None:
    machine = working(START, APPEND, END)
    machine.commit([TRASH])
    machine.calm_down()
    machine.directory.database.connection.execute("UPDATE session SET sealed = 0")
    machine.commit([RestoreSession(session=SESSION)])
    machine.kill()

    after = Machine(machine.disk)
    after.calm_down()

    assert shelf_of(after) == "kept"
    assert FILE in after.disk.content()
