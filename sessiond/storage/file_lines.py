"""The lines of a session file that may be damaged: how far they can be believed, and their order.

The one rule: nothing here reads or writes a file; lines come in, and what they are worth goes out, a part at
a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond.storage.file_reading import LineDamage, require_bare
from sessiond_client.wire.lines import AmendLine, CommandLine, EventText, FooterLine

PART_BYTES = 1024 * 1024
"""A part ends with the line that reaches this many bytes: no more is in memory at once."""

Line = EventText | CommandLine | AmendLine | FooterLine

_line_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class BadFile(Exception):  # noqa: N818 - a finding, not a failure
    """A session file that cannot be taken as it is; `reason` becomes part of its name in the quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def well_formed(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, Line]]:
    """Those of these lines that come before the first damaged one: where each begins, and what it says."""
    try:
        for offset, raw in lines:
            require_bare(raw)
            raw.decode()  # in what it does not know, the decoder lets any bytes pass
            yield offset, raw, _line_decoder.decode(raw)
    except (LineDamage, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return


def common_bytes(one: bytes, other: bytes) -> int:
    """How many bytes the two begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def in_file_order(
    events: Iterator[bytes], amends: Iterator[tuple[int, bytes]], position: int
) -> Iterator[bytes]:
    """Event lines with the amend lines between them; `position` is where in the file the first one begins."""
    due = next(amends, None)
    for line in events:
        while due is not None and due[0] <= position:
            position += len(due[1]) + 1
            yield due[1]
            due = next(amends, None)
        if due is not None:
            position += len(line) + 1
        yield line
    if due is not None:
        yield due[1]
    yield from (line for _, line in amends)


def in_parts(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines with their newlines, as many at a time as make a part."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line) + 1
        if size >= PART_BYTES:
            yield b"\n".join([*part, b""])
            part, size = [], 0
    if part:
        yield b"\n".join([*part, b""])
