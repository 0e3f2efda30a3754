"""What could not be sent, kept until a daemon takes it over: private files, each locked while it is written.

Owns the files of one client and how many requests wait in them. The one rule: what `keep` has returned from
is on disk, in the order of the calls; a request that does not fit leaves the file as it was. The daemon takes
over a file once nobody holds its lock, so letting go of one is all that delivering it takes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import weakref
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from sessiond_client.errors import (
    ConnectionLost,
    DaemonUnavailable,
    NotSpooled,
    RequestFailed,
    SessiondError,
)
from sessiond_client.protocol import encode, hello_line
from sessiond_client.requests import as_spooled, spooled_reply
from sessiond_client.wire.messages import Reply, Request, Welcome
from sessiond_client.wire.spool import (
    DIRECTORY_BYTES_MAX,
    DIRECTORY_FILES_MAX,
    DONE,
    FILE_BYTES_MAX,
    NUMBER_MAX,
    FileName,
    parse_name,
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


class _Others(Enum):
    """Whether recorders of this process have left something, and a daemon was told of it."""

    NONE = 0
    UNTOLD = 1
    TOLD = 2


class Spool:
    """The requests of one client that wait. Any thread may call it.

    `away`: what comes next waits here, too, until all that waits is taken over, for nothing may overtake it.
    Nor may a small request overtake a larger one that found no room: it is refused until that would fit.
    """

    def __init__(self, directory: Path, producer: str, client: str) -> None:
        self.directory = directory
        self.away = False
        self._producer = producer
        self._client = client
        self._lock = threading.Lock()
        self._number = 0
        self._file: SpoolFile | None = None
        self._untold = 0
        self._told = 0
        self._others = _Others.NONE
        self._refused_bytes = 0
        self.takes_refused = False
        """Whether it also keeps what the daemon refuses for now, for one who cannot send it again."""
        self.failure: SessiondError | None = None
        """Why something had to be kept, the last time."""

    @property
    def waiting(self) -> int:
        """How many requests wait to be taken over."""
        return self._untold + self._told

    @property
    def is_settled(self) -> bool:
        """Whether nothing of ours waits, nor anything that a recorder of ours has left."""
        return not self.waiting and self._others is _Others.NONE

    @property
    def is_news(self) -> bool:
        """Whether something waits that no daemon was told of since."""
        return self._untold > 0 or self._others is _Others.UNTOLD

    def left_by_another(self) -> None:
        """A recorder left something behind: it goes before what comes next."""
        with self._lock:
            self.away = True
            self._others = _Others.UNTOLD

    def keep(
        self, request: Request[Any], failure: DaemonUnavailable | ConnectionLost | RequestFailed
    ) -> Reply:
        """Write down what could not be sent, or was not answered; returns what is known of its outcome.

        Raises `failure` for what cannot wait, `RequestFailed` for what the daemon would refuse for its form,
        and `NotSpooled` where there is no room.
        """
        filled_in = as_spooled(request)
        if filled_in is None:
            raise failure
        line = encode(filled_in)
        reply = spooled_reply(filled_in, line)
        with self._lock:
            self.away = True
            self.failure = failure
            try:
                self._write(line)
            except OSError as error:
                raise NotSpooled(self.directory, error.strerror or str(error)) from failure
            self._untold += 1
        return reply

    def hand_over(self) -> str | None:
        """Let go of what was written, for the daemon to take; returns where it looks, None: nothing waits.

        Whoever calls this says hello with it. What others have left there counts, too: it was before what
        comes now.
        """
        with self._lock:
            self._close()
            self._told += self._untold
            self._untold = 0
            if self._others is _Others.UNTOLD:
                self._others = _Others.TOLD
            return str(self.directory) if not self.is_settled or _others_wait(self.directory) else None

    def let_go(self) -> None:
        """Let go of what was written without telling the daemon, which may find it; the next hello tells."""
        with self._lock:
            self._close()
            self.away |= self.waiting > 0

    def taken_over(self, welcome: Welcome) -> None:
        """The daemon has taken what was let go of before its hello, but for so many files as it says.

        If it says nothing, it did not look: nothing waited, or it would not have the directory.
        """
        with self._lock:
            if welcome.waiting == 0:
                self._told = 0
                if self._others is _Others.TOLD:
                    self._others = _Others.NONE
            if not self._told:
                self._refused_bytes = 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: bytes) -> None:
        if self._file is None:
            name = FileName(self._producer, self._number + 1)
            self._file = SpoolFile(self.directory, name, self._client)
        file = self._file
        start = None
        try:
            start = file.write(line, self._refused_bytes)
            file.sync()
            self._refused_bytes = 0
        except OSError:
            self._refused_bytes = max(self._refused_bytes, len(line))
            if start is not None:
                file.take_back(start)
            if not file.kept:
                self._file = None
            raise
        finally:
            self._number = file.name.number


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


def leftovers(directory: Path) -> list[Path]:
    """The files that wait in a spool, in the order in which they are taken over."""
    try:
        names = [name for name in os.listdir(directory) if parse_name(name)]
    except OSError:
        return []
    return [directory / name for name in sorted(names)]


def _others_wait(directory: Path) -> bool:
    """Whether files wait in a spool that the daemon takes over: in one that is open to others it does not."""
    if not leftovers(directory):
        return False
    try:
        os.close(open_private(directory))
    except OSError:
        return False
    return True


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
