"""Values at the ends of what there is: times, cursors, and replies as long as a line may be."""

from __future__ import annotations

import json

import pytest

from sessiond_client.wire.framing import EVENT_BYTES_MAX, EVENT_LINE_BYTES_MAX, LINE_BYTES_MAX
from tests.running import RunningDaemon

PAGE_BYTES = 4 * 1024 * 1024


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_that_has_no_text_in_utc_is_invalid(daemon: RunningDaemon, time: str) -> None:
    peer = daemon.peer()
    session = peer.start()
    event = {"kind": "note", "at": time}
    header = {"name": "n", "source": "app", "started_at": "2026-01-01T00:00:00Z"}
    replies = [
        peer.call("start", started_at=time),
        peer.call("append", session=session, events=[event]),
        peer.call("end", session=session, ended_at=time),
        peer.call("save", header=header, events=[event]),
        peer.call("save", header={**header, "started_at": time}, events=[]),
        peer.call("save", header=header, events=[], footer={"status": "completed", "ended_at": time}),
    ]

    assert [reply.get("code") for reply in replies] == ["invalid"] * 6
    for field in ("since", "until"):
        assert peer.call("list", **{field: time})["type"] == "sessions"
        assert peer.call("read", session=session, **{field: time})["type"] == "events"


@pytest.mark.parametrize("cursor", ["9223372036854775808.01M7AAAA000000000000000001", "7", "x.y", ""])
def test_a_cursor_that_was_never_given_out_is_invalid(daemon: RunningDaemon, cursor: str) -> None:
    assert daemon.peer().call("list", before=cursor)["code"] == "invalid"


def test_replies_are_never_longer_than_a_line_may_be(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    large = "\N{GRINNING FACE}" * 250_000  # of four bytes each
    start = b'{"type":"start","meta":{"x":"%s"}}\n' % large.encode()
    for _ in range(20):
        peer.send_bytes(start)
        assert b'"started"' in peer.line()
    for number in range(150):
        peer.call("milestone_set", key=f"{number:03}", value="\x01" * 65_536)

    sessions: list[str] = []
    cursor = None
    while True:
        peer.send("list", before=cursor)
        line = peer.line()
        assert len(line) < 16 * 1024 * 1024
        reply = json.loads(line)
        sessions += [session["ulid"] for session in reply["sessions"]]
        if (cursor := reply["next"]) is None:
            break
    keys: list[str] = []
    page = peer.call("milestones")
    keys += page["milestones"]
    while "next" in page:
        assert len(json.dumps(page)) < 16 * 1024 * 1024
        page = peer.call("milestones", after=page["next"])
        keys += page["milestones"]

    assert len(set(sessions)) == len(sessions) == 20
    assert keys == [f"{number:03}" for number in range(150)]
    for fields in ({"meta": {"x": large * 2}}, {"env": {"PATH": large * 2}}):
        refused = peer.call("start", **fields)
        assert (refused["code"], refused["field"]) == ("too_large", *fields)
    # What is not kept may be as large as it likes.
    assert peer.call("start", env={"LS_COLORS": large * 2, "PATH": "/bin"})["session"]["env"] == {
        "PATH": "/bin"
    }


def test_every_event_that_is_taken_can_be_read_by_whoever_may(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    envelope = b'{"type":"append","session":"%s","events":[%%s]}\n' % session.encode()

    def append(kind: str, value: bytes) -> str:
        peer.send_bytes(envelope % (b'{"kind":"%s","text":"","data":{"x":%s}}' % (kind.encode(), value)))
        reply = peer.receive()
        return str(reply["type"] if "code" not in reply else (reply["code"], reply["field"]))

    def text(event_bytes: int) -> bytes:
        return b'"%s"' % (b"y" * (event_bytes - len(b'{"kind":"note","text":"","data":{"x":""}}')))

    refused = str(("too_large", "events[0].data"))
    assert append("note", text(PAGE_BYTES - 1000)) == "appended"
    assert append("note", text(EVENT_BYTES_MAX)) == "appended"
    assert append("note", text(EVENT_BYTES_MAX + 1)) == refused
    # As it is kept, each of these numbers is 1000000000000000.0.
    assert append("command", b"[%s1]" % (b"1e15," * (EVENT_BYTES_MAX // 18))) == refused
    assert append("note", b"1") == "appended"
    child = peer.call("fork", session=session, owner_pid=0)["session"]["ulid"]

    peer.send("read", session=child, after=0, inherit=True)
    peer.send("follow", after=-1)
    lines = [peer.line() for _ in range(5)]

    assert max(map(len, lines)) < LINE_BYTES_MAX
    assert max(map(len, lines)) > EVENT_LINE_BYTES_MAX - 1000
    seqs = [[event["seq"] for event in json.loads(line).get("events", [])] for line in lines]
    assert sorted(seqs) == [[], [0], [1], [1], [2]]


def test_what_is_said_of_a_session_fits_into_a_line(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    fields = ("cli_version", "engine_base_url", "shell", "os", "hostname", "cwd")
    for _ in range(130):
        session = peer.start(**dict.fromkeys(fields, "\x01" * 4096))
    for number in range(1025):
        peer.send("label", label=f"{number}", session=session)
    labelled = [peer.receive() for _ in range(1025)]

    assert {reply["type"] for reply in labelled[:-1]} == {"labelled"}
    assert (labelled[-1]["code"], labelled[-1]["field"]) == ("too_large", "label")
    assert peer.call("label", label="7", session=None)["previous"] == session
    assert peer.call("label", label="another", session=session)["type"] == "labelled"
    peer.send("list", limit=1000)
    assert len(peer.line()) < LINE_BYTES_MAX
