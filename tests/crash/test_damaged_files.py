"""Every byte of a session file, flipped or cut off: a check finds it, and what it promised mends it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.storage.directory import DataDirectory
from sessiond.storage.repair.mending import Mending
from sessiond_client.wire.messages import Fault
from tests import checker
from tests.crash.damaged import OPEN, SEALED, faults, make, opened, quarantined

FLIPS = (0x01, 0x80)
"""One makes another letter of it, the other what is no UTF-8."""

START = "the next start"
MEND = "sessiond rebuild --session"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory where there is one: thousands of files are synced, and no disk is cut off."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture
def path(place: Path) -> Iterator[Path]:
    """A data directory whose sessions are known to be on disk; sound again when the test is over."""
    make(place / "data")
    assert faults(place / "data") == []
    yield place / "data"
    checker.check(place / "data")
    assert faults(place / "data") == []


@pytest.fixture
def unsynced(place: Path) -> Iterator[Path]:
    """One whose open session is not known to be on disk; sound again when the test is over."""
    make(place / "data", synced=False)
    yield place / "data"
    checker.check(place / "data")
    assert faults(place / "data") == []


def file_of(path: Path, ulid: str) -> Path:
    return path / "sessions" / f"{ulid}.ndjson"


def flips(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """The content with each byte flipped in turn."""
    for offset in range(len(whole)):
        for flip in FLIPS:
            yield offset, whole[:offset] + bytes([whole[offset] ^ flip]) + whole[offset + 1 :]


def only_fault(mending: Mending, ulid: str) -> Fault:
    """What a check of a session says, which must be one thing."""
    compared = mending.checking.compare(ulid)
    assert compared is not None
    (found,) = compared.faults
    return found


def start(directory: DataDirectory) -> None:
    """What a start does besides opening: the opening of a database takes longer than all of it."""
    directory.recovery.run()


def clear_quarantine(path: Path) -> None:
    for each in (path / "quarantine").iterdir():
        each.unlink()


@pytest.mark.parametrize("ulid", [SEALED, OPEN], ids=["sealed", "open"])
def test_a_flip_of_any_byte_is_found_and_mended_from_the_database(path: Path, ulid: str) -> None:
    file = file_of(path, ulid)
    whole = file.read_bytes()

    with opened(path) as (directory, _):
        mending = Mending(directory, Clock())
        for offset, damaged in flips(whole):
            file.write_bytes(damaged)

            found = only_fault(mending, ulid)
            assert found.path == str(file)
            assert found.offset == whole.rfind(b"\n", 0, offset) + 1, offset
            assert MEND in found.repair

            start(directory)
            assert file.read_bytes() == damaged, "a start does not look at what is known to be on disk"
            list(mending.sessions([ulid]))
            assert file.read_bytes() == whole
            assert quarantined(path) == [damaged]
            clear_quarantine(path)


def test_a_flip_of_any_byte_that_was_not_synced_is_found_and_mended_by_the_next_start(unsynced: Path) -> None:
    file = file_of(unsynced, OPEN)
    whole = file.read_bytes()

    with opened(unsynced) as (directory, _):
        mending = Mending(directory, Clock())
        for offset, damaged in flips(whole):
            file.write_bytes(damaged)
            directory.database.connection.execute("UPDATE session SET synced_bytes = 0, synced_seq = 0")

            found = only_fault(mending, OPEN)
            assert found.offset == whole.rfind(b"\n", 0, offset) + 1, offset
            assert START in found.repair

            start(directory)
            assert file.read_bytes() == whole
            (kept,) = quarantined(unsynced)
            assert damaged.endswith(kept)
            assert len(damaged) - len(kept) <= found.offset
            clear_quarantine(unsynced)


@pytest.mark.parametrize("ulid", [SEALED, OPEN], ids=["sealed", "open"])
def test_a_file_cut_anywhere_is_found_and_mended(path: Path, ulid: str) -> None:
    file = file_of(path, ulid)
    whole = file.read_bytes()

    with opened(path) as (directory, _):
        mending = Mending(directory, Clock())
        for size in range(len(whole)):
            os.truncate(file, size)

            found = only_fault(mending, ulid)
            assert (found.code, found.offset) == ("file_short", size)
            assert (START if ulid == OPEN else MEND) in found.repair

            if ulid == OPEN:
                start(directory)
            list(mending.sessions([ulid]))
            assert file.read_bytes() == whole
            assert quarantined(path) == [whole[:size]]
            clear_quarantine(path)


def test_a_file_cut_anywhere_behind_what_was_synced_is_completed_by_the_next_start(unsynced: Path) -> None:
    file = file_of(unsynced, OPEN)
    whole = file.read_bytes()

    with opened(unsynced) as (directory, _):
        mending = Mending(directory, Clock())
        for size in range(len(whole)):
            os.truncate(file, size)
            directory.database.connection.execute("UPDATE session SET synced_bytes = 0, synced_seq = 0")

            found = only_fault(mending, OPEN)
            assert (found.code, found.offset) == ("file_short", size)
            assert START in found.repair

            start(directory)
            assert file.read_bytes() == whole
            assert quarantined(unsynced) == []


@pytest.mark.parametrize("ulid", [SEALED, OPEN], ids=["sealed", "open"])
def test_what_stands_behind_the_end_is_found_and_kept(path: Path, ulid: str) -> None:
    file = file_of(path, ulid)
    whole = file.read_bytes()
    stray = b'{"type":"event","seq":9,"kind":"prompt","at":"2026-01-01T00:00:00.000000Z"}\n'
    file.write_bytes(whole + stray)

    (found,) = faults(path)
    assert (found.code, found.offset) == ("file_long", len(whole))
    with opened(path) as (directory, _):
        list(Mending(directory, Clock()).sessions([ulid]))

    assert file.read_bytes() == whole
    (kept,) = quarantined(path)
    assert kept.endswith(stray)
