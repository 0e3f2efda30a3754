"""The loop between the user's terminal, the command's and the recording.

Owns the bytes on their way to the command and the order of things: what the command writes is shown first and
recorded then. The one rule: nothing in this loop waits but its one `poll`: no side can hold up another.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress

from sessionctl.recording.job import Job
from sessionctl.recording.tape import Tape
from sessionctl.terminal.screen import Screen
from sessionctl.terminal.signals import SignalPipe
from sessionctl.terminal.user_terminal import UserTerminal

READ_BYTES = 8192
"""A pseudo-terminal gives 4 KiB at most in one read."""

TURN_BYTES_MAX = 64 * 1024
"""How much output is read before it is shown and recorded."""

INPUT_PENDING_BYTES_MAX = 64 * 1024
"""With more than this waiting for the command, the keyboard is read no further."""

DRAIN_SECONDS_QUIET = 0.1
DRAIN_SECONDS_MAX = 2.0
"""After the command has ended, what it left behind may go on writing: until it is quiet, but not longer."""

FOREGROUND_SECONDS = 0.25
"""In the background, how often to look whether we have come to the foreground: a shell need not tell us."""

PASSED_ON = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
NOTICED = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)

_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Relay:
    """Moves bytes until the job is done. `input_file` None: the command reads its standard input itself."""

    def __init__(
        self,
        job: Job,
        screen: Screen,
        tape: Tape,
        signals: SignalPipe,
        keyboard: UserTerminal,
        input_file: int | None,
        record_input: bool,
    ) -> None:
        self._job = job
        self._screen = screen
        self._tape = tape
        self._signals = signals
        self._keyboard = keyboard
        self._input_file = input_file
        self._record_input = record_input
        self._to_command = b""
        self._master_open = True
        self._drain_until = 0.0
        self._quiet_until = 0.0
        self._warned_reader_gone = False

    def run(self) -> None:
        """Until the command has ended and its output is shown and recorded."""
        while not self._finished():
            poll = select.poll()
            for file, events in self._interests().items():
                poll.register(file, events)
            ready = dict(poll.poll(self._milliseconds()))
            if self._signals.file in ready:
                self._handle_signals()
            if ready.get(self._job.terminal.master, 0) & _READABLE:
                self._read_output()
            if self._screen.waiting and ready.get(self._screen.file):
                self._screen.write()
            if self._to_command and ready.get(self._job.input_file, 0) & ~select.POLLIN:
                self._write_input()
            if self._input_file is not None and ready.get(self._input_file, 0) & _READABLE:
                self._read_input()
            self._tape.advance()
            if self._in_background():
                self._keyboard.enter_raw()
            if self._screen.reader_gone:
                self._tell_reader_gone()

    # --- what to wait for

    def _finished(self) -> bool:
        if not self._job.ended:
            return False
        now = time.monotonic()
        if self._screen.full:  # its reader is slow; what is left in the terminal waits for it
            self._quiet_until = now + DRAIN_SECONDS_QUIET
            self._drain_until = now + DRAIN_SECONDS_MAX
        elif self._master_open and now >= self._drain_until:
            self._read_output()
            self._master_open = False
        elif self._master_open and now >= self._quiet_until:
            # On a busy machine it may be us who were not there to read what came in time.
            self._master_open = self._output_waits()
        return not self._master_open and not self._screen.waiting

    def _interests(self) -> dict[int, int]:
        interests = {self._signals.file: select.POLLIN}
        if self._master_open and not self._screen.full:
            interests[self._job.terminal.master] = select.POLLIN
        if self._to_command:
            file = self._job.input_file
            interests[file] = interests.get(file, 0) | select.POLLOUT
        if self._screen.waiting:
            interests[self._screen.file] = select.POLLOUT
        if self._wants_input():
            assert self._input_file is not None  # noqa: S101 - for the type checker
            interests[self._input_file] = select.POLLIN
        return interests

    def _wants_input(self) -> bool:
        if self._input_file is None or self._job.ended or len(self._to_command) >= INPUT_PENDING_BYTES_MAX:
            return False
        return self._keyboard.raw or not self._keyboard.is_terminal

    def _in_background(self) -> bool:
        """Whether keys are wanted but the terminal is somebody else's at present."""
        return self._input_file is not None and self._keyboard.is_terminal and not self._keyboard.raw

    def _milliseconds(self) -> int | None:
        due = [self._tape.due_at] if self._tape.due_at is not None else []
        if self._job.ended and self._master_open:
            due.append(min(self._quiet_until, self._drain_until))
        if self._in_background():
            due.append(time.monotonic() + FOREGROUND_SECONDS)
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None

    # --- output

    def _read_output(self) -> None:
        """Everything there is, up to a limit; shown, then recorded."""
        master = self._job.terminal.master
        parts: list[bytes] = []
        size = 0
        try:
            while size < TURN_BYTES_MAX:
                part = os.read(master, READ_BYTES)
                if not part:
                    self._master_open = False
                    break
                parts.append(part)
                size += len(part)
        except BlockingIOError:
            pass  # that was all for now
        except OSError:  # EIO: the command has ended and nobody else has the terminal open
            self._master_open = False
        if parts:
            data = b"".join(parts)
            self._screen.show(data)
            self._tape.output(data)
            self._quiet_until = time.monotonic() + DRAIN_SECONDS_QUIET

    def _output_waits(self) -> bool:
        poll = select.poll()
        poll.register(self._job.terminal.master, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def _tell_reader_gone(self) -> None:
        """Nobody reads our output: the command gets what it would have got from writing there itself."""
        if not self._warned_reader_gone:
            self._warned_reader_gone = True
            self._job.terminal.signal_foreground(signal.SIGPIPE)
            self._screen.failure = None  # if it goes on writing regardless, we notice
        else:
            self._job.terminal.signal_foreground(signal.SIGHUP)

    # --- input

    def _read_input(self) -> None:
        assert self._input_file is not None  # noqa: S101 - for the type checker
        try:
            data = os.read(self._input_file, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal is gone
            data = b""
        if not data:
            self._input_file = None
            if not self._to_command:
                self._job.end_input()
            return
        if self._record_input:
            self._tape.input(data)
        self._to_command += data
        self._write_input()
        if self._keyboard.raw and self._job.asked_to_stop(data):
            self._stop()

    def _write_input(self) -> None:
        try:
            written = os.write(self._job.input_file, self._to_command)
        except BlockingIOError:
            return
        except OSError:  # the command has closed its input
            self._to_command = b""
            self._input_file = None
            return
        self._to_command = self._to_command[written:]
        if not self._to_command and self._input_file is None:
            self._job.end_input()

    # --- signals

    def _handle_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGCHLD:
                self._look_after_command()
            elif number == signal.SIGWINCH:
                self._resize()
            elif number == signal.SIGTSTP:
                self._stop()
            elif number == signal.SIGCONT:
                self._continue()
            elif self._job.ended:
                self._screen.drop()
                self._master_open = False
            else:
                self._job.pass_on(number)

    def _look_after_command(self) -> None:
        self._job.look()
        if self._job.ended and not self._drain_until:
            now = time.monotonic()
            self._drain_until = now + DRAIN_SECONDS_MAX
            self._quiet_until = now + DRAIN_SECONDS_QUIET
        elif self._job.stopped and self._keyboard.raw:
            self._stop()

    def _resize(self) -> None:
        if self._job.resize(self._keyboard):
            self._tape.resize(self._job.size)

    def _stop(self) -> None:
        """Stop with the command, the terminal given back meanwhile; go on when we are continued."""
        self._job.stop()
        self._keyboard.restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._continue()

    def _continue(self) -> None:
        if self._input_file is not None:
            self._keyboard.enter_raw()
        with suppress(ProcessLookupError):
            self._job.resume()
        self._resize()
