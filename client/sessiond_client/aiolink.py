"""A connection to the daemon for asynchronous programs.

Owns the socket, what is not written to it yet, and the `Protocol` behind it. The one rule: writing never
waits (what the socket does not take stays in the outbox, in order), so that a cancelled caller leaves no half
a line behind. It waits for readiness only, and so works with every backend and event loop of anyio.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

import anyio

from sessiond_client.autostart import BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX, Connector, NotYet
from sessiond_client.errors import DaemonUnavailable, RequestFailed, SessiondError
from sessiond_client.link import silence
from sessiond_client.protocol import Protocol
from sessiond_client.ulids import new_ulid
from sessiond_client.wire.messages import AnyReply, ErrorCode

if TYPE_CHECKING:
    from sessiond_client.spool import Spool

RECEIVE_BYTES = 64 * 1024
"""How much is read at a time."""


class AsyncLink:
    """One connection at a time; one task connects and receives, any task sends."""

    def __init__(self, connector: Connector, name: str) -> None:
        self.connector = connector
        self.protocol = Protocol(new_ulid(), name)
        self.reason = "nothing was tried yet"
        self.listening = False
        """Whether somebody accepted the last connection, or would have."""
        self._socket: socket.socket | None = None
        self._outbox: deque[memoryview] = deque()
        self._clogged = anyio.Event()
        self._pause = BACKOFF_SECONDS_FIRST
        self.spool: Spool | None = None
        """What waits there is handed over with each new connection."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    async def open(self, patient: bool = True) -> None:
        """Connect, and send the opening; tries for ever, or without `patient` only while that makes sense."""
        pause = BACKOFF_SECONDS_FIRST
        while not self.connected:
            try:
                self.attempt()
            except NotYet as reason:
                if not (patient or self.connector.autostart or reason.listening):
                    raise DaemonUnavailable(
                        self.connector.path, f"{reason.reason}; start it with `sessiond serve`"
                    ) from None
                await anyio.sleep(pause)
                pause = min(pause * 2, BACKOFF_SECONDS_MAX)

    def attempt(self) -> None:
        """Try once to connect, and send the opening. Raises `NotYet` and `DaemonUnavailable`."""
        try:
            self._socket = self.connector.attempt()
        except NotYet as reason:
            self.reason = reason.reason
            self.listening = reason.listening
            raise
        self.listening = True
        self._outbox.clear()
        if self.spool is not None:
            self.protocol.spool = self.spool.hand_over()
        self.reason = silence(self.protocol.spool)
        self.send(self.protocol.opening())

    def greet_again(self) -> None:
        """Say hello once more, for the daemon to take over what was written into the spool since."""
        assert self.spool is not None
        self.protocol.spool = self.spool.hand_over()
        self.send(self.protocol.hello())

    def send(self, data: bytes) -> None:
        """Send it now, or as soon as `drain` finds room."""
        self._outbox.append(memoryview(data))
        self._flush()

    async def receive(self) -> list[AnyReply]:
        """Wait for what comes next; may be nothing of interest. Raises `ConnectionResetError` at the end."""
        assert self._socket is not None
        await anyio.wait_readable(self._socket)
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise ConnectionResetError
        self._pause = BACKOFF_SECONDS_FIRST
        try:
            replies = self.protocol.receive(data)
            if due := self.protocol.due():
                self.send(due)
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

    async def pause(self) -> None:
        """After a loss: close, and wait: a peer that hangs up at once is not called in a tight loop."""
        self.close()
        await anyio.sleep(self._pause)
        self._pause = min(self._pause * 2, BACKOFF_SECONDS_MAX)

    async def drain(self) -> None:
        """For a task of its own: write what `send` could not, for ever."""
        while True:
            await self._clogged.wait()
            self._clogged = anyio.Event()
            if self._socket is not None:
                await anyio.wait_writable(self._socket)
                self._flush()

    def hang_up(self) -> None:
        """Have the receiving task see the end of the connection; closing it under its feet would not do."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _flush(self) -> None:
        while self._socket is not None and self._outbox:
            try:
                sent = self._socket.send(self._outbox[0])
            except (BlockingIOError, InterruptedError):
                self._clogged.set()
                return
            except OSError:
                # The receiving task is told by the socket itself, and connects anew.
                self._outbox.clear()
                return
            if sent < len(self._outbox[0]):
                self._outbox[0] = self._outbox[0][sent:]
            else:
                self._outbox.popleft()
