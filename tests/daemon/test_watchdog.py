"""The service manager hears from a daemon that serves, and not from one that only lives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from sessiond.systemd import watchdog_seconds
from tests.peer import Peer
from tests.running import environ_for

PERIOD_SECONDS = 0.6
SECONDS_MAX = 30.0

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-P", "-m", "sessiond", "serve"])
"""


class Manager:
    """Stands in for the service manager: binds a socket for a daemon, and hears what it reports."""

    def __init__(self, home: Path) -> None:
        self.socket = home / "run" / "s"
        self.log = home / "log"
        self.database = home / "data" / "sessiond" / "sessiond.db"
        for directory in ("run", "data"):
            (home / directory).mkdir(mode=0o700)
        self._reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reports.bind(str(home / "reports"))
        environ = environ_for(home) | {
            "NOTIFY_SOCKET": str(home / "reports"),
            "WATCHDOG_USEC": str(int(PERIOD_SECONDS * 1_000_000)),
        }
        with socket.socket(socket.AF_UNIX) as listener, self.log.open("wb") as log:
            listener.bind(str(self.socket))
            listener.listen()
            number = listener.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", HAND_OVER, str(number)], env=environ, pass_fds=[number], stderr=log
            )
        assert "READY=1" in self.hear()

    def hear(self, seconds: float = SECONDS_MAX) -> str:
        """The next report; TimeoutError if none comes."""
        self._reports.settimeout(seconds)
        return self._reports.recv(4096).decode()

    def until_silent(self) -> None:
        """Return once nothing is heard for two periods, and the log says why; the test's timeout bounds it.

        A trial that was under way, or that a busy machine held up, may still be reported before.
        """
        logged = len(self.log.read_text())
        with suppress(TimeoutError):
            while self.hear(2 * PERIOD_SECONDS):
                pass
        while "the service manager is not told that all is well" not in self.log.read_text()[logged:]:
            assert self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reports.close()


@pytest.fixture
def manager(home: Path) -> Iterator[Manager]:
    stand_in = Manager(home)
    yield stand_in
    stand_in.close()


def test_a_daemon_that_serves_is_heard_of(manager: Manager) -> None:
    assert [manager.hear() for _ in range(3)] == ["WATCHDOG=1"] * 3
    with Peer(manager.socket) as peer:
        assert peer.call("status")["commits"] >= 3, "each ping follows a commit"


def test_a_daemon_that_nobody_can_reach_any_more_is_not_heard_of(manager: Manager) -> None:
    assert manager.hear() == "WATCHDOG=1"

    manager.socket.unlink()

    manager.until_silent()


def test_a_daemon_whose_writer_stands_is_not_heard_of_until_it_goes_on(manager: Manager) -> None:
    assert manager.hear() == "WATCHDOG=1"
    intruder = apsw.Connection(str(manager.database))
    intruder.execute("BEGIN IMMEDIATE")
    with Peer(manager.socket) as peer:
        manager.until_silent()
        assert peer.call("ping")["type"] == "pong", "it lives, but it does not store"

    intruder.execute("ROLLBACK")
    intruder.close()
    assert manager.hear() == "WATCHDOG=1"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_what_the_service_manager_asks_for(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds
