"""A disk that is full: refused without loss, and on again by itself once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sessiond.failures import FAILURES_MAX
from tests.checker import check, texts
from tests.running import RunningDaemon

DISK_BYTES = 3 * 1024 * 1024
BALLAST_BYTES = 800 * 1024


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A file system of three megabytes where the data go, with some ballast on it to remove."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    disk = home / "data"
    disk.mkdir(mode=0o700)
    options = f"size={DISK_BYTES},mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    (disk / "ballast").write_bytes(b"\0" * BALLAST_BYTES)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_refuses_without_loss_and_goes_on_once_there_is_room(
    small_disk: Path, home: Path
) -> None:
    daemon = RunningDaemon(home)
    try:
        peer = daemon.peer()
        session = peer.start(owner_pid=0)
        stored: list[str] = []
        while True:
            text = f"{len(stored)} " + "x" * 1000
            reply = peer.append(session, text)
            if reply["type"] == "error":
                break
            stored.append(text)
        assert reply["code"] == "disk_full"
        assert peer.call("status")["refusing"] == "disk_full"
        assert peer.call("count", session=session)["events"] == len(stored)

        (small_disk / "ballast").unlink()

        assert peer.append(session, "there is room")["first"] == len(stored)
        assert peer.call("status")["refusing"] is None
        while peer.call("status")["lagging_files"]:
            pass
        assert peer.call("end", session=session)["type"] == "ended"
        check(daemon.data_dir)
        assert texts(daemon.data_dir, session) == [*stored, "there is room"]
        assert daemon.process.poll() is None
    finally:
        daemon.close_peers()
        daemon.kill()


def test_a_daemon_that_has_no_room_to_start_in_reads_and_says_what_to_do(
    small_disk: Path, home: Path
) -> None:
    daemon = RunningDaemon(home)
    try:
        with daemon.peer() as peer:
            session = peer.start(owner_pid=0)
            peer.append(session, "before")
        assert daemon.stop() == 0
        filling = small_disk / "filling"
        with suppress(OSError), filling.open("wb", buffering=0) as file:
            while True:
                file.write(b"\1" * 1024)
        mend = [sys.executable, "-P", "-m", "sessiond", "rebuild", "--mend"]
        mended = subprocess.run(mend, env=daemon.environ, cwd="/", capture_output=True, text=True)
        assert (mended.returncode, mended.stderr) == (
            70,
            f"sessiond: the disk of {daemon.data_dir} is full; free some space\n",
        )

        for _ in range(FAILURES_MAX + 1):
            daemon.start()
            with daemon.peer() as peer:
                (event,) = peer.call("read", session=session)["events"]
                refused = peer.append(session, "after")
                status = peer.call("status")
            assert daemon.stop() == 0

        assert event["text"] == "before"
        assert refused["code"] == "read_only"
        assert refused["hint"].startswith("free some space; the daemon tries it again every 60 s")
        assert status["read_only"] == f"the disk of {daemon.data_dir} is full"
        filling.unlink()
        daemon.start()
        assert daemon.peer().append(session, "after")["first"] == 1
    finally:
        daemon.close_peers()
        daemon.kill()
