"""Each request against the real daemon, spoken by a peer that shares no code with it."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.checker import check, lines_in_file
from tests.running import RunningDaemon

PRODUCER = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOBODY = "01BX5ZZKBKACTAV9WEVGEMMVRZ"


def test_events_get_consecutive_seqs_from_zero(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()

    first = peer.append(session, "a", "b")
    second = peer.append(session, "c")

    assert (first["first"], first["last"]) == (0, 1)
    assert (second["first"], second["last"]) == (2, 2)


def test_what_is_read_is_what_stands_in_the_file(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(name="demo")
    peer.append(session, "grüße", "\x1b[31mred\x00")

    peer.send("read", session=session)
    reply = peer.line()

    lines = lines_in_file(daemon.data_dir / "sessions" / f"{session}.ndjson")[1]
    assert b",".join(lines) in reply
    check(daemon.data_dir)


def test_data_goes_from_the_client_to_the_file_as_the_bytes_it_came_in(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    data = b'{ "big": 123456789012345678901234567890, "float": 1.10, "dup": 1, "dup": 2 }'

    peer.send_bytes(
        b'{"type":"append","session":"%s","events":[{"kind":"note","data":%s}]}\n' % (session.encode(), data)
    )
    assert peer.receive()["type"] == "appended"

    line = lines_in_file(daemon.data_dir / "sessions" / f"{session}.ndjson")[1][0]
    assert data in line
    check(daemon.data_dir)


def test_a_command_event_becomes_a_command_line_with_its_index(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    data = {"cwd": "/src", "exit_code": 2, "duration_ms": 12, "host": "x"}

    for text in ("make", "make test"):
        peer.call("append", session=session, events=[{"kind": "command", "text": text, "data": data}])

    events = peer.call("read", session=session)["events"]
    assert [(event["type"], event["index"], event["command"]) for event in events] == [
        ("command", 0, "make"),
        ("command", 1, "make test"),
    ]
    assert events[0]["cwd"] == "/src"
    assert events[0]["exit_code"] == 2
    assert events[0]["data"] == {"host": "x"}
    assert peer.call("count", session=session)["commands"] == 2


def test_an_append_sent_again_is_answered_the_same_and_stored_once(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()

    first = peer.append(session, "once", producer=PRODUCER, n=1)
    peer.append(session, "twice", producer=PRODUCER, n=2)
    again = daemon.peer().append(session, "once", producer=PRODUCER, n=1)

    assert again == first
    assert peer.call("count", session=session)["events"] == 2


def test_an_append_sent_again_after_the_end_is_still_answered(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    first = peer.append(session, "once", producer=PRODUCER, n=1)
    peer.call("end", session=session)

    assert peer.append(session, "once", producer=PRODUCER, n=1) == first


def test_an_append_sent_again_after_a_kill_is_stored_once(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    first = peer.append(session, "once", producer=PRODUCER, n=1)
    daemon.restart()

    peer = daemon.peer()

    assert peer.append(session, "once", producer=PRODUCER, n=1) == first
    assert peer.call("count", session=session)["events"] == 1


def test_receipts_leave_with_the_window(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    for n in range(1, 2049):
        peer.send("append", session=session, events=[{"kind": "a"}], producer=PRODUCER, n=n)
    for _ in range(2048):
        assert peer.receive()["type"] == "appended"

    reply = peer.append(session, "late", producer=PRODUCER, n=1)

    assert (reply["code"], reply["field"]) == ("invalid", "n")
    assert peer.append(session, "", producer=PRODUCER, n=2000)["first"] == 1999


def test_a_start_sent_again_by_its_producer_is_the_same_session(daemon: RunningDaemon) -> None:
    peer = daemon.peer(producer=PRODUCER)
    first = peer.call("start", ulid=NOBODY, name="x")
    peer.append(NOBODY, "a")

    again = daemon.peer(producer=PRODUCER).call("start", ulid=NOBODY, name="x")
    foreign = daemon.peer(producer="01BX5ZZKBKACTAV9WEVGEMMVS0").call("start", ulid=NOBODY, name="x")

    assert again["session"]["ulid"] == first["session"]["ulid"]
    assert again["session"]["next_seq"] == 1
    assert foreign["code"] == "exists"


def test_a_taken_name_gets_the_lowest_free_number(daemon: RunningDaemon) -> None:
    peer = daemon.peer()

    names = [peer.call("start", name="nightly")["session"]["name"] for _ in range(3)]

    assert names == ["nightly", "nightly-2", "nightly-3"]


def test_a_session_without_a_name_is_named_after_its_start(daemon: RunningDaemon) -> None:
    session = daemon.peer().call("start", started_at="2026-01-02T03:04:05+00:00")["session"]

    assert session["name"] == "session-2026-01-02-030405"
    assert session["started_at"] == "2026-01-02T03:04:05.000000Z"


def test_only_the_listed_environment_is_kept(daemon: RunningDaemon) -> None:
    session = daemon.peer().call("start", env={"PATH": "/bin", "TOKEN": "secret"})["session"]

    assert session["env"] == {"PATH": "/bin"}
    assert "secret" not in (daemon.data_dir / "sessions" / f"{session['ulid']}.ndjson").read_text()


def test_tags_are_normalised_and_filter_the_list(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    both = peer.start(tags=[" My  Tag", "b", "my-tag"])
    one = peer.start(tags=["b"])

    assert peer.call("get", session=both)["session"]["tags"] == ["my-tag", "b"]
    assert ulids(peer.call("list", tags=["MY TAG", "b"])) == [one, both]
    assert ulids(peer.call("list", tags_all=["my tag", "b"])) == [both]


def ulids(reply: dict[str, Any]) -> list[str]:
    return [session["ulid"] for session in reply["sessions"]]


def test_the_list_is_newest_first_and_pages_by_cursor(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    started = [peer.start() for _ in range(5)]

    first = peer.call("list", limit=3)
    rest = peer.call("list", limit=3, before=first["next"])

    assert ulids(first) + ulids(rest) == started[::-1]
    assert rest["next"] is None
    assert peer.call("list", limit=0) == {"type": "sessions", "id": 0, "sessions": [], "next": None}


def test_the_list_is_filtered_by_status_source_parent_and_time(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    old = peer.start(started_at="2020-01-01T00:00:00Z", source="shell")
    child = peer.start(parent_ulid=old)
    peer.call("end", session=old)

    assert ulids(peer.call("list", status="completed")) == [old]
    assert ulids(peer.call("list", source="app")) == [child]
    assert ulids(peer.call("list", parent_ulid=old)) == [child]
    assert ulids(peer.call("list", until="2021-01-01T00:00:00Z")) == [old]
    assert ulids(peer.call("list", since="2021-01-01T00:00:00Z")) == [child]


def test_reading_pages_forwards_backwards_and_by_kind(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    for number in range(10):
        peer.append(session, str(number), kind="even" if number % 2 == 0 else "odd")

    def seqs(**fields: Any) -> tuple[list[int], int | None]:
        reply = peer.call("read", session=session, **fields)
        return [event["seq"] for event in reply["events"]], reply["next"]

    assert seqs(limit=4) == ([0, 1, 2, 3], 3)
    assert seqs(after=3, limit=4) == ([4, 5, 6, 7], 7)
    assert seqs(after=7) == ([8, 9], None)
    assert seqs(tail=3) == ([7, 8, 9], 7)
    assert seqs(tail=3, before=7) == ([4, 5, 6], 4)
    assert seqs(kinds=["odd"], before=6) == ([1, 3, 5], None)
    assert seqs(limit=0) == ([], None)


def test_a_session_is_found_by_id_part_and_name(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(name="deploy")
    other = peer.start(ulid=session[:20] + "000000")

    def found(needle: str) -> dict[str, Any]:
        return peer.call("find", needle=needle)

    assert found(session.lower())["session"]["ulid"] == session
    assert found(session[-6:])["session"]["ulid"] == session
    assert found("deploy")["session"]["ulid"] == session
    assert sorted(found(session[:10])["candidates"]) == sorted([session, other])
    assert found("deplyo")["suggestions"] == ["deploy"]
    assert found("%")["code"] == "not_found"


def test_a_second_end_returns_the_first(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()

    first = peer.call("end", session=session, exit_code=3, end_reason="exited")
    second = peer.call("end", session=session, status="interrupted")

    assert first == second
    assert first["session"]["exit_code"] == 3


def test_an_ended_session_is_sealed_with_a_digest_of_its_lines(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    peer.append(session, "a", "b")
    peer.append(session, "c")

    ended = peer.call("end", session=session)["session"]

    _, lines, footer = lines_in_file(daemon.data_dir / "sessions" / f"{session}.ndjson")
    assert footer is not None
    assert footer["digest"] == ended["digest"]
    assert len(lines) == footer["event_count"] == 3
    check(daemon.data_dir)


def test_a_digest_is_right_after_a_restart_in_the_middle(daemon: RunningDaemon) -> None:
    session = daemon.peer().start(owner_pid=0)
    daemon.peer().append(session, "before")
    daemon.restart()
    daemon.peer().append(session, "after")

    daemon.peer().call("end", session=session)

    check(daemon.data_dir)


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        (b"no json", "invalid", None),
        (b"[1,2]", "invalid", None),
        (b'"text"', "invalid", None),
        (b'{"type":"append"}', "invalid", "session"),
        (b'{"id":1}', "invalid", "type"),
        (b'{"type":"fly"}', "unknown_type", None),
        (b'{"type":7}', "invalid", "type"),
        (b'{"type":"hello","protocol":2}', "unsupported_protocol", None),
        (b'{"type":"start","name":"two words"}', "invalid", "name"),
        (b'{"type":"start","name":"line\\n"}', "invalid", "name"),
        (b'{"type":"start","name":""}', "invalid", "name"),
        (b'{"type":"start","name":"' + b"x" * 129 + b'"}', "invalid", "name"),
        (b'{"type":"start","tags":["a/b"]}', "invalid", "tags"),
        (b'{"type":"start","started_at":"yesterday"}', "invalid", "started_at"),
        (b'{"type":"start","owner_pid":-1}', "invalid", "owner_pid"),
        (b'{"type":"get","session":"../../etc/passwd"}', "invalid", "session"),
        (b'{"type":"get","session":".."}', "invalid", "session"),
        (b'{"type":"read","session":"/"}', "invalid", "session"),
        (b'{"type":"read","session":"%s"}' % NOBODY.encode(), "not_found", None),
        (b'{"type":"list","before":"x"}', "invalid", "before"),
        (b'{"type":"list","limit":-1}', "invalid", "limit"),
        (b'{"type":"cancel","id":9}', "not_found", None),
        (b'{"type":"follow","session":"%s"}' % NOBODY.encode(), "not_found", None),
        (b'{"type":"end","session":"%s"}' % NOBODY.encode(), "not_found", None),
        (b'{"type":"ping","x":"\xff"}', "invalid", None),
        (b'{"type":"ping","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid", None),
    ],
)
def test_a_bad_message_gets_its_error_and_the_connection_lives_on(
    daemon: RunningDaemon, message: bytes, code: str, field: str | None
) -> None:
    peer = daemon.peer()

    peer.send_bytes(message + b"\n")
    error = peer.receive()

    assert (error["type"], error["code"], error.get("field")) == ("error", code, field)
    assert peer.call("ping")["type"] == "pong"
    assert peer.call("list")["sessions"] == []


def event(**fields: Any) -> dict[str, Any]:
    return {"kind": "prompt", **fields}


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"events": []}, "invalid", "events"),
        ({"events": [event()] * 4097}, "too_large", "events"),
        ({"events": [event(text="x" * (1024 * 1024 + 1))]}, "too_large", "events[0].text"),
        ({"events": [event(), event(kind="No")]}, "invalid", "events[1].kind"),
        ({"events": [event(kind="a" * 65)]}, "invalid", "events[0].kind"),
        ({"events": [event(data=[1])]}, "invalid", "events[0].data"),
        ({"events": [event(data="x")]}, "invalid", "events[0].data"),
        ({"events": [event(text=5)]}, "invalid", "events[0].text"),
        ({"events": [event(at="2026-01-01T00:00:00")]}, "invalid", "events[0].at"),
        ({"events": [{"text": "no kind"}]}, "invalid", "events[0].kind"),
        ({"events": [event(kind="command")]}, "invalid", "events[0].text"),
        ({"events": [event(kind="command", text="ls", data={"cwd": 5})]}, "invalid", "events.data"),
        ({"events": [event()], "expect": 7}, "conflict", None),
        ({"events": [event()], "n": 1}, "invalid", "n"),
        ({"events": [event()], "n": 0, "producer": PRODUCER}, "invalid", "n"),
    ],
)
def test_a_bad_append_stores_nothing(
    daemon: RunningDaemon, fields: dict[str, Any], code: str, field: str | None
) -> None:
    peer = daemon.peer()
    session = peer.start()

    error = peer.call("append", session=session, id=5, **fields)

    assert (error["type"], error["code"], error["id"]) == ("error", code, 5)
    assert error.get("field") == field
    assert peer.call("count", session=session)["events"] == 0
    assert peer.append(session, "fine")["first"] == 0
    check(daemon.data_dir)


@pytest.mark.parametrize("number", [b"1e999", b"-1E+400", b"9" * 5000])
def test_a_number_no_reader_can_hold_is_refused(daemon: RunningDaemon, number: bytes) -> None:
    peer = daemon.peer()
    session = peer.start()

    peer.send_bytes(
        b'{"type":"append","session":"%s","events":[{"kind":"a","data":{"x":%s}}]}\n'
        % (session.encode(), number)
    )

    assert peer.receive()["code"] == "invalid"
    assert peer.append(session, "fine", data={"text": "e999"})["first"] == 0


def test_a_carriage_return_between_tokens_does_not_reach_the_file(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    line = b'{"type":"append","session":"%s","events":[{"kind":"a","data":{"x":\r"y\\r"}}]}\r\n'

    peer.send_bytes(line % session.encode())

    assert peer.receive()["type"] == "appended"
    assert b"\r" not in (daemon.data_dir / "sessions" / f"{session}.ndjson").read_bytes()
    assert peer.call("read", session=session)["events"][0]["data"] == {"x": "y\r"}
    check(daemon.data_dir)


def test_null_data_is_no_object(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()

    assert peer.call("append", session=session, events=[event(data=None)])["code"] == "invalid"


@pytest.mark.parametrize(("depth", "accepted"), [(64, True), (65, False)])
def test_data_is_at_most_64_levels_deep(daemon: RunningDaemon, depth: int, accepted: bool) -> None:
    peer = daemon.peer()
    session = peer.start()
    data: dict[str, Any] = {"]": '[{"'}
    for _ in range(depth - 1):
        data = {"a": data}

    reply = peer.call("append", session=session, events=[event(data=data)])

    assert (reply["type"] == "appended") is accepted


def test_a_conflict_tells_the_next_seq(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    peer.append(session, "a", expect=0)

    error = peer.append(session, "b", expect=0)

    assert (error["code"], error["next_seq"]) == ("conflict", 1)
    assert peer.append(session, "b", expect=1)["first"] == 1


def test_an_append_after_the_end_is_refused(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    peer.call("end", session=session)

    assert peer.append(session, "late")["code"] == "session_ended"
    check(daemon.data_dir)


def test_invalid_utf8_inside_data_is_refused(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()

    peer.send_bytes(
        b'{"type":"append","session":"%s","events":[{"kind":"a","data":{"x":"\xff"}}]}\n' % session.encode()
    )

    assert peer.receive()["code"] == "invalid"
    check(daemon.data_dir)


def test_an_over_long_line_is_refused_and_the_connection_closed(daemon: RunningDaemon) -> None:
    peer, other = daemon.peer(), daemon.peer()

    for _ in range(17):
        try:
            peer.send_bytes(b"x" * 1024 * 1024)
        except (BrokenPipeError, ConnectionResetError):
            break

    assert json.loads(peer.line())["code"] == "too_large"
    assert peer.is_cut()
    assert other.call("ping")["type"] == "pong"


def test_requests_of_one_connection_take_effect_in_the_order_sent(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    for number in range(500):
        peer.send("append", session=session, events=[{"kind": "a", "text": str(number)}], id=number)
    peer.send("end", session=session, id=500)

    replies = [peer.receive() for _ in range(501)]

    assert [reply["id"] for reply in replies] == list(range(501))
    events = peer.call("read", session=session)["events"]
    assert [event["text"] for event in events] == [str(number) for number in range(500)]


def test_unknown_fields_are_ignored(daemon: RunningDaemon) -> None:
    assert daemon.peer().call("ping", colour="red") == {"type": "pong", "id": 0}


def test_status_tells_the_health(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start()
    peer.append(session, "a")

    status = peer.call("status")

    assert status["sessions_recording"] == 1
    assert status["events_committed"] == 1
    assert status["commit_p50_ms"] > 0
    assert status["pid"] == daemon.process.pid


def test_a_session_says_where_it_was_recorded_unless_its_client_says_otherwise(
    daemon: RunningDaemon,
) -> None:
    peer = daemon.peer()

    here = peer.call("start")["session"]
    there = peer.call("start", os="Plan 9", hostname="there")["session"]

    assert (here["hostname"], here["os"].split()[0]) == (os.uname().nodename, os.uname().sysname)
    assert (there["hostname"], there["os"]) == ("there", "Plan 9")
