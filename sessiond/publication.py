"""The socket in the file system: who may own it, how it appears and how it goes.

Owns the lock beside the socket. The one rule: the lock, held for life, decides who serves; the socket file
is only ever replaced by a rename, so a client finds either a living socket or none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import socket
import stat
from contextlib import suppress
from pathlib import Path

from sessiond.errors import EXIT_CONFIGURATION, EXIT_STORAGE, EXIT_TAKEN, StartupRefused

BACKLOG = 1024
HOLDER_BYTES_MAX = 4096
PATH_BYTES_MAX = 107
"""The longest path that fits a Unix socket address; longer ones go through /proc."""

_ADVICE = {
    errno.EROFS: "it is mounted for reading only: mount it for writing",
    errno.EACCES: "see who owns it, and its mode",
    errno.EPERM: "see who owns it, and its mode",
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your share of the disk is full: free some space",
}

_PASSING_ERRORS = {
    *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


def private_directory(path: Path, purpose: str) -> None:
    """Create a directory for the user alone, or check that it is; raises StartupRefused."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        above = path.parent.stat()
    except OSError as error:
        raise _unusable(path, purpose, error, "choose another directory") from error
    if found.st_uid != os.geteuid():
        raise StartupRefused(
            f"{path}, for {purpose}, belongs to user {found.st_uid}, not to you",
            "choose a directory of your own",
        )
    if found.st_mode & (stat.S_ISVTX | stat.S_IWOTH) or path == path.parent:
        raise StartupRefused(
            f"{path}, for {purpose}, is shared with others", "choose a directory of your own"
        )
    if found.st_mode & 0o077:
        raise StartupRefused(
            f"{path}, for {purpose}, is open to others (mode {found.st_mode & 0o777:o})", f"chmod 700 {path}"
        )
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise StartupRefused(
            f"{path}, for {purpose}, can be replaced by others, for {path.parent} is open to all",
            f"chmod o-w {path.parent}",
        )


def require_no_links(directory: Path) -> None:
    """Raises StartupRefused if an entry of our data directory is a link: what we write would go elsewhere."""
    try:
        with os.scandir(directory) as entries:
            links = [entry.path for entry in entries if entry.is_symlink()]
    except OSError as error:
        raise _unusable(directory, "the data", error, "see to the disk") from error
    if links:
        raise StartupRefused(f"{links[0]} is a link", "put what it leads to in its place")


def take_lock(path: Path, purpose: str, holder: Path | str, *, read_only: bool = False) -> int:
    """Lock a file for life, and say in it where its holder listens, or what it is.

    With `read_only` nothing is written.
    Raises StartupRefused, with exit 75 if another process has it.
    """
    flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _unusable(path, purpose, error, "see what it is, and remove it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StartupRefused(f"{path} is no regular file", "see what it is, and remove it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise _taken(descriptor, purpose) from None
    if not read_only:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, os.fsencode(holder) + b"\n", 0)
        except OSError as error:
            os.close(descriptor)
            raise _unusable(path, purpose, error, "see to the disk") from error
    return descriptor


def share_lock(path: Path, purpose: str) -> int | None:
    """Keep others from locking a file, and write nothing; None where there is none.

    Raises StartupRefused, with exit 75 if another process has locked it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, purpose, error, "see what it is, and remove it") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        raise _taken(descriptor, purpose) from None
    return descriptor


def _taken(descriptor: int, purpose: str) -> StartupRefused:
    """Who has locked an open file; closes it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        other = os.fsdecode(os.pread(descriptor, HOLDER_BYTES_MAX, 0)).strip()
    else:
        other = "`sessiond check`"  # which only looks, and so does not write its name
    finally:
        os.close(descriptor)
    hint = f"{other} is at work: wait until it ends" if other else "it is just starting"
    if other.startswith("/"):
        there = f"SESSIOND_SOCKET={shlex.quote(other)} sessionctl status"
        hint = f"it listens at {other}: set SESSIOND_SOCKET to that, or end it; its pid: {there}"
    return StartupRefused(f"another sessiond has {purpose}", hint, EXIT_TAKEN)


def _unusable(path: Path, purpose: str, error: OSError, hint: str) -> StartupRefused:
    """What may pass, as a disk that fails, is tried again by the service manager; a wrong set-up is not."""
    code = EXIT_STORAGE if error.errno in _PASSING_ERRORS else EXIT_CONFIGURATION
    advice = _ADVICE.get(error.errno or 0, hint)
    return StartupRefused(f"cannot use {path} for {purpose}: {error.strerror}", advice, code)


class InheritedSocket:
    """A listening socket whose name is the service manager's: neither published nor withdrawn by us."""

    def __init__(self, inherited: socket.socket) -> None:
        self.socket = inherited
        self.path = Path(os.fsdecode(inherited.getsockname()))

    def withdraw(self) -> None:
        """Close our end."""
        self.socket.close()


class PublishedSocket:
    """Our listening socket and its name; `withdraw` removes the name if it is still ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        private_directory(path.parent, "the socket")
        self._lock = self._take_lock()
        try:
            self._publish()
        except StartupRefused:
            os.close(self._lock)
            raise

    def _take_lock(self) -> int:
        return take_lock(self.path.with_name(f"{self.path.name}.lock"), f"the socket {self.path}", self.path)

    def _publish(self) -> None:
        try:
            self.socket = self._listen()
            self._identity = _identity(self.path)
        except OSError as error:
            raise StartupRefused(
                f"cannot listen at {self.path}: {error}", "set SESSIOND_SOCKET to another path"
            ) from None

    def _listen(self) -> socket.socket:
        temporary = self.path.with_name(f".{os.getpid():x}")
        temporary.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            too_long = len(os.fsencode(temporary)) > PATH_BYTES_MAX
            listener.bind(f"/proc/self/fd/{directory}/{temporary.name}" if too_long else str(temporary))
            temporary.chmod(0o600)
            listener.listen(BACKLOG)
            temporary.rename(self.path)
        except OSError:
            listener.close()
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(directory)
        return listener

    def is_ours(self) -> bool:
        """Whether the name still leads to our socket."""
        try:
            return _identity(self.path) == self._identity
        except OSError:
            return False

    def publish_again(self) -> None:
        """Put a new socket of ours where the old one was; the caller closes the old one.

        Raises StartupRefused, also if another process has the lock of that name by now.
        """
        private_directory(self.path.parent, "the socket")
        lock = self.path.with_name(f"{self.path.name}.lock")
        held = os.fstat(self._lock)
        try:
            is_held = _identity(lock) == (held.st_dev, held.st_ino)
        except OSError:
            is_held = False
        if not is_held:
            anew = self._take_lock()
            os.close(self._lock)
            self._lock = anew
        self._publish()

    def withdraw(self) -> None:
        """Remove the name, unless someone else has put theirs in its place, and let go of the lock."""
        if self.is_ours():
            with suppress(OSError):  # gone already, which is what was wanted
                self.path.unlink()
        self.socket.close()
        os.close(self._lock)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
