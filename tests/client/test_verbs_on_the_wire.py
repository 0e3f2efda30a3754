"""What the verbs of both clients put on the wire and take from it, against a peer that plays a daemon."""

from __future__ import annotations

import inspect
import json
import os
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from ulid import ULID

from sessiond_client import (
    Client,
    ConnectionLost,
    ErrorCode,
    RecordingSession,
    RequestFailed,
    SavedFooter,
    SavedHeader,
    SearchMode,
    event,
)
from tests.client.both import connected
from tests.client.scripted import Conversation, Message, ScriptedPeer
from tests.client.test_verbs import AT, SESSION, refusal

LATER = AT + timedelta(hours=1)
SESSION_REPLY = {"ulid": SESSION, "name": "n", "source": "app", "status": "completed", "started_at": "t"}
ASKED: dict[str, tuple[tuple[str, ...], Message, Message]] = {
    "list": (
        (),
        {
            "limit": 2,
            "before": "c",
            "status": "completed",
            "source": "shell",
            "tags": ["a"],
            "tags_all": ["b"],
            "parent_ulid": SESSION,
            "since": AT,
            "until": LATER,
            "name_prefix": "n-",
            "cwd": "/a",
            "hostname": "h",
            "trashed": True,
        },
        {"type": "sessions", "sessions": []},
    ),
    "read": (
        (SESSION,),
        {
            "after": 1,
            "before": 9,
            "tail": 3,
            "limit": 4,
            "kinds": ["k"],
            "since": AT,
            "until": LATER,
            "inherit": True,
        },
        {"type": "events", "events": [], "next": None},
    ),
    "search": (
        ("make",),
        {
            "mode": "regex",
            "limit": 2,
            "before": "c",
            "session": SESSION,
            "kinds": ["k"],
            "tags": ["a"],
            "since": AT,
            "until": LATER,
            "exit_code": 1,
            "cwd": "/a",
        },
        {"type": "hits", "hits": []},
    ),
    "verify": (
        (),
        {"after": SESSION},
        {"type": "verified", "sessions": 1, "events": 2, "bytes": 3},
    ),
    "find": (("n",), {"trashed": True}, {"type": "session", "session": SESSION_REPLY}),
    "fork": (
        (SESSION,),
        {"at": 3, "name": "n", "owner_pid": 0},
        {"type": "started", "session": SESSION_REPLY},
    ),
    "delete": (
        (SESSION,),
        {"force": True, "purge": True},
        {"type": "deleted", "session": SESSION, "purged": True},
    ),
    "set_milestone": (
        ("k", "v"),
        {"if_absent": True, "expect": "u"},
        {"type": "milestone", "key": "k", "value": "v"},
    ),
}
"""For each verb: what it is asked with, and an answer."""


@pytest.mark.parametrize("verb", ASKED)
def test_every_keyword_of_a_verb_reaches_the_daemon(socket_path: Path, asynchronous: bool, verb: str) -> None:
    arguments, keywords, reply = ASKED[verb]
    handle = getattr(RecordingSession, verb, None) if arguments == (SESSION,) else None

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        for _ in range(1 if handle is None else 2):
            conversation.send(kind=reply["type"], **reply | {"id": conversation.receive()["id"]})
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, answer) as peer, connected(asynchronous, socket_path) as client:
        getattr(client, verb)(*arguments, **keywords)
        if handle is not None:
            getattr(client.session(SESSION), verb)(**keywords)

    for received in peer.received()[0][1:]:
        assert {name: received.get(name) for name in keywords} == json.loads(msgspec.json.encode(keywords))
    for asked in (getattr(Client, verb), handle):
        parameters = inspect.signature(asked).parameters.values() if asked else ()
        names = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        assert names in (set(keywords), set())


def test_a_file_is_named_as_the_daemon_sees_it(
    socket_path: Path, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(socket_path.parent)

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        adopt = conversation.receive()
        conversation.send("saved", id=adopt["id"], session=SESSION_REPLY, damage="line 3")
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, answer) as peer, connected(asynchronous, socket_path) as client:
        saved = client.adopt("old.ndjson")

    assert (saved.session.ulid, saved.existed, saved.damage) == (SESSION, False, "line 3")
    assert peer.received()[0][1]["path"] == os.path.join(os.getcwd(), "old.ndjson")


def test_a_file_is_given_a_time_of_its_own(socket_path: Path, asynchronous: bool) -> None:
    def say_nothing(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.wait_for_end()

    with (
        ScriptedPeer(socket_path, say_nothing),
        connected(asynchronous, socket_path, timeout=10) as client,
    ):
        began = time.monotonic()
        with pytest.raises(ConnectionLost) as lost:
            client.adopt("/old.ndjson", timeout=0.1)

        assert lost.value.seconds == 0.1
        assert time.monotonic() - began < 10


def test_a_session_too_big_for_a_line_is_sent_to_adopt(socket_path: Path, asynchronous: bool) -> None:
    def greet(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, greet), connected(asynchronous, socket_path) as client:
        with pytest.raises(RequestFailed, match="write it to a file, and adopt that") as refused:
            client.save(SavedHeader(started_at=AT), [event("output", "x" * 1024 * 1024)] * 17)

        assert refusal(refused) is ErrorCode.TOO_LARGE


def test_a_session_that_is_saved_gets_a_ulid_of_its_own_time_and_keeps_it(
    socket_path: Path, asynchronous: bool
) -> None:
    def hang_up(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.receive()

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        save = conversation.receive()
        conversation.send("saved", id=save["id"], session=SESSION_REPLY)
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, hang_up, answer) as peer, connected(asynchronous, socket_path) as client:
        client.save(SavedHeader(started_at=AT, name="n"), [event("note", "x")], SavedFooter(ended_at=AT))

    first, second = (received[1] for received in peer.received())
    assert first == second
    assert ULID.from_str(first["header"]["ulid"]).milliseconds == int(AT.timestamp() * 1000)
    assert (first["events"], first["header"]["name"]) == ([{"kind": "note", "text": "x"}], "n")
    assert first["footer"] == {"ended_at": "2026-11-21T09:24:31.123456Z"}


def test_hits_come_page_after_page(socket_path: Path, asynchronous: bool) -> None:
    hit = {"session": SESSION, "name": "n", "at": "t", "snippet": "make", "seq": 1, "marks": [[0, 4]]}

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        for following in ("cursor", None):
            search = conversation.receive()
            conversation.send("hits", id=search["id"], hits=[hit], next=following)
        conversation.wait_for_end()

    with (
        ScriptedPeer(socket_path, answer) as peer,
        connected(asynchronous, socket_path) as client,
    ):
        found = [*client.hits("make", mode=SearchMode.SUBSTRING, kinds=["command"], exit_code=1)]

    assert [one.marks for one in found] == [[(0, 4)]] * 2
    _, first, second = peer.received()[0]
    assert first == {
        "type": "search", "id": first["id"], "query": "make", "mode": "substring", "kinds": ["command"],
        "exit_code": 1,
    }  # fmt: skip
    assert second == first | {"id": second["id"], "before": "cursor"}
