"""`sessionctl diff`: what two sessions did differently.

The one rule: what is compared is the recorded text itself; only what is shown of it is escaped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import click
from msgspec import Struct

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure
from sessionctl.options import session_argument
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
from sessionctl.reference import resolve
from sessionctl.transcripts.pager import paged
from sessionctl.transcripts.selection import Selection
from sessiond_client.client import Client
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import Session

LINES_MAX = 100_000
"""The comparison holds both sides in memory."""

STREAMS = frozenset({"output", "input"})
"""Kinds whose events are pieces of one text, cut wherever it happened to be."""

_COLOURS = {"+": Colour.GREEN, "-": Colour.RED, "@": Colour.CYAN}


class Change(Struct, kw_only=True, frozen=True):
    """Lines of A from `a` on were removed, and lines of B from `b` on added in their place."""

    a: int
    b: int
    removed: list[str]
    added: list[str]


class Comparison(Struct, kw_only=True, frozen=True):
    """What `--json` prints."""

    a: str
    b: str
    differ: bool
    changes: list[Change]


class Side(NamedTuple):
    """One of the two, and its lines."""

    session: Session
    lines: list[str]

    @property
    def title(self) -> str:
        """For the head of the diff."""
        return f"{escape_line(self.session.name)}\t{self.session.ulid}"


@click.command("diff", short_help="Compare the commands of two sessions.")
@session_argument("a")
@session_argument("b")
@click.option("--events", is_flag=True, help="Compare the text of all events, not only the commands.")
@click.option(
    "-U", "--context", type=click.IntRange(min=0), default=3, help="Equal lines around a change (3)."
)
@click.option("--no-pager", is_flag=True, help="Do not use a pager.")
@json_option
def command(a: str, b: str, events: bool, context: int, no_pager: bool, as_json: bool) -> int:
    """Show what differs between the commands of two sessions, as a unified diff: a line is a command.

    With --events a line is a line of text, behind the kind of its event. Exit code 1: they differ,
    or neither has commands to compare. With --json one object: a, b, differ and changes, each with where it
    is in a and in b (counted from 0), and the lines removed and added.

    \b
    Examples:
      sessionctl diff setup-old setup-new
      sessionctl diff @1 @0 --events --json
    """
    form = form_for(as_json)
    with connect() as client:
        sessions = [resolve(client, reference) for reference in (a, b)]
        if not events and not any(session.command_count for session in sessions):
            names = " nor ".join(session.name for session in sessions)
            message = f"neither {names} has commands; --events compares their output"
            raise Failure(ExitCode.NEGATIVE, message)
        left, right = (Side(session, _texts(client, session, events)) for session in sessions)
    differ = left.lines != right.lines
    if form is Form.JSON:
        write_json(_compared(left, right))
    else:
        with paged(form is Form.PRETTY and differ and not no_pager):
            _write(left, right, context, colours=form is Form.PRETTY and colours_wanted())
    return ExitCode.NEGATIVE if differ else ExitCode.OK


def _texts(client: Client, session: Session, events: bool) -> list[str]:
    """What is compared, a line each."""
    lines: list[str] = []
    chosen = (event for _, event in Selection(() if events else ("command",)).read(client, session.ulid))
    for line in _lines(chosen) if events else (event.text or "" for event in chosen):
        if len(lines) == LINES_MAX:
            raise Failure(ExitCode.NEGATIVE, f"{session.name} has more than {LINES_MAX} lines to compare")
        lines.append(line)
    return lines


def _lines(events: Iterator[Event]) -> Iterator[str]:
    """The text of events, line by line, behind their kind; a stream counts as one text."""
    with_text = (event for event in events if event.text is not None)
    for kind, group in groupby(with_text, key=lambda event: event.kind):
        texts = (event.text or "" for event in group)
        for text in ["".join(texts)] if kind in STREAMS else texts:
            for line in text.removesuffix("\n").split("\n"):
                yield f"{kind}: {line.removesuffix(chr(13))}"


def _write(a: Side, b: Side, context: int, *, colours: bool) -> None:
    lines = difflib.unified_diff(a.lines, b.lines, a.title, b.title, n=context, lineterm="")
    for number, line in enumerate(lines):
        if number < 2:  # the two names, which no line of a session can be mistaken for
            write_line(painted(line, Colour.BOLD, colours))
        else:
            write_line(painted(escape_line(line), _COLOURS.get(line[0]), colours))


def _compared(a: Side, b: Side) -> Comparison:
    changes = [
        Change(a=first, b=second, removed=a.lines[first:first_end], added=b.lines[second:second_end])
        for tag, first, first_end, second, second_end in difflib.SequenceMatcher(
            None, a.lines, b.lines
        ).get_opcodes()
        if tag != "equal"
    ]
    return Comparison(a=a.session.ulid, b=b.session.ulid, differ=bool(changes), changes=changes)
