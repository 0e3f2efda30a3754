"""`sessionctl append`: adds events to a session, from its arguments, from standard input or a spill file.

The one rule: whatever fails, what was stored before is kept and reported.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import click
import msgspec

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, describe
from sessionctl.lines import LineTooLong, batches, pieces, text_and_bytes
from sessionctl.options import session_argument
from sessionctl.output import counted, json_option, write_json, write_line
from sessionctl.reference import resolve
from sessionctl.times import time_option
from sessiond_client.client import Client
from sessiond_client.errors import SessiondError
from sessiond_client.events import event

STANDARD_INPUT = "-"

STREAM_KINDS = frozenset({"output"})
"""Kinds whose events are pieces of one text: a newline between two lines is a part of it."""


class Progress(msgspec.Struct, kw_only=True):
    """What has been stored so far."""

    session: str
    events: int = 0
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.first is None:
            return ""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@click.command("append", short_help="Add events to a session.")
@session_argument(required=False)
@click.argument("kind", required=False)
@click.argument("text", required=False)
@click.option("--data", metavar="JSON", help="A JSON object to store with each event.")
@click.option("--at", metavar="TIME", callback=time_option, help="When it happened, instead of now.")
@click.option(
    "--expect", type=click.IntRange(min=0), metavar="SEQ", help="Only if the next event's number is this."
)
@click.option(
    "--spill",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Deliver what a recording could not; needs no SESSION.",
)
@json_option
def command(
    session: str | None,
    kind: str | None,
    text: str | None,
    data: str | None,
    at: datetime | None,
    expect: int | None,
    spill: Path | None,
    as_json: bool,
) -> None:
    """Add an event to SESSION and print its number. It is on disk when this returns.

    With `-` for TEXT, or with no TEXT, no --data and a pipe or a file as standard input, every line read
    there becomes an event; what is printed is then the range of their numbers. Its newline is kept only in
    events of the kind `output`, which are pieces of one text, as a program wrote it.

    \b
    Examples:
      sessionctl append @last note "the build is green"
      make 2>&1 | sessionctl append "$id" output -
      sessionctl append . marker --data '{"step": 3}'
    """
    if spill is not None:
        _deliver(spill, (session, kind, text, data, at, expect), as_json)
        return
    if session is None or kind is None:
        raise click.UsageError("SESSION and KIND are needed")
    fields = _object(data)
    with connect() as client:
        progress = Progress(session=resolve(client, session).ulid)
        if text == STANDARD_INPUT or (text is None and data is None and _has_lines(sys.stdin.fileno())):
            _append_lines(client, progress, kind, fields, at, expect)
        else:
            stored = client.append(progress.session, [event(kind, _unicode(text), fields, at)], expect=expect)
            _count(progress, stored.first, stored.last)
    _report(progress, as_json)


def _append_lines(
    client: Client,
    progress: Progress,
    kind: str,
    fields: Mapping[str, Any] | None,
    at: datetime | None,
    expect: int | None,
) -> None:
    """Every line of standard input as an event. With `expect`, nobody else's event may come in between."""
    try:
        for batch in batches(sys.stdin.fileno(), with_newlines=kind in STREAM_KINDS):
            events = []
            for line in chain.from_iterable(map(pieces, batch)):
                text, exact = text_and_bytes(line)
                events.append(event(kind, text, {**(fields or {}), **exact} or None, at))
            stored = client.append(progress.session, events, expect=expect)
            _count(progress, stored.first, stored.last)
            expect = None if expect is None else stored.last + 1
    except (LineTooLong, SessiondError, OSError) as error:
        code, message = (ExitCode.USAGE, str(error)) if isinstance(error, LineTooLong) else describe(error)
        are = "is" if progress.events == 1 else "are"
        kept = (
            f"{counted(progress.events, 'line')} before {are} stored as {progress}"
            if progress.events
            else "nothing is stored"
        )
        raise Failure(code, f"{message}; {kept}") from error


def _deliver(spill: Path, others: tuple[object, ...], as_json: bool) -> None:
    if any(other is not None for other in others):
        raise click.UsageError("--spill goes alone: the file says which events go into which session")
    from sessionctl.recording.leftovers import deliver

    with connect() as client:
        delivered = deliver(client, spill)
    if as_json:
        write_json(delivered)
        return
    into = ""
    if delivered.aside is not None:
        name, ulid = delivered.aside.name, delivered.aside.ulid
        into = f" into a session of their own, {name} ({ulid}), because {delivered.session} had ended"
    write_line(f"{counted(delivered.events, 'event')} delivered{into}; {escape_line(str(spill))} is removed")


def _count(progress: Progress, first: int, last: int) -> None:
    progress.events += last - first + 1
    progress.first = first if progress.first is None else progress.first
    progress.last = last


def _report(progress: Progress, as_json: bool) -> None:
    if as_json:
        write_json(progress)
    elif progress.events:
        write_line(str(progress))


def _object(data: str | None) -> Mapping[str, Any] | None:
    if data is None:
        return None
    try:
        value = msgspec.json.decode(data.encode(errors="surrogateescape"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint="'--data'") from None
    if not isinstance(value, dict):
        raise click.BadParameter('a JSON object is needed, like {"step": 3}', param_hint="'--data'")
    return value


def _has_lines(file: int) -> bool:
    """Whether standard input is made for reading lines: a pipe, a file or a socket; not /dev/null."""
    mode = os.fstat(file).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _unicode(text: str | None) -> str | None:
    return None if text is None else os.fsencode(text).decode(errors="replace")
