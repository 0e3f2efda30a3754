"""Files of version 3, which this daemon writes: read from elsewhere, perhaps torn or changed.

The one rule: event and command lines are taken byte for byte, after the same checks as an append.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, structs

from sessiond import checks
from sessiond.clock import microseconds_of, parse_time, time_text
from sessiond.errors import Refused
from sessiond.storage.commit.amendments import PREVIOUS_NAMES_MAX
from sessiond.storage.foreign.versions import (
    Damage,
    End,
    Taken,
    Version,
    decoded,
    keep,
    keep_unknown,
    usable_name,
    usable_tags,
)
from sessiond_client.wire.lines import AmendLine, CommandLine, EventText, FooterLine, HeaderLine
from sessiond_client.wire.messages import (
    ULID_PATTERN,
    EndReason,
    NewEvent,
    Session,
    Source,
    Status,
    Time,
)

_ulid = re.compile(ULID_PATTERN)


class _Event(NewEvent, tag_field="type", tag="event", kw_only=True, frozen=True):
    """An event line; a `session` would be one more beside the one that a follower is told."""

    seq: int
    session: Literal[None] = None


class _Command(Struct, tag_field="type", tag="command", kw_only=True, frozen=True, gc=False):
    seq: int
    index: int
    at: Time
    command: str
    cwd: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    duration_ms: int | float | None = None
    data: Raw = Raw()
    session: Literal[None] = None


_reader: msgspec.json.Decoder[EventText | CommandLine] = msgspec.json.Decoder(EventText | CommandLine)
_header_decoder = msgspec.json.Decoder(HeaderLine)
_line_decoder: msgspec.json.Decoder[_Event | _Command | AmendLine | FooterLine] = msgspec.json.Decoder(
    _Event | _Command | AmendLine | FooterLine
)


class Version3(Version):
    """A file as docs/storage.md describes it."""

    def __init__(self, line: bytes) -> None:
        header: HeaderLine = decoded(_header_decoder, line, "a header of version 3")
        self.check_readable(line)
        super().__init__(_draft(header, line))
        self.check_bounds()

    def take(self, line: bytes) -> Taken | None:
        """See `Version.take`."""
        record: _Event | _Command | AmendLine | FooterLine = decoded(
            _line_decoder, line, "a line of version 3"
        )
        self.check_readable(line)
        if self.end is not None:
            raise Damage("it comes after the footer")
        if isinstance(record, _Event | _Command):
            return self._take_event(record, line)
        if isinstance(record, AmendLine):
            self._amend(record)
        else:
            self._finish(record, line)
        return None

    def _take_event(self, record: _Event | _Command, line: bytes) -> Taken:
        if line[:1] != b"{" or line[-1:] != b"}" or b"\r" in line:
            raise Damage("it has white space around it, or a carriage return in it")
        if record.seq != self.next_seq:
            raise Damage(f"its seq is {record.seq}, not {self.next_seq}")
        if isinstance(record, _Command):
            if record.index != self.commands:
                raise Damage(f"its index is {record.index}, not {self.commands}")
            event = NewEvent(kind="command", text=record.command, data=record.data, at=record.at)
        elif record.kind == "command":
            raise Damage("it is a command, but no command line")
        else:
            event = record
        if event.at is None:
            raise Damage("it has no time")
        try:
            checks.check_event(event, record.seq)
        except Refused as refusal:
            raise Damage(refusal.message) from None
        # A field that is given twice is read by some as the first, by others as the last.
        decoded(_reader, line, "a line that every reader understands")
        return self.count_in(Taken(event.kind, microseconds_of(event.at), line.decode()))

    def _amend(self, amend: AmendLine) -> None:
        meta = dict(self.draft.meta)
        if amend.name is not None:
            name = usable_name(amend.name, meta)
            if name != self.draft.name:
                previous = [*self.draft.previous_names, self.draft.name][-PREVIOUS_NAMES_MAX:]
                self.draft = structs.replace(self.draft, name=name, previous_names=previous)
        if amend.tags is not None:
            self.draft = structs.replace(self.draft, tags=usable_tags(amend.tags, meta))
        self.draft = structs.replace(self.draft, meta=meta)

    def _finish(self, footer: FooterLine, line: bytes) -> None:
        if footer.digest != self.digest():
            raise Damage("its digest is not that of the events")
        if footer.status not in (Status.COMPLETED, Status.INTERRUPTED):
            raise Damage(f"its status is {footer.status!r}")
        known = set(EndReason)
        self.end = End(
            _time(footer.ended_at),
            Status(footer.status),
            EndReason(footer.end_reason) if footer.end_reason in known else EndReason.IMPORTED,
            footer.exit_code,
        )
        meta = keep_unknown(self.draft.meta, line, FooterLine.__struct_fields__)
        self.draft = structs.replace(self.draft, meta=meta)
        self.check_bounds()


def _time(text: str) -> str:
    try:
        return time_text(parse_time(text))
    except (ValueError, OverflowError):
        raise Damage(f"{text[:64]!r} is no time") from None


def _draft(header: HeaderLine, line: bytes) -> Session:
    """The session as its header tells it."""
    if not _ulid.match(header.id):
        raise Damage(f"{header.id[:64]!r} is no id of a session")
    if header.parent_ulid is not None and not _ulid.match(header.parent_ulid):
        raise Damage(f"{header.parent_ulid[:64]!r} is no id of a parent")
    meta: dict[str, Any] = keep_unknown(header.meta, line, HeaderLine.__struct_fields__)
    source = Source.IMPORT
    if header.source in set(Source):
        source = Source(header.source)
    else:
        keep(meta, "source", header.source)
    return Session(
        ulid=header.id,
        name=usable_name(header.name, meta),
        source=source,
        status=Status.INTERRUPTED,
        started_at=_time(header.started_at),
        cli_version=header.cli_version,
        engine_base_url=header.engine_base_url,
        parent_ulid=header.parent_ulid,
        parent_seq=header.parent_seq,
        shell=header.shell,
        os=header.os,
        hostname=header.hostname,
        cwd=header.cwd,
        env=header.env,
        tags=usable_tags(header.tags, meta),
        meta=meta,
        previous_names=[] if header.previous_names is UNSET else header.previous_names[-PREVIOUS_NAMES_MAX:],
    )
