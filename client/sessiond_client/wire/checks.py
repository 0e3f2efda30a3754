"""What is checked of a request beyond what its types say.

The daemon does so before it reaches the writer, and a client before it waits in the spool. The one rule: a
check here depends on the request alone, never on the state of the stores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sessiond_client.wire.framing import EVENT_BYTES_MAX
from sessiond_client.wire.messages import (
    DATA_DEPTH_MAX,
    ENV_BYTES_MAX,
    EVENTS_PER_APPEND_MAX,
    KIND_PATTERN,
    META_BYTES_MAX,
    TAG_PATTERN,
    TEXT_BYTES_MAX,
    Append,
    ErrorCode,
    NewEvent,
    Save,
    Status,
)
from sessiond_client.wire.refused import Refused

KINDS_REMEMBERED_MAX = 1024

_OUTERMOST_YEARS = (1, 9999)
_kind = re.compile(KIND_PATTERN)
_huge_number = re.compile(rb"[eE]\+?\d{3}|\d{200}")
_tag = re.compile(TAG_PATTERN)
_known_kinds: set[str] = set()


def check_append(request: Append, size: int) -> None:
    """Raises Refused for too many or no events, bad kinds, long texts, data that is no object or too deep.

    `size` is that of the request, which tells whether an event in it can be too long.
    """
    if not request.events:
        raise Refused(ErrorCode.INVALID, "an append without events", "send at least one", field="events")
    if len(request.events) > EVENTS_PER_APPEND_MAX:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"{len(request.events)} events in one append; at most {EVENTS_PER_APPEND_MAX}",
            "split them over several appends",
            field="events",
        )
    if (request.producer is None) != (request.n is None):
        raise Refused(
            ErrorCode.INVALID, "`producer` and `n` belong together", "send both or neither", field="n"
        )
    check_events(request.events)
    _check_lengths(request.events, size)


def check_events(events: Sequence[NewEvent]) -> None:
    """Raises Refused for bad kinds, long texts, data that is no object or too deep."""
    # Most events have nothing to look at closely; finding those costs no call for each of the others.
    for number, event in enumerate(events):
        if (
            event.kind not in _known_kinds
            or event.text is None
            or len(event.text) > TEXT_BYTES_MAX // 4
            or event.data
            or event.at is not None
        ):
            check_event(event, number)


def check_event(event: NewEvent, number: int) -> None:
    """Raises Refused as `check_events` does; `number` is the event's place in its request."""
    if event.kind not in _known_kinds:
        _check_kind(event.kind, number)
    if event.text is not None and len(event.text) > TEXT_BYTES_MAX // 4:
        _check_text(event.text, number)
    if event.data:
        _check_data(event.data, number)
    if event.at is not None and event.at.year in _OUTERMOST_YEARS:
        check_moment(event.at, f"events[{number}].at")
    if event.kind == "command":
        _check_command(event, number)


def check_saved(request: Save, size: int) -> None:
    """Raises Refused for events as in an append, `meta` that is too deep or large, an end that is none."""
    check_events(request.events)
    _check_lengths(request.events, size)
    check_meta(request.header.meta, "header.meta")
    if request.footer is not None and request.footer.status is Status.RECORDING:
        raise Refused(
            ErrorCode.INVALID,
            "a whole session is not `recording`",
            "say completed or interrupted",
            field="footer.status",
        )


def _check_lengths(events: Sequence[NewEvent], size: int) -> None:
    """Raises Refused for an event that no reply could carry; in a request that is small there is none."""
    if size <= EVENT_BYTES_MAX:
        return
    for number, event in enumerate(events):
        if len(msgspec.json.encode(event)) > EVENT_BYTES_MAX:
            raise too_long(f"an event of more than {EVENT_BYTES_MAX} bytes", number)


def too_long(message: str, number: int) -> Refused:
    """The refusal of an event that is too long as a whole; `number` is its place in its request."""
    return Refused(
        ErrorCode.TOO_LARGE, message, "split its data over several events", field=f"events[{number}].data"
    )


def _check_kind(kind: str, number: int) -> None:
    if not _kind.match(kind):
        raise Refused(
            ErrorCode.INVALID,
            f"{kind[:80]!r} is no kind",
            "a kind is 1 to 64 of a-z, 0-9, _ and ., beginning with a letter",
            field=f"events[{number}].kind",
        )
    if len(_known_kinds) < KINDS_REMEMBERED_MAX:
        _known_kinds.add(kind)


def _check_text(text: str, number: int) -> None:
    size = len(text.encode())
    if size > TEXT_BYTES_MAX:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"a text of {size} bytes; at most {TEXT_BYTES_MAX}",
            "split it over several events",
            field=f"events[{number}].text",
        )


def _check_command(event: NewEvent, number: int) -> None:
    if event.text is None:
        raise Refused(
            ErrorCode.INVALID,
            "a command event without text",
            "put the command line into `text`",
            field=f"events[{number}].text",
        )


def _check_data(data: msgspec.Raw, number: int) -> None:
    raw = bytes(data)
    if not raw.startswith(b"{"):
        raise Refused(
            ErrorCode.INVALID,
            "`data` is no JSON object",
            "wrap it in an object",
            field=f"events[{number}].data",
        )
    if not has_readable_numbers(raw):
        raise Refused(
            ErrorCode.INVALID,
            "`data` has a number that is too large",
            "send it as text",
            field=f"events[{number}].data",
        )
    # As many brackets as levels are needed: the walk is for the few that have more.
    if raw.count(b"{") + raw.count(b"[") > DATA_DEPTH_MAX and depth(raw) > DATA_DEPTH_MAX:
        raise Refused(
            ErrorCode.INVALID,
            f"`data` is nested deeper than {DATA_DEPTH_MAX} levels",
            "flatten it",
            field=f"events[{number}].data",
        )


def has_readable_numbers(raw: bytes) -> bool:
    """Whether readers can hold every number in valid JSON: what is stored must be readable."""
    if not _huge_number.search(raw):
        return True
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return True


_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


def depth(raw: bytes) -> int:
    """How deep valid JSON is nested, found without building it."""
    depth = deepest = 0
    for token in _STRUCTURE.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def check_moment(given: datetime, field: str) -> None:
    """Raises Refused for a time that has no text in UTC."""
    try:
        given.astimezone(UTC)
    except OverflowError:
        raise Refused(
            ErrorCode.INVALID,
            f"{given.isoformat()} is not within the years 1 to 9999 in UTC",
            "give another time",
            field=field,
        ) from None


def normal_tag(tag: str) -> str:
    """A tag trimmed, its inner white space as `-`, in lower case."""
    return "-".join(tag.split()).lower()


def normalised_tags(tags: Sequence[str], field: str = "tags") -> list[str]:
    """Tags in normal form, each once; raises Refused for one that is none."""
    normalised = [normal_tag(tag) for tag in tags]
    for tag in normalised:
        if not _tag.match(tag):
            raise Refused(
                ErrorCode.INVALID, f"{tag[:80]!r} is no tag", "use letters, digits, _ and -", field=field
            )
    return list(dict.fromkeys(normalised))


def env_size(env: Mapping[str, str]) -> int:
    """The bytes of the names and values of some environment variables."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in env.items())


def check_env(env: Mapping[str, str], field: str) -> None:
    """Raises Refused if the environment that is kept with a session is too large."""
    if (size := env_size(env)) > ENV_BYTES_MAX:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"`{field}` has {size} bytes; at most {ENV_BYTES_MAX}",
            "leave out what is large, or keep it in an event",
            field=field,
        )


def check_meta(value: Any, field: str) -> None:
    """Raises Refused if the meta of a session is nested too deeply, or too large."""
    encoded = msgspec.json.encode(value)
    if len(encoded) > META_BYTES_MAX:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"`{field}` has {len(encoded)} bytes; at most {META_BYTES_MAX}",
            "keep large things in events",
            field=field,
        )
    if depth(encoded) > DATA_DEPTH_MAX:
        raise Refused(
            ErrorCode.INVALID,
            f"`{field}` is nested deeper than {DATA_DEPTH_MAX} levels",
            "flatten it",
            field=field,
        )
