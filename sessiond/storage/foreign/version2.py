"""Files of version 2, which the `rec` tool writes: its commands become command events.

The one rule: nothing that a line says is lost; what has no place of its own goes under `data`, or for the
session under `meta`. docs/storage.md has the table.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw, Struct, structs

from sessiond import checks
from sessiond.clock import time_text
from sessiond.errors import Refused
from sessiond.storage.encoding import encode, encode_events
from sessiond.storage.foreign.versions import (
    Damage,
    End,
    Taken,
    Version,
    decoded,
    keep_unknown,
    usable_name,
    usable_tags,
)
from sessiond.storage.identity import derived_ulid
from sessiond_client.wire.messages import EndReason, NewEvent, Session, Source, Status

SECONDS_MIN = -62_135_596_800
SECONDS_MAX = 253_402_300_799
"""The years 1 to 9999."""

UNKNOWN_KIND = "note"


class _Header(Struct, kw_only=True):
    version: int
    id: str
    name: str
    started_at: float
    shell: str | None = None
    os: str | None = None
    hostname: str | None = None
    env: dict[str, str] = {}
    tags: list[str] = []
    recovered: bool | None = None


class _Command(Struct, kw_only=True):
    command: str
    started_at: float
    index: int | None = None
    cwd: str | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    duration_ms: int | float | None = None


class _Footer(Struct, kw_only=True):
    ended_at: float
    status: str
    command_count: int | None = None


class _Typed(Struct):
    type: Any = None


_header_decoder = msgspec.json.Decoder(_Header)
_command_decoder = msgspec.json.Decoder(_Command)
_footer_decoder = msgspec.json.Decoder(_Footer)
_typed_decoder = msgspec.json.Decoder(_Typed)
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])


class Version2(Version):
    """A file of the `rec` tool: times are seconds since 1970 as floats, ids are UUIDs."""

    def __init__(self, line: bytes) -> None:
        header: _Header = decoded(_header_decoder, line, "a header of version 2")
        self.check_readable(line)
        self._at = _microseconds(header.started_at)
        super().__init__(_draft(header, line, self._at))
        self.check_bounds()

    def take(self, line: bytes) -> Taken | None:
        """See `Version.take`."""
        kind = decoded(_typed_decoder, line, "a JSON object").type
        self.check_readable(line)
        if self.end is not None:
            raise Damage("it comes after the footer")
        if kind == "header":
            raise Damage("it is a second header")
        if kind == "footer":
            self._finish(line)
            return None
        event = self._command(line) if kind == "command" else self._unknown(line)
        return self._encoded(event)

    def _command(self, line: bytes) -> NewEvent:
        command: _Command = decoded(_command_decoder, line, "a command of version 2")
        started_at = _microseconds(command.started_at)
        ended_at = None if command.ended_at is None else _microseconds(command.ended_at)
        self._at = started_at if ended_at is None else ended_at
        data: dict[str, Any] = {
            "cwd": command.cwd,
            "started_at": time_text(started_at),
            "ended_at": None if ended_at is None else time_text(ended_at),
            "exit_code": command.exit_code,
            "duration_ms": command.duration_ms,
        }
        if command.index not in (None, self.commands):
            data["rec_index"] = command.index
        fields: dict[str, Raw] = decoded(_fields_decoder, line, "an object")
        known = {"type", *_Command.__struct_fields__}
        data |= {name: value for name, value in fields.items() if name not in known}
        return NewEvent(kind="command", text=command.command, data=Raw(encode(data)))

    def _unknown(self, line: bytes) -> NewEvent:
        # In valid JSON a carriage return is white space; in a file it would pass for the end of a line.
        return NewEvent(kind=UNKNOWN_KIND, data=Raw(line.replace(b"\r", b" ").strip()))

    def _encoded(self, event: NewEvent) -> Taken:
        try:
            checks.check_event(event, self.next_seq)
            encoded = encode_events([event], self.next_seq, self.commands, self._at)
        except Refused as refusal:
            raise Damage(refusal.message) from None
        except msgspec.MsgspecError as error:
            raise Damage(f"it cannot be kept: {error}") from None
        return self.count_in(Taken(event.kind, self._at, encoded.data[:-1].decode()))

    def _finish(self, line: bytes) -> None:
        footer: _Footer = decoded(_footer_decoder, line, "a footer of version 2")
        completed = footer.status == "completed"
        self.end = End(
            time_text(_microseconds(footer.ended_at)),
            Status.COMPLETED if completed else Status.INTERRUPTED,
            EndReason.STOPPED if completed else EndReason.IMPORTED,
            None,
        )
        meta = keep_unknown(self.draft.meta, line, _Footer.__struct_fields__)
        self.draft = structs.replace(self.draft, meta=meta)
        self.check_bounds()


def _microseconds(seconds: float) -> int:
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise Damage(f"{seconds!r} is no time")
    return round(seconds * 1_000_000)


def _draft(header: _Header, line: bytes, started_at: int) -> Session:
    """The session as its header tells it."""
    try:
        identity = UUID(header.id)
    except ValueError:
        raise Damage(f"{header.id[:64]!r} is no UUID") from None
    meta = keep_unknown({"rec_id": header.id}, line, _Header.__struct_fields__)
    started_text = time_text(started_at)
    return Session(
        ulid=derived_ulid(started_at, identity.bytes),
        name=usable_name(header.name, meta),
        source=Source.SHELL,
        status=Status.INTERRUPTED,
        started_at=started_text,
        recovered=bool(header.recovered),
        shell=header.shell,
        os=header.os,
        hostname=header.hostname,
        env=header.env,
        tags=usable_tags(header.tags, meta),
        meta=meta,
    )
