"""A session file read by itself: what its lines say, and whether they hold together.

The one rule: no more of a file is in memory than one block and one line, however large it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from sessiond.clock import parse_time
from sessiond.storage.disk import Disk
from sessiond_client.wire.framing import LINE_BYTES_MAX
from sessiond_client.wire.lines import FORMAT_VERSION, AmendLine, FooterLine, HeaderLine
from sessiond_client.wire.messages import NAME_LENGTH_MAX, NAME_PATTERN, EndReason, Source, Status

BLOCK_BYTES = 1024 * 1024
FILE_LINE_BYTES_MAX = 2 * LINE_BYTES_MAX
"""A longer line is none of ours: an event comes in one line of the wire."""

ENDED = frozenset(Status) - {Status.RECORDING}
_name = re.compile(NAME_PATTERN)


class EventFacts(Struct, tag_field="type", tag="event", kw_only=True, frozen=True, gc=False):
    """What an event line says about itself."""

    seq: int
    kind: str
    at: str


class CommandFacts(Struct, tag_field="type", tag="command", kw_only=True, frozen=True, gc=False):
    """What a command line says about itself."""

    seq: int
    index: int
    at: str


T = TypeVar("T")

_header_decoder: msgspec.json.Decoder[HeaderLine] = msgspec.json.Decoder(HeaderLine)
_facts_decoder: msgspec.json.Decoder[EventFacts | CommandFacts] = msgspec.json.Decoder(
    EventFacts | CommandFacts
)
_decoder: msgspec.json.Decoder[EventFacts | CommandFacts | AmendLine | FooterLine] = msgspec.json.Decoder(
    EventFacts | CommandFacts | AmendLine | FooterLine
)


class LineDamage(Exception):  # noqa: N818 - a finding, not a failure
    """A line that does not hold; its text says why."""


@dataclass
class Sequence:
    """Counts event lines and holds them to their order."""

    next_seq: int = 0
    commands: int = 0
    byte_count: int = 0

    def take(self, facts: EventFacts | CommandFacts, line: bytes) -> tuple[str, int]:
        """Count one more event; its kind, and its time in microseconds. Raises LineDamage."""
        if facts.seq != self.next_seq:
            raise LineDamage(f"its seq is {facts.seq}, not {self.next_seq}")
        kind = "command"
        if isinstance(facts, CommandFacts):
            if facts.index != self.commands:
                raise LineDamage(f"its index is {facts.index}, not {self.commands}")
            self.commands += 1
        else:
            kind = facts.kind
        at = _require_time(facts.at)
        self.next_seq += 1
        self.byte_count += len(line) + 1
        return kind, at


def event_facts(line: bytes) -> EventFacts | CommandFacts:
    """What an event line says. Raises LineDamage."""
    return _decoded(_facts_decoder, line)


def header_of(line: bytes) -> HeaderLine:
    """What a header line says. Raises LineDamage."""
    header = _decoded(_header_decoder, line)
    if header.version != FORMAT_VERSION:
        raise LineDamage(f"its version is {header.version}")
    if header.source not in set(Source):
        raise LineDamage(f"its source is {header.source!r}")
    _require_time(header.started_at)
    for name in (header.name, *(header.previous_names or [])):
        _require_name(name)
    return header


def _require_name(name: str) -> None:
    if len(name) > NAME_LENGTH_MAX or not _name.match(name):
        raise LineDamage("its name is none")


def _require_time(text: str) -> int:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise LineDamage("its time is none") from None


def require_end(footer: FooterLine) -> None:
    """Raises LineDamage for a footer that does not say when a session ended, as what, and why."""
    if footer.status not in ENDED or footer.end_reason not in set(EndReason):
        raise LineDamage(f"no session ends as {footer.status!r}, {footer.end_reason!r}")
    _require_time(footer.ended_at)


def amend_of(line: bytes) -> AmendLine:
    """What an amend line says. Raises LineDamage."""
    record = _decoded(_decoder, line)
    if not isinstance(record, AmendLine):
        raise LineDamage("it amends nothing")
    if record.name is not None:
        _require_name(record.name)
    return record


def called_in(name: str, tags: list[str], amends: list[tuple[int, bytes]]) -> tuple[str, list[str]]:
    """Name and tags as header and amend lines say, the last one wins. Raises LineDamage."""
    for _, line in amends:
        amend = amend_of(line)
        name = name if amend.name is None else amend.name
        tags = tags if amend.tags is None else amend.tags
    return name, list(dict.fromkeys(tags))


def require_bare(line: bytes) -> None:
    """Raises LineDamage for white space around a line: readers put a field before its last brace."""
    if line[:1] != b"{" or line[-1:] != b"}":
        raise LineDamage("it does not begin and end with a brace")


def _decoded(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    require_bare(line)
    try:
        if not line.isascii():
            line.decode()
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LineDamage("it is no line of a session file") from None


def lines_of(disk: Disk, descriptor: int, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each line of an open file and where it begins, newlines left out. Raises LineDamage for a torn end."""
    rest = b""
    while block := disk.read_at(descriptor, offset + len(rest), BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield offset, line
            offset += len(line) + 1
        if len(rest) > FILE_LINE_BYTES_MAX:
            raise LineDamage(f"it is longer than {FILE_LINE_BYTES_MAX} bytes")
    if rest:
        raise LineDamage("it is torn")


class FileReading:
    """What a file says as a whole. `damage` is where the first bad line begins, and what is wrong with it.

    `on_event` is given seq, kind, time and line of each event. Raises OSError.
    """

    def __init__(
        self, disk: Disk, path: Path, on_event: Callable[[int, str, int, bytes], None] | None = None
    ) -> None:
        self.header: HeaderLine | None = None
        self.first_line = b""
        self.footer: FooterLine | None = None
        self.sequence = Sequence()
        self.amends: list[tuple[int, bytes]] = []
        self.last_at: int | None = None
        self.size = 0
        self.damage: tuple[int, str] | None = None
        self._digest = hashlib.sha256()
        self._on_event = on_event
        descriptor = disk.open_read(path)
        try:
            for offset, line in lines_of(disk, descriptor):
                self._take(offset, line)
                self.size = offset + len(line) + 1
        except LineDamage as damage:
            self.damage = self.size, str(damage)
        finally:
            disk.close(descriptor)
        if self.damage is None and self.size == 0:
            self.damage = 0, "there is no header"

    @property
    def digest(self) -> str:
        """The SHA-256 of the event lines."""
        return self._digest.hexdigest()

    def _take(self, offset: int, line: bytes) -> None:
        if self.header is None:
            self.header, self.first_line = header_of(line), line
            return
        if self.footer is not None:
            raise LineDamage("it comes after the footer")
        record = _decoded(_decoder, line)
        if isinstance(record, AmendLine):
            amend_of(line)
            self.amends.append((offset, line))
        elif isinstance(record, FooterLine):
            self._finish(record)
        else:
            kind, self.last_at = self.sequence.take(record, line)
            self._digest.update(line + b"\n")
            if self._on_event is not None:
                self._on_event(record.seq, kind, self.last_at, line)

    def _finish(self, footer: FooterLine) -> None:
        require_end(footer)
        counts = (self.sequence.next_seq, self.sequence.commands)
        if (footer.event_count, footer.command_count) != counts or footer.digest != self.digest:
            raise LineDamage("its counts or its digest are not those of the events")
        self.footer = footer
