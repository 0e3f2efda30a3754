"""All connections of one listening socket.

The one rule: a peer of another user is cut off before a byte of its is read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from sessiond import processes
from sessiond.connection import Connection, Handler
from sessiond.notices import Hangups
from sessiond.publication import BACKLOG

CONNECTIONS_MAX = 4096
ACCEPTS_PER_TURN_MAX = 64
ACCEPT_RETRY_SECONDS = 1.0

HELD_BYTES_MAX = 256 * 1024 * 1024
"""So much all connections together may have us hold: half lines, requests in work, replies not read yet.
Above it the one that holds most is hung up on; whoever wants it done sends again what was not answered."""

logger = logging.getLogger("sessiond.server")


class Server:
    """All connections of one listening socket."""

    def __init__(self, is_full: Callable[[], bool]) -> None:
        self._is_full = is_full
        self.is_stopping = False
        self.handler: Handler
        self.tasks: TaskGroup
        self.hangups: Hangups
        self.loop: asyncio.AbstractEventLoop
        self.paused: set[Connection] = set()
        self._connections: set[Connection] = set()
        self._closings: dict[int, list[anyio.Event]] = {}
        self._held_bytes = 0
        self._listener: socket.socket

    def start(self, listener: socket.socket, handler: Handler, tasks: TaskGroup) -> None:
        """Accept connections from now on."""
        self.handler = handler
        self.tasks = tasks
        self.loop = asyncio.get_running_loop()
        self.hangups = Hangups(self.loop)
        self._listen(listener)

    def _listen(self, listener: socket.socket) -> None:
        self._listener = listener
        listener.setblocking(False)
        self.loop.add_reader(listener, self._accept)

    def is_full(self) -> bool:
        """Whether the writer's queue is full, so that nobody is to be read."""
        return self._is_full()

    @property
    def connection_count(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    def move_to(self, listener: socket.socket) -> None:
        """Listen at another socket from now on. Whoever waits at the old one is still let in."""
        self.loop.remove_reader(self._listener)
        for _ in range(BACKLOG // ACCEPTS_PER_TURN_MAX):
            self._accept()
        self._listener.close()
        self._listen(listener)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                connected, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors or memory: those waiting wait a little longer.
                logger.error("cannot accept a connection", extra={"reason": str(error)})  # noqa: TRY400
                self.loop.remove_reader(self._listener)
                self.loop.call_later(ACCEPT_RETRY_SECONDS, self._accept_again)
                return
            self._admit(connected)

    def _accept_again(self) -> None:
        if not self.is_stopping:
            self.loop.add_reader(self._listener, self._accept)

    def _admit(self, connected: socket.socket) -> None:
        peer = processes.peer_of(connected)
        # Our own knocking, which tells the service manager that we live, is never one too many.
        is_one_too_many = len(self._connections) >= CONNECTIONS_MAX and peer.pid != os.getpid()
        if peer.uid != os.geteuid() or is_one_too_many:
            logger.warning("connection refused", extra={"uid": peer.uid, "pid": peer.pid})
            connected.close()
            return
        connected.setblocking(False)
        self._connections.add(Connection(self, connected, peer))

    def hold(self, more: int) -> None:
        """A connection has us hold so many bytes more than before; if that is too much, somebody goes."""
        self._held_bytes += more
        if more > 0 and self._held_bytes > HELD_BYTES_MAX:
            self._make_room()

    def _make_room(self) -> None:
        # What a peer has read meanwhile is counted only now.
        self._held_bytes = sum(connection.count_held() for connection in self._connections)
        while self._held_bytes > HELD_BYTES_MAX:
            greediest = max(self._connections, key=lambda it: it.held_bytes)
            logger.warning(
                "connection holds too much", extra={"pid": greediest.peer.pid, "bytes": greediest.held_bytes}
            )
            greediest.cut()

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.paused.discard(connection)
        self.handler.closed(connection)
        for event in self._closings.pop(connection.peer.pid, []):
            event.set()

    async def connections_closed(self, pid: int, quiet_seconds: float) -> None:
        """Return once no connection of this process is open; all it had sent is then queued.

        Also if those that are say nothing for so long, while nothing is done for them either.
        """
        while connections := [it for it in self._connections if it.peer.pid == pid]:
            event = anyio.Event()
            self._closings.setdefault(pid, []).append(event)
            heard = [it.heard for it in connections]
            with anyio.move_on_after(quiet_seconds) as quiet:
                await event.wait()
            is_at_work = any(it.is_at_work for it in connections)
            if quiet.cancelled_caught and not is_at_work and heard == [it.heard for it in connections]:
                return

    def look_again(self) -> None:
        """There is room again: read on where reading was paused."""
        for connection in list(self.paused):
            connection.look_again()

    def stop_reading(self) -> None:
        """Accept nobody and read nothing more; what was read is still done."""
        self.is_stopping = True
        self.loop.remove_reader(self._listener)
        for connection in list(self._connections):
            connection.look_again()

    def close(self) -> None:
        """Hang up on everybody, with what they are owed."""
        for connection in list(self._connections):
            connection.close()
        self.hangups.close()
