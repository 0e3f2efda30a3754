"""One conversation with the daemon, free of I/O: numbers requests, pairs replies, survives reconnects.

Owns the requests that are not answered yet, in the order they were made. The one rule: whatever carries the
bytes sends `opening()` first on every new connection, and then each request's line in the order of `send`;
so a request that was on its way when a connection went is sent again, the same bytes, never reordered.
"""

from __future__ import annotations

from itertools import count
from typing import Any, cast, get_args

import msgspec

from sessiond_client.errors import ProtocolError, RequestFailed
from sessiond_client.events import surrogate_error
from sessiond_client.version import CLIENT_NAME
from sessiond_client.wire.framing import (
    LINE_BYTES_MAX,
    REPLY_LINE_BYTES_MAX,
    LineBuffer,
    LineTooLong,
    encode_line,
)
from sessiond_client.wire.messages import (
    PROTOCOL_VERSION,
    AnyReply,
    AnyRequest,
    Error,
    ErrorCode,
    Events,
    Follow,
    Following,
    Hello,
    Reply,
    ReplyT,
    Request,
    Save,
    Welcome,
    reply_decoder,
)

CONNECTION_ID = 0
"""The id of an error that concerns the connection as a whole; requests count from 1."""

APPEND_PREFIX = b'{"type":"append",'
"""How an append line begins that `forward` takes; the id is put in after it."""


_reply_types: dict[type, type] = {
    request: get_args(request.__orig_bases__[0])[0] for request in get_args(AnyRequest)
}
"""Which reply answers which request, as the wire declares it."""


class _Unanswered:
    """A request on its way. A follow stays here while it lives, and moves its cursor."""

    __slots__ = ("follow", "line")

    def __init__(self, line: bytes, follow: Follow | None) -> None:
        self.line = line
        self.follow = follow


class Protocol:
    """The client's side of a conversation, over as many connections as it takes.

    `producer` is the ULID under which appends are counted; `welcome` is the daemon's last greeting.
    """

    def __init__(self, producer: str, name: str = CLIENT_NAME) -> None:
        self.producer = producer
        self.name = name
        self.welcome: Welcome | None = None
        self.spool: str | None = None
        """Where files wait that the daemon is to take over before it answers the next hello."""
        self.greeted = False
        """Whether the last hello was answered."""
        self._due = b""
        self._last_id = 0
        self._numbers = count(1)
        self._hello_id = 0
        self._unanswered: dict[int, _Unanswered] = {}
        self._unanswered_bytes = 0
        self._buffer = LineBuffer(REPLY_LINE_BYTES_MAX)

    @property
    def unanswered(self) -> int:
        """How many requests wait for an answer; a live follow counts as one."""
        return len(self._unanswered)

    @property
    def unanswered_bytes(self) -> int:
        """How long their lines are together."""
        return self._unanswered_bytes

    def next_n(self) -> int:
        """The number of the next append of this producer: 1, 2, …"""
        return next(self._numbers)

    def send(self, request: Request[Any]) -> tuple[int, bytes]:
        """Give `request` an id and remember it. Returns the id and the line to send.

        Raises `ValueError` for text that is no Unicode, and `RequestFailed` (`too_large`) for a line that
        the daemon would not read; in both cases nothing is remembered.
        """
        number = self._next_id()
        line = encode(msgspec.structs.replace(request, id=number))
        self._remember(number, line, request if isinstance(request, Follow) else None)
        return number, line

    def forward(self, append_line: bytes) -> tuple[int, bytes]:
        """Like `send`, for an append that is a line already: `APPEND_PREFIX`, then its fields but no id."""
        assert append_line.startswith(APPEND_PREFIX)
        number = self._next_id()
        line = b'%s"id":%d,%s' % (APPEND_PREFIX, number, append_line[len(APPEND_PREFIX) :])
        _check_length(line)
        self._remember(number, line, None)
        return number, line

    def abandon(self, number: int) -> None:
        """Forget a request; it is not sent again, and an answer that still comes is ignored."""
        gone = self._unanswered.pop(number, None)
        if gone is not None:
            self._unanswered_bytes -= len(gone.line)

    def opening(self) -> bytes:
        """What goes first on a new connection: a hello, then everything unanswered in its order.

        A follow goes on after its cursor. Forgets what had arrived of an unfinished line.
        """
        self._buffer = LineBuffer(REPLY_LINE_BYTES_MAX)
        self._due = b""
        lines = [self.hello()]
        for number, entry in self._unanswered.items():
            if entry.follow is None:
                lines.append(entry.line)
            else:
                lines.append(encode(msgspec.structs.replace(entry.follow, id=number)))
        return b"".join(lines)

    def hello(self) -> bytes:
        """A hello, which may also be said again; `greeted` tells when it is answered."""
        self.greeted = False
        self._hello_id = self._next_id()
        return hello_line(self.producer, self.name, self._hello_id, self.spool)

    def due(self) -> bytes:
        """What has to be sent after `receive`, mostly nothing.

        Where the daemon would not have the spool, it is another hello, without one: what waits there goes on
        waiting, and nothing else has to.
        """
        due, self._due = self._due, b""
        return due

    def receive(self, data: bytes) -> list[AnyReply]:
        """Take received bytes; return the replies and notices that they complete.

        Replies to requests that were abandoned are left out, and so is the greeting. Raises
        `RequestFailed` if the daemon refuses the greeting or the connection as a whole, `ProtocolError`
        for what is not understood; in both cases the connection is of no more use.
        """
        try:
            lines = self._buffer.feed(data)
        except LineTooLong:
            raise ProtocolError(f"a line of more than {REPLY_LINE_BYTES_MAX} bytes") from None
        replies: list[AnyReply] = []
        for line in lines:
            reply = _decode(line)
            if self._accept(reply):
                replies.append(reply)
        return replies

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _remember(self, number: int, line: bytes, follow: Follow | None) -> None:
        self._unanswered[number] = _Unanswered(line, follow)
        self._unanswered_bytes += len(line)

    def _accept(self, reply: AnyReply) -> bool:
        """Book a reply; whether it is anyone's."""
        number = reply.id
        if number == self._hello_id:
            self._greet(reply)
            return False
        entry = self._unanswered.get(number)
        if entry is None:
            if number == CONNECTION_ID and isinstance(reply, Error):
                raise RequestFailed(reply)
            return False
        if entry.follow is not None and isinstance(reply, (Following, Events)):
            if not isinstance(reply.cursor, msgspec.UnsetType):
                entry.follow = msgspec.structs.replace(entry.follow, after=reply.cursor)
            return True
        self.abandon(number)
        return True

    def _greet(self, reply: AnyReply) -> None:
        if isinstance(reply, Error) and reply.field == "spool" and self.spool is not None:
            self.spool = None
            self._due = self.hello()
            return
        if isinstance(reply, Error):
            raise RequestFailed(reply)
        if not isinstance(reply, Welcome):
            raise ProtocolError(f"a hello was answered with {type(reply).__name__.lower()}")
        if reply.protocol != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the daemon {reply.version} speaks version {reply.protocol}, this library {PROTOCOL_VERSION}"
            )
        self.welcome = reply
        self.greeted = True


def checked(request: Request[ReplyT], reply: Reply) -> ReplyT:
    """The reply that belongs to `request`; raises `RequestFailed` if it is a refusal."""
    if isinstance(reply, Error):
        raise RequestFailed(reply)
    if not isinstance(reply, _reply_types[type(request)]):
        raise ProtocolError(f"{type(request).__name__} was answered with {type(reply).__name__}")
    return cast("ReplyT", reply)


def append_line(session: str, events: list[bytes], producer: str, n: int) -> bytes:
    """An append without an id, made of events that are encoded already; `Protocol.forward` takes it."""
    return b'%s"session":"%s","events":[%s],"producer":"%s","n":%d}\n' % (
        APPEND_PREFIX,
        session.encode(),
        b",".join(events),
        producer.encode(),
        n,
    )


def stamped(line: bytes, microseconds: int) -> bytes:
    """An append without an id as it stands in the spool: its id says when it was written there."""
    return b'%s"id":%d,%s' % (APPEND_PREFIX, microseconds, line[len(APPEND_PREFIX) :])


def unstamped(line: bytes) -> bytes:
    """The append without its id, back from the spool."""
    return APPEND_PREFIX + line[line.index(b",", len(APPEND_PREFIX)) + 1 :]


def hello_line(producer: str, name: str, number: int = 0, spool: str | None = None) -> bytes:
    """The first line of a conversation, also of one that is kept in a file."""
    return encode(Hello(id=number, protocol=PROTOCOL_VERSION, client=name, producer=producer, spool=spool))


def encode(request: Request[Any]) -> bytes:
    """A request as a line; raises what `Protocol.send` raises."""
    try:
        line = encode_line(request)
    except UnicodeEncodeError as error:
        raise surrogate_error(request, error) from None
    whole = "write it to a file, and adopt that"
    _check_length(line, whole if isinstance(request, Save) else "send fewer events at a time")
    return line


def _check_length(line: bytes, hint: str = "send fewer events at a time") -> None:
    """Refuse here what the daemon would refuse by closing the connection on everybody using it."""
    if len(line) > LINE_BYTES_MAX:
        raise RequestFailed(
            Error(
                code=ErrorCode.TOO_LARGE,
                message=f"the request is {len(line)} bytes long, the limit is {LINE_BYTES_MAX}",
                hint=hint,
            )
        )


def _decode(line: bytes) -> AnyReply:
    try:
        return reply_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(str(error)) from error
