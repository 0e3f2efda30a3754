"""Brings a request to the daemon, or where none can be reached, into the spool.

Owns the turn of each thread on the one connection. The one rule: a call ends within its time, whatever the
daemon does; and once something waits in the spool, nothing of this client overtakes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sessiond_client.errors import ConnectionLost, DaemonCannotStore, DaemonUnavailable, RequestFailed
from sessiond_client.link import Link
from sessiond_client.spool import Spool
from sessiond_client.wire.messages import Error, Reply, Request
from sessiond_client.wire.spool import PASSING

QUICK_SECONDS = 0.25
"""How long a call whose request can wait in the spool looks whether the daemon is back."""

SILENT_SECONDS = 1.0
"""A daemon that says nothing, cannot be started or cannot take over what waits is left alone for so long."""

SPOOL_SHARE = 0.1
SPOOL_SECONDS_MAX = 1.0
"""The part of a call's time, and the most of it, that is left for writing into the spool."""


class Courier:
    """One link for any number of threads; with a `spool`, `greet` and writing do not need a daemon."""

    def __init__(self, link: Link, spool: Spool | None) -> None:
        self.spool = spool
        self._link = link
        self._turn = threading.Lock()
        self._failure = DaemonUnavailable(link.connector.path, "nothing was tried yet")
        self._retry_at = 0.0

    def greet(self) -> None:
        """Connect and wait for the greeting. Raises `DaemonUnavailable` where there is no spool."""
        try:
            self._link.greet()
        except DaemonUnavailable as failure:
            if self.spool is None:
                raise
            self.spool.away = True
            self._note(failure)

    def exchange(
        self, make: Callable[[], Request[Any]], timeout: float | None = None, *, waits: bool = False
    ) -> Reply:
        """Send what `make` returns when it is its turn, and return the answer.

        If it `waits`, that is what the spool says where no daemon can be reached.
        """
        waits = waits and self.spool is not None
        seconds = self._link.timeout if timeout is None else timeout
        until = time.monotonic() + (live_seconds(seconds) if waits else seconds)
        if not self._turn.acquire(timeout=max(until - time.monotonic(), 0)):
            busy = DaemonUnavailable(self._link.connector.path, "earlier calls still wait for their answers")
            return self._keep(make(), waits, busy)
        try:
            request = make()
            if self.spool is not None and self.spool.away:
                self._rejoin(waits, until)
            reply = self._link.exchange(request, seconds, until)
            return self._keep_refused(request, reply) if waits else reply
        except (DaemonUnavailable, ConnectionLost) as failure:
            return self._keep(request, waits, failure)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Hang up, and let go of what waits, so that the daemon takes it."""
        with self._turn:
            if self.spool is not None:
                self.spool.let_go()
            self._link.close()

    def _keep(self, request: Request[Any], waits: bool, failure: DaemonUnavailable | ConnectionLost) -> Reply:
        if self.spool is None or not waits:
            raise failure
        return self.spool.keep(request, failure)

    def _keep_refused(self, request: Request[Any], reply: Reply) -> Reply:
        """The answer; if it is a refusal that passes, and the spool keeps such, that of the spool."""
        assert self.spool is not None
        if self.spool.takes_refused and isinstance(reply, Error) and reply.code in PASSING:
            return self.spool.keep(request, RequestFailed(reply))
        return reply

    def _rejoin(self, quick: bool, until: float) -> None:
        """See that all that waits is taken over; what can wait itself does not wait long for that.

        Raises `DaemonUnavailable`.
        """
        assert self.spool is not None
        now = time.monotonic()
        if quick and now < self._retry_at:
            raise self._failure.with_traceback(None)
        try:
            self._link.rejoin(min(until, now + QUICK_SECONDS) if quick else until, patient=not quick)
        except DaemonUnavailable as failure:
            self._note(failure)
            raise
        if self.spool.is_settled:
            self.spool.away = False
        elif quick:
            cannot = DaemonCannotStore(self._link.connector.path)
            self._note(cannot)
            raise cannot

    def _note(self, failure: DaemonUnavailable) -> None:
        """Looking where nobody listens costs nothing; anything else is not done for every call."""
        self._failure = failure
        wait = SILENT_SECONDS if self._link.connector.autostart or failure.listening else 0.0
        self._retry_at = time.monotonic() + wait


def live_seconds(seconds: float) -> float:
    """How much of a call's time may go by until it turns to the spool."""
    return seconds - min(seconds * SPOOL_SHARE, SPOOL_SECONDS_MAX)
