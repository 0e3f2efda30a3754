"""A non-blocking socket on the event loop: bytes in, bytes out.

Owns the socket and the bytes it does not take yet. The one rule: what the peer had sent is read to its end,
even if it died meanwhile. That is why asyncio's transports are not used: they stop reading at the first
failed write, and a program that crashes right after sending would lose its last words.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Protocol

from sessiond.notices import Hangups

RECEIVE_BYTES_MAX = 64 * 1024
"""Small enough to come from the allocator and not from the kernel, each time anew."""

OUTPUT_BYTES_HIGH = 1024 * 1024
"""With so much unread by the peer, the channel counts as blocked ..."""

OUTPUT_BYTES_LOW = 256 * 1024
"""... until it is down to this."""


class Listener(Protocol):
    """Who is told what happens on a channel."""

    def received(self, data: bytes) -> None:
        """Bytes came in."""

    def ended(self) -> None:
        """The peer sends nothing more."""

    def unblocked(self) -> None:
        """The peer has read enough to be sent more."""

    def lost(self) -> None:
        """The channel is closed, by either side."""


class Channel:
    """One connected socket. Everything here runs on the loop's thread."""

    def __init__(self, connected: socket.socket, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._socket = connected
        self._loop = loop
        self._listener = listener
        self._output = bytearray()
        self._is_reading = False
        self._is_mute = False
        """Nobody is there to read what we write."""
        self._is_closing = False
        self._has_ended = False
        self._hangups: Hangups | None = None
        self.is_open = True
        self.is_blocked = False

    @property
    def peer_reads(self) -> bool:
        """Whether the peer, which sends nothing more, may still read."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return not self._is_mute and not poll.poll(0)

    @property
    def unsent_bytes(self) -> int:
        """How much the peer has not read yet, besides what the kernel holds."""
        return len(self._output)

    def resume(self) -> None:
        """Read on."""
        if self.is_open and not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._socket, self._readable)

    def pause(self) -> None:
        """Leave what comes in the kernel's buffer, where the peer feels it."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def write(self, data: bytes) -> None:
        """Send, now as far as the kernel takes it, later the rest."""
        if self._is_mute or not self.is_open:
            return
        if self._output:
            self._output += data
        else:
            sent = self._send(data)
            if sent < len(data) and not self._is_mute:
                self._output += memoryview(data)[sent:]
                self._loop.add_writer(self._socket, self._writable)
        self.is_blocked = len(self._output) >= OUTPUT_BYTES_HIGH

    def close(self) -> None:
        """Hang up once everything is sent."""
        self.pause()
        self._is_closing = True
        if not self._output:
            self.abort()

    def abort(self) -> None:
        """Hang up now."""
        if not self.is_open:
            return
        self.pause()
        self.is_open = False
        if self._output:
            self._loop.remove_writer(self._socket)
        self._output = bytearray()
        if self._hangups is not None:
            self._hangups.forget(self._socket.fileno())
        self._socket.close()
        self._listener.lost()

    def abort_when_gone(self, hangups: Hangups) -> None:
        """The peer sends nothing more, and all of it was read: hang up once it does not read either."""
        if self.is_open and self._hangups is None:
            self._hangups = hangups
            hangups.watch(self._socket.fileno(), self.abort)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            # A peer that closed with replies unread: all it had sent has been read by now.
            self.abort()
            return
        if data:
            self._listener.received(data)
        else:
            self.pause()
            self._has_ended = True
            self._listener.ended()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._is_mute = True
            if not self._is_reading:
                self._loop.call_soon(self._nothing_left)
            return len(data)

    def _nothing_left(self) -> None:
        """The peer neither sends nor reads; unless it is only held back, that was it."""
        if self._has_ended:
            self.abort()

    def _writable(self) -> None:
        sent = self._send(self._output)
        del self._output[:sent]
        if self._is_mute:
            self._output.clear()
        if not self._output:
            self._loop.remove_writer(self._socket)
        if self.is_blocked and len(self._output) <= OUTPUT_BYTES_LOW:
            self.is_blocked = False
            self._listener.unblocked()
        if self._is_closing and not self._output:
            self.abort()
