"""The command that is recorded, as a process.

Owns the process and what is known of its end. The one rule: its exit code becomes ours: 128 and the signal's
number if it was killed, 127 if it was not found, 126 if it cannot be executed.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

from sessionctl.terminal.pseudo_terminal import PseudoTerminal, Size
from sessionctl.terminal.user_terminal import UserTerminal, has_job_control

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNALLED = 128

SIZE_DEFAULT = Size(80, 24)

_LOCAL_FLAGS, _CONTROL_CHARACTERS = 3, 6
"""Where `termios.tcgetattr` has them."""


class Job:
    """One command on its pseudo-terminal."""

    def __init__(self, terminal: PseudoTerminal, size: Size) -> None:
        self.terminal = terminal
        self.size = size
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.stopped = False
        self.input_file = terminal.master
        self._pid = 0

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return self.exit_code is not None

    def start(self, argv: Sequence[str], environ: Mapping[str, str], stdin: int | None) -> str | None:
        """Start the command; `stdin` None: it reads from the terminal. Returns why it cannot be, or None."""
        try:
            self._pid = self.terminal.spawn(argv, environ, stdin)
        except (OSError, ValueError) as error:
            found = isinstance(error, OSError) and error.errno not in {errno.ENOENT, errno.ENOTDIR}
            self.exit_code = EXIT_NOT_EXECUTABLE if found else EXIT_NOT_FOUND
            return _why(argv[0], error)
        return None

    def feed_through(self, pipe: int) -> None:
        """What is typed goes into this pipe, which is the command's standard input."""
        os.set_blocking(pipe, False)
        self.input_file = pipe

    def end_input(self) -> None:
        """Nothing more will be typed."""
        if self.input_file != self.terminal.master:
            os.close(self.input_file)
            self.input_file = self.terminal.master

    def look(self) -> None:
        """See how the command is, after SIGCHLD."""
        if self.ended or not self._pid:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return
        self.stopped = os.WIFSTOPPED(status)
        if self.stopped:
            return
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            self.signal = _signal_name(-code)
            code = EXIT_SIGNALLED - code
        self.exit_code = code
        self.terminal.release()

    def pass_on(self, number: int) -> None:
        """A signal that was sent to us. What a keyboard can send goes to whoever would get it from there."""
        if number in {signal.SIGINT, signal.SIGQUIT}:
            self.terminal.signal_foreground(number)
            return
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self._pid, number)

    def asked_to_stop(self, typed: bytes) -> bool:
        """Whether Ctrl-Z was typed to a command that the kernel will not stop for it.

        The command leads a session of its own, where nobody could continue it, so the kernel leaves it
        running. Where we can be continued, we stop it ourselves, unless it deals with Ctrl-Z in its own way.
        """
        settings = self.terminal.settings()
        if not settings[_LOCAL_FLAGS] & termios.ISIG:
            return False
        if settings[_CONTROL_CHARACTERS][termios.VSUSP] not in [typed[i : i + 1] for i in range(len(typed))]:
            return False
        own = self.terminal.foreground_group() == self._pid
        return own and has_job_control() and _stops_by_default(self._pid)

    def stop(self) -> None:
        """Stop the command, if it has the foreground; a shell's jobs are the shell's to stop."""
        if not self.ended and self.terminal.foreground_group() == self._pid:
            self.stopped = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped command go on."""
        if self.stopped and not self.ended:
            self.stopped = False
            os.killpg(self._pid, signal.SIGCONT)

    def resize(self, user: UserTerminal) -> bool:
        """Take over the size of the user's terminal; whether it has changed."""
        size = user_size(user)
        if size == self.size:
            return False
        self.size = size
        self.terminal.resize(size)
        return True


def user_size(user: UserTerminal) -> Size:
    """The size of the terminal that shows the output, or that is typed at; else the usual one."""
    for file in (1, user.file, 2):
        with suppress(OSError):  # no terminal: the next one is asked
            rows, columns, _, _ = struct.unpack("HHHH", ioctl(file, termios.TIOCGWINSZ, b"\0" * 8))
            if rows and columns:
                return Size(columns, rows)
    return SIZE_DEFAULT


def _why(name: str, error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return f"{name!r} is no command: {error}"
    if error.errno == errno.ENOENT and "/" not in name:
        return f"{name}: command not found"
    return f"{name}: {error.strerror}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _stops_by_default(pid: int) -> bool:
    """Whether a process neither ignores nor catches SIGTSTP; False where that cannot be known."""
    bit = 1 << (signal.SIGTSTP - 1)
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    masks = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    try:
        return not (int(masks["SigIgn"], 16) | int(masks["SigCgt"], 16)) & bit
    except (KeyError, ValueError):
        return False
