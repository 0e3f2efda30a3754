"""Newlines as a terminal gets them.

Owns the carriage returns that a terminal adds to what a program writes. The one rule: they are added only to
output that never went through a terminal, such as that of a pipe: a recorded terminal has added its own, or
was told not to.
"""

from __future__ import annotations

import re

_BARE = re.compile(rb"(?<!\r)\n")


class Newlines:
    """Takes output in pieces; `added`: with a carriage return before each newline that has none."""

    def __init__(self, *, added: bool) -> None:
        self._added = added
        self._before = b""

    def feed(self, data: bytes) -> bytes:
        """The piece as a terminal gets it."""
        if not self._added or not data:
            return data
        before, self._before = self._before, b"\r" if data.endswith(b"\r") else b""
        return _BARE.sub(b"\r\n", before + data)[len(before) :]
