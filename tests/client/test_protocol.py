"""The protocol without any I/O: numbering, pairing, and what is sent again after a reconnect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessiond_client import ProtocolError, RequestFailed, event, new_ulid
from sessiond_client.protocol import Protocol, append_line, checked
from sessiond_client.wire.framing import LINE_BYTES_MAX
from sessiond_client.wire.messages import (
    Append,
    Appended,
    CountRequest,
    Ended,
    Error,
    ErrorCode,
    Events,
    Follow,
    Following,
    Get,
    Ping,
    Pong,
    Read,
    request_decoder,
)

SESSION = new_ulid()


@pytest.fixture
def protocol() -> Protocol:
    protocol = Protocol(new_ulid(), "test/1")
    hello = messages(protocol.opening())[0]
    protocol.receive(welcome(hello["id"]))
    return protocol


def messages(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def line(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


def welcome(number: int, protocol: int = 1) -> bytes:
    return line("welcome", id=number, protocol=protocol, version="9", pid=1, data_dir="/")


def test_a_conversation_opens_with_a_hello_that_names_client_and_producer() -> None:
    protocol = Protocol("01ARZ3NDEKTSV4RRFFQ69G5FAV", "test/1")

    (hello,) = messages(protocol.opening())

    assert hello["type"] == "hello"
    assert hello["protocol"] == 1
    assert hello["client"] == "test/1"
    assert hello["producer"] == "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_replies_that_overtake_each_other_are_paired_by_their_id(protocol: Protocol) -> None:
    first, _ = protocol.send(Ping())
    second, _ = protocol.send(CountRequest(session=SESSION))

    replies = protocol.receive(line("counted", id=second, events=1, commands=0) + line("pong", id=first))

    assert [reply.id for reply in replies] == [second, first]
    assert protocol.unanswered == 0


def test_what_is_unanswered_is_sent_again_in_its_order_after_a_new_hello(protocol: Protocol) -> None:
    lines = [protocol.send(Get(session=new_ulid()))[1] for _ in range(5)]
    protocol.receive(line("session", id=json.loads(lines[2])["id"], session=None))

    opening = protocol.opening()

    hello, rest = opening.split(b"\n", 1)
    assert json.loads(hello)["type"] == "hello"
    assert rest == b"".join(lines[:2] + lines[3:])


def test_an_append_is_sent_again_with_its_own_number(protocol: Protocol) -> None:
    append = Append(
        session=SESSION, events=[event("prompt")], producer=protocol.producer, n=protocol.next_n()
    )
    protocol.send(append)
    protocol.next_n()

    again = messages(protocol.opening())[1]

    assert (again["producer"], again["n"]) == (protocol.producer, 1)


def test_an_unfinished_line_is_forgotten_with_its_connection(protocol: Protocol) -> None:
    number, _ = protocol.send(Ping())
    assert protocol.receive(b'{"type":"po') == []

    protocol.opening()

    assert protocol.receive(line("pong", id=number)) == [Pong(id=number)]


def test_a_follow_goes_on_behind_what_it_has_received(protocol: Protocol) -> None:
    number, _ = protocol.send(Follow(session=SESSION, after=3))
    assert messages(protocol.opening())[1]["after"] == 3

    assert protocol.receive(line("following", id=number, cursor=7)) == [Following(id=number, cursor=7)]
    assert messages(protocol.opening())[1]["after"] == 7

    notice = protocol.receive(line("events", id=number, events=[], cursor=12))
    assert notice == [Events(id=number, events=[], cursor=12)]
    again = messages(protocol.opening())[1]
    assert (again["id"], again["after"], again["session"]) == (number, 12, SESSION)


def test_a_follow_is_over_with_its_ended_notice(protocol: Protocol) -> None:
    number, _ = protocol.send(Follow(session=SESSION))
    protocol.receive(line("following", id=number, cursor=0))
    session = {"ulid": SESSION, "name": "n", "source": "app", "status": "completed", "started_at": "t"}

    (reply,) = protocol.receive(line("ended", id=number, session=session))

    assert isinstance(reply, Ended)
    assert protocol.unanswered == 0
    assert len(messages(protocol.opening())) == 1


def test_a_late_reply_to_an_abandoned_request_is_ignored(protocol: Protocol) -> None:
    number, _ = protocol.send(Ping())

    protocol.abandon(number)

    assert protocol.receive(line("pong", id=number)) == []
    assert len(messages(protocol.opening())) == 1


def test_a_daemon_of_another_version_is_an_error_that_names_both() -> None:
    protocol = Protocol(new_ulid())
    hello = messages(protocol.opening())[0]

    with pytest.raises(ProtocolError, match="daemon 9 speaks version 2, this library 1"):
        protocol.receive(welcome(hello["id"], protocol=2))


def test_a_refused_hello_is_an_error_with_its_code() -> None:
    protocol = Protocol(new_ulid())
    hello = messages(protocol.opening())[0]

    with pytest.raises(RequestFailed) as refused:
        protocol.receive(line("error", id=hello["id"], code="unsupported_protocol", message="too new"))

    assert refused.value.code is ErrorCode.UNSUPPORTED_PROTOCOL


def test_an_error_about_the_connection_as_a_whole_is_raised(protocol: Protocol) -> None:
    with pytest.raises(RequestFailed) as refused:
        protocol.receive(line("error", id=0, code="denied", message="not you"))

    assert refused.value.code is ErrorCode.DENIED


@pytest.mark.parametrize(
    "garbage", [b"hello\n", b"[]\n", b'{"type":"surprise","id":1}\n', b'{"id":"\xff"}\n']
)
def test_what_is_no_reply_is_a_protocol_error(protocol: Protocol, garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.receive(garbage)


def test_a_reply_of_the_wrong_type_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="Ping was answered with Appended"):
        checked(Ping(), Appended(id=1, session=SESSION, first=0, last=0))


def test_a_refusal_is_raised_with_everything_it_says() -> None:
    with pytest.raises(RequestFailed) as refused:
        checked(Ping(), Error(id=1, code=ErrorCode.CONFLICT, message="no", hint="yes", next_seq=4))

    assert refused.value.code is ErrorCode.CONFLICT
    assert refused.value.reply.next_seq == 4
    assert str(refused.value) == "no (yes)"


def test_a_line_that_the_daemon_would_not_read_is_refused_before_it_is_sent(protocol: Protocol) -> None:
    events = [event("output", "x" * 1024 * 1024)] * 17

    with pytest.raises(RequestFailed) as refused:
        protocol.send(Append(session=SESSION, events=events))

    assert refused.value.code is ErrorCode.TOO_LARGE
    assert protocol.unanswered == 0


def test_an_event_longer_than_a_message_that_an_earlier_daemon_stored_can_be_read(protocol: Protocol) -> None:
    number, _ = protocol.send(Read(session=SESSION))
    line = b'{"seq":0,"data":{"x":"%s"}}' % (b"y" * LINE_BYTES_MAX)

    (reply,) = protocol.receive(b'{"type":"events","id":%d,"events":[%s],"next":null}\n' % (number, line))

    assert isinstance(reply, Events)
    assert bytes(reply.events[0]) == line


def test_text_that_is_no_unicode_is_refused_by_the_name_of_its_field(protocol: Protocol) -> None:
    with pytest.raises(ValueError, match=r"session: a lone surrogate at 1 is no Unicode text"):
        protocol.send(Get(session="a\udcff"))

    assert protocol.unanswered == 0


def test_an_append_made_of_encoded_events_is_a_request_like_any_other(protocol: Protocol) -> None:
    body = append_line(SESSION, [b'{"kind":"note"}', b'{"kind":"output","text":"x"}'], protocol.producer, 7)

    number, sent = protocol.forward(body)

    request = request_decoder.decode(sent)
    assert isinstance(request, Append)
    assert (request.id, request.session, request.n) == (number, SESSION, 7)
    assert [new.kind for new in request.events] == ["note", "output"]
    assert protocol.opening().endswith(sent)
    assert protocol.unanswered_bytes == len(sent) < LINE_BYTES_MAX
