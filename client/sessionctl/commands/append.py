"""`sessionctl append`: adds events to a session, from its arguments, or from standard input.

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

from sessionctl.connection import connect, remark_spooled
from sessionctl.exits import ExitCode, Failure, describe
from sessionctl.lines import LineTooLong, batches, pieces, text_and_bytes
from sessionctl.options import session_argument
from sessionctl.output import counted, json_option, write_json, write_line, write_outcome
from sessionctl.reference import resolve_to_write
from sessionctl.times import time_option
from sessiond_client.client import Client
from sessiond_client.errors import SessiondError
from sessiond_client.events import event
from sessiond_client.spool import leftovers
from sessiond_client.wire.messages import Appended
from sessiond_client.wire.spool import SPOOLED, parse_name

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
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Have what a recorder left here taken over; needs no SESSION.",
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
    events of the kind `output`, which are pieces of one text, as a program wrote it. Where no
    daemon answers and SESSION is given by its id, the events wait in the spool, and nothing is printed.

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
    with connect(spool=True) as client:
        progress = Progress(session=resolve_to_write(client, session))
        if text == STANDARD_INPUT or (text is None and data is None and _has_lines(sys.stdin.fileno())):
            _append_lines(client, progress, kind, fields, at, expect)
        else:
            stored = client.append(progress.session, [event(kind, _unicode(text), fields, at)], expect=expect)
            _count(progress, 1, stored)
        spooled = remark_spooled(client)
    if as_json:
        write_outcome(progress, spooled)
    elif progress.first is not None:
        write_line(str(progress))


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
            _count(progress, len(events), stored)
            expect = None if expect is None else stored.last + 1
    except (LineTooLong, SessiondError, OSError) as error:
        code, message = (ExitCode.USAGE, str(error)) if isinstance(error, LineTooLong) else describe(error)
        raise Failure(code, message + _kept(progress, error)) from error


def _kept(progress: Progress, error: Exception) -> str:
    """What became of the lines before a failure; a refusal says itself that nothing of it was stored."""
    if progress.events:
        are = "is" if progress.events == 1 else "are"
        return f"; {counted(progress.events, 'line')} before {are} stored{_numbers(progress)}"
    return "" if isinstance(error, SessiondError) else "; nothing is stored"


def _numbers(progress: Progress) -> str:
    return f" as {progress}" if progress.first is not None else " in the spool"


def _deliver(spill: Path, others: tuple[object, ...], as_json: bool) -> None:
    if any(other is not None for other in others):
        raise click.UsageError("--spill goes alone: the file says which events go into which session")
    directory = spill if spill.is_dir() else spill.parent
    files = len(leftovers(directory))
    if not files or (spill.is_file() and parse_name(spill.name) is None):
        raise click.UsageError(f"{spill}: nothing that a recorder left behind")
    with connect() as client:
        waiting = client.take_over(directory)
    if as_json:
        write_json({"spill": str(spill), "taken_over": files - waiting, "waiting": waiting})
    else:
        write_line(f"{files - waiting} files taken over, {waiting} wait")


def _count(progress: Progress, events: int, stored: Appended) -> None:
    progress.events += events
    if stored.first == SPOOLED:
        return
    progress.first = stored.first if progress.first is None else progress.first
    progress.last = stored.last


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
