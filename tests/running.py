"""A real daemon in a process of its own, for tests."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tests.peer import Peer

ROOT = Path(__file__).parents[1]
STOP_SECONDS_MAX = 15


def environ_for(home: Path) -> dict[str, str]:
    """An environment in which everything of sessiond is below `home`, for subprocesses of a test."""
    return {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "PYTHONPATH": f"{ROOT / 'client'}:{ROOT}",
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "SESSIOND_AUTOSTART": "0",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TZ": "UTC",
    }


class NotReady(AssertionError):  # noqa: N818 - what is found, not what failed
    """The daemon ended, or a minute went by, without its READY message."""


class Process(Protocol):
    """As much of `subprocess.Popen` as is needed of a daemon's process."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """kill -9."""


def launch(command: Sequence[str], environ: Mapping[str, str], log: BinaryIO) -> subprocess.Popen[bytes]:
    """Start a command that is a daemon."""
    return subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        cwd="/",
    )


class RunningDaemon:
    """`sessiond serve` below a home directory; readiness is told by its own READY message.

    `under` is a command to run it under, such as strace.
    """

    def __init__(self, home: Path, *options: str, under: Sequence[str] = ()) -> None:
        self.home = home
        self.environ = environ_for(home)
        self.socket = home / "run" / "sessiond" / "sessiond.sock"
        self.data_dir = home / "data" / "sessiond"
        self.log = home / "daemon.log"
        self._options = options
        self._under = under
        self._peers: list[Peer] = []
        self.start()

    def start(self) -> None:
        """Start the process and wait until it says that it is ready."""
        for directory in (self.home / "run", self.home / "data"):
            directory.mkdir(mode=0o700, exist_ok=True)
        notify_path = self.home / "notify"
        notify_path.unlink(missing_ok=True)
        environ = dict(self.environ)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications, self.log.open("ab") as log:
            notifications.bind(str(notify_path))
            environ["NOTIFY_SOCKET"] = str(notify_path)
            self.process = self.spawn(environ, log)
            self._wait_ready(notifications)

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> Process:
        """Start the process."""
        command = [*self._under, sys.executable, "-P", "-m", "sessiond", "serve", *self._options]
        return launch(command, environ, log)

    def _wait_ready(self, notifications: socket.socket) -> None:
        pidfd = os.pidfd_open(self.process.pid)
        try:
            readable, _, _ = select.select([notifications.fileno(), pidfd], [], [], 60)
        finally:
            os.close(pidfd)
        if notifications.fileno() not in readable:
            raise NotReady(f"the daemon did not get ready: {self.log.read_text()[-2000:]}")
        assert b"READY=1" in notifications.recv(4096)

    def peer(self, **hello: Any) -> Peer:
        """A raw connection to this daemon."""
        peer = Peer(self.socket, **hello)
        self._peers.append(peer)
        return peer

    def close_peers(self) -> None:
        """Hang up every connection made by `peer`."""
        for peer in self._peers:
            peer.close()

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it in order; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS_MAX)

    def restart(self) -> None:
        """kill -9, then start again."""
        self.kill()
        self.start()

    def memory_mib(self) -> float:
        """The resident memory of the process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")

    def log_text(self) -> str:
        """Everything it has logged."""
        return self.log.read_text()
