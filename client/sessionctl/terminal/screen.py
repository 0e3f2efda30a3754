"""Where the command's output is shown.

Owns the bytes that standard output did not take yet. The one rule: showing never blocks the loop, as far as
the system allows, and what cannot be shown any more is still recorded.
"""

from __future__ import annotations

import errno
import os

PENDING_BYTES_MAX = 256 * 1024
"""With more than this waiting, the command's output is read no further."""

CAUTIOUS_BYTES = 4096
"""What a pipe that polls as writable takes without blocking (PIPE_BUF)."""


class Screen:
    """Writes to `file` without blocking, through a descriptor of its own where the system can give one.

    The descriptor we were given is shared with other processes, so it must not be made non-blocking itself.
    """

    def __init__(self, file: int) -> None:
        self.failure: OSError | None = None
        self.ends_line = True
        self._pending: list[memoryview] = []
        self._size = 0
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_APPEND
            self.file = os.open(f"/proc/self/fd/{file}", flags) if _can_reopen(file) else file
        except OSError:
            self.file = file
        self._cautious = self.file == file and not os.path.isfile(f"/proc/self/fd/{file}")
        self._given = file

    @property
    def waiting(self) -> bool:
        """Whether something is to be written once `file` takes it."""
        return self._size > 0

    @property
    def pending_bytes(self) -> int:
        """How much of what was to be shown is not written yet."""
        return self._size

    @property
    def full(self) -> bool:
        """Whether nothing more should be added."""
        return self._size >= PENDING_BYTES_MAX

    def show(self, data: bytes) -> None:
        """Write what goes at once; keep the rest."""
        if self.failure is not None:
            return
        self.ends_line = data.endswith(b"\n")
        self._pending.append(memoryview(data))
        self._size += len(data)
        if len(self._pending) == 1 and not self._cautious:
            self.write()

    def write(self) -> None:
        """Write as much as goes; when nobody reads any more, that is the `failure`."""
        try:
            while self._pending:
                piece = self._pending[0]
                written = os.write(self.file, piece[:CAUTIOUS_BYTES] if self._cautious else piece)
                self._size -= written
                if written < len(piece):
                    self._pending[0] = piece[written:]
                else:
                    del self._pending[0]
                if self._cautious:
                    return
        except BlockingIOError:
            pass  # the rest once it takes more
        except OSError as error:
            self.failure = error
            self.drop()

    def drop(self) -> None:
        """Forget what is not written."""
        self._pending.clear()
        self._size = 0

    @property
    def reader_gone(self) -> bool:
        """Whether the other end of a pipe was closed, as `| head` does."""
        return self.failure is not None and self.failure.errno == errno.EPIPE

    def close(self) -> None:
        """Give back the descriptor made here."""
        if self.file != self._given:
            os.close(self.file)


def _can_reopen(file: int) -> bool:
    """Terminals and pipes; a file reopened would have a position of its own."""
    import stat

    mode = os.fstat(file).st_mode
    return stat.S_ISFIFO(mode) or os.isatty(file)
