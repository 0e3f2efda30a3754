"""The lines of a session file, format version 3, which are also what readers and followers receive.

A file is a header line, event and command lines in the order of `seq`, amend lines in between while it
records, and a footer line once it is sealed. Labels and milestones have a file of their own, state.ndjson.
The one rule: a line is encoded once, by the daemon's writer; everybody else passes those bytes on or decodes
them here. docs/storage.md describes the format.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sessiond_client.wire.words import ExitCode, Seq

FORMAT_VERSION = 3


class HeaderLine(Struct, tag_field="type", tag="header", kw_only=True, frozen=True):
    """The first line of a file: what was known when the session began, or was last brought up to date."""

    version: int
    id: str
    name: str
    source: str
    started_at: str
    shell: str | None = None
    os: str | None = None
    hostname: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    tags: list[str] = []
    cli_version: str | None = None
    engine_base_url: str | None = None
    parent_ulid: str | None = None
    parent_seq: Seq | None = None
    meta: dict[str, Any] = {}
    previous_names: list[str] | UnsetType = UNSET


class EventLine(
    Struct, tag_field="type", tag="event", kw_only=True, frozen=True, omit_defaults=True, gc=False
):
    """One event. `data` is whatever JSON object its producer gave."""

    seq: int
    kind: str
    at: str
    text: str | None = None
    data: Raw | UnsetType = UNSET
    session: str | None = None


class CommandLine(Struct, tag_field="type", tag="command", kw_only=True, frozen=True, omit_defaults=True):
    """One finished command: an event of kind `command`, its well-known data as fields of their own."""

    seq: int
    index: int
    at: str
    command: str
    cwd: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    duration_ms: int | float | None = None
    data: dict[str, Any] = {}
    session: str | None = None


class AmendLine(Struct, tag_field="type", tag="amend", kw_only=True, frozen=True, omit_defaults=True):
    """A change of name or tags while the session records; the last one wins. Not an event."""

    at: str
    name: str | None = None
    tags: list[str] | None = None


class FooterLine(Struct, tag_field="type", tag="footer", kw_only=True, frozen=True):
    """The last line of a sealed file. `digest` is the SHA-256 of all event and command lines."""

    ended_at: str
    status: str
    end_reason: str
    exit_code: ExitCode | None
    command_count: int
    event_count: int
    digest: str


class LabelLine(Struct, tag_field="type", tag="label", kw_only=True, frozen=True):
    """A line of state.ndjson: the label stands for this session from now on, or (null) for none."""

    at: str
    label: str
    session: str | None


class MilestoneLine(Struct, tag_field="type", tag="milestone", kw_only=True, frozen=True):
    """A line of state.ndjson: the key has this value from now on."""

    at: str
    key: str
    value: str


class Event(Struct, kw_only=True, frozen=True):
    """An event as a program sees it, whichever line it came from; `at` is RFC 3339 text in UTC.

    `session` is the ULID of its session where all sessions are followed, else None.
    """

    seq: int
    kind: str
    at: str
    text: str | None = None
    data: dict[str, Any] = {}
    session: str | None = None


class EventText(Struct, tag_field="type", tag="event", kw_only=True, frozen=True):
    """An event line, its `data` decoded."""

    seq: int
    kind: str
    at: str
    text: str | None = None
    data: dict[str, Any] = {}
    session: str | None = None


_event_decoder: msgspec.json.Decoder[EventText | CommandLine] = msgspec.json.Decoder(EventText | CommandLine)
_COMMAND_FIELDS = ("index", "cwd", "started_at", "ended_at", "exit_code", "duration_ms")


def decode_event(line: bytes | Raw) -> Event:
    """An event or command line as an `Event`; a command's own fields are found in `data` and win there.

    Raises `msgspec.DecodeError` (or `UnicodeDecodeError`) for anything else.
    """
    record = _event_decoder.decode(line)
    if isinstance(record, EventText):
        return Event(
            seq=record.seq,
            kind=record.kind,
            at=record.at,
            text=record.text,
            data=record.data,
            session=record.session,
        )
    fields = {name: value for name in _COMMAND_FIELDS if (value := getattr(record, name)) is not None}
    return Event(
        seq=record.seq,
        kind="command",
        at=record.at,
        text=record.command,
        data=record.data | fields,
        session=record.session,
    )
