"""Events as people and programs read them.

Owns the look of an event as JSON, as the line of its file, as one plain line, as a paragraph on a terminal,
and as the raw bytes that were recorded. The one rule: whatever may reach a terminal is escaped, but for the
raw bytes.
"""

from __future__ import annotations

import binascii
import sys
from base64 import b64decode
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from sessionctl.escape import escape, escape_json, escape_line
from sessionctl.output import Colour, Form, painted
from sessionctl.times import local_time
from sessiond_client.wire.lines import Event

KIND_WIDTH = 13

_COLOURS = {
    "error": Colour.RED,
    "alert": Colour.RED,
    "warn": Colour.YELLOW,
    "command": Colour.CYAN,
    "prompt": Colour.CYAN,
    "exit": Colour.BOLD,
}


class Entry(NamedTuple):
    """An event, and its line as it stands in the file."""

    line: Raw
    event: Event


class Transcript:
    """Turns events into what standard output gets, in one form. `to_terminal`: somebody looks at it."""

    def __init__(self, form: Form, *, colours: bool = False, to_terminal: bool = False) -> None:
        self._form = form
        self._colours = colours
        self._to_terminal = to_terminal
        self._session: str | None = None

    def encode(self, entry: Entry) -> bytes:
        """One event."""
        line, event = entry
        if self._form is Form.CAT:
            return raw_bytes(event)
        if self._form is Form.NDJSON:
            exact = bytes(line)
            return (escape_json(exact.decode()).encode() if self._to_terminal else exact) + b"\n"
        if self._form is Form.JSON:
            return _encoded(escape_json(msgspec.json.encode(event).decode()))
        look = plain_line(event) if self._form is Form.PLAIN else self._paragraph(event)
        return _encoded(self._heading(event) + look)

    def _heading(self, event: Event) -> str:
        """Of a fork and its ancestors, each numbers its own events: a line says where the next begins."""
        if event.session is None or event.session == self._session:
            return ""
        self._session = event.session
        return painted(f"# events of: {escape_line(event.session)}", Colour.DIM, self._colours) + "\n"

    def _paragraph(self, event: Event) -> str:
        """For a terminal: number, local time and kind, then the text, its further lines indented."""
        at = local_time(event.at).strftime("%H:%M:%S.%f")[:-3]
        head = f"{event.seq:>6}  {at}  "
        kind = f"{escape_line(event.kind):<{KIND_WIDTH}}"
        margin = " " * (len(head) + len(kind) + 1)
        body = _body(event).split("\n")
        lines = [painted(head, Colour.DIM, self._colours) + painted(kind, _colour(event), self._colours)]
        lines[0] = f"{lines[0]} {body[0]}".rstrip()
        lines += [f"{margin}{line}".rstrip() for line in body[1:]]
        return "\n".join(lines)


def plain_line(event: Event) -> str:
    """For `grep` and `cut`: seq, time, kind, text and data (without the exact bytes), parted by tabs."""
    text = escape_line(event.text) if event.text is not None else ""
    return "\t".join([str(event.seq), event.at, escape_line(event.kind), text, _facts_json(event)]).rstrip(
        "\t"
    )


def raw_bytes(event: Event) -> bytes:
    """The bytes that were recorded: those in `data.b64`, else the text."""
    exact = event.data.get("b64")
    if isinstance(exact, str):
        try:
            return b64decode(exact, validate=True)
        except binascii.Error:
            pass  # a program has another use for that name
    return (event.text or "").encode()


def _body(event: Event) -> str:
    text = escape(event.text) if event.text is not None else ""
    text = text.removesuffix("\n")
    facts = _facts_json(event)
    return (
        f"{text}  {facts}" if text and facts and "\n" not in text else "\n".join(filter(None, (text, facts)))
    )


def _facts_json(event: Event) -> str:
    facts: dict[str, Any] = {key: value for key, value in event.data.items() if key != "b64"}
    return escape_json(msgspec.json.encode(facts).decode()) if facts else ""


def _colour(event: Event) -> Colour | None:
    return _COLOURS.get(event.kind)


def _encoded(line: str) -> bytes:
    """In the encoding of standard output, as a line."""
    return f"{line}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace")
