"""The recorder: fast while the daemon is there, and exactly once whatever happens to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessiond_client import (
    Client,
    ErrorCode,
    NewEvent,
    Recorder,
    RecordingIncomplete,
    RequestFailed,
    intake,
    new_ulid,
)
from tests.client.scripted import Conversation, ScriptedPeer
from tests.running import RunningDaemon

SESSION = new_ulid()
LINE = "x" * 1000


@pytest.fixture
def spill_dir(tmp_path: Path) -> Path:
    return tmp_path / "spill"


@pytest.fixture
def small_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "QUEUE_BYTES_MAX", 64 * 1024)


def texts(client: Client, session: str) -> Iterator[str | None]:
    after: int | None = -1
    while after is not None:
        page = client.read(session, after=after, limit=10_000)
        yield from (event.text for event in page.events)
        after = page.next


def recorder(path: Path, session: str = SESSION, spill_dir: Path | None = None) -> Recorder:
    return Recorder(path, session, spill_dir=spill_dir, autostart=False)


def test_everything_recorded_is_stored_in_order_when_it_is_closed(client: Client) -> None:
    with client.start() as session, session.recorder() as record:
        for number in range(20_000):
            record("output", str(number))

    assert list(texts(client, session.ulid)) == [str(number) for number in range(20_000)]
    assert (record.recorded, record.undelivered, record.spilled) == (20_000, 0, 0)
    assert client.status().commits < 5_000


def test_an_event_has_the_time_at_which_it_was_recorded_not_that_of_its_arrival(socket_path: Path) -> None:
    record = recorder(socket_path)
    before = datetime.now(UTC)
    record("note", "now")
    after = datetime.now(UTC)
    record("note", "then", {"k": [1, {"l": None}]}, datetime(2020, 2, 29, 12, 0, 0, 5, tzinfo=UTC))

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.serve_appends()

    with ScriptedPeer(socket_path, answer) as peer:
        record.close()

    now, then = (event for append in peer.received()[0][1:] for event in append["events"])
    assert before <= datetime.fromisoformat(now["at"]) <= after
    assert (then["at"], then["data"]) == ("2020-02-29T12:00:00.000005Z", {"k": [1, {"l": None}]})


def test_after_a_flush_everything_is_on_disk(client: Client) -> None:
    session = client.start()

    with session.recorder() as record:
        for number in range(1, 6):
            record("output", "x")
            record.flush()
            assert session.count().events == number


def test_threads_share_a_recorder(client: Client) -> None:
    session = client.start()

    with session.recorder() as record:

        def work(name: int) -> None:
            for number in range(1000):
                record("output", f"{name} {number}")

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    stored = [(text or "").split() for text in texts(client, session.ulid)]
    for name in range(8):
        assert [number for by, number in stored if by == str(name)] == [str(n) for n in range(1000)]


def test_many_appends_are_on_their_way_at_once_but_no_more_than_the_limit(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.sender.BATCH_EVENTS_MAX", 1)
    begun, full, go_on = threading.Event(), threading.Event(), threading.Event()

    def collect_and_answer(conversation: Conversation) -> None:
        conversation.welcome()
        waiting = [conversation.receive() for _ in range(2)]
        begun.set()
        waiting += [conversation.receive() for _ in range(14)]
        full.set()
        go_on.wait(30)
        for append in waiting:
            conversation.send("appended", id=append["id"], session=SESSION, first=0, last=0)
        conversation.serve_appends()

    with ScriptedPeer(socket_path, collect_and_answer), recorder(socket_path) as record:
        for number in range(42):
            record("output", LINE * 10)
            if number == 2:  # with two on their way the third waits for more
                assert begun.wait(30)

        assert full.wait(30)
        assert record._sender._protocol.unanswered == 16

        go_on.set()


@pytest.mark.usefixtures("small_queue")
def test_without_a_spill_directory_a_full_queue_holds_up_whoever_records(socket_path: Path) -> None:
    go_on = threading.Event()

    def stall(conversation: Conversation) -> None:
        conversation.welcome()
        go_on.wait(30)
        conversation.serve_appends()

    with ScriptedPeer(socket_path, stall), recorder(socket_path) as record:
        taken = 0
        while record.offer("output", LINE * 100, timeout=2):
            taken += 1
        blocked = threading.Thread(target=record, args=("output", LINE))
        blocked.start()
        blocked.join(0.2)
        assert blocked.is_alive()
        assert not record.offer("output", LINE * 100)

        go_on.set()
        blocked.join(30)

        assert not blocked.is_alive()

    assert record.recorded == taken + 1


@pytest.mark.usefixtures("small_queue")
def test_a_full_queue_is_spilled_while_the_daemon_is_away_and_sent_when_it_is_back(
    daemon: RunningDaemon, client: Client, spill_dir: Path
) -> None:
    session = client.start()
    expected = [f"{number} {LINE}" for number in range(3000)]

    with session.recorder(spill_dir=spill_dir) as record:
        for number, text in enumerate(expected):
            if number == 1000:
                daemon.kill()
            record("output", text)
        (spilled,) = spill_dir.iterdir()
        assert spilled == record.spill_path
        assert spilled.name.endswith("-000001.ndjson")
        assert spilled.stat().st_mode & 0o777 == 0o600
        assert spill_dir.stat().st_mode & 0o777 == 0o700
        daemon.start()

    assert list(texts(client, session.ulid)) == expected
    assert record.spilled > 1500
    assert (record.reconnects, record.undelivered) == (1, 0)
    assert list(spill_dir.iterdir()) == []


@pytest.mark.usefixtures("small_queue")
def test_killing_the_daemon_again_and_again_loses_and_repeats_nothing(
    daemon: RunningDaemon, client: Client, spill_dir: Path
) -> None:
    session = client.start()
    expected: list[str] = []
    killed_enough = threading.Event()

    def keep_killing() -> None:
        for _ in range(5):
            acknowledged = record.recorded - record.undelivered
            while record.recorded - record.undelivered <= acknowledged:
                killed_enough.wait(0.01)
            daemon.restart()
        killed_enough.set()

    killer = threading.Thread(target=keep_killing)
    with session.recorder(spill_dir=spill_dir) as record:
        killer.start()
        while not killed_enough.is_set():
            if record.undelivered > 2000:  # enough to have been spilled; more would only take longer
                killed_enough.wait(0.001)
                continue
            expected.append(f"{len(expected)} {LINE}")
            record("output", expected[-1])
        killer.join()

    assert list(texts(client, session.ulid)) == expected
    assert record.reconnects == 5
    assert record.spilled > 0


@pytest.mark.usefixtures("small_queue")
def test_what_cannot_be_delivered_is_left_in_a_file_that_can_be_delivered_later(
    daemon: RunningDaemon, client: Client, spill_dir: Path
) -> None:
    session = client.start(owner_pid=0)
    expected = [f"{number} {LINE}" for number in range(3000)]
    record = session.recorder(spill_dir=spill_dir)
    for text in expected[:1000]:
        record("output", text)
    daemon.kill()
    for text in expected[1000:]:
        record("output", text)

    with pytest.raises(RecordingIncomplete) as incomplete:
        record.close(timeout=0.1)

    assert incomplete.value.spill_path == record.spill_path
    assert incomplete.value.undelivered == record.undelivered >= 2000
    assert str(record.spill_path) in str(incomplete.value)
    daemon.start()
    assert record.spill_path is not None
    assert client.take_over(spill_dir) == 0
    assert list(texts(client, session.ulid)) == expected
    assert list(spill_dir.iterdir()) == []


def test_a_recorder_closed_before_the_daemon_was_ever_there_keeps_its_few_events(
    daemon: RunningDaemon, client: Client, spill_dir: Path
) -> None:
    session = client.start(owner_pid=0)
    daemon.kill()
    record = session.recorder(spill_dir=spill_dir)
    record("output", "only")

    with pytest.raises(RecordingIncomplete, match="1 event of session"):
        record.close(timeout=0)

    daemon.start()
    assert record.spill_path is not None
    assert client.take_over(spill_dir) == 0
    assert list(texts(client, session.ulid)) == ["only"]


def test_without_a_spill_directory_a_recorder_says_what_is_lost(socket_path: Path) -> None:
    record = recorder(socket_path)
    record("output", "x")
    record("output", "y")

    with pytest.raises(RecordingIncomplete, match=r"2 events .* what became of that is unknown"):
        record.close(timeout=0.1)

    assert (record.undelivered, record.spill_path) == (2, None)


def test_a_daemon_that_acknowledges_nothing_counts_as_away(
    socket_path: Path, spill_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.intake.QUEUE_BYTES_MAX", 64 * 1024)
    monkeypatch.setattr("sessiond_client.sender.STALL_SECONDS", 0.1)
    go_on = threading.Event()

    def stall(conversation: Conversation) -> None:
        conversation.welcome()
        go_on.wait(30)
        conversation.serve_appends()

    with (
        ScriptedPeer(socket_path, stall) as peer,
        recorder(socket_path, spill_dir=spill_dir) as record,
    ):
        for number in range(200):
            record("output", f"{number} " + LINE * 100)
        assert record.spill_path is not None
        go_on.set()

    appends = [message for message in peer.received()[0] if message["type"] == "append"]
    assert [int(event["text"].split()[0]) for append in appends for event in append["events"]] == [
        *range(200)
    ]
    assert [append["n"] for append in appends] == [*range(1, len(appends) + 1)]


@pytest.mark.parametrize("code", ["disk_full", "busy"])
def test_what_is_refused_for_now_is_sent_again_before_anything_else(
    socket_path: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.sender.REFUSED_RETRY_SECONDS", 0.05)

    def refuse_twice(conversation: Conversation) -> None:
        conversation.welcome()
        for _ in range(2):
            append = conversation.receive()
            conversation.send("error", id=append["id"], code=code, message="later")
        conversation.serve_appends()

    began = time.monotonic()
    with ScriptedPeer(socket_path, refuse_twice) as peer, recorder(socket_path) as record:
        record("output", "first")
        while len(peer.received()[:1] and peer.received()[0]) < 2:
            time.sleep(0.001)
        record("output", "second")

    appends = peer.received()[0][1:]
    assert [append["n"] for append in appends] == [1, 1, 1, 2]
    assert record.undelivered == 0
    assert time.monotonic() - began >= 2 * 0.05


def test_what_was_refused_together_is_sent_again_in_its_order(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.sender.REFUSED_RETRY_SECONDS", 0.01)
    monkeypatch.setattr("sessiond_client.sender.BATCH_EVENTS_MAX", 1)

    def refuse_all(conversation: Conversation) -> None:
        conversation.welcome()
        for append in [conversation.receive() for _ in range(10)]:
            conversation.send("error", id=append["id"], code="disk_full", message="later")
        conversation.serve_appends()

    with ScriptedPeer(socket_path, refuse_all) as peer, recorder(socket_path) as record:
        for _ in range(10):
            record("output", LINE * 10)

    assert [append["n"] for append in peer.received()[0][1:]] == [*range(1, 11)] * 2


def test_a_refusal_is_raised_by_whatever_is_called_next(client: Client, spill_dir: Path) -> None:
    session = client.start()
    record = session.recorder(spill_dir=spill_dir)
    session.end()

    record("output", "too late")

    with pytest.raises(RequestFailed) as flushed:
        record.flush()
    with pytest.raises(RequestFailed):
        record("output", "again")
    with pytest.raises(RequestFailed):
        record.close()
    assert flushed.value.code is ErrorCode.SESSION_ENDED
    assert record.spill_path is not None
    assert '"text":"too late"' in record.spill_path.read_text()


def test_a_connection_cut_after_the_append_sends_it_again_unchanged(socket_path: Path) -> None:
    def cut(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.receive()

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.serve_appends()

    with ScriptedPeer(socket_path, cut, answer) as peer, recorder(socket_path) as record:
        record("output", "once")
        record.flush()

    first, second = peer.received()
    assert first[1] == second[1]
    assert record.reconnects == 1


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (NewEvent(kind="Output"), "kind: 'Output' does not match"),
        (NewEvent(kind="command"), "text: a command event needs"),
        (NewEvent(kind="output", text="é" * 600_000), "text: 1200000 bytes, the limit is 1048576"),
        (NewEvent(kind="output", text="\udc80"), "text: a lone surrogate"),
        (NewEvent(kind="output", at=datetime(2026, 1, 1)), "at: a time zone"),  # noqa: DTZ001 - the point
    ],
)
def test_what_would_be_refused_is_refused_before_it_can_take_others_along(
    client: Client, event: NewEvent, complaint: str
) -> None:
    session = client.start()

    with session.recorder() as record:
        record("output", "good")
        with pytest.raises(ValueError, match=complaint):
            record(event.kind, event.text, None, event.at)

    assert list(texts(client, session.ulid)) == ["good"]


def test_data_that_is_nested_too_deeply_is_refused_and_the_deepest_allowed_is_not(client: Client) -> None:
    session = client.start()
    deepest: dict[str, object] = {"brackets": "[[[{{{" * 30}
    for _ in range(63):
        deepest = {"a": deepest}

    with session.recorder() as record:
        record("note", data=deepest)
        with pytest.raises(ValueError, match="data: nested deeper than 64 levels"):
            record("note", data={"a": deepest})

    assert session.read().events[0].data == deepest


def test_a_closed_recorder_takes_nothing_and_closes_again(client: Client) -> None:
    record = client.start().recorder()
    record.close()
    record.close()

    with pytest.raises(ValueError, match="closed"):
        record("output", "x")


def test_a_program_that_forgets_to_close_its_recorder_loses_nothing(
    daemon: RunningDaemon, client: Client
) -> None:
    session = client.start()
    code = f"""if True:
        from sessiond_client import Client
        record = Client.connect().session({session.ulid!r}).recorder()
        for number in range(5000):
            record("output", str(number))
    """

    subprocess.run([sys.executable, "-P", "-c", code], env=daemon.environ, check=True)

    assert list(texts(client, session.ulid)) == [str(number) for number in range(5000)]


def test_a_recorder_says_in_a_forked_child_that_it_cannot_work_there(client: Client) -> None:
    session = client.start()

    with session.recorder() as record:
        record("output", "parent")
        child = os.fork()
        if child == 0:
            try:
                record("output", "child")
            except RuntimeError as error:
                record.close()
                os._exit(7 if "belongs to process" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    assert list(texts(client, session.ulid)) == ["parent"]


def test_the_callers_own_exception_is_not_hidden_by_an_incomplete_recording(socket_path: Path) -> None:
    record = recorder(socket_path)
    record("output", "x")
    record._intake.close(0)

    def work() -> None:
        with record:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        work()

    assert "1 event of session" in error.value.__notes__[0]
