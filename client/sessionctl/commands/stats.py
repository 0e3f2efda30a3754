"""`sessionctl stats`: totals over all sessions. The one rule: the daemon counts, here it is only shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.output import (
    Colour,
    Form,
    colours_wanted,
    form_for,
    json_option,
    painted,
    write_json,
    write_line,
)
from sessionctl.times import local_time, short_duration
from sessiond_client.wire.messages import StatsReply

TAGS_MAX = 10
UNITS = ("KB", "MB", "GB", "TB", "PB")
"""Each is 1024 of the one before."""


@click.command("stats", short_help="Show totals over all sessions.")
@json_option
def command(as_json: bool) -> None:
    """Show totals over all sessions that are not in the trash: how many there are, of which kind, how long
    they took, what they take on the disk, and the tags used most.

    Lengths are those of sessions that have ended. Elsewhere than on a terminal: name and value, parted by a
    tab.

    Example: sessionctl stats --json
    """
    with connect() as client:
        totals = client.stats()
    form = form_for(as_json)
    if form is Form.JSON:
        write_json(_object(totals))
        return
    colours = form is Form.PRETTY and colours_wanted()
    for name, value in _facts(totals):
        if form is Form.PLAIN:
            write_line(f"{name}\t{escape_line(value)}")
        else:
            write_line(f"{painted(f'{name:<13}', Colour.DIM, colours)} {escape_line(value)}")


def _average(totals: StatsReply) -> float:
    ended = totals.sessions - totals.recording
    return totals.duration_seconds / ended if ended > 0 else 0.0


def _object(totals: StatsReply) -> dict[str, Any]:
    """The keys that the `rec` tool has, then ours."""
    return {
        "total_sessions": totals.sessions,
        "total_commands": totals.commands,
        "average_session_length_seconds": _average(totals),
        "total_duration_seconds": totals.duration_seconds,
        "storage_bytes": totals.storage_bytes,
        "storage_human": short_size(totals.storage_bytes),
        "most_used_tags": [{"tag": tag.tag, "count": tag.sessions} for tag in totals.tags[:TAGS_MAX]],
        "recording": totals.recording,
        "interrupted": totals.interrupted,
        "trashed": totals.trashed,
        "total_events": totals.events,
        "event_bytes": totals.event_bytes,
        "first_started_at": totals.first_started_at,
        "last_event_at": totals.last_event_at,
        "sources": totals.sources,
    }


def _facts(totals: StatsReply) -> Iterator[tuple[str, str]]:
    yield "sessions", str(totals.sessions)
    yield "recording", str(totals.recording)
    yield "interrupted", str(totals.interrupted)
    yield "in the trash", str(totals.trashed)
    yield "events", str(totals.events)
    yield "commands", str(totals.commands)
    yield "took", short_duration(totals.duration_seconds)
    yield "on average", short_duration(_average(totals))
    yield "recorded", short_size(totals.event_bytes)
    yield "on the disk", short_size(totals.storage_bytes)
    if totals.first_started_at:
        yield "first began", _when(totals.first_started_at)
    if totals.last_event_at:
        yield "last event", _when(totals.last_event_at)
    if totals.sources:
        yield "sources", ", ".join(f"{source} {count}" for source, count in totals.sources.items())
    if totals.tags:
        yield "tags", ", ".join(f"{tag.tag} {tag.sessions}" for tag in totals.tags[:TAGS_MAX])


def _when(text: str) -> str:
    return local_time(text).isoformat(sep=" ", timespec="seconds")


def short_size(count: int, units: Sequence[str] = UNITS) -> str:
    """About how many bytes: `512 B`, `1.2 KB`, `3.4 MB`; each of the units is 1024 of the one before."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in units:
        size /= 1024
        if size < 1024 or unit == units[-1]:
            break
    return f"{size:.1f} {unit}"
