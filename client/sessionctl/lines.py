"""Standard input as events, one a line.

Owns the cutting of a stream into lines and into batches. The one rule: a batch is what has arrived so far, so
that a slow writer's line is stored at once and a fast one's lines go together; memory stays bounded, and no
byte of a line is lost.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator

from sessiond_client.wire.messages import EVENTS_PER_APPEND_MAX, TEXT_BYTES_MAX

READ_BYTES_MAX = 256 * 1024
BATCH_BYTES_MAX = 1024 * 1024


class LineTooLong(Exception):  # noqa: N818 - said as it is to the user
    """Line `number` (counted from 1) has more than `TEXT_BYTES_MAX` bytes."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"line {self.number} of standard input is longer than {TEXT_BYTES_MAX} bytes"


def batches(file: int, *, with_newlines: bool = False) -> Iterator[list[bytes]]:
    """The lines of `file` in batches as they arrive; a last line needs no newline.

    Raises `LineTooLong` when such a line arrives; all lines before it have been given out by then.
    """
    rest = bytearray()
    number = 0
    ended = False
    while not ended:
        chunk = os.read(file, READ_BYTES_MAX)
        ended = not chunk
        rest += chunk
        lines = _whole_lines(rest, with_newlines) if b"\n" in chunk else []
        if ended and rest:
            lines.append(bytes(rest))
        fits = next((index for index, line in enumerate(lines) if _is_too_long(line)), len(lines))
        yield from _parted(lines[:fits])
        number += fits
        if fits < len(lines) or len(rest) > TEXT_BYTES_MAX:
            raise LineTooLong(number + 1)


def pieces(line: bytes) -> list[bytes]:
    """A line of a stream as what events can hold: its newline stands alone where there is no room for it."""
    return [line] if len(line) <= TEXT_BYTES_MAX else [line[:TEXT_BYTES_MAX], line[TEXT_BYTES_MAX:]]


def text_and_bytes(line: bytes) -> tuple[str, dict[str, str]]:
    """The text of a line, and the exact bytes as `b64` where they are no UTF-8."""
    try:
        return line.decode(), {}
    except UnicodeDecodeError:
        return _readable(line), {"b64": b64encode(line).decode()}


def _is_too_long(line: bytes) -> bool:
    return len(line) - line.endswith(b"\n") > TEXT_BYTES_MAX


def _whole_lines(rest: bytearray, with_newlines: bool) -> list[bytes]:
    """Take the whole lines out of `rest`."""
    end = rest.rindex(b"\n")
    lines = bytes(rest[:end]).split(b"\n")
    del rest[: end + 1]
    return [line + b"\n" for line in lines] if with_newlines else lines


def _parted(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Batches within the limits of an append."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == EVENTS_PER_APPEND_MAX or size + len(line) > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


def _readable(line: bytes) -> str:
    """A rendition of bytes that are no UTF-8; each bad one becomes three, so a long one may need a cut."""
    text = line.decode(errors="replace")
    encoded = text.encode()
    return text if len(encoded) <= TEXT_BYTES_MAX else encoded[:TEXT_BYTES_MAX].decode(errors="ignore")
