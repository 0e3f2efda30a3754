"""A session file that comes from elsewhere, read line by line.

Owns what may be read of it and how far. The one rule: whatever the file holds, reading it ends in a session
of whole lines, with a word on where the damage begins, or in a `Refused`; and it takes no more memory than
its longest line.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sessiond.errors import Refused
from sessiond.storage.foreign.version2 import Version2
from sessiond.storage.foreign.version3 import Version3
from sessiond.storage.foreign.versions import Damage, Taken, Version, version_number
from sessiond_client.wire.framing import EVENT_LINE_BYTES_MAX
from sessiond_client.wire.messages import ErrorCode, Session

READ_BYTES = 256 * 1024
SLICE_LINES_MAX = 1000
SLICE_BYTES_MAX = 1024 * 1024
"""A slice ends after the line that reaches this many bytes."""

VERSIONS: dict[int, Callable[[bytes], Version]] = {2: Version2, 3: Version3}
HINT = "give the NDJSON file of a session; `sessionctl import` reads other formats"


class Line(NamedTuple):
    """A line without its newline, which the last one may lack; numbers begin at 1, offsets at 0.

    One that is too long is not whole and has no `data`.
    """

    number: int
    offset: int
    data: bytes
    is_whole: bool


class Slice(NamedTuple):
    """Some consecutive event lines, newlines included, and what the database keeps of each."""

    first: int
    data: bytes
    kinds: list[str]
    times: list[int]
    lines: list[str]


class SourceFile:
    """A regular file of this user, open for reading; as long as it was when it was opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = self._open()
        try:
            self.size = self._check()
        except Refused:
            self.close()
            raise

    def _open(self) -> int:
        if not os.path.isabs(self.path) or "\0" in self.path:
            raise self._invalid("is no absolute path", "give the whole path, beginning with /")
        try:
            # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
            return os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(
                ErrorCode.NOT_FOUND, f"there is no file {self.path}", "check the path", path=self.path
            ) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._denied("is a symbolic link", "give the path of the file itself") from None
            if isinstance(error, PermissionError):
                raise self._denied("may not be read", "check its owner and mode") from None
            raise self._invalid(f"cannot be opened: {error.strerror}", "check the path") from None

    def _check(self) -> int:
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            what = "is a directory" if stat.S_ISDIR(found.st_mode) else "is no regular file"
            raise self._invalid(what, HINT)
        if found.st_uid != os.geteuid():
            raise self._denied(f"belongs to user {found.st_uid}", "make a copy of your own and give that")
        if found.st_size == 0:
            raise self._invalid("is empty", HINT, offset=0)
        return found.st_size

    def _denied(self, what: str, hint: str) -> Refused:
        return Refused(ErrorCode.DENIED, f"{self.path} {what}", hint, path=self.path)

    def _invalid(self, what: str, hint: str, offset: int | None = None) -> Refused:
        return Refused(
            ErrorCode.INVALID, f"{self.path} {what}", hint, field="path", path=self.path, offset=offset
        )

    def no_session(self, why: str) -> Refused:
        """It does not begin as a session file does."""
        return self._invalid(f"is no session file: {why}", HINT, offset=0)

    def lines(self) -> Iterator[Line]:
        """Its lines, in order, up to one that is too long. Raises Refused if it cannot be read."""
        number, offset = 1, 0
        unfinished = bytearray()
        for part in self._parts():
            lines = part.split(b"\n")
            rest = lines.pop()
            for data in lines:
                if unfinished:
                    unfinished += data
                    data = bytes(unfinished)
                    unfinished.clear()
                yield Line(number, offset, data, is_whole=True)
                number += 1
                offset += len(data) + 1
            unfinished += rest
            if len(unfinished) >= EVENT_LINE_BYTES_MAX:
                yield Line(number, offset, b"", is_whole=False)
                return
        if unfinished:
            yield Line(number, offset, bytes(unfinished), is_whole=False)

    def _parts(self) -> Iterator[bytes]:
        offset = 0
        while offset < self.size:
            try:
                part = os.pread(self._descriptor, min(READ_BYTES, self.size - offset), offset)
            except OSError as error:
                raise Refused(
                    ErrorCode.CORRUPT,
                    f"{self.path} cannot be read: {error.strerror}",
                    "copy what can be read of it, and give that",
                    path=self.path,
                    offset=offset,
                ) from None
            if not part:
                return  # it was cut meanwhile; what is read twice is compared
            yield part
            offset += len(part)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class ForeignSession:
    """What a file says of one session; `slices` reads it once, then `session` and `damage` are known."""

    def __init__(self, source: SourceFile) -> None:
        self._lines = source.lines()
        self._version = self._begin(source)
        self.damage: str | None = None
        """Where the damage begins and what it is, None if there is none."""

    def _begin(self, source: SourceFile) -> Version:
        first = next(self._lines, None)
        if first is None or not first.is_whole:
            raise source.no_session("its first line has no end")
        try:
            return VERSIONS[version_number(first.data)](first.data)
        except KeyError as error:
            raise source.no_session(f"its version is {error}; versions 2 and 3 are known") from None
        except Damage as damage:
            raise source.no_session(str(damage)) from None

    @property
    def session(self) -> Session:
        """The session as far as it was read: its name as wished for, empty if there was none."""
        return self._version.session()

    def slices(self) -> Iterator[Slice]:
        """The event lines, some at a time, up to the end or to the damage."""
        taken: list[Taken] = []
        first = size = 0
        for one in self._events():
            taken.append(one)
            size += len(one.line)
            if len(taken) >= SLICE_LINES_MAX or size >= SLICE_BYTES_MAX:
                yield _slice(first, taken)
                first += len(taken)
                taken = []
                size = 0
        if taken:
            yield _slice(first, taken)

    def _events(self) -> Iterator[Taken]:
        for line in self._lines:
            if line.data.isspace() or (not line.data and line.is_whole):
                continue
            try:
                taken = self._take(line)
            except Damage as damage:
                self.damage = f"line {line.number} (byte {line.offset}): {damage}; what follows was left out"
                return
            if taken is not None:
                yield taken

    def _take(self, line: Line) -> Taken | None:
        if not line.data or len(line.data) >= EVENT_LINE_BYTES_MAX:
            raise Damage(f"it is longer than {EVENT_LINE_BYTES_MAX} bytes")
        try:
            return self._version.take(line.data)
        except Damage:
            if line.is_whole:
                raise
            raise Damage("it is cut off") from None


def _slice(first: int, taken: list[Taken]) -> Slice:
    lines = [one.line for one in taken]
    data = "\n".join([*lines, ""]).encode()
    return Slice(first, data, [one.kind for one in taken], [one.at for one in taken], lines)
