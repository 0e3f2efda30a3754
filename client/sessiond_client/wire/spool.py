"""What a file of the spool is: what a client would have sent, until a daemon has it.

The first line is the client's `hello` with its producer, every other one a request, in the order made; its
`id` is the Unix time in microseconds at which it was written, by which the files of several producers are
merged. A file is named by its producer and counted, for a producer goes on in a new one once it has let go of
the last. The one rule: a line that has been dealt with is marked in place, in its first byte, so that whoever
finds the file goes on where the last one stopped. No I/O here: clients write, the daemon takes over.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sessiond_client.wire.requests import Append, End, Start
from sessiond_client.wire.words import ErrorCode

DONE = b"#"
"""The first byte of a line that the daemon has dealt with."""

FILE_BYTES_MAX = 256 * 1024 * 1024
DIRECTORY_BYTES_MAX = 1024 * 1024 * 1024
DIRECTORY_FILES_MAX = 65536
"""How much waits at most: beyond it, requests are refused with what to do."""

NUMBER_MAX = 999_999

SPOOLED = -1
"""The seq of events that wait in the spool: the daemon has not allotted one yet."""

Spoolable = Start | Append | End
"""What can wait: sent twice, it is done once. Everything else needs its answer now."""

PASSING = frozenset({ErrorCode.BUSY, ErrorCode.DISK_FULL, ErrorCode.READ_ONLY})
"""Refusals that pass: what they concern may wait, and all that comes after it."""

_NAME = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{25})-(\d{6})\.ndjson")


class FileName(NamedTuple):
    """Whose file it is, and the how many-th; in this order they are taken over."""

    producer: str
    number: int

    def __str__(self) -> str:
        return f"{self.producer}-{self.number:06}.ndjson"


def parse_name(name: str) -> FileName | None:
    """The parts of a file's name; None if it is none of ours."""
    found = _NAME.fullmatch(name)
    return None if found is None else FileName(found[1], int(found[2]))
