"""Sessions and events to the bytes of their lines.

The one rule: this is the only place that makes a line, and it is called once for each; what it returns goes
to the file, the database, the readers and the followers as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from sessiond import checks
from sessiond.clock import microseconds_of, time_text
from sessiond_client.wire.framing import EVENT_LINE_BYTES_MAX
from sessiond_client.wire.lines import (
    FORMAT_VERSION,
    CommandLine,
    EventLine,
    FooterLine,
    HeaderLine,
)
from sessiond_client.wire.messages import NewEvent, Session

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


class CommandData(msgspec.Struct, forbid_unknown_fields=False):
    """The well-known data of a finished command; whatever else there is stays under `data`."""

    cwd: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    duration_ms: int | float | None = None


_command_decoder = msgspec.json.Decoder(CommandData)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


class EncodedEvents(NamedTuple):
    """The lines of one append as one piece, newlines included, and what the database keeps beside each."""

    data: bytes
    kinds: list[str]
    times: list[int]
    commands: int


def encode_events(
    events: Sequence[NewEvent], first_seq: int, first_index: int, received_at: int
) -> EncodedEvents:
    """Events as consecutive lines; `received_at` stands in where one has no time.

    Raises msgspec.ValidationError if the well-known data of a command has odd types, and Refused if its line
    is too long: numbers in it may be shorter as they came (`1e15`) than as they are kept.
    """
    received_text = time_text(received_at)
    lines: list[EventLine | CommandLine] = []
    times: list[int] = []
    index = first_index
    for seq, event in enumerate(events, first_seq):
        if event.at is None:
            at, at_text = received_at, received_text
        else:
            at = microseconds_of(event.at)
            at_text = time_text(at)
        times.append(at)
        if event.kind == "command":
            lines.append(_command_line(event, seq, index, at_text))
            index += 1
        else:
            data = event.data or UNSET
            lines.append(EventLine(seq=seq, kind=event.kind, at=at_text, text=event.text, data=data))
    kinds = [event.kind for event in events]
    encoded = _encoder.encode_lines(lines)
    if len(encoded) > EVENT_LINE_BYTES_MAX:
        _check_lengths(encoded)
    return EncodedEvents(encoded, kinds, times, index - first_index)


def _check_lengths(data: bytes) -> None:
    for number, line in enumerate(data.split(b"\n")):
        if len(line) >= EVENT_LINE_BYTES_MAX:
            raise checks.too_long(f"an event whose line has more than {EVENT_LINE_BYTES_MAX} bytes", number)


def _command_line(event: NewEvent, seq: int, index: int, at: str) -> CommandLine:
    raw = event.data or b"{}"
    known = _command_decoder.decode(raw)
    rest = {
        key: value
        for key, value in _object_decoder.decode(raw).items()
        if key not in CommandData.__struct_fields__ and key != "index"
    }
    return CommandLine(
        seq=seq,
        index=index,
        at=at,
        command=event.text or "",
        cwd=known.cwd,
        started_at=known.started_at,
        ended_at=known.ended_at,
        exit_code=known.exit_code,
        duration_ms=known.duration_ms,
        data=rest,
    )


def header_line(session: Session) -> bytes:
    """The first line of a session's file, without its newline."""
    return encode(
        HeaderLine(
            version=FORMAT_VERSION,
            id=session.ulid,
            name=session.name,
            source=session.source,
            started_at=session.started_at,
            shell=session.shell,
            os=session.os,
            hostname=session.hostname,
            cwd=session.cwd,
            env=session.env,
            tags=session.tags,
            cli_version=session.cli_version,
            engine_base_url=session.engine_base_url,
            parent_ulid=session.parent_ulid,
            parent_seq=session.parent_seq,
            meta=session.meta,
            previous_names=session.previous_names or UNSET,
        )
    )


def footer_line(session: Session) -> bytes:
    """The last line of an ended session's file, without its newline."""
    assert session.ended_at is not None
    assert session.end_reason is not None
    assert session.digest is not None
    return encode(
        FooterLine(
            ended_at=session.ended_at,
            status=session.status,
            end_reason=session.end_reason,
            exit_code=session.exit_code,
            command_count=session.command_count,
            event_count=session.event_count,
            digest=session.digest,
        )
    )
