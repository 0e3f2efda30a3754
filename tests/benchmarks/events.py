"""The events that every side records: the same texts, and for sides without a daemon the same lines.

The one rule: an event is as long on one side as on any other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from sessiond_client.wire.framing import encode_line
from sessiond_client.wire.lines import EventLine

EVENT_LINE_BYTES = 180
KIND = "output"
LAST_KIND = "marker"
"""The kind of the one event that tells a follower that no other comes."""

LAST_MARK = f'"kind":"{LAST_KIND}"'.encode()

_overhead = len(encode_line(EventLine(seq=100_000, kind=KIND, at="2026-11-21T09:24:31.123456Z", text="")))


class Now(NamedTuple):
    """This moment, as the database and as the line have it."""

    microseconds: int
    text: str


def now() -> Now:
    """Read the clock once for all events of a batch, as the daemon does."""
    moment = datetime.now(UTC)
    return Now(int(moment.timestamp() * 1e6), moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def texts(count: int, size: int = EVENT_LINE_BYTES) -> list[str]:
    """Different texts, each of which makes a line of about `size` bytes."""
    length = size - _overhead
    phrase = "the quick brown fox jumps over it "
    filler = phrase * (length // len(phrase) + 1)
    return [f"{number:08d} {filler}"[:length] for number in range(count)]


def line(seq: int, at: str, text: str, kind: str = KIND) -> bytes:
    """The line of an event as the daemon would write it, with its newline."""
    return encode_line(EventLine(seq=seq, kind=kind, at=at, text=text))
