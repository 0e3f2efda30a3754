"""`sessionctl record` where the daemon cannot store: the command runs, its recording waits in the spool."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.checker import check
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.crash.mounts import memory_disk
from tests.running import RunningDaemon

MEMORY_BYTES = 8 * 1024 * 1024
LINES = 300
WAIT_SECONDS_MAX = 60

WRITER = f"for i in range({LINES}): print(i, '.' * 3000, flush=True)"
"""More than a log of SQLite has room for where the disk is full."""


@contextmanager
def full(daemon: RunningDaemon) -> Iterator[None]:
    """The disk of its data without any room, also in the files that the daemon has there already."""
    peer = daemon.peer()
    session = peer.start(name="greedy", owner_pid=0)
    ballast = daemon.data_dir.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\1" * 4096):
            pass
    while peer.append(session, "x")["type"] == "appended":
        pass
    yield
    ballast.unlink()


def taken_over(sessionctl: Sessionctl, spool: Path) -> dict[str, Any]:
    """The one session there is, once nothing waits."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while list(spool.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sessions = [session for session in sessionctl.json("list") if session["name"] != "greedy"]
    assert len(sessions) == 1
    return dict(sessions[0])


def written(lines: int = LINES) -> bytes:
    return b"go\r\n" + b"".join(b"%d %s\r\n" % (number, b"." * 3000) for number in range(lines))


def test_without_a_daemon_the_command_is_run_and_its_recording_is_there_once_one_comes(
    alone: Sessionctl, spool: Path, start_daemon: Callable[[], RunningDaemon]
) -> None:
    result = alone("record", "-n", "away", "--", "sh", "-c", "echo one; echo two; exit 5")

    assert (result.returncode, result.stdout) == (5, b"one\r\ntwo\r\n")
    first, last = result.stderr.decode().splitlines()
    assert "no daemon answers" in first
    assert f"is kept in {spool}, and the daemon takes it over" in first
    assert "recorded as away" in last
    assert f"they are in {spool}" in last
    daemon = start_daemon()
    session = taken_over(alone, spool)
    assert session["ulid"] in first
    assert (session["name"], session["status"], session["exit_code"]) == ("away", "completed", 5)
    assert alone.output_bytes() == b"one\r\ntwo\r\n"
    check(daemon.data_dir)


def test_a_daemon_that_comes_while_the_command_runs_takes_it_all(
    alone: Sessionctl, spool: Path, home: Path, start_daemon: Callable[[], RunningDaemon]
) -> None:
    gate = home / "gate"
    recorder = subprocess.Popen(
        [
            *SESSIONCTL,
            "record",
            "--",
            "sh",
            "-c",
            f"echo one; until [ -e {gate} ]; do sleep .05; done; exit 5",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=alone.environ,
    )
    with recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == b"one\r\n"
        start_daemon()
        while not alone.json("list"):
            pass
        gate.touch()
        _, complaints = recorder.communicate(timeout=WAIT_SECONDS_MAX)

    assert recorder.returncode == 5
    assert complaints.count(b"\n") == 1  # that it began without one
    session = taken_over(alone, spool)
    assert (session["status"], session["exit_code"]) == ("completed", 5)
    assert alone.output_bytes() == b"one\r\n"


def test_where_nothing_can_be_kept_either_the_command_is_not_run(
    alone: Sessionctl, spool: Path, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    spool.mkdir(parents=True)
    spool.chmod(0o755)

    result = alone("record", "--", "touch", str(witness))

    assert result.returncode == 3
    assert result.stderr.count(b"\n") == 1
    assert f"chmod 700 {spool}".encode() in result.stderr
    assert result.stderr.endswith(b"; the command was not run\n")
    assert not witness.exists()


@pytest.fixture
def daemon_on_a_small_disk(home: Path) -> Iterator[RunningDaemon]:
    """Its data are on a disk of their own; the spool is not."""
    with memory_disk(home, MEMORY_BYTES):
        daemon = RunningDaemon(home)
        yield daemon
        daemon.close_peers()
        daemon.kill()


def recording(environ: dict[str, str], gate: Path) -> subprocess.Popen[bytes]:
    """A command that is recorded: it says `go`, waits for the gate, writes a lot and ends with 5."""
    program = f"""if True:
        import os, time
        print("go", flush=True)
        while not os.path.exists({str(gate)!r}):
            time.sleep(.02)
        {WRITER}
        raise SystemExit(5)"""
    shown = gate.with_name("shown")
    with shown.open("wb") as output:
        recorder = subprocess.Popen(
            [*SESSIONCTL, "record", "--", sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env=environ,
        )
    while shown.read_bytes() != b"go\r\n":
        assert recorder.poll() is None
    return recorder


@pytest.mark.parametrize("begins_full", [False, True])
def test_on_a_full_disk_the_end_comes_after_the_events_and_neither_is_lost(
    daemon_on_a_small_disk: RunningDaemon, spool: Path, home: Path, begins_full: bool
) -> None:
    daemon, gate = daemon_on_a_small_disk, home / "gate"
    with ExitStack() as stack:
        if not begins_full:
            recorder = stack.enter_context(recording(daemon.environ, gate))
        stack.enter_context(full(daemon))
        if begins_full:
            recorder = stack.enter_context(recording(daemon.environ, gate))
        gate.touch()
        _, complaints = recorder.communicate(timeout=WAIT_SECONDS_MAX)

    lines = complaints.decode().splitlines()
    assert recorder.returncode == 5
    assert gate.with_name("shown").read_bytes() == written()
    assert ("the disk is full; session" in lines[0], len(lines)) == (begins_full, 1 + begins_full)
    assert f"they are in {spool}" in lines[-1]
    assert lines[-1].endswith("takes them over once it can store again")
    assert "nothing was stored" not in complaints.decode()
    sessionctl = Sessionctl(daemon.environ)
    session = taken_over(sessionctl, spool)
    assert (session["status"], session["exit_code"]) == ("completed", 5)
    assert sessionctl.output_bytes(session["ulid"]) == written()
    assert daemon.stop() == 0
    check(daemon.data_dir)


def test_where_the_spool_is_on_the_full_disk_too_room_is_waited_for(
    daemon_on_a_small_disk: RunningDaemon, spool: Path, home: Path
) -> None:
    daemon, gate = daemon_on_a_small_disk, home / "gate"
    (daemon.data_dir.parent / "state").mkdir(mode=0o700)
    (home / "state").symlink_to(daemon.data_dir.parent / "state")
    sessionctl = Sessionctl(daemon.environ)
    with recording(sessionctl.environ, gate) as recorder:
        with full(daemon):
            gate.touch()
            assert recorder.stderr is not None
            told = recorder.stderr.readline().decode()
        _, complaints = recorder.communicate(timeout=WAIT_SECONDS_MAX)

    assert "the disk is full" in told
    assert "Ctrl-C gives it up" in told
    assert (recorder.returncode, b"lost" in complaints) == (5, False)
    session = taken_over(sessionctl, spool)
    assert (session["status"], session["exit_code"]) == ("completed", 5)
    assert sessionctl.output_bytes(session["ulid"]) == written()
