"""Waiting until a file grows or a process ends, without looking at either again and again.

The one rule: what only Linux has (inotify, pidfd) is used here and nowhere else in the command line; without
it, `wait` looks every half second.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from pathlib import Path

LOOK_SECONDS = 0.5

_IN_MODIFY = 0x2
_NOTICES_BYTES = 4096
_START_FIELD = 19
"""Where `starttime` stands in /proc/PID/stat behind the name; see proc(5)."""
_CLOCK_SECONDS = 2.0
"""By how much the two ways to tell when a process began may differ."""


class Watch:
    """Watches the file at `path` and the process `pid`, which was seen alive at the Unix time `since`."""

    def __init__(self, path: Path, pid: int, since: float) -> None:
        self._pid = pid
        self._process = _process_descriptor(pid)
        self._file = _file_descriptor(path)
        self._gone = not _alive(pid) or _began(pid) > since + _CLOCK_SECONDS

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        if not self._gone:
            descriptor = self._process
            self._gone = bool(_readable([descriptor], 0)) if descriptor is not None else not _alive(self._pid)
        return self._gone

    def wait(self, seconds: float | None) -> None:
        """Return when the file has grown, the process has ended or, unless None, after `seconds`."""
        if self._gone and seconds is None:
            return
        watched = [it for it in (self._file, None if self._gone else self._process) if it is not None]
        if len(watched) < (1 if self._gone else 2):
            seconds = LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)
        if self._file in _readable(watched, seconds) and self._file is not None:
            with suppress(BlockingIOError):
                os.read(self._file, _NOTICES_BYTES)

    def close(self) -> None:
        """Watch nothing any more."""
        for descriptor in (self._file, self._process):
            if descriptor is not None:
                os.close(descriptor)


def _readable(descriptors: list[int], seconds: float | None) -> list[int]:
    return select.select(descriptors, [], [], seconds)[0]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, and is somebody else's
    return True


def _process_descriptor(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _file_descriptor(path: Path) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return descriptor


def _began(pid: int) -> float:
    """The Unix time at which a process began; 0 where that cannot be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        boot = next(
            line for line in Path("/proc/stat").read_bytes().splitlines() if line.startswith(b"btime ")
        )
        ticks = int(stat.rpartition(b")")[2].split()[_START_FIELD])
        return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, ValueError, IndexError):
        return 0.0
