"""Recording with sessiond and with what people would use instead, equally durable, in alternating rounds.

    python -m tests.benchmarks [--only batches-8] [--sides sqlite,redis] [--rounds 7] [--seconds 1]
                               [--sync-delay 0 --sync-delay 1ms] [--dir DIR] [--json | --markdown]

Before the rounds each side is asked for its settings, and it is seen that it acknowledges nothing sooner
than a sync that is made to take 20 ms. What is missing on this machine is named and left out. See
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, report
from tests.benchmarks.goals import verdicts
from tests.benchmarks.rounds import (
    FINDINGS,
    OURS,
    PROBE_MICROSECONDS,
    ROUND_SECONDS_MAX,
    Progress,
    examine,
    measure,
)
from tests.benchmarks.sides import NAMES, load
from tests.benchmarks.sides.side import private_directory
from tests.benchmarks.slow_sync import NoSlowSync, SlowSync, microseconds
from tests.benchmarks.team import Team
from tests.benchmarks.workloads import WORKLOADS, Workload

DELAYS = [0, 1000]


def examined(names: list[str], place: Path, progress: Progress) -> tuple[dict[str, Any], dict[str, str]]:
    """What each side is, and why others are left out."""
    probe, unprobed = None, ""
    try:
        probe = SlowSync.build(place, PROBE_MICROSECONDS)
    except NoSlowSync as error:
        unprobed = f"not probed: {error}"
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in names:
        progress(f"examining {name}")
        try:
            found[name] = {"probe": unprobed} | examine(name, place, probe)
        except FINDINGS as error:
            missing[name] = str(error)
    return found, missing


def run_pass(
    delay: int,
    names: list[str],
    workloads: list[Workload],
    place: Path,
    rounds: int,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """All workloads with syncs of at least so many microseconds."""
    found: dict[str, Any] = {"sync delay us": delay, "workloads": {}}
    try:
        slow_sync = SlowSync.build(place, delay)
    except NoSlowSync as error:
        return found | {"left out": str(error)}
    with ExitStack() as stack:
        teams = {}
        for name in names:
            progress(f"starting the processes of {name}")
            kind = load(name)
            able = [each for each in workloads if kind.unable(each) is None]
            size = max((kind.processes(each) + each.readers + each.followers for each in able), default=0)
            environ = slow_sync.environ if kind.writes_itself else None
            teams[name] = Team(name, size, environ)
            stack.callback(teams[name].close)
        for workload in workloads:
            measured = measure(workload, teams, place, slow_sync, rounds, seconds, progress)
            measured["goals"] = verdicts(workload.name, delay, measured["sides"])
            found["workloads"][workload.name] = measured
    return found


def run(
    directory: Path,
    names: list[str],
    workloads: list[Workload],
    delays: list[int],
    rounds: int,
    seconds: float,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Everything: machine facts, what the sides are, and a table a workload for each delay."""
    facts = machine.facts(directory)
    if facts["file system"] in machine.VOLATILE:
        raise SystemExit(f"{directory} is in memory, nothing is durable there: choose another with --dir")
    with private_directory(directory) as made:
        place = Path(made)
        sides, missing = examined(names, place, progress)
        passes = [run_pass(delay, [*sides], workloads, place, rounds, seconds, progress) for delay in delays]
    facts["load after"] = machine.load()
    return {
        "machine": facts,
        "rounds": rounds,
        "seconds": seconds,
        "sides": sides,
        "missing": missing,
        "passes": passes,
    }


def progress_line(text: str) -> None:
    """Where the run is, on one line of a terminal."""
    sys.stderr.write(f"\r\x1b[K{text[:100]}")
    sys.stderr.flush()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds a workload (default 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (default 1, at most 2)")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="this workload; may be repeated")
    parser.add_argument("--sides", default=",".join(NAMES), help=f"of {','.join(NAMES)} (default all)")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on which disk")
    parser.add_argument(
        "--sync-delay",
        action="append",
        type=microseconds,
        metavar="TIME",
        help="a sync takes at least so long; may be repeated (default 0 and 1ms)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print one JSON object")
    shape.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.seconds <= ROUND_SECONDS_MAX or chosen.rounds < 1:
        parser.error(f"rounds last up to {ROUND_SECONDS_MAX:.0f} s, and there is at least one")
    wanted = {OURS, *chosen.sides.split(",")}
    if unknown := wanted - {*NAMES}:
        parser.error(f"no such side: {', '.join(sorted(unknown))}")
    chosen.sides = [name for name in NAMES if name in wanted]
    return chosen


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    chosen = parse(arguments)
    found = run(
        chosen.dir,
        chosen.sides,
        [WORKLOADS[name] for name in chosen.only or WORKLOADS],
        chosen.sync_delay or DELAYS,
        chosen.rounds,
        chosen.seconds,
        progress_line if sys.stderr.isatty() else lambda _: None,
    )
    if sys.stderr.isatty():
        progress_line("")
    text = (
        json.dumps(found)
        if chosen.json
        else report.markdown(found)
        if chosen.markdown
        else report.table(found)
    )
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
