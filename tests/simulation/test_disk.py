"""The simulated disk keeps its rules: what it leaves after a cut is legal, and all that is legal occurs."""

from __future__ import annotations

from random import Random

import pytest

from sessiond.storage.disk import Disk
from tests.simulation.database import FilesOnDisk
from tests.simulation.disk import SECTOR_BYTES, Fault, Kind, SimulatedDisk, states

CUTS = 1000


@pytest.fixture
def disk() -> SimulatedDisk:
    """With one directory, on the platter."""
    disk = SimulatedDisk()
    disk.make_directory("/d")
    disk.sync_directory("/")
    return disk


def left(disk: SimulatedDisk, path: str) -> set[bytes | None]:
    """What a file may be after a power cut, None for no file."""
    return {disk.after_power_cut(Random(seed)).content().get(path) for seed in range(CUTS)}


def synced_file(disk: SimulatedDisk, path: str, data: bytes) -> int:
    file = disk.create(path)
    disk.write(file, 0, data)
    disk.sync(file)
    disk.sync_directory("/d")
    return file


def test_no_operation_of_the_seam_reaches_the_real_disk() -> None:
    operations = {name for name in vars(Disk) if not name.startswith("_")}

    assert operations - vars(FilesOnDisk).keys() == set()


def test_what_was_synced_with_its_name_is_there_whatever_happens(disk: SimulatedDisk) -> None:
    synced_file(disk, "/d/a", b"whole")

    assert left(disk, "/d/a") == {b"whole"}


def test_a_name_that_was_not_synced_may_be_gone_though_the_data_were(disk: SimulatedDisk) -> None:
    file = disk.create("/d/a")
    disk.write(file, 0, b"whole")
    disk.sync(file)

    assert left(disk, "/d/a") == {b"whole", None}


def test_a_write_is_kept_dropped_torn_by_sector_or_nul_bytes(disk: SimulatedDisk) -> None:
    file = synced_file(disk, "/d/a", b"")
    one, two = b"1" * SECTOR_BYTES, b"2" * SECTOR_BYTES
    disk.write(file, 0, one + two)

    found = left(disk, "/d/a")
    assert found <= {b"", one, one + two, one + bytes(512), bytes(512) + two, bytes(1024)}
    assert found >= {b"", one, one + two, bytes(512) + two, bytes(1024)}


def test_writes_reach_the_platter_in_any_order(disk: SimulatedDisk) -> None:
    file = synced_file(disk, "/d/a", b"..")
    disk.write(file, 0, b"1")
    disk.write(file, 1, b"2")

    assert left(disk, "/d/a") == {b"..", b"1.", b".2", b"12"}


def test_a_rename_is_undone_or_whole_and_a_sync_of_either_directory_keeps_it(disk: SimulatedDisk) -> None:
    disk.make_directory("/e")
    disk.sync_directory("/")
    synced_file(disk, "/d/a", b"x")
    disk.rename("/d/a", "/e/b")

    names = {frozenset(disk.after_power_cut(Random(seed)).content()) for seed in range(CUTS)}
    assert names == {frozenset({"/d/a"}), frozenset({"/e/b"})}

    disk.sync_directory("/d")
    assert left(disk, "/e/b") == {b"x"}


def test_a_removed_name_may_come_back_until_its_directory_is_synced(disk: SimulatedDisk) -> None:
    synced_file(disk, "/d/a", b"x")
    disk.unlink("/d/a")

    assert left(disk, "/d/a") == {b"x", None}
    disk.sync_directory("/d")
    assert left(disk, "/d/a") == {None}


def test_after_a_failed_sync_the_next_one_succeeds_and_writes_nothing(disk: SimulatedDisk) -> None:
    file = synced_file(disk, "/d/a", b"old")
    disk.write(file, 0, b"new")
    disk.fault = Fault(disk.operations + 1, Kind.ERROR)
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(file)

    disk.sync(file)

    assert disk.content()["/d/a"] == b"new"
    assert left(disk, "/d/a") == {b"old"}
    assert {bytes(disk.after_kill(Random(seed)).files[file].cache) for seed in range(9)} == {b"old", b"new"}


def test_writing_to_a_lost_page_again_makes_it_dirty_as_a_whole(disk: SimulatedDisk) -> None:
    file = synced_file(disk, "/d/a", b"old")
    disk.write(file, 0, b"new")
    disk.fault = Fault(disk.operations + 1, Kind.ERROR)
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(file)

    disk.write(file, 3, b"er")
    disk.sync(file)

    assert left(disk, "/d/a") == {b"newer"}


def test_a_full_disk_refuses_what_needs_room_and_nothing_else(disk: SimulatedDisk) -> None:
    file = synced_file(disk, "/d/a", b"x")
    disk.fault = Fault(1, Kind.FULL, persists=True)

    with pytest.raises(OSError, match="space"):
        disk.write(file, 1, b"y")
    with pytest.raises(OSError, match="space"):
        disk.create("/d/b")
    disk.sync(file)
    disk.truncate(file, 0)
    disk.unlink("/d/a")


def test_a_short_write_is_followed_by_a_full_disk(disk: SimulatedDisk) -> None:
    file = synced_file(disk, "/d/a", b"")
    disk.fault = Fault(disk.operations + 1, Kind.SHORT)

    taken = disk.write(file, 0, b"x" * 100)

    assert 0 < taken < 100
    with pytest.raises(OSError, match="space"):
        disk.write(file, taken, b"x")


def test_a_journal_made_again_leads_to_the_same_disk(disk: SimulatedDisk) -> None:
    base = disk.copy()
    disk.journal.clear()
    disk.random = Random(7)
    file = synced_file(disk, "/d/a", b"x" * 3000)
    disk.fault = Fault(disk.operations + 2, Kind.ERROR)
    disk.write(file, 9, b"y" * 3000)
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(file)
    disk.rename("/d/a", "/d/b")

    again = [state.copy() for _, state in states(base, disk.journal)]

    assert len(again) == len(disk.journal) + 1
    assert again[0].content() == base.content()
    assert again[-1].content() == disk.content()
    assert left(again[-1], "/d/b") == left(disk, "/d/b")
