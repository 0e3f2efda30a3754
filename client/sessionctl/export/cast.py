"""asciicast, the format of asciinema: version 3, or 2 for older players.

Source: https://docs.asciinema.org/manual/asciicast/v3/ and v2/. Owns the clock of the recording. The one
rule: the output that is played is the bytes that were recorded, decoded as one stream, so that a character
that was cut by two events comes out whole; bytes that are no UTF-8 become U+FFFD, as asciinema does it. Only
output that no terminal was there for gets the carriage returns that a player needs.
"""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from sessionctl.escape import escape_line
from sessionctl.export.formats import Options
from sessionctl.export.recording import Recording
from sessionctl.names import is_name
from sessionctl.terminal.newlines import Newlines
from sessionctl.transcripts.transcript import raw_bytes
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import Session

COLUMNS, ROWS = 80, 24
"""The size of a terminal that was never told."""

SIZE_MAX = 65_535
LABEL_LENGTH_MAX = 200
ENV_NAMES = ("SHELL", "TERM")

_STREAMS = {"output": "o", "input": "i"}
_encode = msgspec.json.Encoder().encode


def export(recording: Recording, options: Options) -> Iterator[bytes]:
    """A header, then one event a line."""
    resize = recording.first("resize")
    size = (resize and _size(resize)) or (COLUMNS, ROWS)
    yield _encode(_header(recording.info, size, options.cast_version)) + b"\n"
    newlines = Newlines(added=resize is None)
    tape = _Tape(recording.info.started_at, size, options.cast_version, newlines)
    for event in recording.events():
        yield from tape.lines(event)
    yield from tape.rest()


class _Tape:
    """Turns events into lines; knows when the last one was, and what is left of a character."""

    def __init__(self, started_at: str, size: tuple[int, int], version: int, newlines: Newlines) -> None:
        self._start = datetime.fromisoformat(started_at)
        self._size = size
        self._version = version
        self._newlines = newlines
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")(errors="replace") for kind in _STREAMS}
        self._now = 0
        self._written = 0

    def lines(self, event: Event) -> Iterator[bytes]:
        """The lines for one event: usually one, none for a size that is already so."""
        # Order is by seq; a clock that was set back must not make time run backwards.
        moment = datetime.fromisoformat(event.at) - self._start
        self._now = max(
            self._now, moment.days * 86_400_000_000 + moment.seconds * 10**6 + moment.microseconds
        )
        if event.kind in _STREAMS:
            data = raw_bytes(event)
            data = self._newlines.feed(data) if event.kind == "output" else data
            yield from self._text(event.kind, self._decoders[event.kind].decode(data))
        elif event.kind == "resize":
            size = _size(event)
            if size is not None and size != self._size:
                self._size = size
                yield self._line("r", f"{size[0]}x{size[1]}")
        elif event.kind == "exit":
            # Version 2 has no such event.
            if self._version == 3 and isinstance(event.data.get("exit_code"), int):
                yield self._line("x", str(event.data["exit_code"]))
        else:
            yield self._line("m", _label(event))

    def rest(self) -> Iterator[bytes]:
        """What is left at the end: half a character."""
        for kind, decoder in self._decoders.items():
            yield from self._text(kind, decoder.decode(b"", final=True))

    def _text(self, kind: str, text: str) -> Iterator[bytes]:
        if text:
            yield self._line(_STREAMS[kind], text)

    def _line(self, code: str, data: str) -> bytes:
        # Whole microseconds, so that intervals add up to the times they came from.
        since = self._now - self._written if self._version == 3 else self._now
        self._written = self._now
        return b'[%d.%06d, "%s", %s]\n' % (since // 10**6, since % 10**6, code.encode(), _encode(data))


def _header(info: Session, size: tuple[int, int], version: int) -> dict[str, Any]:
    columns, rows = size
    header: dict[str, Any] = {"version": version}
    env = _env(info)
    if version == 3:
        header["term"] = {"cols": columns, "rows": rows}
        if "TERM" in env:
            header["term"]["type"] = env["TERM"]
    else:
        header |= {"width": columns, "height": rows}
    header["timestamp"] = int(datetime.fromisoformat(info.started_at).timestamp())
    argv = info.meta.get("argv")
    if isinstance(argv, list) and argv:
        header["command"] = shlex.join(map(str, argv))
    elif isinstance(info.meta.get("command"), str):  # of an imported recording
        header["command"] = info.meta["command"]
    header["title"] = _title(info)
    if version == 3 and info.tags:
        header["tags"] = info.tags
    header["env"] = env
    return header


def _title(info: Session) -> str:
    """The name; of an imported recording the title, if that could not become the name."""
    imported = info.meta.get("title")
    return imported if isinstance(imported, str) and not is_name(imported) else info.name


def _env(info: Session) -> dict[str, str]:
    """What is known of shell and terminal; an imported recording has it in its own header."""
    imported = info.meta.get("env")
    known = (imported if isinstance(imported, dict) else {}) | info.env
    return {name: known[name] for name in ENV_NAMES if isinstance(known.get(name), str)}


def _size(event: Event) -> tuple[int, int] | None:
    columns, rows = event.data.get("cols"), event.data.get("rows")
    if not (isinstance(columns, int) and isinstance(rows, int)):
        return None
    return (columns, rows) if 0 < columns <= SIZE_MAX and 0 < rows <= SIZE_MAX else None


def _label(event: Event) -> str:
    """A chapter: a marker as it is, the text of a command, what kind it is for all others."""
    if event.kind == "marker":
        return event.text or ""
    text = escape_line((event.text or "")[:LABEL_LENGTH_MAX])
    if event.kind in {"command", "command_start"}:
        return text
    return f"{event.kind}: {text}" if text else event.kind
