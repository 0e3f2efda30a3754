"""A real daemon in a fork of a process that has imported it already: a start takes a tenth of the time.

The one rule: only a process without threads may use it; the fork runs the daemon's own `main` and never comes
back to its parent's code.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import anyio

from sessiond.cli import main
from tests.running import NotReady, RunningDaemon

EXIT_CRASHED = 1
TRACER_SECONDS_MAX = 30


def import_daemon() -> None:
    """Import all that a daemon imports when it starts, also what it imports late."""
    for module in ("sessiond.config", "sessiond.daemon", "sessiond.log"):
        import_module(module)
    with suppress(ImportError):
        import_module("uvloop")
    anyio.run(anyio.sleep, 0)


class ForkedProcess:
    """What `subprocess.Popen` is for a program: a forked daemon that begins when it is told to."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], log: BinaryIO) -> None:
        self.returncode: int | None = None
        begin, self._begin = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become_daemon(arguments, environ, log.fileno(), begin)
        os.close(begin)
        self._pidfd = os.pidfd_open(self.pid)

    def begin(self) -> None:
        """Let it run."""
        os.close(self._begin)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it, if it has ended."""
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            # Without WNOHANG: a tracer may have to hear of the end first.
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
            os.close(self._pidfd)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self._pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("sessiond", timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


def _become_daemon(arguments: Sequence[str], environ: Mapping[str, str], log: int, begin: int) -> None:
    try:
        os.dup2(log, 2)
        os.closerange(3, begin)
        os.closerange(begin + 1, 1024)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir("/")
        os.read(begin, 1)
        os.close(begin)
        main.main(list(arguments), prog_name="sessiond")
    except SystemExit as ended:
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 0)
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(EXIT_CRASHED)


class ForkedDaemon(RunningDaemon):
    """`sessiond serve` in a fork; with `strace`, the options of a tracer from its first call on."""

    def __init__(self, home: Path, *options: str, strace: Sequence[str] = ()) -> None:
        self._strace = strace
        self._tracer: subprocess.Popen[bytes] | None = None
        try:
            super().__init__(home, *options)
        except NotReady:
            self.kill()
            self.release()
            raise

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> ForkedProcess:
        """Fork it, attach the tracer, let it run."""
        process = ForkedProcess(["serve", *self._options], environ, log)
        if self._strace:
            command = ["strace", "-f", *self._strace, "-p", str(process.pid)]
            self._tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            assert self._tracer.stderr is not None
            said = self._tracer.stderr.readline()
            assert said == b"strace: Process %d attached\n" % process.pid, said
        process.begin()
        return process

    def release(self) -> None:
        """Let the tracer go, and its fault with it; the daemon runs on."""
        if self._tracer is not None:
            self._tracer.terminate()
            self._tracer.communicate(timeout=TRACER_SECONDS_MAX)
            self._tracer = None
