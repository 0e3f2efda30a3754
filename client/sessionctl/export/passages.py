"""A session as passages to read: stretches of terminal output, and the events between them.

Owns what a reader gets to see. The one rule: every text that leaves here is escaped, and no passage of output
is much longer than `PASSAGE_LENGTH_MAX`, whatever the session's length; it ends with a whole line, unless
that is longer than `LINE_LENGTH_MAX`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from sessionctl.escape import escape, escape_json, escape_line
from sessionctl.export.recording import Recording
from sessionctl.export.terminal_text import TerminalText
from sessionctl.output import counted
from sessionctl.times import short_duration
from sessionctl.transcripts.transcript import raw_bytes
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import Session

PASSAGE_LENGTH_MAX = 64 * 1024
"""After so many characters of output a new passage begins with the next line."""

LINE_LENGTH_MAX = 1024 * 1024
"""A longer line goes on in the next passage."""

SILENT_KINDS = frozenset({"input", "resize"})
"""What was typed is seen in the output, as far as it was shown; sizes are for players."""

_COMMAND_FACTS = ("index", "cwd", "started_at", "ended_at", "exit_code", "duration_ms")


class Passage(Struct, frozen=True, kw_only=True):
    """`kind` of event, when it was, `notes` for the headline, the `text`, and other `facts` as JSON.

    `goes_on`: its last line does, in the next passage.
    """

    kind: str
    at: str
    text: str
    notes: list[str] = []
    facts: str = ""
    goes_on: bool = False


def passages(recording: Recording) -> Iterator[Passage]:
    """All there is to read, in order."""
    output = _Output()
    for event in recording.events():
        if event.kind == "output":
            yield from output.passages(event)
        elif event.kind not in SILENT_KINDS:
            yield from output.rest()
            yield _passage(event)
    yield from output.rest()


def about(info: Session) -> list[tuple[str, str]]:
    """What is known of the session, in the order in which people ask."""
    known = {
        "Session": info.ulid,
        "Status": " ".join(
            filter(None, (info.status.value, info.end_reason and f"({info.end_reason.value})"))
        ),
        "Started": clock(info.started_at),
        "Ended": info.ended_at and clock(info.ended_at),
        "Exit code": None if info.exit_code is None else str(info.exit_code),
        "Host": " ".join(filter(None, (info.hostname, info.os))),
        "Directory": info.cwd,
        "Tags": " ".join(info.tags),
        "Events": f"{info.next_seq}, of which {counted(info.command_count, 'command')}",
    }
    return [(name, escape_line(value)) for name, value in known.items() if value]


def clock(at: str) -> str:
    """A time of the wire, to the second, for people anywhere."""
    return f"{at[:10]} {at[11:19]} UTC"


class _Output:
    """Output events, gathered into passages."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._terminal = TerminalText()
        self._parts: list[str] = []
        self._length = 0
        self._since: str | None = None

    def passages(self, event: Event) -> Iterator[Passage]:
        self._since = self._since or event.at
        text = self._terminal.feed(self._decoder.decode(raw_bytes(event)))
        self._gather(text)
        if text and self._length > PASSAGE_LENGTH_MAX:
            yield from self._full(event.at)

    def rest(self) -> Iterator[Passage]:
        if self._since is not None:
            self._gather(self._terminal.feed(self._decoder.decode(b"", final=True)))
            self._gather(self._terminal.rest())
            text = "".join(self._parts)
            self._parts.clear()
            self._length = 0
            if text:
                yield self._passage(text)
            self._since = None

    def _gather(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)

    def _full(self, now: str) -> Iterator[Passage]:
        """The whole lines there are; a line that is too long, as far as it has come."""
        text = "".join(self._parts)
        end = text.rfind("\n") + 1 or (len(text) if len(text) > LINE_LENGTH_MAX else 0)
        self._parts = [text[end:]]
        self._length = len(text) - end
        if end:
            yield self._passage(text[:end], goes_on=not text.endswith("\n", 0, end))
            self._since = now

    def _passage(self, text: str, *, goes_on: bool = False) -> Passage:
        shown = escape(text).removesuffix("\n")
        return Passage(kind="output", at=self._since or "", text=shown, goes_on=goes_on)


def _passage(event: Event) -> Passage:
    data = event.data
    notes: list[str] = []
    if event.kind == "command":
        data = {name: value for name, value in data.items() if name not in _COMMAND_FACTS}
        notes = _command_notes(event.data)
    facts = {name: value for name, value in data.items() if name != "b64"}
    return Passage(
        kind=event.kind,
        at=event.at,
        text=escape(event.text or "").removesuffix("\n"),
        notes=notes,
        facts=escape_json(msgspec.json.encode(facts).decode()) if facts else "",
    )


def _command_notes(data: dict[str, Any]) -> list[str]:
    notes = []
    if data.get("cwd"):
        notes.append(f"in {escape_line(str(data['cwd']))}")
    if data.get("exit_code") is not None:
        notes.append(f"exit code {data['exit_code']}")
    if data.get("duration_ms") is not None:
        notes.append(f"took {short_duration(data['duration_ms'] / 1000)}")
    return notes
