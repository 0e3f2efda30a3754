"""Rounds of all sides in turn, because the speed of a machine swings from minute to minute.

The one rule: a ratio is that of two figures of the same round; the first round warms up and is not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.servers import ServerFailed
from tests.benchmarks.sides import NAMES, load
from tests.benchmarks.sides.side import CountsDiffer, Missing, NotDurable, Side
from tests.benchmarks.slow_sync import SlowSync
from tests.benchmarks.team import Team, WorkFailed
from tests.benchmarks.work import Done
from tests.benchmarks.workloads import Workload

ROUND_SECONDS_MAX = 2.0
PROBE_MICROSECONDS = 20_000
OURS = NAMES[0]

FINDINGS = (CountsDiffer, NotDurable, WorkFailed, Missing, ServerFailed)
"""What leaves a side out instead of ending the run."""

Progress = Callable[[str], None]


def figure(workload: Workload, done: Sequence[Done], begin: float) -> float:
    """Events per second until the last one was durable, or the median time of an append in microseconds."""
    if workload.latency:
        return statistics.median(each.p50 for each in done) * 1e6
    return sum(sum(each.counts) for each in done) / (max(each.ended for each in done) - begin)


class Playing:
    """One side of one workload: its store, its processes, and the figures so far."""

    def __init__(self, side: Side, team: Team, workload: Workload) -> None:
        self.side = side
        self._team = team
        self._workload = workload
        self._processes = side.processes(workload)
        self.figures: dict[int, float] = {}
        self.reads: dict[int, float] = {}

    def play(self, number: int, seconds: float) -> None:
        """One round. Raises CountsDiffer or WorkFailed."""
        workload = self._workload
        sessions = self.side.open_sessions(workload.session_count)
        done, begin = self._team.run(workload, sessions, self._processes, seconds)
        recorded = done[: self._processes]
        readers = done[self._processes : self._processes + workload.readers]
        counts = [count for each in recorded for count in each.counts]
        for follower, count in zip(done[self._processes + workload.readers :], counts, strict=False):
            if follower.counts != [count]:
                raise CountsDiffer(f"a follower saw {follower.counts[0]}, acknowledged were {count}")
        self.side.settle(sessions, counts)
        self.figures[number] = figure(workload, recorded, begin)
        if readers:
            reads = sum(sum(each.counts) for each in readers)
            self.reads[number] = reads / (max(each.ended for each in readers) - begin)


def measure(
    workload: Workload,
    teams: Mapping[str, Team],
    place: Path,
    slow_sync: SlowSync,
    rounds: int,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """The summary of each side, and why others have none."""
    left_out: dict[str, str] = {}
    playing: dict[str, Playing] = {}
    with ExitStack() as stack:
        for name, team in teams.items():
            kind = load(name)
            reason = kind.unable(workload)
            if reason is not None:
                left_out[name] = reason
                continue
            progress(f"{workload.name}: starting {name}")
            try:
                side = kind(place / f"{workload.name}-{name}", slow_sync)
                stack.callback(side.close)
                team.connect(side.address)
                playing[name] = Playing(side, team, workload)
            except FINDINGS as error:
                left_out[name] = str(error)
        for number in range(rounds + 1):
            names = [*playing]
            turn = number % max(1, len(names))
            for name in names[turn:] + names[:turn]:
                progress(f"{workload.name}: round {number} of {rounds}, {name}")
                try:
                    playing[name].play(number, seconds)
                except FINDINGS as error:
                    left_out[name] = str(error)
                    del playing[name]
    sides = {name: summary(each, playing.get(OURS), workload) for name, each in playing.items()}
    return {"title": workload.title, "unit": workload.unit, "sides": sides, "left out": left_out}


def summary(side: Playing, ours: Playing | None, workload: Workload) -> dict[str, Any]:
    """Medians and spread. The ratio is how many times as fast ours is: above 1, ours is faster."""
    figures = {number: each for number, each in side.figures.items() if number}
    found: dict[str, Any] = {
        "figure": round(statistics.median(figures.values()), 1),
        "least": round(min(figures.values()), 1),
        "most": round(max(figures.values()), 1),
        "rounds": len(figures),
    }
    if side.reads:
        found["reads per second"] = round(statistics.median(side.reads.values()), 1)
    if ours is not None and ours is not side:
        found |= spread([faster(ours.figures[n], each, workload) for n, each in figures.items()])
    return found


def faster(ours: float, other: float, workload: Workload) -> float:
    """How many times as fast the first figure is."""
    return other / ours if workload.latency else ours / other


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """The median of the ratios, and between what they lie."""
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def examine(name: str, place: Path, probe: SlowSync | None) -> dict[str, str]:
    """What a side is and how durable, as it says itself and as a probe shows.

    Raises Missing, ServerFailed, or NotDurable if an append is acknowledged sooner than a sync can be done.
    """
    kind = load(name)
    kind.require()
    side = kind(place / f"probe-{name}", probe or SlowSync())
    try:
        found = {"title": kind.title, "version": side.version(), "durability": side.durability()}
        if probe is not None:
            found["probe"] = f"an append takes {probe_append(side, probe) * 1000:.1f} ms where a sync takes "
            found["probe"] += f"{probe.delay / 1000:.0f} ms"
        return found
    finally:
        side.close()


def probe_append(side: Side, probe: SlowSync) -> float:
    """The shortest time of an append, in seconds. Raises NotDurable."""
    workload = Workload("probe", "", 1, 1)
    team = Team(side.name, 1, probe.environ if side.writes_itself else None)
    try:
        team.connect(side.address)
        sessions = side.open_sessions(1)
        (done,), _ = team.run(workload, sessions, 1, 4 * probe.delay / 1e6)
        side.settle(sessions, done.counts)
    finally:
        team.close()
    if done.least * 1e6 < probe.delay:
        raise NotDurable(f"an append takes {done.least * 1e6:.0f} us where a sync takes {probe.delay} us")
    return done.least
