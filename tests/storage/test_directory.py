"""A data directory that is made anew is on the disk before anything in it is promised."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from sessiond.clock import Clock
from sessiond.storage.directory import DATABASE_NAME, DataDirectory
from sessiond.storage.disk import Disk
from tests.simulation.machine import Machine
from tests.simulation.suites import empty_disk, quietly
from tests.simulation.test_repairs import START


class WatchedDisk(Disk):
    """A real disk that tells which directories were synced before there was a database."""

    def __init__(self, path: Path) -> None:
        self._database = path / DATABASE_NAME
        self.synced: list[Path] = []

    def sync_directory(self, path: Path) -> None:
        """As above."""
        if self.file_size(self._database) is None:
            self.synced.append(path)
        super().sync_directory(path)


def test_the_names_of_a_new_directory_and_of_those_above_it_are_synced_before_there_is_a_database(
    tmp_path: Path,
) -> None:
    path = tmp_path / "share" / "sessiond"
    path.mkdir(mode=0o700, parents=True)
    disk = WatchedDisk(path)

    DataDirectory.open(path, Clock(), disk).close()
    assert disk.synced[:3] == [path.parent, tmp_path, tmp_path.parent]

    disk.synced.clear()
    DataDirectory.open(path, Clock(), disk).close()
    assert disk.synced == []


@pytest.mark.parametrize(("lacking", "everything"), [(os.W_OK, []), (os.R_OK, ["synced"])])
def test_a_directory_above_that_may_not_be_written_or_read_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: int, everything: list[str]
) -> None:
    found: list[str] = []
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path.parent or mode != lacking)
    monkeypatch.setattr(os, "sync", lambda: found.append("synced"))
    disk = WatchedDisk(tmp_path)

    DataDirectory.open(tmp_path, Clock(), disk).close()

    assert tmp_path.parent not in disk.synced
    assert tmp_path.parent.parent in disk.synced
    assert found == everything


def test_a_power_cut_right_after_the_first_answer_does_not_take_the_directory_with_it() -> None:
    with quietly():
        machine = Machine(empty_disk())
        machine.commit([START])

        for seed in range(9):
            after = Machine(machine.disk.after_power_cut(Random(seed)))
            assert after.directory.recovery.counters.keys() <= {
                "files_recreated",
                "tails_completed",
                "torn_tails_rewritten",
            }
            assert len(after.directory.files.ulids()) == 1
            after.kill()
        machine.kill()
