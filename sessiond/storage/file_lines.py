"""The lines of a session file that may be damaged: how far they can be believed, and their order.

The one rule: nothing here reads or writes a file; bytes come in, and what they are worth goes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from sessiond_client.wire.lines import AmendLine, CommandLine, EventText, FooterLine

_line_decoder: msgspec.json.Decoder[EventText | CommandLine | AmendLine | FooterLine] = msgspec.json.Decoder(
    EventText | CommandLine | AmendLine | FooterLine
)


class BadFile(Exception):  # noqa: N818 - a finding, not a failure
    """A session file that cannot be taken as it is; `reason` becomes part of its name in the quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_lines(data: bytes) -> Iterator[tuple[bytes, EventText | CommandLine | AmendLine | FooterLine]]:
    """The whole, well-formed lines at the beginning of `data`, without their newlines, and what they say."""
    for raw in data.split(b"\n")[:-1]:
        try:
            raw.decode()  # in what it does not know, the decoder lets any bytes pass
            yield raw, _line_decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return


def is_torn(rest: bytes) -> bool:
    """Whether these bytes are what a cut write leaves: no whole line, or one that is no line of ours."""
    return next(parse_lines(rest), None) is None


def common_lines(one: bytes, other: bytes) -> int:
    """How many bytes of whole lines the two begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return one.rfind(b"\n", 0, low) + 1


def in_file_order(events: Iterator[str], amends: list[tuple[int, str]], position: int) -> Iterator[str]:
    """Event lines with the amend lines between them; `position` is where in the file the first one begins."""
    pending = deque(amends)
    for line in events:
        while pending and pending[0][0] <= position:
            amend = pending.popleft()[1]
            position += len(amend.encode()) + 1
            yield amend
        if pending:
            position += len(line.encode()) + 1
        yield line
    yield from (amend for _, amend in pending)
