"""The goals of recording, as ratios to other sides in the same rounds.

The one rule: a ratio says how many times as fast sessiond is; 1/3 allows it three times the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.benchmarks.sides import PEERS


class Goal(NamedTuple):
    """`least` times as fast as another side in a workload, where a sync takes `delay` us longer."""

    workload: str
    against: str
    least: float
    delay: int = 0


GOALS = [
    Goal("batches-8", "sqlite", 2.0),
    *[Goal("batches-8", peer, 1.0) for peer in PEERS],
    Goal("waiting-16", "sqlite", 1.5),
    Goal("waiting-16", "sqlite", 8.0, delay=1000),
    Goal("waiting-1", "sqlite", 1 / 3),
    Goal("waiting-1", "sqlite", 1 / 1.3, delay=1000),
]


def verdicts(workload: str, delay: int, sides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The goals that apply, with the measured ratio; None where the other side has no figure."""
    found = []
    for goal in GOALS:
        if (goal.workload, goal.delay) != (workload, delay):
            continue
        ratio = sides.get(goal.against, {}).get("ratio")
        found.append(
            {
                "against": goal.against,
                "least": round(goal.least, 3),
                "ratio": ratio,
                "met": None if ratio is None else ratio >= goal.least,
            }
        )
    return found
