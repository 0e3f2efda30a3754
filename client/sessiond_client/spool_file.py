"""One file of the spool while its writer lives: private, locked, bounded.

Owns the lock and the end of what was written. The one rule: a line is in it whole or not at all, and it is
touched only under its lock and while its name is its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import weakref
from contextlib import suppress
from pathlib import Path

from sessiond_client.protocol import hello_line
from sessiond_client.wire.spool import (
    DIRECTORY_BYTES_MAX,
    DIRECTORY_FILES_MAX,
    DONE,
    FILE_BYTES_MAX,
    NUMBER_MAX,
    FileName,
)

ALLOWANCE_BYTES = 1024 * 1024
"""How much is written before the directory is measured again: by so much each may exceed its limit."""

BLOCK_BYTES = 4096
"""What even the smallest file takes."""

CREATIONS_MAX = 16
"""So many files are made for one request, should each be taken away before it is locked."""

MIB = 1024 * 1024

_open_files: weakref.WeakSet[SpoolFile] = weakref.WeakSet()


class SpoolFile:
    """One file while its writer lives. Made with the first line, mode 0600, and locked.

    `name` is the one it gets, or one with a higher number.
    """

    def __init__(self, directory: Path, name: FileName, client: str) -> None:
        self.directory = directory
        self.name = name
        self._hello = hello_line(name.producer, client)
        self._file: int | None = None
        self._end = 0
        self._allowance = 0
        self._undelivered = 0

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.directory / str(self.name)

    @property
    def kept(self) -> bool:
        """Whether there is a file: as long as anything in it is not delivered, also after `leave`."""
        return self._undelivered > 0

    def write(self, line: bytes, room: int = 0) -> int:
        """Add a line; returns where it stands. Raises `OSError`, and the file is then as before.

        So it does, too, where a line of `room` bytes would not fit: one that was refused goes first.
        """
        length = max(len(line), room)
        try:
            file = self._open(length) if self._file is None else self._file
            self._reserve(length)
            if room > len(line):
                os.posix_fallocate(file, self._end, room)
            _write_all(file, line, self._end)
            if room > len(line):
                os.ftruncate(file, self._end + len(line))
        except OSError:
            self._cut()
            raise
        start = self._end
        self._end += len(line)
        self._undelivered += 1
        return start

    def sync(self) -> None:
        """Bring what was written to the disk."""
        assert self._file is not None
        os.fdatasync(self._file)

    def take_back(self, start: int) -> None:
        """Cut off the last line again, which stands at `start`."""
        self._end = start
        self._undelivered -= 1
        self._cut()

    def read(self, start: int, length: int) -> bytes:
        """The line of `length` bytes at `start`."""
        assert self._file is not None
        return os.pread(self._file, length, start)

    def delivered(self, start: int) -> None:
        """Mark the line at `start`; when it was the last one, remove the file."""
        assert self._file is not None
        os.pwrite(self._file, DONE, start)
        self._undelivered -= 1
        if self._undelivered == 0:
            self.remove()

    def leave(self) -> None:
        """Let go of the file and leave it behind, safely on the disk."""
        if self._file is not None:
            os.fsync(self._file)
            self.close()

    def take_again(self) -> bool:
        """Go on with a file that was let go of; False if it is gone, in other hands, or not what it was."""
        try:
            directory = open_private(self.directory)
        except OSError:
            return False
        try:
            self._file = self._reopen(directory)
        except OSError:
            return False
        finally:
            os.close(directory)
        if self._file is None:
            return False
        _open_files.add(self)
        return True

    def remove(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self.close()
            self._end = 0

    def close(self) -> None:
        """Let go of the file as it is."""
        if self._file is not None:
            # A child that is just being forked has a copy of the descriptor: closing ours would not let go.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.leave_to_the_parent()

    def leave_to_the_parent(self) -> None:
        """In a forked child: close our copy of the descriptor; the lock stays the parent's."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            _open_files.discard(self)

    def _open(self, length: int) -> int:
        directory = open_private(self.directory)
        try:
            self._allowance = _room(directory, self.directory, len(self._hello) + length)
            self._file = self._create(directory)
            _open_files.add(self)
            _write_all(self._file, self._hello, 0)
            self._end = len(self._hello)
            os.fsync(directory)
        finally:
            os.close(directory)
        return self._file

    def _create(self, directory: int) -> int:
        """A new file, locked; its name tells whether it still is one.

        The daemon may find it before it is locked, and removes it, for nothing is in it. Then it is another
        one's turn, with the next number.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        for _ in range(CREATIONS_MAX):
            if self.name.number > NUMBER_MAX:
                raise _full(self.directory, f"it has {NUMBER_MAX} files of this client")
            file = os.open(str(self.name), flags, 0o600, dir_fd=directory)
            try:
                if _take(file) and _is_called(file, str(self.name), directory):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
            self.name = self.name._replace(number=self.name.number + 1)
        raise OSError(errno.EBUSY, "every new file is taken at once", str(self.directory))

    def _reopen(self, directory: int) -> int | None:
        """The file under its name, locked, as it was left; None if it is not to be had. Raises `OSError`."""
        file = os.open(str(self.name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
        try:
            ours = _take(file) and _is_called(file, str(self.name), directory)
            if ours and os.fstat(file).st_size == self._end:
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return None

    def _reserve(self, length: int) -> None:
        """See that there is room for so many bytes; raises `OSError`."""
        if self._end + length > FILE_BYTES_MAX:
            raise _full(self.path, f"it has {self._end // MIB} MiB, the limit of one file")
        if length > self._allowance:
            directory = open_private(self.directory)
            try:
                self._allowance = _room(directory, self.directory, length)
            finally:
                os.close(directory)
        self._allowance -= length

    def _cut(self) -> None:
        """Undo what was begun; a file in which nothing waits goes."""
        if self._file is None:
            return
        with suppress(OSError):  # the next line goes over it
            os.ftruncate(self._file, self._end)
        if self._undelivered == 0:
            self.remove()


def open_private(directory: Path) -> int:
    """A descriptor of a directory that is this user's alone, made if need be; raises `OSError`."""
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        _sync_directory(directory.parent)
    about = directory.lstat()
    if not stat.S_ISDIR(about.st_mode):
        kind = "a link: put what it leads to in its place" if stat.S_ISLNK(about.st_mode) else "no directory"
        raise OSError(errno.ENOTDIR, f"{directory} is {kind}", str(directory))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    about = os.fstat(descriptor)
    if about.st_uid == os.geteuid() and not about.st_mode & 0o077:
        return descriptor
    os.close(descriptor)
    if about.st_uid != os.geteuid():
        reason = f"{directory} belongs to user {about.st_uid}, not to you; choose a directory of your own"
    else:
        mode = stat.S_IMODE(about.st_mode)
        reason = f"{directory} is open to others (mode {mode:04o}); chmod 700 {directory}"
    raise OSError(errno.EPERM, reason, str(directory))


def _room(descriptor: int, directory: Path, length: int) -> int:
    """How many bytes may be written before the next look; raises `OSError` if not so many as `length`."""
    used = files = 0
    with os.scandir(descriptor) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                used += max(entry.stat(follow_symlinks=False).st_size, BLOCK_BYTES)
                files += 1
    if files >= DIRECTORY_FILES_MAX:
        raise _full(directory, f"{files} files wait there")
    if used + length > DIRECTORY_BYTES_MAX:
        raise _full(directory, f"{used // MIB} MiB wait there")
    return max(min(DIRECTORY_BYTES_MAX - used, ALLOWANCE_BYTES), length)


def _full(path: Path, why: str) -> OSError:
    reason = f"the spool {path} is full ({why}); start the daemon, which takes it over: sessiond serve"
    return OSError(errno.EDQUOT, reason, str(path))


def _take(file: int) -> bool:
    """Lock a file; False if somebody else has. Raises `OSError` where nothing can be locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_called(file: int, name: str, directory: int) -> bool:
    """Whether this name still is that of the open file."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(file: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        start += written
        view = view[written:]


def _leave_to_the_parent() -> None:
    """In a forked child: its copies of the descriptors would keep the parent's files locked after its end."""
    for file in list(_open_files):
        file.leave_to_the_parent()


os.register_at_fork(after_in_child=_leave_to_the_parent)
