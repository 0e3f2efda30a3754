"""The operations on files that the stores need: the one seam between them and the operating system.

The one rule: whatever the stores do to a file or a directory, and SQLite does not do itself, goes through a
`Disk`, so that a simulated one can take its place and cut the power at any operation (tests/simulation).
Only regular files are opened: a pipe that has a file's name is told from one, and not waited for. Raises
OSError; nothing is retried here.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
READ_BYTES = 1024 * 1024

_COMMON = os.O_CLOEXEC | os.O_NOFOLLOW


class Disk:
    """The real disk."""

    def create(self, path: Path) -> int:
        """A new empty file, opened for appending; raises FileExistsError rather than touch an old one."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | _COMMON, FILE_MODE)

    def open_append(self, path: Path) -> int:
        """An existing file, opened for appending."""
        return _opened(path, os.O_WRONLY | os.O_APPEND)

    def open_read(self, path: Path) -> int:
        """An existing file, opened for reading."""
        return _opened(path, os.O_RDONLY)

    def read_at(self, descriptor: int, offset: int, size: int) -> bytes:
        """At most `size` bytes of an open file, fewer only at its end."""
        parts = []
        while size > 0 and (part := os.pread(descriptor, size, offset)):
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def write(self, descriptor: int, data: bytes) -> int:
        """Write once; returns how many bytes were taken, which may be fewer than given."""
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut an open file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def size(self, descriptor: int) -> int:
        """The size of an open file in bytes."""
        return os.fstat(descriptor).st_size

    def close(self, descriptor: int) -> None:
        """Close an open file."""
        os.close(descriptor)

    def sync(self, path: Path) -> None:
        """Bring a file's data to the disk (fdatasync on a descriptor of its own)."""
        descriptor = self.open_read(path)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def sync_anew(self, path: Path, offset: int = 0) -> None:
        """Write what can be read of a file from `offset` on over itself, then sync it.

        After a crash or a failed sync the page cache may show what the disk does not have, in pages that
        count as clean: another sync would write nothing. This makes them dirty again.
        """
        descriptor = _opened(path, os.O_RDWR)
        try:
            while part := os.pread(descriptor, READ_BYTES, offset):
                offset += os.pwrite(descriptor, part, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Bring a directory's entries to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_above(self, path: Path) -> None:
        """Bring the name of a directory to the disk, and the names of those above it."""
        for directory in path.parents:
            if not os.access(directory, os.W_OK):
                continue  # nothing in it can be new by us
            if os.access(directory, os.R_OK):
                self.sync_directory(directory)
            else:
                os.sync()  # what cannot be opened cannot be synced alone

    def make_directory(self, path: Path) -> None:
        """A new directory, private to the user, unless it is there."""
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def file_size(self, path: Path) -> int | None:
        """The size of a file in bytes, None if it is not there."""
        try:
            return path.lstat().st_size
        except FileNotFoundError:
            return None

    def free_bytes(self, directory: Path) -> int:
        """How much room there is for this user."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

    def is_file(self, path: Path) -> bool:
        """Whether this is a regular file and nothing else that has a name."""
        return stat.S_ISREG(path.lstat().st_mode)

    def names(self, directory: Path) -> list[str]:
        """The names in a directory, in no order."""
        return os.listdir(directory)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what has it."""
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name; raises FileExistsError rather than replace another."""
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()


def _opened(path: Path, flags: int) -> int:
    """An existing regular file; raises OSError for what else has the name, without waiting for it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | _COMMON)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor
