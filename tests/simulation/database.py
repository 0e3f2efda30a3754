"""The simulated disk as the storage code sees it: a VFS for SQLite, and a `Disk` for the session files.

The one rule: nothing is decided here. Either does with the disk what SQLite's own VFS for Unix and the real
`Disk` do with the kernel, and turns its errors into the same errors.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

import apsw

from sessiond.storage.disk import Disk
from tests.simulation.disk import DIRECTORY, FREE_BYTES, SimulatedDisk, parent

_numbers = count()


class FilesOnDisk(Disk):
    """The session files of one process."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._open: dict[int, int] = {}
        self._next = 3

    def _descriptor(self, file: int) -> int:
        self._next += 1
        self._open[self._next] = file
        return self._next

    def create(self, path: Path) -> int:
        """See `Disk`, as for all of these."""
        return self._descriptor(self._disk.create(str(path)))

    def open_append(self, path: Path) -> int:
        """An existing file."""
        return self._descriptor(self._disk.file(str(path)))

    def open_read(self, path: Path) -> int:
        """An existing file."""
        return self._descriptor(self._disk.file(str(path)))

    def read_at(self, descriptor: int, offset: int, size: int) -> bytes:
        """Fewer bytes at its end."""
        return self._disk.read(self._open[descriptor], offset, size)

    def write(self, descriptor: int, data: bytes) -> int:
        """At the end of the file."""
        file = self._open[descriptor]
        return self._disk.write(file, self._disk.size(file), data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut it."""
        self._disk.truncate(self._open[descriptor], size)

    def size(self, descriptor: int) -> int:
        """In bytes."""
        return self._disk.size(self._open[descriptor])

    def close(self, descriptor: int) -> None:
        """Nothing is brought to the disk by it."""
        del self._open[descriptor]

    def sync(self, path: Path) -> None:
        """Its data."""
        self._disk.sync(self._disk.file(str(path)))

    def sync_anew(self, path: Path, offset: int = 0) -> None:
        """The same bytes in the same place, and a sync."""
        file = self._disk.file(str(path))
        size = self._disk.size(file)
        while offset < size:
            data = self._disk.read(file, offset, size - offset)
            offset += self._disk.write(file, offset, data)
        self._disk.sync(file)

    def sync_directory(self, path: Path) -> None:
        """Its names."""
        self._disk.sync_directory(str(path))

    def sync_above(self, path: Path) -> None:
        """There is one above it."""
        self._disk.sync_directory(parent(str(path)))

    def make_directory(self, path: Path) -> None:
        """Unless it is there."""
        self._disk.make_directory(str(path))

    def file_size(self, path: Path) -> int | None:
        """None if it is not there."""
        found = self._disk.names.get(str(path))
        return None if found is None else self._disk.size(found) if found else 0

    def free_bytes(self, directory: Path) -> int:  # noqa: ARG002 - there is one disk
        """More than anybody asks for."""
        return FREE_BYTES

    def is_file(self, path: Path) -> bool:
        """And no directory."""
        return self._disk.names[str(path)] != DIRECTORY

    def names(self, directory: Path) -> list[str]:
        """In the order they were made."""
        return self._disk.listing(str(directory))

    def rename(self, old: Path, new: Path) -> None:
        """Replacing what is there."""
        self._disk.rename(str(old), str(new))

    def link(self, old: Path, new: Path) -> None:
        """Replacing nothing."""
        self._disk.link(str(old), str(new))

    def unlink(self, path: Path) -> None:
        """The name."""
        self._disk.unlink(str(path))


def _failed(code: int, error: OSError) -> apsw.Error:
    """What SQLite's VFS for Unix makes of an error: a full disk is one of its own, the rest is I/O."""
    if error.errno == errno.ENOSPC and code == apsw.SQLITE_IOERR_WRITE:
        return apsw.FullError(str(error))
    failure = apsw.IOError(str(error))
    failure.extendedresult = code  # type: ignore[attr-defined]  # where apsw looks for it
    return failure


class DatabaseVFS(apsw.VFS):
    """SQLite's files of one process. Once it was `killed`, whatever SQLite still tries changes nothing."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.name = f"simulated-{next(_numbers)}"
        self.disk = disk
        self.is_killed = False
        super().__init__(self.name, base=None)

    def excepthook(self, *_: object) -> bool:
        """SQLite is told by the error's code; that is enough."""
        return True

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> DatabaseFile:  # type: ignore[override]  # noqa: N802
        """A file of SQLite's; the name of one that is to be written first is synced with it."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or f"/tmp-{next(_numbers)}"
        self.require_alive()
        is_new = path not in self.disk.names
        try:
            if not is_new:
                file = self.disk.file(path)
            elif flags[0] & apsw.SQLITE_OPEN_CREATE:
                file = self.disk.create(path)
            else:
                raise apsw.CantOpenError(f"no such file: {path}")
        except OSError as error:
            raise apsw.CantOpenError(str(error)) from None
        flags[1] = flags[0]
        is_log = flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL)
        return DatabaseFile(self, file, parent(path) if is_new and is_log else None)

    def xAccess(self, path: str, flags: int) -> bool:  # noqa: N802
        """Whether it is there; an empty one does not count, as in the VFS for Unix."""
        found = self.disk.names.get(path)
        return bool(found and (flags != apsw.SQLITE_ACCESS_EXISTS or self.disk.size(found)))

    def xDelete(self, path: str, syncdir: bool) -> None:  # noqa: N802
        """Remove a file, and sync its directory if that is asked for."""
        self.require_alive()
        try:
            self.disk.unlink(path)
        except FileNotFoundError as error:
            raise _failed(apsw.SQLITE_IOERR_DELETE_NOENT, error) from None
        except OSError as error:
            raise _failed(apsw.SQLITE_IOERR_DELETE, error) from None
        if syncdir:
            try:
                self.disk.sync_directory(parent(path))
            except OSError as error:
                raise _failed(apsw.SQLITE_IOERR_DIR_FSYNC, error) from None

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        """They all are."""
        return name

    def xRandomness(self, size: int) -> bytes:  # noqa: N802
        """What salts the write-ahead log."""
        return os.urandom(size)

    def xSleep(self, microseconds: int) -> int:  # noqa: N802
        """Time does not pass here."""
        return microseconds

    def xCurrentTimeInt64(self) -> int:  # noqa: N802
        """Nothing depends on it."""
        return 0

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802
        """The error told all there is."""
        return 0, ""

    def require_alive(self) -> None:
        """Raises apsw.IOError once the process was killed."""
        if self.is_killed:
            raise apsw.IOError("the process is gone")


class DatabaseFile:
    """One open file of SQLite's. `directory` is synced with its first sync, if there is one."""

    def __init__(self, vfs: DatabaseVFS, file: int, directory: str | None) -> None:
        self._vfs = vfs
        self._disk = vfs.disk
        self._file = file
        self._directory = directory

    def excepthook(self, *_: object) -> bool:
        """As above."""
        return True

    def xClose(self) -> None:  # noqa: N802
        """Nothing is brought to the disk by it."""

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        """Fewer bytes at the end of the file."""
        try:
            return self._disk.read(self._file, offset, amount)
        except OSError as error:
            raise _failed(apsw.SQLITE_IOERR_READ, error) from None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """All of it: what was not taken is written again."""
        self._vfs.require_alive()
        try:
            written = 0
            while written < len(data):
                written += self._disk.write(self._file, offset + written, data[written:])
        except OSError as error:
            raise _failed(apsw.SQLITE_IOERR_WRITE, error) from None

    def xTruncate(self, size: int) -> None:  # noqa: N802
        """Cut it."""
        self._vfs.require_alive()
        try:
            self._disk.truncate(self._file, size)
        except OSError as error:
            raise _failed(apsw.SQLITE_IOERR_TRUNCATE, error) from None

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802 - the data are all there is
        """Sync it, and the directory of a new log; whether that fails nobody asks, as in the VFS for Unix."""
        self._vfs.require_alive()
        try:
            self._disk.sync(self._file)
        except OSError as error:
            raise _failed(apsw.SQLITE_IOERR_FSYNC, error) from None
        if self._directory is not None:
            directory, self._directory = self._directory, None
            with suppress(OSError):
                self._disk.sync_directory(directory)

    def xFileSize(self) -> int:  # noqa: N802
        """In bytes."""
        return self._disk.size(self._file)

    def xLock(self, level: int) -> None:  # noqa: N802
        """There is one process at a time."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """As above."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        """As above."""
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: ARG002, N802
        """None is known here."""
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        """As SQLite takes it to be."""
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        """A write leaves the bytes beside it alone."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
