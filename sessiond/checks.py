"""The checks of the wire, as the daemon uses them, and times as its stores keep them."""

from __future__ import annotations

from datetime import datetime

from sessiond.clock import microseconds_of
from sessiond_client.wire.checks import (
    check_append,
    check_env,
    check_event,
    check_meta,
    check_moment,
    check_saved,
    depth,
    env_size,
    has_readable_numbers,
    normal_tag,
    normalised_tags,
    too_long,
)

__all__ = [
    "check_append",
    "check_env",
    "check_event",
    "check_meta",
    "check_moment",
    "check_saved",
    "depth",
    "env_size",
    "has_readable_numbers",
    "moment",
    "normal_tag",
    "normalised_tags",
    "too_long",
]


def moment(given: datetime, field: str) -> int:
    """A time of a request in microseconds since 1970; raises Refused if it has no text in UTC."""
    check_moment(given, field)
    return microseconds_of(given)
