"""Files of the spool whose writers are gone: opened under their lock, read, marked, removed.

Owns the locks on them and the marks in them; everything here blocks and runs in the collector's thread. The
one rule: a file is touched only under its lock, which a living writer holds, and only while its name is its
own; it goes only once every line in it has been dealt with.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path

import msgspec

from sessiond.errors import Refused
from sessiond_client.wire.framing import LINE_BYTES_MAX
from sessiond_client.wire.messages import ErrorCode, Hello
from sessiond_client.wire.spool import DONE, FileName, parse_name

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What no file is to blame for: there is nothing to open it with just now."""


class Part(IntEnum):
    """What is taken over together, in this order: so no clock has to be right for a session to be there."""

    STARTS = 1
    APPENDS = 2
    """And whatever is no request at all."""
    ENDS = 3


class _Line(msgspec.Struct):
    id: int = 0
    type: str = ""


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_hello_decoder = msgspec.json.Decoder(Hello)
_line_decoder = msgspec.json.Decoder(_Line)
_parts = {"start": Part.STARTS, "end": Part.ENDS}


class NoSpoolFile(Exception):  # noqa: N818 - a finding, not a failure
    """A file that does not begin as one of the spool, still locked; `reason` becomes part of its new name."""

    def __init__(self, file: SpooledFile, reason: str) -> None:
        super().__init__(file.path, reason)
        self.file = file
        self.reason = reason


class LeftOut(Exception):  # noqa: N818 - as above
    """A file that is not taken over now, and may hold anything. `reason` is None for a living writer's."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class NotOurs(Exception):  # noqa: N818 - as above
    """Something with the name of a spool file that no client has made, and what it is: it is left alone."""


class SpooledFile:
    """One file, locked. `written_at` is when its writer wrote last, in Unix seconds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        name = parse_name(path.name)
        assert name is not None
        self.path = path
        self.name = name
        self.written_at = os.fstat(descriptor).st_mtime
        self.torn = b""
        """What follows the last whole line: its writer was killed, and had promised nothing of it."""
        self._descriptor = descriptor
        self._lines = os.fdopen(descriptor, "rb", closefd=False)
        self.hello = self._lines.readline(LINE_BYTES_MAX)
        self.producer = self._producer() if self.hello.endswith(b"\n") else None
        self._position = len(self.hello)

    @property
    def is_empty(self) -> bool:
        """Whether its writer was killed before it had written one line."""
        return len(self.hello) < LINE_BYTES_MAX and not self.hello.endswith(b"\n")

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

    def mark(self, starts: Sequence[int], *, sync: bool) -> None:
        """These lines have been dealt with; with `sync`, that is on disk before more is begun."""
        for start in starts:
            os.pwrite(self._descriptor, DONE, start)
        if sync:
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


def open_spooled(path: Path) -> SpooledFile | None:
    """A file to be taken over; None if it is gone, or there was nothing in it.

    Raises LeftOut, NotOurs and NoSpoolFile, and OSError where nothing can be opened at all.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        _require_ours(path)
        raise _left_out(error) from None
    try:
        return _opened(path, descriptor)
    except NoSpoolFile:
        raise
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise _left_out(error) from None
        raise


def _opened(path: Path, descriptor: int) -> SpooledFile | None:
    """What the descriptor is of; raises as `open_spooled`, and then the descriptor is still open."""
    _require_file_of_ours(os.fstat(descriptor))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LeftOut(None) from None
    if not _is_called(descriptor, path):
        # Its writer has removed it meanwhile; what has its name now is another one's.
        os.close(descriptor)
        return None
    file = SpooledFile(path, descriptor)
    if file.is_empty:
        file.remove()
        return None
    if file.producer is None:
        raise NoSpoolFile(file, "no-hello")
    return file


def part_of(line: bytes) -> tuple[Part, int]:
    """What a line is part of, and when it was written, as it says: 0 if it says nothing."""
    try:
        found = _line_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Part.APPENDS, 0
    return _parts.get(found.type, Part.APPENDS), found.id


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


def files_in(directory: Path) -> Iterator[tuple[FileName, Path]]:
    """What has the name of a spool file there. Raises OSError or Refused for one that is not to be used."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    if names:
        require_private(directory)
    for name in names:
        if (parsed := parse_name(name)) is not None:
            yield parsed, directory / name


def sync_directory(directory: Path) -> None:
    """Have what was removed from it stay removed, also after a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _left_out(error: OSError) -> Exception:
    return error if error.errno in EXHAUSTED else LeftOut(error.strerror or str(error))


def _require_ours(path: Path) -> None:
    """Raises NotOurs for a link, a directory, a pipe, or what belongs to somebody else."""
    try:
        about = path.lstat()
    except OSError:
        return
    _require_file_of_ours(about)


def _require_file_of_ours(about: os.stat_result) -> None:
    """Raises NotOurs."""
    if not stat.S_ISREG(about.st_mode):
        raise NotOurs(f"{_KINDS.get(stat.S_IFMT(about.st_mode), 'something else')}, and no file: remove it")
    if about.st_uid != os.geteuid():
        raise NotOurs(f"a file of user {about.st_uid}, not of yours: remove it")


def _is_called(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
