"""A daemon that is stopped in the middle of what it does, not before or after, however busy the machine is.

The one rule: what is under way is looked at again once every thread stands; who was quicker goes on.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from tests.running import RunningDaemon

TRIES_MAX = 20
"""So often a daemon may have been quicker than a test, which then begins anew."""


class Stage(Enum):
    """How far something is."""

    BEFORE = auto()
    UNDER_WAY = auto()
    OVER = auto()


def halts(daemon: RunningDaemon, stage: Callable[[], Stage]) -> bool:
    """Stop the daemon while something is under way; False if it was over before that, and the daemon goes on.

    Who has stopped it lets it go on (`go_on`), or kills it.
    """
    while (found := stage()) is not Stage.OVER:
        if found is Stage.BEFORE:
            continue
        daemon.process.send_signal(signal.SIGSTOP)
        while not _stands(daemon.process.pid):
            pass
        try:
            if stage() is Stage.UNDER_WAY:
                return True
        except sqlite3.OperationalError:
            pass  # stopped with the lock that a reader needs: at another moment, then
        go_on(daemon)
    return False


def go_on(daemon: RunningDaemon) -> None:
    """Let a daemon that stands go on."""
    daemon.process.send_signal(signal.SIGCONT)


def _stands(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return {thread.read_text().rpartition(")")[2].split()[0] for thread in threads} == {"T"}
