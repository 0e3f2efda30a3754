"""Other processes: who is at the other end of a socket, whether one still lives, and when one ends.

What only Linux has (SO_PEERCRED, pidfd, /proc) is used here and nowhere else. The one rule: a pid alone is
no identity; a process is told by its pid, its start time and the boot it runs in.
"""

from __future__ import annotations

import os
import socket
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sessiond.storage.commit.operations import Owner

_CREDENTIALS = struct.Struct("3i")
_START_TIME_FIELD = 19
"""Of /proc/PID/stat, counted from after the name in parentheses: field 22 of proc(5)."""

START_SLACK_SECONDS = 2.0
"""The boot's time is known in whole seconds only."""

NO_START = -1
"""The start of a process that is gone, which no living one has."""


class Peer(NamedTuple):
    """The process at the other end of a connection; `pid` is 0 where the system cannot tell."""

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """Who connected, as the kernel knows it."""
    if hasattr(socket, "SO_PEERCRED"):
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        return Peer(pid, uid)
    # Elsewhere the 0700 directory of the socket keeps others out.
    return Peer(0, os.geteuid())


@cache
def boot_id() -> str | None:
    """The id of this boot of the machine, which stays as long as we do."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None if it is gone or the system cannot tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[_START_TIME_FIELD])
    except (OSError, IndexError, ValueError):
        return None


def identify(pid: int) -> Owner:
    """The identity of a process that lives now."""
    return Owner(pid, start_ticks(pid), boot_id())


def identify_before(pid: int, moment: float) -> Owner:
    """The identity of the process that had this number at a Unix time, whether it still lives or not."""
    start = start_ticks(pid)
    if start is None or _unix_time(start) > moment + START_SLACK_SECONDS:
        return Owner(pid, NO_START, boot_id())
    return Owner(pid, start, boot_id())


def _unix_time(ticks: int) -> float:
    """When that many clock ticks after boot were over; 0 where the system cannot tell."""
    try:
        stat = Path("/proc/stat").read_text(encoding="ascii")
        boot = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("btime "))
    except (OSError, StopIteration, ValueError):
        return 0.0
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def lives(owner: Owner) -> bool:
    """Whether this very process still runs; one that cannot be looked at, but takes signals, does."""
    if owner.boot is not None and owner.boot != (boot_id() or owner.boot):
        return False
    if owner.start is not None:
        try:
            return _start_of_living(owner.pid) == owner.start
        except OSError:
            pass  # no descriptor is left to look with
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_of_living(pid: int) -> int | None:
    """When a process started that has not ended, None for one that has. Raises OSError if nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[_START_TIME_FIELD])


def watch_descriptor(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there are none.

    Raises ProcessLookupError if it has ended already.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None
