"""Reaching the daemon's socket, and starting the daemon where nobody listens.

Owns the way to the socket and the daemon process that it started, until that has answered. The one rule:
connect first, so that a service manager's socket wins; several clients may start a daemon at once, the
daemon's own lock leaves one of them, and the others connect to it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sessiond_client import paths
from sessiond_client.errors import DaemonUnavailable

if TYPE_CHECKING:
    import subprocess

SOCKET_PATH_BYTES_MAX = 107
"""The longest path that fits into a socket address; a longer one is reached through its directory."""

START_SECONDS_MAX = 10.0
"""How long a daemon started here may take until it answers."""

RESPAWN_SECONDS = 0.5
"""When another daemon had the lock but still nobody listens (it was stopping): start again after this."""

RESPAWNS_MAX = 2
"""Whoever still has the lock then is no daemon that was stopping, but one that listens elsewhere."""

BACKOFF_SECONDS_FIRST = 0.005
BACKOFF_SECONDS_MAX = 0.25

LOG_TAIL_BYTES = 4096
"""How much of the daemon's log is read to find its last line."""

EXIT_ALREADY_RUNNING = 75

_OF_ANOTHER_SERVICE = {
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
}
"""What a service manager tells the program that we run in; a daemon started from it would speak for it."""

_NOBODY_LISTENS = {errno.ENOENT, errno.ECONNREFUSED}
_TRY_AGAIN = {errno.EAGAIN, errno.EINTR, errno.ECONNABORTED}


class NotYet(Exception):  # noqa: N818 - not an error; never leaves the library
    """Nobody answers at this moment; trying again makes sense. `listening`: someone does listen."""

    def __init__(self, reason: str, listening: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.listening = listening


class Connector:
    """Makes connections to the daemon at `path`, and starts it if `autostart`."""

    def __init__(self, path: Path | None = None, autostart: bool | None = None) -> None:
        self.path = paths.socket_path() if path is None else Path(path)
        self.autostart = paths.autostart_allowed() if autostart is None else autostart
        self._daemon: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._respawns = 0
        self._log = paths.state_dir() / "daemon.log"

    def attempt(self) -> socket.socket:
        """One try, which does not wait: a connected non-blocking socket.

        Raises `NotYet` where another try makes sense, `DaemonUnavailable` where it does not.
        """
        _reap()
        try:
            connection = _connect(self.path)
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                raise NotYet("its queue of new connections is full", listening=True) from None
            if error.errno not in _NOBODY_LISTENS:
                raise DaemonUnavailable(self.path, error.strerror or str(error)) from error
            if self.autostart:
                self._start()
            raise NotYet(error.strerror or str(error), listening=False) from None
        self._daemon = None
        self._respawns = 0
        return connection

    def open(self, deadline: float, patient: bool = True) -> socket.socket:
        """A connected non-blocking socket, tried for until `deadline` (of `time.monotonic`).

        Without `patient`, only as long as someone listens or a daemon is being started. Raises
        `DaemonUnavailable`.
        """
        pause = BACKOFF_SECONDS_FIRST
        while True:
            try:
                return self.attempt()
            except NotYet as reason:
                remaining = deadline - time.monotonic()
                hopeless = not (patient or self.autostart or reason.listening)
                if hopeless or remaining <= 0:
                    raise DaemonUnavailable(self.path, self._explain(reason), reason.listening) from None
            time.sleep(min(pause, remaining))
            pause = min(pause * 2, BACKOFF_SECONDS_MAX)

    def _explain(self, reason: NotYet) -> str:
        if reason.listening or self.autostart:
            return reason.reason
        return f"{reason.reason}; start it with `sessiond serve`"

    def _start(self) -> None:
        """See to it that a daemon is on its way; raises `DaemonUnavailable` if it has failed."""
        now = time.monotonic()
        if self._daemon is None:
            self._spawn(now)
            return
        code = self._daemon.poll()
        waited = now - self._started_at
        if code is not None and code != EXIT_ALREADY_RUNNING:
            self._daemon = None
            detail = _last_line(self._log) or f"see {self._log}"
            raise DaemonUnavailable(self.path, f"it was started and exited with {code}: {detail}")
        if code is not None and waited > RESPAWN_SECONDS:
            self._respawns += 1
            if self._respawns > RESPAWNS_MAX:
                self._daemon = None
                self._respawns = 0
                raise DaemonUnavailable(self.path, _last_line(self._log) or f"see {self._log}")
            self._spawn(now)
        elif waited > START_SECONDS_MAX:
            raise DaemonUnavailable(
                self.path, f"it was started {waited:.0f} s ago and does not answer; see {self._log}"
            )

    def _spawn(self, now: float) -> None:
        command = [sys.executable, "-P", "-m", "sessiond", "serve"]
        if self.path != paths.socket_path() or not os.environ.get("SESSIOND_SOCKET", "/").startswith("/"):
            command += ["--socket", os.path.abspath(self.path)]
        try:
            self._daemon = _spawn_detached(command, self._log)
        except OSError as error:
            raise DaemonUnavailable(self.path, f"it could not be started: {error}") from error
        self._started_at = now


_spawned: list[subprocess.Popen[bytes]] = []
"""Daemons started by this process that may still run; asked now and then, so that none stays a zombie."""


def _reap() -> None:
    if _spawned:
        _spawned[:] = [daemon for daemon in _spawned if daemon.poll() is None]


def _spawn_detached(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one: a session of its own, no terminal, its errors in `log`."""
    import subprocess

    class Detached(subprocess.Popen[bytes]):
        def __del__(self) -> None:
            """Outliving this process is what it is for: nothing to warn about."""

    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        daemon = Detached(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_SERVICE},
            start_new_session=True,
        )
    finally:
        os.close(errors)
    _spawned.append(daemon)
    return daemon


def _connect(path: Path) -> socket.socket:
    """A non-blocking connection to the socket at `path`, however long that is; raises `OSError`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.setblocking(False)
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            connection.connect(os.fspath(path))
        else:
            _connect_through_directory(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_through_directory(connection: socket.socket, path: Path) -> None:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def _last_line(log: Path) -> str:
    """The last line of the daemon's log that says something, or nothing."""
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            file.seek(max(0, size - LOG_TAIL_BYTES))
            tail = file.read(LOG_TAIL_BYTES)
    except OSError:
        return ""
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
