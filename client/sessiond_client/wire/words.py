"""What messages are made of: limits, the types of their fields, enumerations, sessions and events.

The one rule: a limit, a pattern and a word of the wire has its one place here; both ends check against it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

PROTOCOL_VERSION = 1

EVENTS_PER_APPEND_MAX = 4096
TEXT_BYTES_MAX = 1024 * 1024
DATA_DEPTH_MAX = 64
NAME_LENGTH_MAX = 128
SHORT_LENGTH_MAX = 4096
"""The longest of the short texts (a directory, a tag, a search term), in characters."""

ITEMS_MAX = 256
"""The longest list of tags or kinds in a request."""

META_BYTES_MAX = 1024 * 1024
"""The largest `meta` of a session, as JSON."""

ENV_BYTES_MAX = 1024 * 1024
"""The largest `env` of a session: its names and values in UTF-8. The system gives no variable 128 KiB."""

LIST_LIMIT_DEFAULT = 50
LIST_LIMIT_MAX = 1000
LABEL_LENGTH_MAX = 128
LABELS_MAX = 1024
"""How many labels may stand for one session."""

VALUE_BYTES_MAX = 64 * 1024
"""The longest value of a milestone, in bytes of UTF-8."""

SEARCH_LIMIT_DEFAULT = 50
SEARCH_LIMIT_MAX = 1000
READ_LIMIT_DEFAULT = 1000
READ_LIMIT_MAX = 10_000
PRODUCER_WINDOW = 1024
"""How many appends of one producer may be unanswered; older receipts are dropped by the daemon."""

REQUESTS_IN_FLIGHT_MAX = 1024
"""How many requests of one connection may be unanswered; the daemon reads no further until some are."""

KIND_PATTERN = r"^[a-z][a-z0-9_.]{0,63}\Z"
NAME_PATTERN = r"^[\w-]+\Z"
TAG_PATTERN = r"^[\w-]+\Z"
LABEL_PATTERN = r"^[^\x00-\x1f\x7f]+\Z"
ULID_PATTERN = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}\Z"

Ulid = Annotated[str, Meta(pattern=ULID_PATTERN)]
Name = Annotated[str, Meta(pattern=NAME_PATTERN, min_length=1, max_length=NAME_LENGTH_MAX)]
LabelText = Annotated[str, Meta(pattern=LABEL_PATTERN, min_length=1, max_length=LABEL_LENGTH_MAX)]
Time = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Seq = Annotated[int, Meta(ge=-1, le=2**53 - 1)]
Short = Annotated[str, Meta(max_length=SHORT_LENGTH_MAX)]
ExitCode = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Shorts = Annotated[list[Short], Meta(max_length=ITEMS_MAX)]


RECORDED_ENV_DEFAULT = ("PATH", "SHELL", "HOME", "USER", "PWD", "TERM")
"""The environment variables that are kept with a session, unless the daemon is told otherwise."""


class Source(StrEnum):
    """What kind of program records."""

    SHELL = "shell"
    COMMAND = "command"
    AGENT = "agent"
    APP = "app"
    IMPORT = "import"


class Status(StrEnum):
    """Where a session stands. `interrupted`: its owner went without ending it."""

    RECORDING = "recording"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"


class EndReason(StrEnum):
    """Why a session ended.

    `client_lost`: the daemon saw the owner go; `daemon_lost`: the owner went while no daemon was running;
    `host_restarted`: the machine was restarted meanwhile.
    """

    STOPPED = "stopped"
    EXITED = "exited"
    CLIENT_LOST = "client_lost"
    DAEMON_LOST = "daemon_lost"
    HOST_RESTARTED = "host_restarted"
    IMPORTED = "imported"


class ErrorCode(StrEnum):
    """Why a request was refused. Stable for ever."""

    INVALID = "invalid"
    UNKNOWN_TYPE = "unknown_type"
    UNSUPPORTED_PROTOCOL = "unsupported_protocol"
    NOT_FOUND = "not_found"
    AMBIGUOUS = "ambiguous"
    EXISTS = "exists"
    CONFLICT = "conflict"
    SESSION_ENDED = "session_ended"
    SESSION_RECORDING = "session_recording"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    DISK_FULL = "disk_full"
    READ_ONLY = "read_only"
    CORRUPT = "corrupt"
    DENIED = "denied"
    INTERNAL = "internal"


class SearchMode(StrEnum):
    """How a search reads its query.

    `words`: whole words or beginnings of them, phrases, AND, OR, NOT; `substring`: these characters, in
    upper or lower case; `regex`: a regular expression in RE2's syntax.
    """

    WORDS = "words"
    SUBSTRING = "substring"
    REGEX = "regex"


class Session(Struct, kw_only=True, frozen=True):
    """One session as the daemon knows it. Times are RFC 3339 text in UTC with microseconds."""

    ulid: str
    name: str
    source: Source
    status: Status
    started_at: str
    ended_at: str | None = None
    end_reason: EndReason | None = None
    exit_code: int | None = None
    recovered: bool = False
    cli_version: str | None = None
    engine_base_url: str | None = None
    parent_ulid: str | None = None
    parent_seq: int | None = None
    shell: str | None = None
    os: str | None = None
    hostname: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    tags: list[str] = []
    labels: list[str] = []
    meta: dict[str, Any] = {}
    event_count: int = 0
    command_count: int = 0
    byte_count: int = 0
    next_seq: int = 0
    digest: str | None = None
    last_event_at: str | None = None
    previous_names: list[str] = []
    trashed_at: str | None = None


class NewEvent(Struct, kw_only=True, frozen=True, omit_defaults=True, gc=False):
    """An event on its way in. `data` is a JSON object, passed on as the bytes it came in."""

    kind: str
    text: str | None = None
    data: Raw = Raw()
    at: Time | None = None
