"""How results reach standard output: as JSON, as plain columns, or made for a person at a terminal.

Owns the choice between them and the colours. The one rule: colours and layouts only where a person looks,
that is on a terminal, and never in JSON.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import click
import msgspec
from msgspec import Struct

from sessionctl.escape import escape, escape_json
from sessiond_client.wire.replies import Reply

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: an object, or one a line for many."
)


class Form(StrEnum):
    """The forms that results take; `ndjson` and `cat` are forms of events only."""

    PRETTY = "pretty"
    PLAIN = "plain"
    JSON = "json"
    NDJSON = "ndjson"
    CAT = "cat"


class Colour(StrEnum):
    """The few colours in use, as terminal codes."""

    DIM = "2"
    BOLD = "1"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


STATUS_COLOURS = {"recording": Colour.YELLOW, "completed": Colour.GREEN, "interrupted": Colour.RED}


def form_for(as_json: bool) -> Form:
    """JSON if asked for, else what fits where standard output goes."""
    if as_json:
        return Form.JSON
    return Form.PRETTY if sys.stdout.isatty() else Form.PLAIN


def colours_wanted(environ: Mapping[str, str] = os.environ, tty: bool | None = None) -> bool:
    """Whether to use colours: NO_COLOR wins, then CLICOLOR_FORCE, then TERM=dumb and CLICOLOR=0."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    if environ.get("TERM", "dumb") == "dumb" or environ.get("CLICOLOR") == "0":
        return False
    return sys.stdout.isatty() if tty is None else tty


def painted(text: str, colour: Colour | None, wanted: bool) -> str:
    """`text` in a colour, if colours are wanted."""
    return f"\x1b[{colour}m{text}\x1b[0m" if wanted and colour else text


def write_line(text: str) -> None:
    """One line on standard output. What comes from a recording has been escaped by now."""
    sys.stdout.write(text + "\n")


def write_exact(text: str) -> None:
    """A stored text as it is, for scripts, and a newline; on a terminal, what could control it is escaped."""
    if sys.stdout.isatty():
        write_line(escape(text))
    else:
        write_bytes(text.encode() + b"\n")


def counted(count: int, what: str) -> str:
    """`1 event`, `2 events`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def write_json(value: Any) -> None:
    """One JSON value on one line."""
    write_line(escape_json(msgspec.json.encode(value).decode()))


def write_outcome(outcome: Struct, spooled: bool) -> None:
    """What came of a request, as one JSON object; with `spooled` true in it where it waits for the daemon."""
    write_json({**msgspec.to_builtins(outcome), **({"spooled": True} if spooled else {})})


def write_reply(reply: Reply) -> None:
    """What the daemon answered, as one JSON object, without the number of the request."""
    write_json({name: getattr(reply, name) for name in reply.__struct_fields__ if name != "id"})


def write_bytes(data: bytes) -> None:
    """Recorded bytes as they are, behind whatever was written before."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
