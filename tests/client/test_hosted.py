"""Sessions of a host: what goes wrong with them does not reach it, and a fork loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import Client, Status
from sessiond_client.client import TIMEOUT_SECONDS
from sessiond_client.hosted import HostedSessions, Io, NotFound
from sessiond_client.recorder import CLOSE_SECONDS
from tests.client.scripted import Conversation, ScriptedPeer
from tests.running import RunningDaemon

PAUSE_SECONDS = 0.0002
"""Between two events, so that those taken before a fork are stored in no time."""


@pytest.fixture
def hosted(daemon: RunningDaemon) -> Iterator[HostedSessions]:
    """Of the real daemon, which it never starts itself; closed without trouble."""
    with HostedSessions(daemon.socket, autostart=False, budget=30) as hosted:
        yield hosted


def current(hosted: HostedSessions) -> str:
    assert hosted.current_ulid is not None
    return hosted.current_ulid


def test_a_host_records_lists_finds_and_labels(hosted: HostedSessions, client: Client) -> None:
    assert hosted.current_ulid is None
    assert hosted.list() == []

    assert hosted.begin("one", cli_version="1.2", engine_base_url="http://e/", tags=["a"])
    first = current(hosted)
    for text in "abc":
        assert hosted.record("prompt", text)
    assert hosted.begin("two")
    second = current(hosted)
    hosted.save_label(first, " good ")

    assert [session.ulid for session in hosted.list()] == [second, first]
    assert [session.ulid for session in hosted.list(limit=1)] == [second]
    found = hosted.find("good")
    assert (found.ulid, found.status, found.cli_version) == (first, "completed", "1.2")
    assert [event.text for event in hosted.list_events(first, limit=2)] == ["b", "c"]
    assert hosted.end()
    assert not hosted.record("prompt", "too late")
    assert hosted.current_ulid is None
    assert hosted.trouble is None
    assert client.find("two").status is Status.COMPLETED


def begun_and_impatient(daemon: RunningDaemon) -> HostedSessions:
    """With a session, for which there was time; from here on nothing is waited for long."""
    hosted = HostedSessions(daemon.socket, autostart=False, budget=30)
    assert hosted.begin("one")
    assert hosted._connected is not None
    hosted._budget = hosted._connected._link.timeout = 0.2
    return hosted


def test_a_fork_goes_on_in_the_child_and_ends_the_parent(hosted: HostedSessions, client: Client) -> None:
    assert hosted.fork_from_current() is None
    hosted.begin("one", engine_base_url="http://e/")
    parent = current(hosted)
    hosted.record("prompt", "before")

    child = hosted.fork_from_current()
    assert child is not None
    hosted.record("prompt", "after")
    assert hosted.end()

    assert [event.text for event in hosted.list_events(parent)] == ["before"]
    assert [event.text for event in hosted.list_events(child)] == ["after"]
    forked = client.find(child)
    assert (forked.parent_ulid, forked.parent_seq, forked.engine_base_url) == (parent, 0, None)
    assert client.find(parent).status is Status.COMPLETED


def test_what_is_recorded_during_forks_is_in_one_session_or_the_other(
    hosted: HostedSessions, client: Client
) -> None:
    hosted.begin("one")
    taken: list[str] = []
    under_way, forked = threading.Event(), threading.Event()

    def work() -> None:
        while not forked.wait(PAUSE_SECONDS) and hosted.record("prompt", str(len(taken))):
            taken.append(str(len(taken)))
            under_way.set()

    recording = threading.Thread(target=work)
    recording.start()
    assert under_way.wait(30)
    forks = [hosted.fork_from_current() for _ in range(5)]
    forked.set()
    recording.join()
    assert hosted.end()

    assert hosted.trouble is None
    sessions = [client.find("one").ulid, *(ulid for ulid in forks if ulid is not None)]
    assert [event.text for ulid in sessions for event in client.events(ulid)] == taken


def test_without_a_daemon_a_host_goes_on(socket_path: Path) -> None:
    with HostedSessions(socket_path, autostart=False) as hosted:
        assert not hosted.begin("one")

        assert hosted.trouble is not None
        assert "no daemon answers" in hosted.trouble
        assert not hosted.record("prompt", "hello")
        assert hosted.fork_from_current() is None
        for verb in (hosted.list, lambda: hosted.find("x"), lambda: hosted.save_label("x", "y")):
            with pytest.raises(Io, match="no daemon answers"):
                verb()
        assert hosted.end()


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "Not A Kind"},
        {"kind": None},
        {"kind": "prompt", "text": "\ud800"},
        {"kind": "prompt", "data": {"a": object()}},
        {"kind": "prompt", "at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
        {"kind": "prompt", "text": "x" * 2_000_000},
    ],
    ids=range(6),
)
def test_what_cannot_be_recorded_is_left_out(hosted: HostedSessions, event: dict[str, Any]) -> None:
    hosted.begin("one")

    assert not hosted.record(**event)

    assert hosted.trouble
    assert hosted.record("prompt", "the next")


def test_a_daemon_that_goes_away_costs_nothing_and_a_question_little(daemon: RunningDaemon) -> None:
    hosted = begun_and_impatient(daemon)
    ulid = current(hosted)
    daemon.kill()

    assert hosted.record("prompt", "kept")
    with pytest.raises(Io):
        hosted.list()
    with pytest.raises(Io):
        hosted.fork_from_current()
    assert hosted.current_ulid == ulid

    daemon.start()
    with (
        Client.connect(daemon.socket, autostart=False) as client,
        client.follow(ulid, after=-1) as events,
    ):
        assert next(events).text == "kept"
    hosted.close()


def test_an_end_without_a_daemon_is_given_up(daemon: RunningDaemon) -> None:
    hosted = begun_and_impatient(daemon)
    daemon.kill()
    assert hosted.record("prompt", "lost")
    began = time.monotonic()

    assert not hosted.close()

    assert time.monotonic() - began < CLOSE_SECONDS
    assert hosted.trouble is not None
    assert "1 event " in hosted.trouble
    assert hosted.current_ulid is None


def test_a_daemon_that_says_nothing_is_not_waited_for(socket_path: Path) -> None:
    def say_nothing(conversation: Conversation) -> None:
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, say_nothing):
        hosted = HostedSessions(socket_path, autostart=False, budget=0.1)

        began = time.monotonic()

        assert not hosted.begin("one")

        assert time.monotonic() - began < TIMEOUT_SECONDS
        assert hosted.close()
    assert hosted.trouble is not None
    assert "does not answer" in hosted.trouble


def test_a_session_ended_by_somebody_else_is_trouble_and_no_exception(
    hosted: HostedSessions, client: Client
) -> None:
    hosted.begin("one")
    client.end(client.find("one").ulid)

    assert hosted.record("prompt", "not stored")
    assert not hosted.end()

    assert hosted.trouble is not None
    assert "ended" in hosted.trouble


def test_only_two_things_can_go_wrong(hosted: HostedSessions, client: Client) -> None:
    ulids = {client.start(f"s-{number}").ulid for number in range(2)}
    (shared,) = {ulid[:6] for ulid in ulids}

    with pytest.raises(NotFound) as ambiguous:
        hosted.find(shared)
    with pytest.raises(NotFound) as unknown:
        hosted.find("s-9")
    with pytest.raises(Io, match="empty label"):
        hosted.save_label(ulids.pop(), " ")
    with pytest.raises(Io):
        hosted.list_events(ulids.pop(), limit=-1)
    with pytest.raises(Io):
        hosted.find("\ud800")

    assert len(ambiguous.value.candidates) == 2
    assert "s-1" in unknown.value.candidates
