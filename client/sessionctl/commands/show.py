"""`sessionctl show`: one session, what is known of it and its events.

The one rule: events are read a page at a time, so that a session of any size can be shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import click
import msgspec

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, complain
from sessionctl.options import session_argument
from sessionctl.output import (
    STATUS_COLOURS,
    Colour,
    Form,
    colours_wanted,
    counted,
    painted,
    write_json,
    write_line,
)
from sessionctl.reference import resolve
from sessionctl.times import local_time
from sessionctl.transcripts.cursor_file import CursorFile
from sessionctl.transcripts.outlet import CountedOutlet, Outlet, PlainOutlet
from sessionctl.transcripts.pager import paged
from sessionctl.transcripts.selection import CAT_KINDS, Selection, chosen_form, event_options
from sessionctl.transcripts.transcript import Entry, Transcript
from sessiond_client.wire.messages import Session


@click.command("show", short_help="Show a session and its events.")
@session_argument()
@event_options
@click.option("--inherit", is_flag=True, help="Of a fork, first the events before it was forked.")
@click.option("--no-pager", is_flag=True, help="Do not use a pager.")
@click.option("--no-events", is_flag=True, help="Only what is known of the session.")
@click.option("--trash", "trashed", is_flag=True, help="One of those in the trash.")
@click.option("--file", "only_file", is_flag=True, help="Only the path of its file.")
def command(
    session: str,
    kinds: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    pattern: Any,
    output: str | None,
    raw: bool,
    cursor_file: str | None,
    inherit: bool,
    no_pager: bool,
    no_events: bool,
    trashed: bool,
    only_file: bool,
    as_json: bool,
) -> int:
    """Show what is known of a session, and its events.

    On a terminal for reading, with a pager; elsewhere (-o plain) the facts as `# name: value`, then one
    event a line, parted by tabs. -o ndjson: the events as the lines of its file, byte for byte. -o cat (or
    --raw): what was recorded, byte for byte (default: of the output); all else is shown with control
    characters escaped, but this lets the recording control your terminal. --json: the session on the first
    line, then one event a line as the library gives it.

    --grep takes a regular expression of RE2, so that none takes for ever. Exit code 1: no event matches.

    With --cursor-file only events are written, and each once: FILE (made if need be) says which come next.
    A kill -9 or a power cut may leave it behind by what was written last, which then comes again.

    \b
    Examples:
      sessionctl show @last
      sessionctl show nightly --raw > nightly.typescript
      sessionctl show nightly --grep '(?i)error' --since yesterday
      sessionctl show nightly -o ndjson --cursor-file seen | ./ship-events
      grep error "$(sessionctl show --file nightly)"
    """
    form = chosen_form(output, raw, as_json)
    if cursor_file is not None and (inherit or no_events or only_file):
        raise click.UsageError("--cursor-file goes with the session's own events only")
    colours = form is Form.PRETTY and colours_wanted()
    transcript = Transcript(form, colours=colours, to_terminal=sys.stdout.isatty())
    selection = Selection(kinds or (CAT_KINDS if form is Form.CAT else ()), since, until, pattern)
    with connect() as client:
        info = resolve(client, session, trashed=trashed)
        path = session_file(client.welcome.data_dir, info)
        if only_file:
            write_json({"file": path}) if as_json else write_line(path)
            return ExitCode.OK
        if cursor_file is not None:
            with CountedOutlet(CursorFile(cursor_file, info)) as counted:
                entries = selection.read(client, info.ulid, after=(counted.begins or 0) - 1)
                return verdict(selection, write_entries(entries, transcript, counted))
        shown: int | None = None  # and so it stays if the pager is left early
        with paged(form is Form.PRETTY and not no_pager):
            _write_header(info, path, form, colours)
            if no_events:
                return ExitCode.OK
            if inherit and info.parent_ulid is not None and client.get(info.parent_ulid) is None:
                complain(f"its parent {info.parent_ulid} is gone, and the events before the fork with it")
            entries = selection.read(client, info.ulid, inherit=inherit)
            shown = write_entries(entries, transcript, PlainOutlet())
        return verdict(selection, shown)


def write_entries(entries: Iterable[Entry], transcript: Transcript, outlet: Outlet) -> int:
    """Write them all; how many there were."""
    remaining = iter(entries)
    written = 0
    while True:
        with outlet.waiting():
            entry = next(remaining, None)
        if entry is None:
            return written
        outlet.write(transcript.encode(entry), entry.event.seq + 1)
        written += 1


def verdict(selection: Selection, shown: int | None) -> ExitCode:
    """Nothing found is a negative result, as with grep; without a pattern nothing was looked for."""
    return ExitCode.NEGATIVE if selection.pattern is not None and shown == 0 else ExitCode.OK


def session_file(data_dir: str, session: Session) -> str:
    """Where the file of a session is."""
    shelf = "sessions" if session.trashed_at is None else "trash"
    return f"{data_dir}/{shelf}/{session.ulid}.ndjson"


def _write_header(session: Session, path: str, form: Form, colours: bool) -> None:
    if form in {Form.CAT, Form.NDJSON}:
        return
    if form is Form.JSON:
        write_json(session)
        return
    for name, value in [*_facts(session), ("file", path)]:
        if form is Form.PLAIN:
            write_line(f"# {name}: {escape_line(value)}")
        else:
            colour = STATUS_COLOURS.get(session.status) if name == "status" else None
            label = painted(f"{name:<9}", Colour.DIM, colours)
            write_line(f"{label} {painted(escape_line(value), colour, colours)}")
    if form is Form.PRETTY:
        write_line("")


def _facts(session: Session) -> Iterator[tuple[str, str]]:
    """What is known, in the order in which people ask; what is not known is left out."""
    known = {
        "session": f"{session.name} ({session.ulid})",
        "status": _status(session),
        "started": _when(session.started_at),
        "ended": _when(session.ended_at),
        "trashed": _when(session.trashed_at),
        "source": session.source.value,
        "events": f"{session.event_count}, of which {counted(session.command_count, 'command')}",
        "tags": " ".join(session.tags),
        "labels": " ".join(session.labels),
        "formerly": " ".join(session.previous_names),
        "host": " ".join(filter(None, (session.hostname, session.os))),
        "shell": session.shell,
        "directory": session.cwd,
        "engine": session.engine_base_url,
        "recorder": session.cli_version,
        "parent": _parent(session),
        "digest": session.digest,
    }
    yield from ((name, value) for name, value in known.items() if value)
    yield from ((f"meta.{key}", _json(value)) for key, value in session.meta.items())


def _status(session: Session) -> str:
    text = session.status.value
    if session.end_reason:
        text += f", {session.end_reason.value}"
    if session.exit_code is not None:
        text += f", exit code {session.exit_code}"
    return f"{text}, recovered" if session.recovered else text


def _parent(session: Session) -> str | None:
    if session.parent_ulid is None or session.parent_seq is None:
        return session.parent_ulid
    return f"{session.parent_ulid}, forked at {session.parent_seq}"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _when(text: str | None) -> str | None:
    return None if text is None else local_time(text).isoformat(sep=" ", timespec="milliseconds")
