"""Failures of the disk are noted, counted and forgotten."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import apsw
import pytest

from sessiond import config, daemon
from sessiond.clock import Clock
from sessiond.errors import StartupRefused, StorageFailed
from sessiond.failures import (
    FAILURES_MAX,
    FILE_NAME,
    KEPT_MAX,
    NOTES_BYTES_MAX,
    WINDOW_SECONDS,
    Failures,
)
from tests.running import environ_for


class SetClock(Clock):
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> int:
        return int(self.seconds * 1_000_000)


DATA = Path("/data")


def fail(failures: Failures, clock: SetClock, *seconds: float) -> None:
    for moment in seconds:
        clock.seconds = moment
        failures.note(f"at {moment}")


def test_the_third_failure_within_a_minute_is_one_too_many(tmp_path: Path) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)

    for number in range(FAILURES_MAX):
        assert failures.too_many() is None
        fail(failures, clock, 1000.0 + number)

    found = failures.too_many()
    assert found is not None
    assert (found.at, found.reason) == (1_002_000_000, "at 1002.0")


def test_failures_further_apart_never_add_up(tmp_path: Path) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)

    for number in range(20):
        fail(failures, clock, 1000.0 + number * (WINDOW_SECONDS / (FAILURES_MAX - 1) + 1))

        assert failures.too_many() is None


def test_after_a_minute_the_disk_is_tried_again(tmp_path: Path) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)
    fail(failures, clock, 1000.0, 1001.0, 1002.0)

    clock.seconds = 1000.0 + WINDOW_SECONDS + 0.001

    assert failures.too_many() is None


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_jumps_makes_the_disk_be_tried_again(tmp_path: Path, jump: float) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)
    fail(failures, clock, 10_000.0, 10_001.0, 10_002.0)

    clock.seconds += jump

    assert failures.too_many() is None


def test_the_failures_under_other_data_do_not_count(tmp_path: Path) -> None:
    clock = SetClock()
    fail(Failures(tmp_path, Path("/other"), clock), clock, 1.0, 2.0, 3.0)
    fail(Failures(tmp_path, DATA, clock), clock, 4.0, 5.0)

    assert Failures(tmp_path, DATA, clock).too_many() is None
    assert Failures(tmp_path, Path("/other"), clock).too_many() is not None


def test_the_notes_stay_few_and_private(tmp_path: Path) -> None:
    clock = SetClock()
    failures = Failures(tmp_path / "made", DATA, clock)
    fail(failures, clock, *[1.0] * (KEPT_MAX + 10))

    assert len(failures.path.read_bytes().splitlines()) == KEPT_MAX
    assert stat.S_IMODE(failures.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(failures.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in failures.path.parent.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\xfe\n", b"[" * 10_000 + b"\n", b'{"at":"x"}\n'])
def test_notes_that_cannot_be_read_count_for_nothing(tmp_path: Path, content: bytes) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)
    failures.path.write_bytes(content)

    assert failures.too_many() is None
    fail(failures, clock, 1.0, 2.0, 3.0)
    assert failures.too_many() is not None


def test_notes_that_are_longer_than_ours_can_be_are_not_read(tmp_path: Path) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)
    fail(failures, clock, 1.0, 2.0, 3.0)
    notes = failures.path.read_bytes()
    failures.path.write_bytes(notes * (NOTES_BYTES_MAX // len(notes) + 1))

    assert failures.too_many() is None
    fail(failures, clock, 1.0, 2.0, 3.0)
    assert failures.too_many() is not None


def test_notes_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    failures = Failures(tmp_path, DATA, SetClock())
    os.mkfifo(failures.path, 0o600)
    writer = os.open(failures.path, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b"{}\n")

    assert failures.too_many() is None
    assert os.read(writer, 100) == b"{}\n"  # nobody else has

    os.close(writer)


def test_the_longest_notes_there_can_be_are_read(tmp_path: Path) -> None:
    clock = SetClock()
    failures = Failures(tmp_path, Path("/" + "\x01" * 4095), clock)

    for _ in range(KEPT_MAX):
        failures.note("\x01" * 100_000)

    assert len(failures.path.read_bytes().splitlines()) == KEPT_MAX


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.EROFS, "read-only file system"), True),
        (OSError(errno.ENAMETOOLONG, "file name too long"), False),
        (IsADirectoryError(errno.EISDIR, "is a directory"), False),
        (apsw.IOError("disk I/O error"), True),
        (OSError(errno.ENOSPC, "no space left on device"), False),
        (apsw.FullError("database or disk is full"), False),
        (apsw.ConstraintError("UNIQUE constraint failed"), False),
    ],
)
@pytest.mark.parametrize("at_start", [True, False])
def test_only_what_speaks_of_the_disk_counts(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, counts: bool, at_start: bool
) -> None:
    def fails(*_: object) -> int:
        if at_start:
            raise StartupRefused("the disk", "see to it", 70) from error
        raise StorageFailed("opening", error)

    monkeypatch.setattr(daemon, "_serve", fails)
    monkeypatch.setattr(daemon, "_limit_resources", lambda: None)
    loaded = config.load(environ_for(home), None, None)
    umask = os.umask(0o077)

    with pytest.raises((StorageFailed, StartupRefused)):
        daemon.serve(loaded)

    os.umask(umask)
    assert (loaded.socket_path.parent / FILE_NAME).exists() == counts


def test_notes_that_somebody_planted_as_a_link_are_not_followed(tmp_path: Path) -> None:
    clock = SetClock()
    planted = Failures(tmp_path / "elsewhere", DATA, clock)
    fail(planted, clock, 1.0, 2.0, 3.0)
    failures = Failures(tmp_path, DATA, clock)
    failures.path.symlink_to(planted.path)

    assert failures.too_many() is None


def test_notes_of_another_user_count_for_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    clock = SetClock()
    failures = Failures(tmp_path, DATA, clock)
    fail(failures, clock, 1.0, 2.0, 3.0)

    os.chown(failures.path, 65534, 65534)

    assert failures.too_many() is None
