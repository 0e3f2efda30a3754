"""Recording for long: one daemon, many events, and after each round a look at its memory and its log.

The one rule: what it is judged by is taken from the second half, when everything that fills up once is full.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measured import Measured
from tests.benchmarks.resting import megabytes
from tests.benchmarks.rounds import Progress
from tests.benchmarks.sides.sessiond import DaemonSide
from tests.benchmarks.sides.side import require_count
from tests.benchmarks.slow_sync import SlowSync
from tests.benchmarks.team import Team
from tests.peer import Peer

BYTES_PER_EVENT = 900
"""Database, search index and file of an event of 180 bytes, generously, to see whether there is room."""

MEMORY_GROWTH_MOST = 1.1
LOG_GROWTH_MOST = 1.5
"""Of the last quarter compared with the one before it."""

SAMPLES_MIN = 8

Play = Callable[[DaemonSide, Team, float], tuple[float, int]]


class Sample(NamedTuple):
    """After a round: events stored so far, the round's rate, resident memory, size of SQLite's log."""

    events: int
    rate: float
    memory_mb: float
    log_mb: float


def soak(
    directory: Path, team: Team, events: int, seconds: float, play: Play, progress: Progress
) -> list[Measured]:
    """Rounds until so many events are stored, each counted and indexed; then the verdict."""
    side = DaemonSide(directory / "soak", SlowSync())
    log = side.daemon.data_dir / "sessiond.db-wal"
    samples: list[Sample] = []
    stored = 0
    try:
        while stored < events or len(samples) < SAMPLES_MIN:
            rate, more = play(side, team, seconds)
            stored += more
            log_mb = log.stat().st_size / 1e6 if log.exists() else 0.0
            samples.append(Sample(stored, rate, megabytes(side.daemon), log_mb))
            progress(f"{stored} of {events} events, {rate:,.0f}/s, {samples[-1].memory_mb} MB of memory")
        with Peer(side.daemon.socket) as peer:
            require_count("the daemon has in all", peer.call("stats")["events"], stored)
    finally:
        side.close()
    return verdict(samples)


def verdict(samples: list[Sample]) -> list[Measured]:
    """The last quarter beside the one before it."""
    quarter = len(samples) // 4
    before, last = samples[-2 * quarter : -quarter], samples[-quarter:]

    def grown(number: int, take: Callable[[list[float]], float]) -> float:
        earlier = take([sample[number] for sample in before])
        return round(take([sample[number] for sample in last]) / earlier, 3) if earlier else 0.0

    return [
        Measured("soak: events stored and counted", samples[-1].events, "events"),
        Measured("soak: rate, median", round(statistics.median(each.rate for each in samples)), "events/s"),
        Measured("soak: rate, last quarter to the one before", grown(1, statistics.median), "times"),
        Measured("soak: memory, first sample", samples[0].memory_mb, "MB"),
        Measured("soak: memory, most", max(each.memory_mb for each in samples), "MB"),
        Measured(
            "soak: memory, last quarter to the one before",
            grown(2, statistics.median),
            "times",
            MEMORY_GROWTH_MOST,
        ),
        Measured("soak: log, most", round(max(each.log_mb for each in samples), 1), "MB"),
        Measured("soak: log, last quarter to the one before", grown(3, max), "times", LOG_GROWTH_MOST),
    ]
