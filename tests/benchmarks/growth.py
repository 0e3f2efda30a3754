"""What grows with use and what must not: throughput by sessions and by what is stored, memory, the log.

    python -m tests.benchmarks.growth [--sessions 1,100,10000] [--stores 0,1GB,5GB] [--rounds 5] [--seconds 1]
                                      [--soak-events 50000000] [--only sessions|stores|soak] [--dir DIR]
                                      [--json | --markdown]

Rounds alternate, and the ratios are those of one round, as in `python -m tests.benchmarks`. The soak records
with eight producers until so many events are stored, and ends with a verdict.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

from tests.benchmarks import machine, measured
from tests.benchmarks.measured import Measured
from tests.benchmarks.resting import megabytes, stored_bytes
from tests.benchmarks.rounds import ROUND_SECONDS_MAX, Progress, figure
from tests.benchmarks.sides.sessiond import DaemonSide
from tests.benchmarks.sides.side import require_count
from tests.benchmarks.slow_sync import SlowSync
from tests.benchmarks.soak import BYTES_PER_EVENT, soak
from tests.benchmarks.team import Team
from tests.benchmarks.workloads import WORKLOADS
from tests.peer import Peer

SAME = 0.8
"""The least ratio of two throughputs that counts as the same."""

MEMORY_MOST = 1.2
"""How much more memory a full store may take than an empty one that has recorded as much."""

FILL_SECONDS = 2.0
WORKLOAD = WORKLOADS["batches-8"]
PARTS = ("sessions", "stores", "soak")
_UNITS = {"": 1, "MB": 10**6, "GB": 10**9}


def size(text: str) -> int:
    """`0`, `500MB`, `5GB`. Raises ValueError."""
    found = re.fullmatch(r"(\d+)(MB|GB|)", text)
    if not found:
        raise ValueError(f"{text!r} is no size such as 500MB or 5GB")
    return int(found[1]) * _UNITS[found[2]]


def by_sessions(
    directory: Path, team: Team, counts: list[int], rounds: int, seconds: float, progress: Progress
) -> list[Measured]:
    """Eight producers in batches of 64, over so many open sessions in turn; one daemon has them all."""
    side = DaemonSide(directory / "sessions", SlowSync())
    try:
        team.connect(side.address)
        opened = {count: side.open_sessions(count) for count in counts}
        stored = {session: 0 for sessions in opened.values() for session in sessions}
        rates: dict[str, list[float]] = {str(count): [] for count in counts}
        for number in range(rounds + 1):
            for count in counts[number % len(counts) :] + counts[: number % len(counts)]:
                progress(f"{count} sessions, round {number} of {rounds}")
                share = -(-count // WORKLOAD.producers)
                dealt = [*islice(cycle(opened[count]), share * WORKLOAD.producers)]
                done, begin = team.run(WORKLOAD, dealt, WORKLOAD.producers, seconds)
                for session, events in zip(dealt, (n for each in done for n in each.counts), strict=True):
                    stored[session] += events
                if number:
                    rates[str(count)].append(figure(WORKLOAD, done, begin))
                side.indexed()
        _require_stored(side, stored)
    finally:
        side.close()
    return _compared("throughput with {} sessions", rates)


def _require_stored(side: DaemonSide, stored: dict[str, int]) -> None:
    with Peer(side.daemon.socket) as peer:
        for session, events in stored.items():
            require_count("the daemon counts", peer.call("count", session=session)["events"], events)


def by_store(
    directory: Path, team: Team, wanted: list[str], rounds: int, seconds: float, progress: Progress
) -> list[Measured]:
    """Eight producers in batches of 64, into stores that hold so much; a daemon for each.

    The daemons are started anew once their stores are filled, so that all have done as much when their
    memory is looked at.
    """
    with ExitStack() as stack:
        sides: dict[str, DaemonSide] = {}
        for name in wanted:
            sides[name] = DaemonSide(directory / f"store-{name}", SlowSync())
            stack.callback(sides[name].close)
            _fill(sides[name], team, size(name), progress)
        held = {name: stored_bytes(side.daemon.data_dir) / 1e9 for name, side in sides.items()}
        for side in sides.values():
            side.restart()
        rates: dict[str, list[float]] = {name: [] for name in wanted}
        for number in range(rounds + 1):
            for name in wanted[number % len(wanted) :] + wanted[: number % len(wanted)]:
                progress(f"a store of {name}, round {number} of {rounds}")
                rate, _ = play(sides[name], team, seconds)
                if number:
                    rates[name].append(rate)
        memory = {name: megabytes(side.daemon) for name, side in sides.items()}
    found = [Measured(f"a store of {name}", round(each, 2), "GB") for name, each in held.items()]
    found += _compared("throughput into a store of {}", rates)
    for name, each in memory.items():
        most = None if name == wanted[0] else round(memory[wanted[0]] * MEMORY_MOST, 1)
        found.append(Measured(f"memory with a store of {name}", each, "MB", most))
    return found


def play(side: DaemonSide, team: Team, seconds: float) -> tuple[float, int]:
    """One round into new sessions, counted and indexed: events per second, and how many."""
    team.connect(side.address)
    sessions = side.open_sessions(WORKLOAD.session_count)
    done, begin = team.run(WORKLOAD, sessions, WORKLOAD.producers, seconds)
    counts = [count for each in done for count in each.counts]
    side.settle(sessions, counts)
    return figure(WORKLOAD, done, begin), sum(counts)


def _fill(side: DaemonSide, team: Team, wanted: int, progress: Progress) -> None:
    """Record until the directory is so large."""
    while (stored := stored_bytes(side.daemon.data_dir)) < wanted:
        progress(f"{stored / 1e9:.1f} of {wanted / 1e9:.1f} GB are stored")
        play(side, team, FILL_SECONDS)


def _compared(title: str, rates: dict[str, list[float]]) -> list[Measured]:
    """The medians, and the ratios to the first one in the same rounds."""
    first = next(iter(rates.values()))
    found = []
    for name, each in rates.items():
        found.append(Measured(title.format(name), round(statistics.median(each)), "events/s"))
        if each is not first:
            ratios = [rate / base for rate, base in zip(each, first, strict=True)]
            found.append(
                Measured(
                    f"{title.format(name)}, ratio", round(statistics.median(ratios), 3), "times", least=SAME
                )
            )
    return found


def run(directory: Path, chosen: argparse.Namespace, progress: Progress) -> list[Measured]:
    """The parts that were asked for."""
    rounds, seconds = chosen.rounds, chosen.seconds
    team = Team("sessiond", WORKLOAD.producers)
    parts: dict[str, Callable[[], list[Measured]]] = {
        "sessions": lambda: by_sessions(directory, team, chosen.sessions, rounds, seconds, progress),
        "stores": lambda: by_store(directory, team, chosen.stores, rounds, seconds, progress),
        "soak": lambda: soak(directory, team, chosen.soak_events, seconds, play, progress),
    }
    try:
        return [each for name in chosen.only or PARTS for each in parts[name]()]
    finally:
        team.close()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _sizes(text: str) -> list[str]:
    return [part for part in text.split(",") if size(part) >= 0]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; it is refused where the disk is too small for what is asked."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.growth", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--sessions", type=_numbers, default=[1, 100, 10_000], help="default 1,100,10000")
    parser.add_argument("--stores", type=_sizes, default=["0", "1GB", "5GB"], help="default 0,1GB,5GB")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (default 1, at most 2)")
    parser.add_argument("--soak-events", type=int, default=50_000_000, help="default 50000000")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on which disk")
    measured.add_shapes(parser)
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.seconds <= ROUND_SECONDS_MAX or chosen.rounds < 1:
        parser.error(f"rounds last up to {ROUND_SECONDS_MAX:.0f} s, and there is at least one")
    parts = chosen.only or PARTS
    needed = max(
        2 * sum(map(size, chosen.stores)) if "stores" in parts else 0,
        chosen.soak_events * BYTES_PER_EVENT if "soak" in parts else 0,
    )
    if needed > shutil.disk_usage(chosen.dir).free:
        parser.error(
            f"{chosen.dir} has no room for {needed / 1e9:.0f} GB; ask for less or choose another with --dir"
        )
    return chosen


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    chosen = parse(arguments)
    facts = machine.facts(chosen.dir)

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text[:100]}")
            sys.stderr.flush()

    with tempfile.TemporaryDirectory(dir=chosen.dir) as place:
        found = run(Path(place), chosen, progress)
    progress("")
    facts["load after"] = machine.load()
    sys.stdout.write(measured.shown(chosen, facts, found) + "\n")


if __name__ == "__main__":
    main()
