"""What the tests of the command line share: running the real `sessionctl` against a real daemon."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.running import RunningDaemon, environ_for

SESSIONCTL = [sys.executable, "-P", "-m", "sessionctl"]
SECONDS_MAX = 60


class Sessionctl:
    """Runs `sessionctl` with everything piped; keyword arguments become environment variables."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    def __call__(
        self, *arguments: str, stdin: bytes | None = b"", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            [*SESSIONCTL, *arguments],
            capture_output=True,
            env={**self.environ, **variables},
            timeout=SECONDS_MAX,
            **source,
        )

    def stop_daemon(self) -> None:
        """End the daemon that a call has started."""
        pid = self.json("status")[0]["pid"]
        pidfd = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGTERM)
            select.select([pidfd], [], [], SECONDS_MAX)
        finally:
            os.close(pidfd)

    def out(self, *arguments: str, stdin: bytes | None = None, **variables: str) -> str:
        """Standard output of a call that must succeed quietly."""
        result = self(*arguments, stdin=stdin, **variables)
        assert result.returncode == 0, result
        assert result.stderr == b"", result
        return result.stdout.decode()

    def json(self, *arguments: str, stdin: bytes | None = None) -> list[Any]:
        """Standard output of a call with `--json`, one value a line."""
        return [json.loads(line) for line in self.out(*arguments, "--json", stdin=stdin).splitlines()]

    def events(self, session: str = "@0") -> list[dict[str, Any]]:
        """All events of a session."""
        return self.json("show", session)[1:]

    def output_bytes(self, session: str = "@0") -> bytes:
        """The output that was recorded, as bytes."""
        result = self("show", "--raw", session)
        assert result.returncode == 0, result
        return result.stdout


@pytest.fixture
def alone(home: Path) -> Sessionctl:
    """`sessionctl` where no daemon runs and none may be started."""
    return Sessionctl(environ_for(home))


@pytest.fixture
def spool(home: Path) -> Path:
    """Where requests wait while no daemon can be reached."""
    return home / "state" / "sessiond" / "spool"


@pytest.fixture
def sessionctl(daemon: RunningDaemon) -> Sessionctl:
    """`sessionctl`, with a daemon that runs."""
    return Sessionctl(daemon.environ)


@pytest.fixture
def on_terminal(daemon: RunningDaemon) -> Iterator[Callable[..., Terminal]]:
    """Starts `sessionctl` on a terminal of its own; what still runs at the end is killed."""
    terminals: list[Terminal] = []

    def start(*arguments: str, **variables: str) -> Terminal:
        terminals.append(Terminal([*SESSIONCTL, *arguments], {**daemon.environ, **variables}))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()
