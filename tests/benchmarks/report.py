"""The measured, for people: plain tables for a terminal, Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WORDS = {True: "met", False: "missed", None: "not measured"}


def verdict(goal: dict[str, Any]) -> str:
    """One line about a goal of recording."""
    measured = "" if goal["ratio"] is None else f": {goal['ratio']:.2f}"
    return f"goal: {goal['least']:.2f} times as fast as {goal['against']}{measured}, {WORDS[goal['met']]}"


def _ratio(figures: dict[str, Any]) -> str:
    if "ratio" not in figures:
        return ""
    return f"{figures['ratio']:.2f} ({figures['ratio_min']:.2f} to {figures['ratio_max']:.2f})"


def _figure(figures: dict[str, Any]) -> str:
    return f"{figures['figure']:,.0f}"


def heading(found: dict[str, Any]) -> str:
    """Of one pass."""
    delay = found["sync delay us"]
    return f"every sync takes at least {delay / 1000:g} ms" if delay else "syncs as quick as this disk is"


def table(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    return "\n".join(_table(report))


def _table(report: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name}: {value}" for name, value in report["machine"].items())
    yield ""
    for name, side in report["sides"].items():
        yield f"{name}: {side['version']}; {side['durability']}; {side['probe']}"
    yield from (f"{name}: left out, {reason}" for name, reason in report["missing"].items())
    for found in report["passes"]:
        yield f"\n=== {heading(found)}"
        if "left out" in found:
            yield f"left out: {found['left out']}"
        for workload, measured in found["workloads"].items():
            yield f"\n{workload}: {measured['title']}"
            yield f"    {'':<16}{measured['unit']:>12}   sessiond is so many times as fast"
            for name, figures in measured["sides"].items():
                reads = (
                    f", {figures['reads per second']:,.0f} reads/s" if "reads per second" in figures else ""
                )
                yield f"    {name:<16}{_figure(figures):>12}   {_ratio(figures)}{reads}".rstrip()
            yield from (
                f"    {name:<16}{'':>12}   left out: {why}" for name, why in measured["left out"].items()
            )
            yield from (f"    {verdict(goal)}" for goal in measured["goals"])


def markdown(report: dict[str, Any]) -> str:
    """The tables of docs/performance.md."""
    return "\n".join(_markdown(report))


def _markdown(report: dict[str, Any]) -> Iterator[str]:
    yield "| Machine | |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in report["machine"].items())
    yield "\n| Side | Version | Durable by | Probe |\n| --- | --- | --- | --- |"
    for name, side in report["sides"].items():
        yield f"| `{name}` | {side['version']} | {side['durability']} | {side['probe']} |"
    yield from (f"| `{name}` | left out: {reason} | | |" for name, reason in report["missing"].items())
    for found in report["passes"]:
        yield f"\n### {heading(found).capitalize()}\n"
        if "left out" in found:
            yield f"Left out: {found['left out']}\n"
        for workload, measured in found["workloads"].items():
            yield f"`{workload}`: {measured['title']}\n"
            yield f"| Side | {measured['unit']} | sessiond is so many times as fast (spread) |"
            yield "| --- | ---: | --- |"
            for name, figures in measured["sides"].items():
                yield f"| `{name}` | {_figure(figures)} | {_ratio(figures)} |"
            yield from (f"| `{name}` | | left out: {why} |" for name, why in measured["left out"].items())
            yield "".join(f"\n{verdict(goal).capitalize()}." for goal in measured["goals"]) + "\n"
