"""The time of day: read here and nowhere else, and turned into text here.

Times are integers of microseconds since 1970 in UTC; their text is RFC 3339 with six digits and a `Z`. The
one rule: order never depends on any of them, only on seq, for this clock may jump.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


class Clock:
    """The system's clock. A test puts its own in place."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds that only grow, for measuring durations."""
        return time.monotonic()

    def local_name(self, microseconds: int) -> str:
        """The default name of a session that begins at this time: `session-YYYY-MM-DD-HHMMSS`, local."""
        return time.strftime("session-%Y-%m-%d-%H%M%S", time.localtime(microseconds // 1_000_000))


@lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def time_text(microseconds: int) -> str:
    """`1763717071123456` -> `2025-11-21T09:24:31.123456Z`."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second_text(seconds)}.{fraction:06d}Z"


def optional_time_text(microseconds: int | None) -> str | None:
    """As `time_text`; None stays None."""
    return None if microseconds is None else time_text(microseconds)


def microseconds_of(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970; one near the ends may have no text, see `is_writable`."""
    return (moment - _EPOCH) // _MICROSECOND


def is_writable(microseconds: int) -> bool:
    """Whether a time has a text: an offset may lead out of the years 1 to 9999."""
    return _FIRST <= microseconds <= _LAST


def parse_time(text: str) -> int:
    """RFC 3339 text as microseconds since 1970. Raises ValueError; a time without an offset is UTC."""
    moment = datetime.fromisoformat(text)
    microseconds = microseconds_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if not is_writable(microseconds):
        raise ValueError(f"{text!r} is not within the years 1 to 9999 in UTC")
    return microseconds
