"""The soak: `python -m tests.simulation --factor 100`; one fault again: `… SUITE --seed N --operation N`.

Prints a line for each suite: how many faults and recoveries there were, what was violated, in what time.
Exits with 1 if anything was.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.suites import FAULTS, Tally, run, share

SHOWN_MAX = 20


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--factor", type=int, default=1, help="so many times the faults of the fast set")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes side by side")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--operation", type=int, help="and of it this operation alone")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - FAULTS.keys():
        parser.error(f"no suite is called {', '.join(sorted(unknown))}")
    found = 0
    for suite in arguments.suites or FAULTS:
        began = time.monotonic()
        if arguments.seed is None:
            tally = _side_by_side(suite, arguments.jobs, arguments.factor)
        else:
            tally = run(suite, [arguments.seed], arguments.operation)
        print(  # noqa: T201
            f"{suite}: {tally.faults} faults, {tally.recoveries} recoveries, {len(tally.found)} violations,"
            f" {time.monotonic() - began:.0f} s",
            *tally.found[:SHOWN_MAX],
            sep="\n    ",
            flush=True,
        )
        found += len(tally.found)
    return min(found, 1)


def _side_by_side(suite: str, jobs: int, factor: int) -> Tally:
    with ProcessPoolExecutor(jobs) as pool:
        parts = pool.map(partial(share, suite, shares=jobs, factor=factor), range(jobs))
        return sum(parts, Tally())


if __name__ == "__main__":
    sys.exit(main())
