"""One connection: bytes in, requests out; replies in, bytes out. Knows no storage.

Owns the limits of a connection. The one rule: what a peer sends or fails to read never costs the others: it
is read no further than it has been answered, and sent no more than it reads.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

import anyio
from anyio.abc import TaskGroup

from sessiond import processes
from sessiond.channel import Channel
from sessiond.decoding import BadMessage, decode_request
from sessiond.errors import Refused, StorageFailed, internal
from sessiond.notices import Hangups
from sessiond.storage.commit.operations import Owner
from sessiond_client.wire.framing import LINE_BYTES_MAX, LineBuffer, LineTooLong, encode_line
from sessiond_client.wire.messages import REQUESTS_IN_FLIGHT_MAX, AnyRequest, ErrorCode, Reply

IN_FLIGHT_BYTES_MAX = LINE_BYTES_MAX
REQUEST_BYTES = 1024
"""What a request in work costs besides its bytes, roughly."""

FIRST_LINE_SECONDS_MAX = 30.0
LINE_SECONDS_MAX = 30.0

logger = logging.getLogger("sessiond.server")


class Asker(Protocol):
    """Who asks for something to be stored: a connection, or what stands for a client that is gone.

    `producer` is whose `start` requests these are.
    """

    producer: str | None

    def __hash__(self) -> int:
        """Requests of one who asks keep their order."""

    def reply(self, reply: Reply, size: int) -> None:
        """Answer a request that was `size` bytes long."""

    def owner_of(self, pid: int | None) -> Owner | None:
        """Whose end ends a session: the process of this number (None: who asks; 0: nobody's)."""


class Handler(Protocol):
    """What does the requests."""

    def handle(self, connection: Connection, request: AnyRequest, size: int) -> None:
        """Do a request; exactly one reply to it follows, now or later."""

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""


class Host(Protocol):
    """What a connection needs of the server that accepted it."""

    loop: asyncio.AbstractEventLoop
    tasks: TaskGroup
    handler: Handler
    hangups: Hangups
    is_stopping: bool
    paused: set[Connection]

    def is_full(self) -> bool:
        """Whether the writer's queue is full, so that nobody is to be read."""

    def hold(self, more: int) -> None:
        """A connection holds so many bytes more than before, or fewer."""

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""


class _Question(NamedTuple):
    """A request that is answered from a reader: its id, its size, and how to get the answer."""

    request_id: int
    size: int
    ask: Callable[[], Awaitable[Reply]]


class Connection:
    """One peer. Replies are collected and written together once the current turn of the loop is over."""

    def __init__(self, server: Host, connected: socket.socket, peer: processes.Peer) -> None:
        self._server = server
        self._channel = Channel(connected, server.loop, self)
        self._lines = LineBuffer()
        self._output: list[bytes] = []
        self._in_flight = 0
        self._in_flight_bytes = 0
        self.held_bytes = 0
        """What this peer has us hold, as it was last counted."""
        self._is_paused = False
        self._has_ended = False
        self.heard = 0
        """How often something came."""
        self._open_ended = 0
        self._unblocked = anyio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._questions: deque[_Question] = deque()
        self.peer = peer
        self.producer: str | None = None
        self._arm(FIRST_LINE_SECONDS_MAX)
        self._channel.resume()

    @property
    def is_open(self) -> bool:
        """Whether there is still somebody to talk to."""
        return self._channel.is_open

    @property
    def is_awaited(self) -> bool:
        """Whether somebody may still read an answer; whoever closes only its sending side may."""
        return self._channel.is_open and self._channel.peer_reads

    @property
    def is_at_work(self) -> bool:
        """Whether a request is not answered yet, or there may be more that is not read meanwhile."""
        return self._in_flight > 0 or self._is_paused

    # --- what the channel tells ----------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Do every request that is whole now."""
        self.heard += 1
        try:
            lines = self._lines.feed(data)
        except LineTooLong:
            self._refuse_long_line()
            return
        for line in lines:
            self._take(line)
        if lines or self._timer is None:
            self._watch_unfinished_line()
        self._pause_or_resume()
        self._tell_held()

    def ended(self) -> None:
        """The peer sends nothing more; it still gets what it is owed."""
        self._has_ended = True
        self._disarm()
        self._close_if_done()
        self._channel.abort_when_gone(self._server.hangups)

    def unblocked(self) -> None:
        """The peer reads again."""
        self._wake_writers()
        self._pause_or_resume()
        self._tell_held()

    def lost(self) -> None:
        """The connection is gone; what it had sent is still done."""
        self._disarm()
        self._wake_writers()
        self._questions.clear()
        self._lines = LineBuffer()  # what was unfinished goes now, not when the collector comes by
        self._server.hold(-self.held_bytes)
        self.held_bytes = 0
        self._server.forget(self)

    # --- requests --------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        size = len(line)
        self._in_flight += 1
        self._in_flight_bytes += size
        try:
            request = decode_request(line)
        except BadMessage as bad:
            self.reply(bad.refusal.reply(bad.request_id), size)
        else:
            self._server.handler.handle(self, request, size)

    def ask(self, request_id: int, size: int, question: Callable[[], Awaitable[Reply]]) -> None:
        """Answer a request later, one at a time for each connection and only while the peer reads."""
        self._questions.append(_Question(request_id, size, question))
        if len(self._questions) == 1:
            self._server.tasks.start_soon(self._answer_questions)

    async def _answer_questions(self) -> None:
        while self._questions and self.is_open:
            await self._until_writable()
            if not self._questions:
                return  # the peer went while it was waited for, and its questions with it
            request_id, size, ask = self._questions[0]
            try:
                reply = await ask()
            except Refused as refusal:
                reply = refusal.reply(request_id)
            except StorageFailed:
                raise
            except Exception:
                logger.exception("a request failed")
                reply = internal().reply(request_id)
            self.reply(reply, size)
            if self._questions:
                self._questions.popleft()

    # --- replies ---------------------------------------------------------------------------------------

    def reply(self, reply: Reply, size: int) -> None:
        """Answer a request that was `size` bytes long."""
        self._in_flight -= 1
        self._in_flight_bytes -= size
        self._send(reply)

    def owner_of(self, pid: int | None) -> Owner | None:
        """Whose end ends a session: the process named, else the peer; 0 means nobody."""
        pid = self.peer.pid if pid is None else pid
        return processes.identify(pid) if pid else None

    async def notify(self, notice: Reply) -> None:
        """Send a follower a notice, once the peer has read most of what it was sent before."""
        await self._until_writable()
        self._send(notice)

    async def _until_writable(self) -> None:
        while self.is_open and self._channel.is_blocked:
            await self._unblocked.wait()

    def _wake_writers(self) -> None:
        self._unblocked.set()
        self._unblocked = anyio.Event()

    def _send(self, message: Reply) -> None:
        if not self.is_open:
            return
        if not self._output:
            self._server.loop.call_soon(self._flush)
        self._output.append(encode_line(message))

    def _flush(self) -> None:
        self._channel.write(b"".join(self._output))
        self._output.clear()
        self._pause_or_resume()
        self._tell_held()
        self._close_if_done()

    # --- flow and time -------------------------------------------------------------------------------

    def _pause_or_resume(self) -> None:
        paused = (
            self._in_flight >= REQUESTS_IN_FLIGHT_MAX
            or self._in_flight_bytes >= IN_FLIGHT_BYTES_MAX
            or self._channel.is_blocked
            or self._server.is_full()
            or self._server.is_stopping
        )
        if paused == self._is_paused or self._has_ended:
            return
        self._is_paused = paused
        if paused:
            self._channel.pause()
            self._server.paused.add(self)
        else:
            self._channel.resume()
            self._server.paused.discard(self)

    def count_held(self) -> int:
        """Count what this peer has us hold by now."""
        self.held_bytes = (
            self._lines.unfinished_bytes
            + self._channel.unsent_bytes
            + self._in_flight_bytes
            + self._in_flight * REQUEST_BYTES
        )
        return self.held_bytes

    def _tell_held(self) -> None:
        before = self.held_bytes
        if self.is_open and self.count_held() != before:
            self._server.hold(self.held_bytes - before)

    def look_again(self) -> None:
        """Something that kept us from reading may be over, or has begun."""
        self._pause_or_resume()

    def _close_if_done(self) -> None:
        if not self.is_open or not self._has_ended or self._in_flight or self._output:
            return
        if self._open_ended == 0 or not self._channel.peer_reads:
            self._channel.close()

    def hold(self) -> None:
        """A follow begins: whoever closes only its sending side is still told of events."""
        self._open_ended += 1

    def release(self) -> None:
        """A follow is over."""
        self._open_ended -= 1
        self._close_if_done()

    def close(self) -> None:
        """Send what is owed and hang up."""
        self._has_ended = True
        if self._output:
            self._channel.write(b"".join(self._output))
            self._output.clear()
        self._channel.close()

    def cut(self) -> None:
        """Hang up now, whatever is owed."""
        self._channel.abort()

    def _refuse_long_line(self) -> None:
        refusal = Refused(
            ErrorCode.TOO_LARGE,
            f"a line of more than {LINE_BYTES_MAX} bytes",
            "split the events over several appends",
        )
        self._send(refusal.reply(0))
        self.close()

    def _watch_unfinished_line(self) -> None:
        self._disarm()
        if self._lines.unfinished_bytes:
            self._arm(LINE_SECONDS_MAX)

    def _arm(self, seconds: float) -> None:
        self._timer = self._server.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._is_paused:
            self._arm(LINE_SECONDS_MAX)
            return
        logger.info("connection too slow", extra={"pid": self.peer.pid})
        self._channel.abort()
