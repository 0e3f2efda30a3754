"""Files of the spool whose writers are gone, read in the order in which their lines were written.

Owns the locks on them and the marks in them; everything here blocks and runs in the collector's thread. The
one rule: a file is touched only under its lock, which a living writer holds, and goes only once every line in
it has been dealt with.
"""

from __future__ import annotations

import fcntl
import heapq
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sessiond.errors import Refused
from sessiond_client.wire.framing import LINE_BYTES_MAX
from sessiond_client.wire.messages import ErrorCode, Hello
from sessiond_client.wire.spool import DONE, FileName, parse_name

CHUNK_LINES_MAX = 256
"""Well below the window in which an append is recognised: what is dealt with is marked before the next."""

CHUNK_BYTES_MAX = 4 * 1024 * 1024
OPEN_PRODUCERS_MAX = 256
"""The files of so many producers are merged at a time; those of the others come after."""


class _Stamped(msgspec.Struct):
    id: int = 0


_hello_decoder = msgspec.json.Decoder(Hello)
_stamp_decoder = msgspec.json.Decoder(_Stamped)

logger = logging.getLogger("sessiond.spool")


class NoSpoolFile(Exception):  # noqa: N818 - a finding, not a failure
    """A file that does not begin as one of the spool; `reason` becomes part of its name in the quarantine."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


class SpooledFile:
    """One file, locked. `written_at` is when its writer wrote last, in Unix seconds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.written_at = os.fstat(descriptor).st_mtime
        self.torn = b""
        """What follows the last whole line: its writer was killed, and had promised nothing of it."""
        self._descriptor = descriptor
        self._lines = os.fdopen(os.dup(descriptor), "rb")
        self.hello = self._lines.readline(LINE_BYTES_MAX)
        self.producer = self._producer() if self.hello.endswith(b"\n") else None
        self._position = len(self.hello)

    @property
    def is_empty(self) -> bool:
        """Whether its writer was killed before it had written one line."""
        return not self.hello.endswith(b"\n")

    def next(self) -> tuple[int, bytes] | None:
        """The next line that is not marked, and where it stands; None at the end."""
        while line := self._lines.readline(LINE_BYTES_MAX):
            start = self._position
            self._position += len(line)
            if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                self.torn = line
                break
            if not line.startswith(DONE):
                return start, line
        return None

    def mark(self, starts: Sequence[int]) -> None:
        """These lines have been dealt with: on disk before more is begun."""
        for start in starts:
            os.pwrite(self._descriptor, DONE, start)
        os.fdatasync(self._descriptor)

    def remove(self) -> None:
        """Everything in it has been dealt with."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if not self._lines.closed:
            self._lines.close()
            os.close(self._descriptor)

    def _producer(self) -> str | None:
        try:
            hello = _hello_decoder.decode(self.hello)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return hello.producer


class Item(NamedTuple):
    """One line of a file, and where it stands."""

    file: SpooledFile
    start: int
    line: bytes


class Backlog:
    """What waits in some directories: `take` gives it in chunks, each to be finished before the next."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.damaged: list[NoSpoolFile] = []
        """Files found to be none; they are the collector's to set aside."""
        self.ended: list[SpooledFile] = []
        """Files of which every line was taken; they are to be removed once those are dealt with."""
        self._directories = directories
        self._producers: Iterator[tuple[str, list[Path]]] = iter(())
        self._heap: list[tuple[int, str, _Stream]] = []
        self._more = True

    def open(self) -> None:
        """See what is there."""
        self._producers = iter(sorted(_by_producer(self._directories).items()))

    def take(self) -> list[Item]:
        """The next lines, in the order of their writing; none at the end."""
        chunk: list[Item] = []
        size = 0
        while len(chunk) < CHUNK_LINES_MAX and size < CHUNK_BYTES_MAX:
            self._refill()
            if not self._heap:
                break
            _, producer, stream = self._heap[0]
            item = stream.take()
            chunk.append(item)
            size += len(item.line)
            if stream.advance(self):
                heapq.heapreplace(self._heap, (stream.key, producer, stream))
            else:
                heapq.heappop(self._heap)
        return chunk

    def close(self) -> None:
        """Let go of every file."""
        for _, _, stream in self._heap:
            stream.close()
        for file in self.ended:
            file.close()
        self._heap.clear()
        self._more = False

    def _refill(self) -> None:
        while self._more and len(self._heap) < OPEN_PRODUCERS_MAX:
            following = next(self._producers, None)
            if following is None:
                self._more = False
                return
            producer, paths = following
            stream = _Stream(paths)
            if stream.advance(self):
                heapq.heappush(self._heap, (stream.key, producer, stream))


class _Stream:
    """The files of one producer, one after the other. `key` is when the next line was written."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.key = 0
        self._paths = iter(paths)
        self._file: SpooledFile | None = None
        self._next: Item | None = None

    def take(self) -> Item:
        assert self._next is not None
        return self._next

    def advance(self, backlog: Backlog) -> bool:
        """Go to the next line; False if there is none."""
        while True:
            if self._file is not None:
                if (found := self._file.next()) is not None:
                    self._next = Item(self._file, *found)
                    self.key = max(self.key, _stamp(found[1]))
                    return True
                backlog.ended.append(self._file)
                self._file = None
            path = next(self._paths, None)
            if path is None:
                return False
            try:
                self._file = open_spooled(path)
            except NoSpoolFile as finding:
                backlog.damaged.append(finding)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def open_spooled(path: Path) -> SpooledFile | None:
    """A file to be taken over; None if its writer lives, or it is gone. Raises NoSpoolFile.

    Of one producer only the last file can be one that is still written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        logger.warning("spool file passed over", extra={"path": str(path), "reason": error.strerror})
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
        os.close(descriptor)
        logger.warning("spool file passed over", extra={"path": str(path), "reason": "no file of this user"})
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    file = SpooledFile(path, descriptor)
    if file.is_empty:
        file.remove()
        return None
    if file.producer is None:
        file.close()
        raise NoSpoolFile(path, "no-hello")
    return file


def require_private(directory: Path) -> None:
    """Raises Refused for a directory where others could have put something."""
    try:
        about = directory.lstat()
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # no path at all: what the system would end its text at stands in it
        reason = str(error)
    else:
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077:
            return
        reason = "it is not a directory for you alone"
    raise Refused(ErrorCode.INVALID, f"no spool in {directory}: {reason}", "chmod 700", field="spool")


def waiting(directories: Sequence[Path]) -> int:
    """How many files of the spool there are whose writers may be gone."""
    return sum(len(paths) for paths in _by_producer(directories).values())


def _by_producer(directories: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of the directories that are fit for it, by producer, in the order of their numbers."""
    found: dict[str, list[tuple[FileName, Path]]] = {}
    for directory in directories:
        for name, path in _files_in(directory):
            found.setdefault(name.producer, []).append((name, path))
    return {producer: [path for _, path in sorted(files)] for producer, files in found.items()}


def _files_in(directory: Path) -> Iterator[tuple[FileName, Path]]:
    try:
        names = os.listdir(directory)
        if names:
            require_private(directory)
    except FileNotFoundError:
        return
    except (OSError, Refused) as error:
        logger.warning("spool passed over", extra={"path": str(directory), "reason": str(error)})
        return
    for name in names:
        if (parsed := parse_name(name)) is not None:
            yield parsed, directory / name


def _stamp(line: bytes) -> int:
    """When a line was written, as it says; what says nothing follows what was before it."""
    try:
        return _stamp_decoder.decode(line).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
