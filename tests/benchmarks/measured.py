"""One measured figure beside its goal, and how many of them are shown.

The one rule: a figure that has a goal says whether it is met.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

WORDS = {True: "met", False: "missed", None: ""}


class Measured(NamedTuple):
    """`value` in `unit`; met up to and including `most`, and from `least` on."""

    title: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def goal(self) -> str:
        """In words; empty if there is none."""
        if self.most is not None:
            return f"at most {self.most:g} {self.unit}"
        return "" if self.least is None else f"at least {self.least:g} {self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None: there is none."""
        if self.most is None and self.least is None:
            return None
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal,
            "met": self.met,
        }


def times(title: str, seconds: Sequence[float], most: float | None = None) -> list[Measured]:
    """The median and the 95th percentile in milliseconds; the goal is for the median."""
    ordered = sorted(seconds)
    late = ordered[math.ceil(len(ordered) * 0.95) - 1]
    return [
        Measured(f"{title}, p50", round(statistics.median(ordered) * 1000, 3), "ms", most),
        Measured(f"{title}, p95", round(late * 1000, 3), "ms"),
    ]


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """The options of `shown`."""
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print one JSON object")
    shape.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md")


def shown(chosen: argparse.Namespace, machine: dict[str, Any], figures: Sequence[Measured]) -> str:
    """The report in the shape that was asked for."""
    if chosen.json:
        return json.dumps({"machine": machine, "figures": [each.plain() for each in figures]})
    return (markdown if chosen.markdown else table)(machine, figures)


def table(machine: dict[str, Any], figures: Iterable[Measured]) -> str:
    """For a terminal."""
    lines = [f"{name}: {value}" for name, value in machine.items()]
    lines += [""]
    for each in figures:
        goal = f"   {each.goal}: {WORDS[each.met]}" if each.goal else ""
        lines.append(f"{each.title:<52}{each.value:>14,.3f} {each.unit:<9}{goal}".rstrip())
    return "\n".join(lines)


def markdown(machine: dict[str, Any], figures: Iterable[Measured]) -> str:
    """For docs/performance.md."""
    return "\n".join(_markdown(machine, figures))


def _markdown(machine: dict[str, Any], figures: Iterable[Measured]) -> Iterator[str]:
    yield "| Machine | |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in machine.items())
    yield "\n| | Measured | Goal | |\n| --- | ---: | --- | --- |"
    for each in figures:
        yield f"| {each.title} | {each.value:,g} {each.unit} | {each.goal} | {WORDS[each.met]} |"
