"""ext4 and xfs stopped under load, as a power cut does it: what was acknowledged before is there afterwards.

Only acknowledgements that were read before the cut began are binding: a sync that is under way in that moment
may still return.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.checker import check, lines_in_database
from tests.crash.mounts import LoopDisk, loop_disk
from tests.peer import Peer
from tests.running import Process, RunningDaemon, launch

CLIENTS = 4
ACKNOWLEDGED_BEFORE_CUT = 40
CYCLES = {"ext4": 4, "xfs": 2}
SOAK_CYCLES = {"ext4": 500, "xfs": 200}
CONTROL_CYCLES_MAX = 20
JOIN_SECONDS_MAX = 30


class UnsyncedDaemon(RunningDaemon):
    """One whose database is not synced at each commit."""

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> Process:
        """Start it through the launcher."""
        return launch([sys.executable, "-m", "tests.crash.launching", "normal", "serve"], environ, log)


class Load:
    """A client in a thread: what it sent, what was acknowledged, and when."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._peer = daemon.peer()
        self.session = self._peer.start(owner_pid=0)
        self.acknowledged: list[tuple[float, int, str]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                text = f"event {len(self.acknowledged)}"
                reply = self._peer.append(self.session, text)
                if reply["type"] != "appended":
                    return
                self.acknowledged.append((time.monotonic(), reply["first"], text))
        except (EOFError, OSError):
            return

    def join(self) -> None:
        """Wait for its end, which the daemon's brings about."""
        self._thread.join(JOIN_SECONDS_MAX)
        assert not self._thread.is_alive()


def cut_under_load(daemon: RunningDaemon, disk: LoopDisk) -> tuple[float, list[Load]]:
    """Append from several clients, then stop the file system and kill the daemon; when the cut began."""
    loads = [Load(daemon) for _ in range(CLIENTS)]
    end = time.monotonic() + JOIN_SECONDS_MAX
    while min(len(load.acknowledged) for load in loads) < ACKNOWLEDGED_BEFORE_CUT:
        assert time.monotonic() < end
    began = time.monotonic()
    disk.cut()
    daemon.kill()
    for load in loads:
        load.join()
    daemon.close_peers()
    disk.unmount()
    disk.mount()
    (daemon.home / "run" / "sessiond" / "storage-failures").unlink(missing_ok=True)
    return began, loads


def lost(daemon: RunningDaemon, began: float, loads: list[Load]) -> list[str]:
    """What had been acknowledged when the cut began and is not stored at its place."""
    stored = lines_in_database(daemon.data_dir)
    return [
        f"{load.session} {seq}"
        for load in loads
        for moment, seq, text in load.acknowledged
        if moment < began
        and f'"text":"{text}"'.encode() not in b"".join(stored.get(load.session, [])[seq : seq + 1])
    ]


def cycle(home: Path, kind: str, cycles: int) -> int:
    """Cut the power again and again; how many acknowledgements were binding. Fails if one is lost."""
    binding = 0
    with loop_disk(home, kind) as disk:
        daemon = RunningDaemon(home)
        try:
            for _ in range(cycles):
                began, loads = cut_under_load(daemon, disk)
                daemon.start()
                with Peer(daemon.socket) as peer:
                    while peer.call("status")["lagging_files"]:
                        pass
                check(daemon.data_dir)
                assert lost(daemon, began, loads) == []
                binding += sum(moment < began for load in loads for moment, _, _ in load.acknowledged)
        finally:
            daemon.kill()
            daemon.close_peers()
    return binding


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_loses_nothing_that_was_acknowledged(home: Path, kind: str) -> None:
    assert cycle(home, kind, CYCLES[kind]) >= CYCLES[kind] * CLIENTS * ACKNOWLEDGED_BEFORE_CUT


@pytest.mark.parametrize("kind", ["ext4"])
def test_the_same_cuts_find_what_a_daemon_loses_that_does_not_sync(home: Path, kind: str) -> None:
    found = 0
    with loop_disk(home, kind) as disk:
        daemon = UnsyncedDaemon(home)
        try:
            for _ in range(CONTROL_CYCLES_MAX):
                began, loads = cut_under_load(daemon, disk)
                daemon.start()
                found = len(lost(daemon, began, loads))
                if found:
                    break
        finally:
            daemon.kill()
            daemon.close_peers()

    assert found > 0


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_hundreds_of_power_cuts_lose_nothing_that_was_acknowledged(home: Path, kind: str) -> None:
    sys.stdout.write(f"{cycle(home, kind, SOAK_CYCLES[kind])} binding acknowledgements\n")
