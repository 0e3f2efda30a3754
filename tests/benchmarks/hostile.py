"""What a healthy client feels of hostile ones: its waiting times undisturbed, and beside them.

    python -m tests.benchmarks.hostile

One client appends and waits for each reply, alone; then while another process makes hostile connections, one
after the other, as fast as it can. Rounds in turn, so that a machine that slows down slows both.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from tests.daemon.test_hostile_peers import HOSTILE_LINES, SEED, WAYS, approach
from tests.peer import Peer
from tests.running import RunningDaemon

ROUNDS = 5
APPENDS = 1000
FACTOR_MAX = 5.0
"""The goal: the 99th percentile beside hostile peers, at most so many times the undisturbed one."""


def waiting_times(path: Path) -> list[float]:
    """Seconds that each of the appends took."""
    times = []
    with Peer(path) as peer:
        session = peer.start(owner_pid=0)
        for number in range(APPENDS):
            began = time.perf_counter()
            assert peer.append(session, f"text {number}")["first"] == number
            times.append(time.perf_counter() - began)
    return times


def harass(path: Path, stop: Event, made: Queue[int]) -> None:
    """Make hostile connections until told to stop."""
    dice = random.Random(SEED)
    count = 0
    while not stop.is_set():
        approach(path, dice.choice(HOSTILE_LINES), dice.choice(WAYS))
        count += 1
    made.put(count)


def beside_hostile_peers(path: Path) -> tuple[list[float], int]:
    """The same waiting times, and how many hostile connections there were meanwhile."""
    stop = multiprocessing.Event()
    made: Queue[int] = multiprocessing.Queue()
    hostile = multiprocessing.Process(target=harass, args=(path, stop, made))
    hostile.start()
    times = waiting_times(path)
    stop.set()
    count = made.get()
    hostile.join()
    return times, count


def p99(times: list[float]) -> float:
    """The 99th percentile in milliseconds."""
    return 1000 * statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Measure and print."""
    ratios, alone, beside, connections = [], [], [], 0
    with tempfile.TemporaryDirectory(prefix="sessiond-") as home:
        daemon = RunningDaemon(Path(home))
        waiting_times(daemon.socket)
        for _ in range(ROUNDS):
            alone.append(p99(waiting_times(daemon.socket)))
            times, count = beside_hostile_peers(daemon.socket)
            beside.append(p99(times))
            connections += count
            ratios.append(beside[-1] / alone[-1])
        daemon.kill()
    sys.stdout.write(
        f"p99 of an append, median of {ROUNDS} rounds: {statistics.median(alone):.2f} ms alone,"
        f" {statistics.median(beside):.2f} ms beside {connections} hostile connections;"
        f" factor {statistics.median(ratios):.1f} (goal: under {FACTOR_MAX:.0f})\n"
    )


if __name__ == "__main__":
    main()
