"""The session files and the open handles on them.

Owns every append handle. The one rule: a file only ever grows by whole lines at its known end; a write that
fails part of the way is cut back at once, and a file whose size is not the expected one is left alone.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from sessiond.storage.disk import Disk
from sessiond_client.wire.messages import ULID_PATTERN

OPEN_FILES_MAX = 400
"""Append handles kept open; the one used longest ago is closed. Well below the usual limit of 1024."""

SUFFIX = ".ndjson"
TEMPORARY_MARK = ".tmp-"
BACKUP_SUFFIX = ".bak"

NAME_BYTES_MAX = 255
"""No file system of Linux takes a longer name."""

logger = logging.getLogger("sessiond.storage")

_ulid = re.compile(ULID_PATTERN)


class FileLags(Exception):  # noqa: N818 - it is a state more than an error
    """A file does not have the size it should have; recovery brings it back in line with the database."""


class SessionFiles:
    """The files of one data directory, named by ULID."""

    def __init__(self, data_dir: Path, disk: Disk) -> None:
        self.directory = data_dir / "sessions"
        self.quarantine_directory = data_dir / "quarantine"
        self.trash_directory = data_dir / "trash"
        self.disk = disk
        self._handles: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def make_directories(self) -> None:
        """Create what is missing, private to the user."""
        for directory in (self.directory, self.quarantine_directory, self.trash_directory):
            self.disk.make_directory(directory)

    def path(self, ulid: str) -> Path:
        """Where the file of a session is."""
        return self.directory / f"{ulid}{SUFFIX}"

    def trash_path(self, ulid: str) -> Path:
        """Where the file of a session is while it is in the trash."""
        return self.trash_directory / f"{ulid}{SUFFIX}"

    def place(self, ulid: str, *, trashed: bool) -> Path:
        """Move the file of a session into the trash or out of it, if it is not there; returns where it is.

        Raises OSError. Synced also if there is nothing to move: it may be here since a sync that failed.
        """
        target, other = self.path(ulid), self.trash_path(ulid)
        if trashed:
            target, other = other, target
        if self.disk.file_size(target) is None and self.disk.file_size(other) is not None:
            self.disk.rename(other, target)
        self.disk.sync_directory(target.parent)
        self.disk.sync_directory(other.parent)
        return target

    def remove(self, ulid: str) -> None:
        """Remove every file of a session that has ended for good. Raises OSError."""
        for path in self._places(ulid):
            if self.disk.file_size(path) is not None:
                self.disk.unlink(path)
        self.remove_backups(ulid)
        self.disk.sync_directory(self.directory)
        self.disk.sync_directory(self.trash_directory)

    def rewrite(self, path: Path, parts: Iterable[bytes]) -> None:
        """Replace a file that is there by another text of it; a backup is kept until that is on disk.

        Raises OSError, and then the backup, `NAME.bak`, stays.
        """
        backup = path.with_name(f"{path.name}{BACKUP_SUFFIX}")
        if self.disk.file_size(backup) is not None:
            self.disk.unlink(backup)
        self.disk.link(path, backup)
        replace_file(self.disk, path, parts)
        self.disk.unlink(backup)

    def create(self, ulid: str, data: bytes) -> None:
        """A new file that begins with `data`. Raises OSError, also if there is one already."""
        self._keep(ulid, self._opened(lambda: self.disk.create(self.path(ulid))), 0)
        self.append(ulid, data, 0)

    def append(self, ulid: str, data: bytes, size: int) -> None:
        """Add whole lines to a file that must have `size` bytes now. Raises OSError or FileLags."""
        descriptor, known = self._handles.pop(ulid) if ulid in self._handles else self._open(ulid)
        if known != size:
            self.disk.close(descriptor)
            raise FileLags(f"{ulid} has {known} bytes instead of {size}")
        try:
            write_whole(self.disk, descriptor, data)
        except OSError:
            try:
                self.disk.truncate(descriptor, size)
            finally:
                self.disk.close(descriptor)
            raise
        self._keep(ulid, descriptor, size + len(data))

    def _open(self, ulid: str) -> tuple[int, int]:
        descriptor = self._opened(lambda: self.disk.open_append(self.path(ulid)))
        return descriptor, self.disk.size(descriptor)

    def _opened(self, open_file: Callable[[], int]) -> int:
        """What `open_file` opens; where no descriptor is left, the handles that are kept make room."""
        try:
            return open_file()
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._handles:
                raise
        self.close_all()
        return open_file()

    def _keep(self, ulid: str, descriptor: int, size: int) -> None:
        self._handles[ulid] = (descriptor, size)
        if len(self._handles) > OPEN_FILES_MAX:
            _, (oldest, _) = self._handles.popitem(last=False)
            self.disk.close(oldest)

    def close(self, ulid: str) -> None:
        """Close the handle on one file, if there is one."""
        if handle := self._handles.pop(ulid, None):
            self.disk.close(handle[0])

    def close_all(self) -> None:
        """Close every handle."""
        while self._handles:
            self.disk.close(self._handles.popitem()[1][0])

    def replace(self, ulid: str, parts: Iterable[bytes]) -> None:
        """Put a whole new file in the place of one, or of none: either the old or the new is there."""
        self.close(ulid)
        replace_file(self.disk, self.path(ulid), parts)

    def keep(self, name: str, parts: Iterable[bytes]) -> None:
        """Put bytes that fit nowhere into the quarantine, for the user to look at."""
        path = self.quarantine_directory / name
        descriptor = self.disk.create(path)
        try:
            for part in parts:
                write_whole(self.disk, descriptor, part)
        finally:
            self.disk.close(descriptor)
        self.disk.sync(path)
        self.disk.sync_directory(self.quarantine_directory)

    def set_aside(self, path: Path, reason: str, moment: int) -> Path:
        """Move a file that cannot be trusted into the quarantine, where it is kept for the user."""
        target = self.quarantine_directory / _extended(path.name, f".{reason}-{moment}")
        while self.disk.file_size(target) is not None:  # a name that was cut, or a clock that was set back
            moment += 1
            target = self.quarantine_directory / _extended(path.name, f".{reason}-{moment}")
        self.disk.rename(path, target)
        self.disk.sync_directory(self.quarantine_directory)
        self.disk.sync_directory(path.parent)
        return target

    def keep_old(self, path: Path, reason: str, moment: int) -> None:
        """Give a file that is to be replaced a second name in the quarantine, so that it is there whatever
        fails after this; what is no file is moved there. Raises OSError."""
        if self.disk.is_file(path):
            self.disk.link(path, self.quarantine_directory / f"{path.name}.{reason}-{moment}")
            self.disk.sync_directory(self.quarantine_directory)
        else:
            self.set_aside(path, "no-file", moment)

    def ulids(self) -> list[str]:
        """The sessions that have a file, in order."""
        return [stem for stem in self._stems(self.directory) if _ulid.fullmatch(stem)]

    def trashed_ulids(self) -> list[str]:
        """The sessions that have a file in the trash, in order."""
        return [stem for stem in self._stems(self.trash_directory) if _ulid.fullmatch(stem)]

    def foreign(self) -> list[Path]:
        """What is called as a session file is, but for its ULID."""
        return [
            directory / f"{stem}{SUFFIX}"
            for directory in (self.directory, self.trash_directory)
            for stem in self._stems(directory)
            if not _ulid.fullmatch(stem)
        ]

    def _stems(self, directory: Path) -> list[str]:
        names = self.disk.names(directory)
        return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))

    def backed_up(self) -> list[str]:
        """The sessions of which there is a backup, by ULID."""
        ending = f"{SUFFIX}{BACKUP_SUFFIX}"
        names = [*self.disk.names(self.directory), *self.disk.names(self.trash_directory)]
        stems = [name.removesuffix(ending) for name in names if name.endswith(ending)]
        return [stem for stem in stems if _ulid.fullmatch(stem)]

    def remove_backups(self, ulid: str) -> int:
        """Remove what backups there are of a file that is whole; returns how many. Raises OSError.

        What only has the name of one is left to the user.
        """
        paths = [path.with_name(f"{path.name}{BACKUP_SUFFIX}") for path in self._places(ulid)]
        there = [path for path in paths if self.disk.file_size(path) is not None and self.disk.is_file(path)]
        for path in there:
            self.disk.unlink(path)
        return len(there)

    def _places(self, ulid: str) -> tuple[Path, Path]:
        return self.path(ulid), self.trash_path(ulid)

    def sweep(self) -> int:
        """Remove temporary files that a crash left behind; returns how many it could."""
        marked = [
            directory / name
            for directory in (self.directory, self.trash_directory, self.directory.parent)
            for name in self.disk.names(directory)
            if TEMPORARY_MARK in name
        ]
        swept = 0
        for path in marked:
            try:
                if self.disk.is_file(path):
                    self.disk.unlink(path)
                    swept += 1
            except OSError as error:
                logger.warning("temporary file stays", extra={"path": str(path), "reason": str(error)})
        return swept


def _extended(name: str, ending: str) -> str:
    """A name with something added to it, cut to what a file system takes."""
    kept = os.fsencode(name)[: NAME_BYTES_MAX - len(os.fsencode(ending))]
    return os.fsdecode(kept) + ending


def write_whole(disk: Disk, descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises OSError, and then a part of it may have been written."""
    written = disk.write(descriptor, data)
    while written < len(data):
        written += disk.write(descriptor, data[written:])


def replace_file(disk: Disk, target: Path, parts: Iterable[bytes]) -> None:
    """Put a whole new file in the place of one, or of none: either the old or the new is there.

    Raises OSError, and then the temporary file is gone too, as far as the disk lets us.
    """
    temporary = target.with_name(f"{target.name}{TEMPORARY_MARK}new")
    if disk.file_size(temporary) is not None:
        disk.unlink(temporary)
    descriptor = disk.create(temporary)
    try:
        try:
            for part in parts:
                write_whole(disk, descriptor, part)
        finally:
            disk.close(descriptor)
        disk.sync(temporary)
        disk.rename(temporary, target)
    except BaseException:
        with suppress(OSError):  # the next start sweeps it
            disk.unlink(temporary)
        raise
    disk.sync_directory(target.parent)
