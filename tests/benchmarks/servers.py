"""A server that the benchmark starts for itself, in a directory of its own.

The one rule: it ends with the benchmark, also if that is killed.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

READY_SECONDS_MAX = 30.0
LOOK_MILLISECONDS = 20
STOP_SECONDS_MAX = 30


class ServerFailed(Exception):  # noqa: N818 - it is a reason
    """A server did not start; the message has the end of its log."""


def nobody() -> list[str]:
    """A command that runs another one as a user without rights, for servers that refuse to be root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def free_port() -> int:
    """A port of the loopback that nobody uses at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """One server process, which is ready on return. Raises ServerFailed."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        ready: Callable[[], bool],
        *,
        environ: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self._log = directory / "server.log"
        tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*tether, *under, *tether, *command],
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                start_new_session=True,  # an interrupt is for the benchmark, which stops its servers in order
            )
        try:
            self._wait(command[0], ready)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def _wait(self, program: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        pidfd = os.pidfd_open(self.process.pid)
        try:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            while not ready():
                if ended.poll(LOOK_MILLISECONDS) or time.monotonic() > deadline:
                    said = self._log.read_text(errors="replace").strip()[-500:]
                    raise ServerFailed(f"{program} did not get ready: {said}")
        finally:
            os.close(pidfd)

    def stop(self, number: signal.Signals = signal.SIGTERM, pid: int | None = None) -> None:
        """Stop it and wait. `pid`: the server's own, where it runs under another program."""
        if self.process.poll() is None:
            os.kill(pid or self.process.pid, number)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
