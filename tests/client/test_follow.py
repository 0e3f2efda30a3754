"""Following: nothing is missed, nothing comes twice, whatever happens to the daemon in between."""

from __future__ import annotations

import threading

import pytest

from sessiond_client import Client, ConnectionLost, ErrorCode, RequestFailed, Status, new_ulid
from tests.running import RunningDaemon


def test_what_is_appended_after_follow_has_returned_is_seen(client: Client) -> None:
    session = client.start()
    session.append("prompt", "before")

    with client.follow(session.ulid) as events:
        session.append("prompt", "after", {"a": 1})

        seen = next(events)

    assert (seen.seq, seen.text, seen.data) == (1, "after", {"a": 1})


def test_a_session_is_followed_from_its_start_to_its_end(client: Client) -> None:
    session = client.start()
    session.append("prompt", "one")
    events = session.follow(after=-1)
    session.append("prompt", "two")
    session.end(exit_code=4)

    assert [event.text for event in events] == ["one", "two"]
    assert events.ended is not None
    assert (events.ended.status, events.ended.exit_code) == (Status.COMPLETED, 4)


def test_all_sessions_are_followed_with_their_names(client: Client) -> None:
    first, second = client.start(), client.start()

    with client.follow() as events:
        first.append("prompt", "a")
        second.append("prompt", "b")

        seen = {(event.session, event.text) for event in (next(events), next(events))}

    assert seen == {(first.ulid, "a"), (second.ulid, "b")}


def test_an_unknown_session_cannot_be_followed(client: Client) -> None:
    with pytest.raises(RequestFailed) as refused:
        client.follow(new_ulid())

    assert refused.value.code is ErrorCode.NOT_FOUND


def test_following_goes_on_across_restarts_of_the_daemon(daemon: RunningDaemon, client: Client) -> None:
    session = client.start()
    seen: list[int] = []
    half = threading.Event()

    def follow() -> None:
        for event in client.follow(session.ulid, after=-1):
            seen.append(event.seq)
            if event.seq == 20:
                half.set()

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(100):
        if number == 50:
            half.wait(30)
        if number in {30, 60}:
            daemon.restart()
        session.append("output", str(number))
    session.end()
    thread.join(30)

    assert seen == list(range(100))


def test_a_follower_gives_up_when_the_daemon_stays_away(daemon: RunningDaemon) -> None:
    with Client.connect(daemon.socket, autostart=False) as client:
        session = client.start()
        events = session.follow(after=-1)
        session.append("prompt")
        assert next(events).seq == 0
        events._link.timeout = 0.2

        daemon.kill()

        with pytest.raises(ConnectionLost):
            next(events)
        events.close()


def test_lines_are_taken_as_they_stand_in_the_file(daemon: RunningDaemon, client: Client) -> None:
    session = client.start()
    session.append("output", "\x7f é", {"b": 1, "a": [1.0]})
    session.append("command", "make")
    events = session.follow(after=-1)
    session.end()

    lines: list[bytes] = []
    while taken := events.take_lines():
        lines += map(bytes, taken)

    file = daemon.data_dir / "sessions" / f"{session.ulid}.ndjson"
    assert lines == file.read_bytes().splitlines()[1:-1]


def test_a_closed_follower_gives_what_it_has_and_ends(client: Client) -> None:
    session = client.start()
    session.append("prompt")
    session.append("prompt")
    events = session.follow(after=-1)
    assert next(events).seq == 0

    events.close()

    assert [event.seq for event in events] in ([], [1])
