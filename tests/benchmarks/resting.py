"""A daemon that has nothing to do: how soon it is there, what it holds in memory, how often it wakes up."""

from __future__ import annotations

import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path

from sessiond.storage.directory import INDEX_NAME
from tests.benchmarks.measured import Measured, times
from tests.peer import Peer
from tests.running import RunningDaemon

START_MS_MAX = 300.0
IDLE_MB_MAX = 45.0
WAKE_UPS_MAX = 0.0
"""There is no watchdog here, whose wake-ups would be allowed."""

DESCRIPTORS_SPARE = 100


def starts(daemon: RunningDaemon, runs: int) -> list[Measured]:
    """From starting the process to its READY, after it was stopped in order."""
    taken = []
    for _ in range(runs):
        daemon.stop()
        began = time.perf_counter()
        daemon.start()
        taken.append(time.perf_counter() - began)
    return times("clean start", taken, START_MS_MAX)


def megabytes(daemon: RunningDaemon) -> float:
    """Its resident memory."""
    return round(daemon.memory_mib() * 1.048576, 1)


def wake_ups(daemon: RunningDaemon) -> int:
    """How often its threads have been switched to so far."""
    count = 0
    for thread in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                count += int(line.split()[1])
    return count


def idle(daemon: RunningDaemon, seconds: float) -> list[Measured]:
    """A daemon that was just started, and has asked nobody anything for a while before it is measured."""
    with Peer(daemon.socket) as peer:
        peer.call("ping")
    time.sleep(seconds)
    memory = megabytes(daemon)
    before = wake_ups(daemon)
    time.sleep(seconds)
    return [
        Measured("memory when idle", memory, "MB", IDLE_MB_MAX),
        Measured(
            "wake-ups when idle", round((wake_ups(daemon) - before) / seconds, 3), "per s", WAKE_UPS_MAX
        ),
    ]


def connected(daemon: RunningDaemon, connections: int) -> list[Measured]:
    """With so many connections, each of which has asked for something."""
    _allow_descriptors(connections + DESCRIPTORS_SPARE)
    with ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(Peer(daemon.socket)).call("ping")
        return [Measured(f"memory with {connections} connections", megabytes(daemon), "MB")]


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def sizes(daemon: RunningDaemon, events: int) -> list[Measured]:
    """Bytes on disk an event; the daemon is stopped meanwhile, so that its logs are in the databases."""
    daemon.stop()
    found = {
        "database": _allocated(daemon.data_dir / "sessiond.db"),
        "search index": _allocated(daemon.data_dir / INDEX_NAME),
        "files": sum(_allocated(path) for path in (daemon.data_dir / "sessions").rglob("*")),
    }
    daemon.start()
    return [Measured(f"on disk, {name}", round(size / events, 1), "B/event") for name, size in found.items()]


def _allocated(path: Path) -> int:
    return os.stat(path).st_blocks * 512


def stored_bytes(directory: Path) -> int:
    """What a data directory takes up on the disk."""
    return sum(_allocated(path) for path in directory.rglob("*") if path.exists())
