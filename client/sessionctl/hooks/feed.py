"""`python -m sessionctl.hooks.feed SPOOL`: brings what the hooks of one shell write down to the daemon.

Started by the shell at its first command, in the background; ends with the shell. The one rule: it is never
in the shell's way, prints nothing, and gives up nothing: a record stays in its file until it is stored, and
what one process like this leaves behind, another one finds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from sessionctl.hooks.journal import Journal
from sessionctl.hooks.spool import SUFFIX, Record, Spool, orphans
from sessionctl.hooks.watch import Watch
from sessiond_client.client import Client
from sessiond_client.errors import RequestFailed, SessiondError
from sessiond_client.wire.messages import ErrorCode

RETRY_SECONDS_FIRST = 0.1
RETRY_SECONDS_MAX = 5.0

REQUEST_SECONDS = 10.0
"""How long one request may take before it is tried again."""

FAREWELL_SECONDS = 10.0
"""How long the daemon may be away after the shell has ended; then the spool is left for the next one."""

LEFTOVERS_MAX = 16
"""How many spools that others have left behind are looked after by one process."""

DESCRIPTORS_MAX = 4096

_PASSING = {ErrorCode.BUSY, ErrorCode.DISK_FULL, ErrorCode.READ_ONLY, ErrorCode.INTERNAL}
"""Refusals that pass."""


class Feeder:
    """Delivers one spool, over one connection that is made again whenever it is lost."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._record: Record | None = None
        self._client: Client | None = None
        self._journal: Journal | None = None
        self._watch: Watch | None = None
        self._deadline: float | None = None

    def run(self) -> None:
        """Deliver until the shell has ended and everything is stored, or time is up."""
        pause = RETRY_SECONDS_FIRST
        while True:
            # Asked before reading: what an ended shell has written is all there.
            ended = self._watch is not None and self._watch.ended
            try:
                self._deliver()
                if self._journal is None:
                    self._spool.remove()
                    return
                if ended or self._journal.finished:
                    self._journal.end(self._connected())
                    self._spool.remove()
                    return
            except (SessiondError, OSError):
                if ended and self._late():
                    return
                self._wait(pause)
                pause = min(pause * 2, RETRY_SECONDS_MAX)
            else:
                pause = RETRY_SECONDS_FIRST
                self._wait(None)

    def close(self) -> None:
        """Let go of everything."""
        for part in (self._client, self._watch, self._spool):
            if part is not None:
                part.close()

    def _deliver(self) -> None:
        """Store what the shell has written. A record that fails stays the next one."""
        while True:
            self._record = self._record or self._spool.take()
            if self._record is None:
                return
            if self._journal is not None:
                self._store(self._journal, self._record)
            elif self._record.kind == "H":
                # The first one says which shell this is; without it there is nobody to record.
                self._open(self._record)
            self._record = None

    def _open(self, header: Record) -> None:
        self._journal = Journal(self._spool.path.name.removesuffix(SUFFIX), header)
        self._watch = Watch(self._spool.path, self._journal.pid, self._journal.started_at.timestamp())

    def _store(self, journal: Journal, record: Record) -> None:
        try:
            done = journal.store(self._connected(), record)
        except RequestFailed as refusal:
            if refusal.code in _PASSING:
                raise
            done = [record]
        for it in done:
            self._spool.blank(it)

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client.connect(timeout=REQUEST_SECONDS, name="sessionctl-feed", spool=None)
        return self._client

    def _late(self) -> bool:
        now = time.monotonic()
        self._deadline = self._deadline or now + FAREWELL_SECONDS
        return now >= self._deadline

    def _wait(self, seconds: float | None) -> None:
        if self._watch is not None:
            self._watch.wait(seconds)


def main() -> int:
    """Look after the spool that is named, and have others look after those that nobody does."""
    path = Path(sys.argv[1])
    _leave_the_shell()
    try:
        spool = Spool(path)
    except OSError:
        return 1
    feeder = Feeder(spool)
    try:
        _take_over_leftovers(path)
        feeder.run()
    finally:
        feeder.close()
    return 0


def _leave_the_shell() -> None:
    """Hold nothing of the shell's: no files, no terminal, no directory. What ends this process is its end."""
    os.closerange(3, DESCRIPTORS_MAX)
    with suppress(PermissionError):  # it leads a session of its own already
        os.setsid()
    os.chdir("/")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _take_over_leftovers(own: Path) -> None:
    """Start a process for each spool that has none; where there is one, its lock makes the new one end."""
    for path in orphans(own.parent)[:LEFTOVERS_MAX]:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "sessionctl.hooks.feed", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    sys.exit(main())
