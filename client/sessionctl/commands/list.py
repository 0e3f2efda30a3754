"""`sessionctl list`: the sessions, newest first. The one rule: rich is loaded only to draw on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import complain
from sessionctl.listing import listed
from sessionctl.options import completed, directory_option, since_option, tag_option, until_option
from sessionctl.output import Form, colours_wanted, form_for, json_option, write_json, write_line
from sessionctl.reference import EMPTY, TRASH_EMPTY, resolve
from sessionctl.times import local_time, short_duration
from sessiond_client.filters import SessionFilters
from sessiond_client.wire.messages import LIST_LIMIT_DEFAULT, Session, Source, Status

SHORT_ID_LENGTH = 8
"""How much of an id a table shows: its end, which is random, so that it is enough to name the session."""


@click.command("list", short_help="List sessions, newest first.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    default=LIST_LIMIT_DEFAULT,
    show_default=True,
    help="At most so many.",
)
@click.option("-a", "--all", "everything", is_flag=True, help="All there are, however many.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only these.")
@click.option("--source", type=click.Choice([source.value for source in Source]), help="Only these.")
@tag_option("Only with this tag; several: with any of them.")
@click.option("--all-tags", is_flag=True, help="With several tags: only with all of them.")
@click.option("--name-prefix", metavar="TEXT", help="Only those whose name begins like this.")
@directory_option("Only those begun in this directory.")
@click.option("--host", "hostname", metavar="HOST", help="Only those recorded on this host.")
@click.option(
    "--parent",
    metavar="SESSION",
    shell_complete=completed("sessions"),
    help="Only those begun in, or forked from, this one.",
)
@since_option("Begun")
@until_option("Begun")
@click.option("--trash", "trashed", is_flag=True, help="Those in the trash, which are not listed otherwise.")
@json_option
def command(
    limit: int,
    everything: bool,
    status: str | None,
    source: str | None,
    tags: tuple[str, ...],
    all_tags: bool,
    name_prefix: str | None,
    cwd: str | None,
    hostname: str | None,
    parent: str | None,
    since: datetime | None,
    until: datetime | None,
    trashed: bool,
    as_json: bool,
) -> None:
    """List sessions, newest first.

    On a terminal a table, in which the end of an id stands for all of it; otherwise one line each, parted
    by tabs: id, name, status, source, start, end, number of events, exit code, tags. With --json one
    object a line: the session, and how long it took.

    \b
    Examples:
      sessionctl list --status interrupted --since 2d
      sessionctl ls --tag deploy --json | jq -r .name
      sessionctl list --cwd . --name-prefix nightly-
      sessionctl list --parent nightly
      sessionctl list --trash
    """
    filters: SessionFilters = {"status": status, "source": source, "since": since, "until": until}
    filters["tags_all" if all_tags else "tags"] = tags
    filters |= {"name_prefix": name_prefix, "cwd": cwd, "hostname": hostname}
    unfiltered = not any(filters.values()) and parent is None
    form = form_for(as_json)
    with connect() as client:
        if parent is not None:
            filters["parent_ulid"] = resolve(client, parent).ulid
        sessions = listed(client, {**filters, "trashed": trashed}, None if everything else limit)
        if form is Form.PRETTY:
            shown = _draw([*sessions])
        else:
            shown = sum(_write(session, form) for session in sessions)
    if not shown and form is Form.PRETTY:
        empty = TRASH_EMPTY if trashed else EMPTY
        complain(empty if unfiltered else "no session matches; see: sessionctl list --help")


_STYLES = {Status.RECORDING: "yellow", Status.COMPLETED: "green", Status.INTERRUPTED: "red"}


def _write(session: Session, form: Form) -> bool:
    if form is Form.JSON:
        write_json(_object(session))
    else:
        write_line("\t".join(map(escape_line, _columns(session))))
    return True


def _object(session: Session) -> dict[str, Any]:
    """The session, and the keys that the `rec` tool has besides."""
    recording = session.status is Status.RECORDING
    seconds = _seconds(session, datetime.now(UTC))
    return {
        **msgspec.structs.asdict(session),
        "id": session.ulid,
        "date": session.started_at,
        "duration": "active" if recording else short_duration(seconds),
        "duration_seconds": seconds,
    }


def _columns(session: Session) -> list[str]:
    return [
        session.ulid,
        session.name,
        session.status,
        session.source,
        session.started_at,
        session.ended_at or "",
        str(session.event_count),
        "" if session.exit_code is None else str(session.exit_code),
        ",".join(session.tags),
    ]


def _draw(sessions: list[Session]) -> int:
    """A table on the terminal, a line each, long names and tags shortened.

    Every cell is plain text: nothing in a session is taken for markup.
    """
    if not sessions:
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = colours_wanted()
    table = Table(box=None, pad_edge=False, header_style="bold" if colours else "")
    for heading in ("name", "status", "started", "took", "events", "tags", "id"):
        shrinks = heading in {"name", "tags"}
        right = heading in {"took", "events"}
        table.add_column(heading, justify="right" if right else "left", no_wrap=not shrinks)
    now = datetime.now(UTC)
    for session in sessions:
        table.add_row(
            Text(escape_line(session.name), no_wrap=True, overflow="ellipsis"),
            Text(_outcome(session), style=_STYLES[session.status] if colours else ""),
            Text(local_time(session.started_at).strftime("%Y-%m-%d %H:%M")),
            Text(_took(session, now)),
            Text(str(session.event_count)),
            Text(escape_line(" ".join(session.tags)), no_wrap=True, overflow="ellipsis"),
            Text(session.ulid[-SHORT_ID_LENGTH:], style="dim" if colours else ""),
        )
    Console(highlight=False, no_color=not colours, force_terminal=colours or None).print(table)
    return len(sessions)


def _outcome(session: Session) -> str:
    code = session.exit_code
    return f"{session.status} ({code})" if code else str(session.status)


def _took(session: Session, now: datetime) -> str:
    return short_duration(_seconds(session, now))


def _seconds(session: Session, now: datetime) -> float:
    end = datetime.fromisoformat(session.ended_at) if session.ended_at else now
    return (end - datetime.fromisoformat(session.started_at)).total_seconds()
