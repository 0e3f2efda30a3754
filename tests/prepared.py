"""Daemons that start at once: each is forked from a process that has imported the daemon already.

What runs is the daemon's own command line in a process of its own, with the arguments, the environment and
the log that any other would have; it costs a tenth of the processor's time. The one rule: the process that
forks has no threads, opens nothing, and reaps a daemon only when it is asked for its exit code.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tests.crash.forked import ForkedProcess, import_daemon
from tests.running import ROOT, RunningDaemon

MESSAGE_BYTES_MAX = 64 * 1024


class PreparedProcess:
    """What `subprocess.Popen` is for a program: a daemon that somebody else forked."""

    def __init__(self, preparation: Preparation, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._preparation = preparation
        self._pidfd = os.pidfd_open(pid)

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self._pidfd)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it, if it has ended."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        code = self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("sessiond", timeout or 0)
        return code

    def _ended_within(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            end = select.poll()
            end.register(self._pidfd, select.POLLIN)
            if end.poll(None if seconds is None else seconds * 1000):
                self.returncode = self._preparation.ask(reap=self.pid)
                os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


class Preparation:
    """The process that daemons are forked from."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.prepared", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'client'}:{ROOT}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )

    def spawn(self, arguments: Sequence[str], environ: Mapping[str, str], log: BinaryIO) -> PreparedProcess:
        """Start `sessiond` with these arguments."""
        pid = self.ask([log.fileno()], arguments=arguments, environ=environ)
        return PreparedProcess(self, pid)

    def ask(self, descriptors: Sequence[int] = (), **request: Any) -> int:
        """Have a daemon forked, or reaped."""
        socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
        return int(self._socket.recv(MESSAGE_BYTES_MAX))

    def close(self) -> None:
        """No more daemons."""
        self._socket.close()
        self._process.wait()


class PreparedDaemon(RunningDaemon):
    """A daemon that was forked, if nothing but the daemon is to run."""

    def __init__(self, home: Path, preparation: Preparation) -> None:
        self._preparation = preparation
        super().__init__(home)

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> PreparedProcess:
        """Have it forked."""
        return self._preparation.spawn(["serve", *self._options], environ, log)


def main() -> None:
    """Fork and reap as the socket with the descriptor in the arguments says, until it is closed."""
    import_daemon()
    daemons: dict[int, ForkedProcess] = {}
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, MESSAGE_BYTES_MAX, 1)
            if not message:
                return
            request = json.loads(message)
            if "reap" in request:
                answer = daemons.pop(request["reap"]).wait()
            else:
                with os.fdopen(descriptors[0], "wb") as log:
                    process = ForkedProcess(request["arguments"], request["environ"], log)
                    process.begin()
                daemons[process.pid] = process
                answer = process.pid
            requests.send(str(answer).encode())


if __name__ == "__main__":
    main()
