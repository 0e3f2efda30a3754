"""What the versions of the session file have in common, as far as reading one from elsewhere goes.

The one rule: a line is taken whole or not at all; one that cannot be taken is damage, with its reason.
docs/storage.md describes both versions.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, structs

from sessiond import checks
from sessiond.clock import optional_time_text
from sessiond.errors import Refused
from sessiond_client.wire.messages import (
    DATA_DEPTH_MAX,
    ENV_BYTES_MAX,
    ITEMS_MAX,
    META_BYTES_MAX,
    NAME_LENGTH_MAX,
    SHORT_LENGTH_MAX,
    EndReason,
    Session,
    Status,
)

LINE_DEPTH_MAX = DATA_DEPTH_MAX + 1
"""A line is one level more than the `data` in it."""

SHORT_FIELDS = ("cli_version", "engine_base_url", "shell", "os", "hostname", "cwd")
"""What is one short text on the wire, and in a file could be of any length."""

_not_in_names = re.compile(r"[^\w-]+")


class Damage(Exception):  # noqa: N818 - a finding, not a failure
    """A line that cannot be taken; its text says why."""


class Taken(NamedTuple):
    """An event line as it is stored, without its newline."""

    kind: str
    at: int
    line: str


class End(NamedTuple):
    """How a session ended, as its footer says."""

    ended_at: str
    status: Status
    end_reason: EndReason
    exit_code: int | None


class _Header(Struct, tag_field="type", tag="header"):
    version: int


_header_decoder = msgspec.json.Decoder(_Header)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


class Version(ABC):
    """Reads the lines of one file. A version says what its header is and how it takes the lines after it."""

    def __init__(self, draft: Session) -> None:
        self.draft = draft
        self.end: End | None = None
        self.next_seq = 0
        self.commands = 0
        self._size = 0
        self._last_at: int | None = None
        self._digest = hashlib.sha256()

    def check_bounds(self) -> None:
        """Raises Damage if more is to be kept of the session than the wire would take of one."""
        for field in SHORT_FIELDS:
            if len(getattr(self.draft, field) or "") > SHORT_LENGTH_MAX:
                raise Damage(f"it has more than {SHORT_LENGTH_MAX} characters for `{field}`")
        if checks.env_size(self.draft.env) > ENV_BYTES_MAX:
            raise Damage(f"it has more than {ENV_BYTES_MAX} bytes for `env`")
        if len(msgspec.json.encode(self.draft.meta)) > META_BYTES_MAX:
            raise Damage(f"it has more than {META_BYTES_MAX} bytes for `meta`")

    @abstractmethod
    def take(self, line: bytes) -> Taken | None:
        """An event line as it is stored; None for a line that is no event. Raises Damage."""

    def count_in(self, taken: Taken) -> Taken:
        """Note one more event."""
        data = taken.line.encode() + b"\n"
        self._digest.update(data)
        self._size += len(data)
        self._last_at = taken.at
        self.next_seq += 1
        self.commands += taken.kind == "command"
        return taken

    def digest(self) -> str:
        """The SHA-256 of the event lines so far."""
        return self._digest.hexdigest()

    def session(self) -> Session:
        """The session as far as it was read; without a footer it was interrupted."""
        last_event_at = optional_time_text(self._last_at)
        end = self.end or End(
            last_event_at or self.draft.started_at, Status.INTERRUPTED, EndReason.IMPORTED, None
        )
        return structs.replace(
            self.draft,
            status=end.status,
            ended_at=end.ended_at,
            end_reason=end.end_reason,
            exit_code=end.exit_code,
            next_seq=self.next_seq,
            event_count=self.next_seq,
            command_count=self.commands,
            byte_count=self._size,
            digest=self.digest(),
            last_event_at=last_event_at,
        )

    def check_readable(self, line: bytes) -> None:
        """Raises Damage for valid JSON that is nested too deeply, or has a number that is too large."""
        # As many brackets as levels are needed: the walk is for the few that have more.
        if line.count(b"{") + line.count(b"[") > LINE_DEPTH_MAX and checks.depth(line) > LINE_DEPTH_MAX:
            raise Damage(f"it is nested deeper than {DATA_DEPTH_MAX} levels")
        if not checks.has_readable_numbers(line):
            raise Damage("it has a number that is too large")


def version_number(line: bytes) -> int:
    """The version that a header line names. Raises Damage for a line that is no header."""
    header: _Header = decoded(_header_decoder, line, "a header")
    return header.version


def decoded(decoder: msgspec.json.Decoder[Any], line: bytes, what: str) -> Any:
    """What a line says. Raises Damage."""
    try:
        if not line.isascii():
            line.decode()
        return decoder.decode(line)
    except UnicodeDecodeError:
        raise Damage("it is not valid UTF-8") from None
    except RecursionError:
        raise Damage("it is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise Damage(f"it is not {what}: {error}") from None


def keep_unknown(meta: dict[str, Any], line: bytes, known: Sequence[str]) -> dict[str, Any]:
    """`meta` and the fields of a header or footer that we do not know, each under its own name.

    One whose name is taken gets `header.` in front of it.
    """
    kept = dict(meta)
    for name, value in decoded(_object_decoder, line, "an object").items():
        if name != "type" and name not in known:
            keep(kept, name, value)
    return kept


def keep(meta: dict[str, Any], name: str, value: Any) -> None:
    """Put what has no place of its own into `meta`."""
    while name in meta:
        name = f"header.{name}"
    meta[name] = value


def usable_name(name: str, meta: dict[str, Any]) -> str:
    """The name with `-` in place of what names may not have; if that changed it, `meta` gets it as it was."""
    usable = _not_in_names.sub("-", name).strip("-") if _not_in_names.search(name) else name
    usable = usable[:NAME_LENGTH_MAX]
    if usable != name:
        keep(meta, "name", name)
    return usable


def usable_tags(tags: Sequence[str], meta: dict[str, Any]) -> list[str]:
    """The tags, normalised; `meta` gets those that cannot be tags, or are too many."""
    usable: list[str] = []
    odd: list[str] = []
    for tag in tags:
        try:
            usable += checks.normalised_tags([tag])
        except Refused:
            odd.append(tag)
    usable = list(dict.fromkeys(usable))
    odd += usable[ITEMS_MAX:]
    if odd:
        keep(meta, "tags", odd)
    return usable[:ITEMS_MAX]
