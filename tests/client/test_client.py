"""The blocking client: what it says when nobody answers; lost connections lose and repeat nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessiond_client import (
    Client,
    ConnectionLost,
    DaemonUnavailable,
    ErrorCode,
    ProtocolError,
    RecordingSession,
    RequestFailed,
    Status,
    event,
    new_ulid,
)
from tests.client.scripted import Conversation, ScriptedPeer
from tests.running import RunningDaemon

SESSION = new_ulid()


def connect(path: Path, timeout: float = 30) -> Client:
    return Client.connect(path, autostart=False, timeout=timeout, spool=False)


def impatient(client: Client) -> Client:
    """From here on its calls end soon; that it was greeted and had a session may take longer."""
    client._link.timeout = 0.2
    return client


def hang_up_on_the_next_request(conversation: Conversation) -> None:
    conversation.welcome()
    conversation.receive()


# --- faults


def test_without_a_daemon_nothing_is_sent_and_nothing_is_waited_for(socket_path: Path) -> None:
    with pytest.raises(DaemonUnavailable, match="start it with `sessiond serve`") as error:
        connect(socket_path, timeout=3600)

    assert error.value.path == socket_path


def test_a_socket_that_nobody_listens_on_is_no_daemon(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(socket_path))

    with pytest.raises(DaemonUnavailable, match="refused"):
        connect(socket_path, timeout=3600)


def test_an_append_whose_answer_was_lost_is_sent_again_with_the_same_number(socket_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.append()
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, hang_up_on_the_next_request, answer) as peer:
        with connect(socket_path) as client:
            client.append(SESSION, [event("prompt", "hello")])

        first, second = peer.received()
        assert first[1] == second[1]
        assert second[1]["n"] == 1
        assert second[1]["producer"] == second[0]["producer"] == first[0]["producer"]


def test_every_connection_begins_with_a_hello(socket_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        ping = conversation.receive()
        conversation.send("pong", id=ping["id"])

    with ScriptedPeer(socket_path, hang_up_on_the_next_request, hang_up_on_the_next_request, answer) as peer:
        with connect(socket_path) as client:
            client.ping()

        assert [[message["type"] for message in received] for received in peer.received()] == [
            ["hello", "ping"]
        ] * 3


def test_a_request_without_an_answer_has_an_unknown_outcome(socket_path: Path) -> None:
    def say_nothing(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.wait_for_end()

    with (
        ScriptedPeer(socket_path, say_nothing),
        impatient(connect(socket_path)) as client,
        pytest.raises(ConnectionLost, match="the outcome is unknown"),
    ):
        client.ping()


def test_a_late_answer_is_not_taken_for_that_of_the_next_request(socket_path: Path) -> None:
    def answer_late(conversation: Conversation) -> None:
        conversation.welcome()
        late, next_one = conversation.receive(), conversation.receive()
        counted = {"commands": 0}
        conversation.send("counted", id=late["id"], events=1, **counted)
        conversation.send("counted", id=next_one["id"], events=2, **counted)

    with ScriptedPeer(socket_path, answer_late):
        client = impatient(connect(socket_path))
        with pytest.raises(ConnectionLost):
            client.count(SESSION)
        client._link.timeout = 30

        assert client.count(SESSION).events == 2
        client.close()


def test_a_request_that_was_given_up_is_not_sent_again(socket_path: Path) -> None:
    def say_nothing(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.receive()
        conversation.receive()

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.send("pong", id=conversation.receive()["id"])
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, say_nothing, answer) as peer:
        client = impatient(connect(socket_path))
        with pytest.raises(ConnectionLost):
            client.append(SESSION, [event("prompt")])
        client._link.timeout = 30
        client.ping()
        client.close()

    assert [message["type"] for message in peer.received()[1]] == ["hello", "ping"]


def test_when_the_daemon_does_not_come_back_a_sent_request_is_lost(socket_path: Path) -> None:
    with ScriptedPeer(socket_path, hang_up_on_the_next_request):
        client = impatient(connect(socket_path))

        with pytest.raises(ConnectionLost):
            client.ping()
        with pytest.raises(DaemonUnavailable):
            client.ping()


def test_a_daemon_that_hangs_up_without_a_word_is_no_daemon(socket_path: Path) -> None:
    def hang_up(conversation: Conversation) -> None:
        conversation.receive()

    with ScriptedPeer(socket_path, *[hang_up] * 3), pytest.raises(DaemonUnavailable):
        connect(socket_path)


def test_a_daemon_of_another_version_is_told_apart_at_once(socket_path: Path) -> None:
    def greet(conversation: Conversation) -> None:
        conversation.welcome(protocol=2)
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, greet), pytest.raises(ProtocolError, match="speaks version 2"):
        connect(socket_path)


def test_a_daemon_that_has_too_many_connections_is_tried_again(socket_path: Path) -> None:
    def turn_away(conversation: Conversation) -> None:
        conversation.send("error", id=0, code="busy", message="too many connections")

    def greet(conversation: Conversation) -> None:
        conversation.welcome(version="7")
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, turn_away, turn_away, greet), connect(socket_path) as client:
        assert client.welcome.version == "7"


def test_a_daemon_that_denies_access_is_not_tried_again(socket_path: Path) -> None:
    def turn_away(conversation: Conversation) -> None:
        conversation.send("error", id=0, code="denied", message="another user")

    with ScriptedPeer(socket_path, turn_away), pytest.raises(RequestFailed) as refused:
        connect(socket_path)

    assert refused.value.code is ErrorCode.DENIED


def test_a_full_queue_of_new_connections_is_waited_for(socket_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(socket_path))
    listener.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(socket_path))

    with pytest.raises(DaemonUnavailable, match="queue of new connections is full"):
        connect(socket_path, timeout=0.05)

    waiting.close()
    listener.close()


def test_a_socket_with_a_long_path_is_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    short = tmp_path / "s"

    def greet(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.wait_for_end()

    with ScriptedPeer(short, greet):
        short.rename(directory / "s")

        with connect(directory / "s") as client:
            assert client.welcome.protocol == 1


# --- against the real daemon


def test_a_session_is_recorded_and_read_back(client: Client) -> None:
    at = datetime(2026, 11, 21, 9, 24, 31, 123456, tzinfo=UTC)

    with client.start(name="nightly", source="agent", tags=["Big Job"], meta={"a": [1]}) as session:
        assert session.append("prompt", "hello", {"n": 1}, at) == 0
        appended = session.append_many([event("output", "one"), event("output", "two")])
        assert (appended.first, appended.last) == (1, 2)
        assert session.append("note", expect=3) == 3

    found = client.find("nightly")
    assert (found.status, found.end_reason, found.source) == ("completed", "stopped", "agent")
    assert (found.tags, found.meta, found.event_count) == (["big-job"], {"a": [1]}, 4)
    page = client.read(session.ulid, after=0, limit=2)
    assert [(read.seq, read.text) for read in page.events] == [(1, "one"), (2, "two")]
    assert page.next == 2
    first = session.read(kinds=["prompt"]).events[0]
    assert (first.text, first.data, first.at) == ("hello", {"n": 1}, "2026-11-21T09:24:31.123456Z")
    assert client.count(session.ulid).events == 4
    assert [listed.ulid for listed in client.list(status="completed", tags=["big-job"]).sessions] == [
        found.ulid
    ]
    assert client.get(session.ulid) == found
    assert client.get(new_ulid()) is None
    assert client.status().sessions_recording == 0


def test_what_the_daemon_cannot_know_is_filled_in(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/\udcff")
    monkeypatch.setenv("SECRET", "do not tell")

    with connect(daemon.socket) as client, client.start() as session:
        info = session.info

    assert info.cwd == os.getcwd()
    assert info.env["SHELL"] == "/bin/�"
    assert "SECRET" not in info.env


def test_a_session_left_by_an_exception_is_interrupted(client: Client) -> None:
    with pytest.raises(ZeroDivisionError), client.start() as session:
        _ = 1 / 0

    found = client.find(session.ulid)
    assert (found.status, found.end_reason) == (Status.INTERRUPTED, "exited")


def test_a_session_that_was_ended_inside_its_block_stays_as_it_was_ended(client: Client) -> None:
    with client.start() as session:
        session.end(exit_code=3, end_reason="exited")

    assert client.find(session.ulid).exit_code == 3


def test_the_callers_own_exception_is_not_hidden_by_a_lost_daemon(daemon: RunningDaemon) -> None:
    client = connect(daemon.socket)

    def work(session: RecordingSession) -> None:
        impatient(client)
        with session:
            daemon.kill()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        work(client.start())

    assert "could not be ended: no answer" in error.value.__notes__[0]
    client.close()


def test_a_handle_on_an_existing_session_learns_about_it_when_asked(client: Client) -> None:
    ulid = client.start(name="known").ulid

    assert client.session(ulid).info.name == "known"


def test_refusals_say_why(client: Client) -> None:
    session = client.start()
    session.append("prompt")

    with pytest.raises(RequestFailed) as conflict:
        session.append("prompt", expect=0)
    session.end()
    with pytest.raises(RequestFailed) as ended:
        session.append("prompt")
    with pytest.raises(RequestFailed) as unknown:
        client.find("no-such-thing")

    assert (conflict.value.code, conflict.value.reply.next_seq) == (ErrorCode.CONFLICT, 1)
    assert ended.value.code is ErrorCode.SESSION_ENDED
    assert unknown.value.code is ErrorCode.NOT_FOUND


def test_what_cannot_be_meant_is_refused_here() -> None:
    with pytest.raises(ValueError, match=r"data\.a\.0: a lone surrogate"):
        event("prompt", data={"a": ["\ud800"]})
    with pytest.raises(ValueError, match="at: a time zone is needed"):
        event("prompt", at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(TypeError):
        event("prompt", data={"a": object()})


def test_words_are_checked_before_they_are_sent(client: Client) -> None:
    with pytest.raises(ValueError, match="'kitchen' is not a valid Source"):
        client.start(source="kitchen")
    with pytest.raises(TypeError, match="tags: a sequence of strings"):
        client.start(tags="abc")


def test_numbers_that_json_does_not_have_become_null(client: Client) -> None:
    session = client.start()
    session.append("note", data={"x": float("nan"), "y": float("inf"), "z": 1.5})

    assert session.read().events[0].data == {"x": None, "y": None, "z": 1.5}


def test_a_start_that_is_sent_again_is_the_same_session(
    daemon: RunningDaemon, socket_path: Path, client: Client
) -> None:
    def forward_and_hang_up(conversation: Conversation) -> None:
        hello = conversation.welcome()
        request = conversation.receive()
        peer = daemon.peer(producer=hello["producer"])
        assert peer.call(request.pop("type"), **request)["type"] == "started"
        peer.socket.close()

    def forward(conversation: Conversation) -> None:
        hello = conversation.welcome()
        request = conversation.receive()
        peer = daemon.peer(producer=hello["producer"])
        reply = peer.call(request.pop("type"), **request)
        conversation.send(reply.pop("type"), **reply)
        peer.socket.close()

    with ScriptedPeer(socket_path, forward_and_hang_up, forward), connect(socket_path) as cut_off:
        session = cut_off.start(name="once")

    assert [listed.ulid for listed in client.list().sessions] == [session.ulid]


def test_a_restart_of_the_daemon_is_not_noticed(daemon: RunningDaemon, client: Client) -> None:
    session = client.start()
    texts = [str(number) for number in range(60)]

    for number, text in enumerate(texts):
        if number % 20 == 10:
            daemon.restart()
        assert session.append("prompt", text) == number

    assert [read.text for read in session.read().events] == texts


def test_threads_share_a_client(client: Client) -> None:
    session = client.start()
    seqs: list[list[int]] = [[] for _ in range(8)]

    def work(mine: list[int]) -> None:
        mine.extend(session.append("prompt", "x") for _ in range(50))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in seqs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seq for mine in seqs for seq in mine) == list(range(400))
    assert all(mine == sorted(mine) for mine in seqs)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_gets_a_connection_and_a_producer_of_its_own(client: Client) -> None:
    session = client.start()
    session.append("prompt", "parent")

    def append_many() -> None:
        for _ in range(100):
            session.append("output", "child")

    child = os.fork()
    if child == 0:
        try:
            append_many()
        finally:
            os._exit(0)
    for _ in range(100):
        session.append("output", "parent")
    os.waitpid(child, 0)

    texts = [read.text for read in session.read().events]
    assert (texts.count("parent"), texts.count("child")) == (101, 100)


def test_a_fork_while_another_thread_waits_does_not_hang_the_child(client: Client) -> None:
    with client._courier._turn:  # as another thread would hold it while it waits for a reply
        assert in_child(client.ping) == 0

    client.ping()


def test_leaving_a_session_in_a_forked_child_does_not_end_it(client: Client) -> None:
    with client.start() as session:

        def leave() -> None:
            session.__exit__(None, None, None)

        assert in_child(leave) == 0
        assert client.find(session.ulid).status is Status.RECORDING


def test_a_child_process_is_told_where_to_record(client: Client) -> None:
    session = client.start()

    assert session.environ() == {"SESSIOND_SESSION": session.ulid, "SESSIOND_SOCKET": str(client.path)}


def test_a_closed_client_opens_again_when_it_is_used(client: Client) -> None:
    client.close()
    client.close()

    assert client.status().connections == 1
