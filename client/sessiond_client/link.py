"""A blocking connection to the daemon that comes back by itself when it is lost.

Owns the socket and the `Protocol` behind it; used by one thread at a time. The one rule: a request is either
answered, or abandoned with an exception that says whether it can have taken effect.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sessiond_client.autostart import BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX, Connector
from sessiond_client.errors import ConnectionLost, DaemonUnavailable, RequestFailed, SessiondError
from sessiond_client.protocol import Protocol
from sessiond_client.ulids import new_ulid
from sessiond_client.wire.messages import AnyReply, ErrorCode, Request, Welcome

if TYPE_CHECKING:
    from sessiond_client.spool import Spool

RECEIVE_BYTES = 64 * 1024
"""How much is read at a time."""

TICK_SECONDS = 0.001
"""The shortest time that a socket is given, also when the deadline has just passed."""


class Link:
    """Requests go out, replies come in, and lost connections are made again; each call within `timeout`."""

    def __init__(self, connector: Connector, timeout: float, name: str) -> None:
        self.connector = connector
        self.timeout = timeout
        self.name = name
        self.protocol = Protocol(new_ulid(), name)
        self._socket: socket.socket | None = None
        self._owner = os.getpid()
        self._pause = BACKOFF_SECONDS_FIRST
        self.spool: Spool | None = None
        """What waits there is handed over with each new connection."""

    @property
    def inherited(self) -> bool:
        """Whether this process got the connection by a fork; it belongs to the parent then."""
        return self._owner != os.getpid()

    def renew(self) -> None:
        """After a fork: leave the connection to the parent, unwritten, and begin a new conversation."""
        self.close()
        self.protocol = Protocol(new_ulid(), self.name)
        self._owner = os.getpid()

    def greet(self) -> Welcome:
        """Connect and wait for the greeting. Raises `DaemonUnavailable` if nobody answers in time."""
        deadline = time.monotonic() + self.timeout
        try:
            while True:
                try:
                    if self._socket is None:
                        self._reopen(deadline, patient=False)
                    self._receive(deadline)
                except TimeoutError:
                    raise self._silent() from None
                except OSError:
                    self._lose(deadline)
                if self.protocol.welcome is not None:
                    return self.protocol.welcome
        except ConnectionLost:
            raise DaemonUnavailable(self.connector.path, "it hangs up without an answer") from None
        except BaseException:
            self.close()
            raise

    def rejoin(self, deadline: float, patient: bool) -> None:
        """Be greeted by a daemon that has taken over what waits in the spool, if it can.

        Without `patient`, connecting is tried once; with it, while somebody listens or a daemon is being
        started. Raises `DaemonUnavailable`; a greeting that is still on its way is waited for the next time.
        """
        assert self.spool is not None
        fresh = False
        while True:
            try:
                if self._socket is None:
                    fresh = True
                    self._reopen(deadline if patient else time.monotonic(), patient=False)
                while not self.protocol.greeted:
                    self._receive(deadline)
                assert self.protocol.welcome is not None
                self.spool.taken_over(self.protocol.welcome)
                if not self.spool.is_news:
                    return
                self.protocol.spool = self.spool.hand_over()
                self._send(self.protocol.hello(), deadline)
            except TimeoutError:
                raise self._silent() from None
            except OSError:
                if not fresh:
                    # It was the connection to a daemon that has gone; there may be another one by now.
                    self.close()
                    continue
                try:
                    self._lose(deadline if patient else time.monotonic())
                except ConnectionLost:
                    hung_up = "it hangs up without an answer"
                    raise DaemonUnavailable(self.connector.path, hung_up, listening=True) from None

    def _silent(self) -> DaemonUnavailable:
        return DaemonUnavailable(self.connector.path, silence(self.protocol.spool), listening=True)

    def exchange(self, request: Request[Any], seconds: float, deadline: float) -> AnyReply:
        """Send a request and wait for its reply, over as many connections as it takes until `deadline`.

        `seconds` is what the caller was given in all.
        """
        try:
            return self._exchange(request, deadline)
        except ConnectionLost as lost:
            raise ConnectionLost(self.connector.path, seconds) from lost.__cause__

    def ask(self, request: Request[Any], deadline: float) -> int:
        """Send a request; returns its id. Raises `DaemonUnavailable` if it could not be sent at all."""
        number, line = self.protocol.send(request)
        try:
            try:
                if self._socket is None:
                    self._reopen(deadline)
                else:
                    self._send(line, deadline)
            except OSError:
                self._lose(deadline)
                self._reopen_after_loss(deadline)
        except BaseException:
            self.protocol.abandon(number)
            raise
        return number

    def replies(self, deadline: float | None) -> list[AnyReply]:
        """Wait for what comes next; may be nothing of interest. Reconnects, for `timeout` at most.

        Raises `ConnectionLost` when `deadline` passes (None: never) or the daemon does not come back.
        """
        try:
            if self._socket is None:
                raise ConnectionResetError
            return self._receive(deadline)
        except TimeoutError:
            raise ConnectionLost(self.connector.path, self.timeout) from None
        except OSError:
            until = time.monotonic() + self.timeout if deadline is None else deadline
            self._lose(until)
            self._reopen_after_loss(until)
            return []

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: Request[Any], deadline: float) -> AnyReply:
        number = self.ask(request, deadline)
        try:
            while True:
                for reply in self.replies(deadline):
                    if reply.id == number:
                        return reply
        except BaseException:
            self.protocol.abandon(number)
            raise

    def _reopen_after_loss(self, deadline: float) -> None:
        while True:
            try:
                return self._reopen(deadline)
            except DaemonUnavailable as reason:
                raise ConnectionLost(self.connector.path, self.timeout) from reason
            except OSError:
                self._lose(deadline)

    def _reopen(self, deadline: float, patient: bool = True) -> None:
        """Connect anew; say hello and send everything unanswered."""
        self._socket = self.connector.open(deadline, patient)
        if self.spool is not None:
            self.protocol.spool = self.spool.hand_over()
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), TICK_SECONDS))
            self._socket.sendall(self.protocol.opening())
        except BrokenPipeError:
            # Turned away before the hello was out: the reason may stand in what is still to be read.
            self._receive(deadline)
        except BaseException:
            self.close()
            raise

    def _lose(self, deadline: float) -> None:
        """Drop the connection, and pause: a peer that hangs up at once is not called in a tight loop."""
        self.close()
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ConnectionLost(self.connector.path, self.timeout)
        time.sleep(min(self._pause, remaining))
        self._pause = min(self._pause * 2, BACKOFF_SECONDS_MAX)

    def _send(self, data: bytes, deadline: float) -> None:
        """Send all of it. What interrupts that leaves half a line behind, so the connection goes with it."""
        assert self._socket is not None
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), TICK_SECONDS))
            self._socket.sendall(data)
        except BaseException:
            self.close()
            raise

    def _receive(self, deadline: float | None) -> list[AnyReply]:
        assert self._socket is not None
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError
        self._pause = BACKOFF_SECONDS_FIRST
        try:
            replies = self.protocol.receive(data)
            self._send_due()
            return replies
        except RequestFailed as refused:
            # The daemon turns the whole connection away; when it is busy, another try makes sense.
            self.close()
            if refused.code is ErrorCode.BUSY:
                raise ConnectionResetError from refused
            raise
        except SessiondError:
            self.close()
            raise

    def _send_due(self) -> None:
        """If that does not go out whole, the next time we listen it is the end."""
        assert self._socket is not None
        if due := self.protocol.due():
            try:
                self._socket.sendall(due)
            except OSError:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)


def silence(spool: str | None) -> str:
    """Why a daemon that accepts may not have greeted us yet, who sent it to this spool first."""
    if spool is None:
        return "it accepts, but does not answer"
    return f"it accepts, but does not answer; it may still be taking over what waits in {spool}"
