"""Bytes to lines and back, with the size limit of the wire.

Owns the bytes that have arrived but are not a whole line yet. The one rule: it does no I/O and never
holds more than one unfinished line, which is at most as long as its limit.
"""

from __future__ import annotations

import msgspec

LINE_BYTES_MAX = 16 * 1024 * 1024
"""The longest message, its newline included, in bytes."""

EVENT_LINE_BYTES_MAX = LINE_BYTES_MAX - 4096
"""The longest line of an event that is stored; the rest of a message is for the reply around it."""

EVENT_BYTES_MAX = EVENT_LINE_BYTES_MAX - 256
"""The longest event that a client gives, as JSON; the rest of its line is for its seq and time."""

REPLY_LINE_BYTES_MAX = 2 * LINE_BYTES_MAX + 4096
"""The longest line that a client reads: what earlier daemons stored may be longer than a message."""

_encoder = msgspec.json.Encoder()


class LineTooLong(Exception):  # noqa: N818 - said as it is in the documentation
    """A line above the limit is arriving; nothing after it can be read."""


def encode_line(message: msgspec.Struct) -> bytes:
    """One message as one line: compact JSON in UTF-8, ended by a newline."""
    return _encoder.encode(message) + b"\n"


class LineBuffer:
    """Collects received bytes and gives back whole lines, without their newlines."""

    __slots__ = ("_limit", "_unfinished")

    def __init__(self, limit: int = LINE_BYTES_MAX) -> None:
        self._limit = limit
        # One growing buffer, not a list of pieces: a peer that sends two bytes at a time would make the
        # objects of such a list cost thirty times the bytes they hold.
        self._unfinished = bytearray()

    @property
    def unfinished_bytes(self) -> int:
        """How many bytes of an unfinished line are held."""
        return len(self._unfinished)

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes; return the lines they complete, in order. Blank lines are left out.

        Raises `LineTooLong` once the unfinished line, or one completed here, exceeds the limit.
        """
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._unfinished:
            self._unfinished += lines[0]
            lines[0] = bytes(self._unfinished)
            self._unfinished = bytearray()
        self._unfinished += rest
        limit = self._limit
        if len(self._unfinished) >= limit or any(len(line) >= limit for line in lines):
            raise LineTooLong
        return [line for line in lines if line and not line.isspace()]
