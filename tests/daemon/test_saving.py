"""Whole sessions, saved in one request: all of one is stored, or nothing of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.checker import check, texts
from tests.peer import Peer
from tests.running import RunningDaemon
from tests.storage.test_adoption import AT, ULID


@pytest.fixture
def peer(daemon: RunningDaemon) -> Peer:
    return daemon.peer()


def save(peer: Peer, *events: dict[str, Any], footer: dict[str, Any] | None = None, **header: Any) -> Any:
    fields = {} if footer is None else {"footer": footer}
    return peer.call("save", header={"started_at": AT, **header}, events=list(events), **fields)


def test_a_saved_session_is_stored_whole_and_sealed(daemon: RunningDaemon, peer: Peer) -> None:
    events = [
        {"kind": "prompt", "text": "grüße", "at": "2026-01-02T03:04:06Z", "data": {"n": 1}},
        {"kind": "command", "text": "make", "data": {"exit_code": 2, "host": "x"}},
    ]
    ending = {"ended_at": "2026-01-02T03:05:00Z", "exit_code": 2, "end_reason": "exited"}

    reply = save(
        peer, *events, footer=ending, name="demo", tags=["A b"], meta={"k": 1}, env={"HOME": "/", "X": "y"}
    )

    session = reply["session"]
    assert (reply["type"], reply["existed"]) == ("saved", False)
    assert (session["name"], session["source"], session["tags"]) == ("demo", "import", ["a-b"])
    assert (session["status"], session["end_reason"], session["exit_code"]) == ("completed", "exited", 2)
    assert (session["event_count"], session["command_count"]) == (2, 1)
    assert session["env"] == {"HOME": "/"}
    assert session["last_event_at"] == AT
    assert peer.call("get", session=session["ulid"])["session"] == session
    content = (daemon.data_dir / "sessions" / f"{session['ulid']}.ndjson").read_bytes()
    _, *lines, last = content.splitlines(keepends=True)
    assert json.loads(last)["digest"] == hashlib.sha256(b"".join(lines)).hexdigest() == session["digest"]
    assert peer.append(session["ulid"], "more")["code"] == "session_ended"
    check(daemon.data_dir)


def test_saving_again_stores_once_also_without_an_id_or_times(daemon: RunningDaemon, peer: Peer) -> None:
    variants: list[dict[str, Any]] = [{}, {"ulid": ULID}, {"name": "given"}]
    for fields in variants:
        first = save(peer, {"kind": "note", "text": "a"}, **fields)
        again = save(peer, {"kind": "note", "text": "a"}, **fields)

        assert (first["existed"], again["existed"]) == (False, True)
        assert again["session"] == first["session"]
    assert len(peer.call("list")["sessions"]) == 3
    check(daemon.data_dir)


def test_sessions_that_differ_get_different_ids(peer: Peer) -> None:
    replies = [
        save(peer, {"kind": "note", "text": "a"}, name="x"),
        save(peer, {"kind": "note", "text": "b"}, name="x"),
        save(peer, {"kind": "note", "text": "a"}, name="y"),
        save(peer, {"kind": "note", "text": "a"}, name="x", started_at="2020-01-01T00:00:00Z"),
    ]

    assert len({reply["session"]["ulid"] for reply in replies}) == 4
    assert [reply["session"]["name"] for reply in replies] == ["x", "x-2", "y", "x-3"]


def test_another_session_under_the_same_id_is_refused(daemon: RunningDaemon, peer: Peer) -> None:
    stored = save(peer, {"kind": "note", "text": "a"}, ulid=ULID)["session"]
    recording = peer.start(owner_pid=0)

    assert save(peer, {"kind": "note", "text": "b"}, ulid=ULID)["code"] == "exists"
    assert save(peer, ulid=recording)["code"] == "exists"
    assert peer.call("get", session=ULID)["session"] == stored
    check(daemon.data_dir)


def test_a_session_without_events_can_be_saved(daemon: RunningDaemon, peer: Peer) -> None:
    session = save(peer)["session"]

    assert (session["status"], session["end_reason"]) == ("interrupted", "imported")
    assert session["ended_at"] == AT
    check(daemon.data_dir)


def test_more_events_than_an_append_may_have_can_be_saved(daemon: RunningDaemon, peer: Peer) -> None:
    session = save(peer, *({"kind": "note", "text": str(n)} for n in range(10_000)))["session"]

    assert session["event_count"] == 10_000
    assert texts(daemon.data_dir, session["ulid"]) == [str(n) for n in range(10_000)]
    check(daemon.data_dir)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"events": [{"kind": "Bad"}]}, "invalid", "events[0].kind"),
        ({"events": [{"kind": "a"}, {"kind": "command"}]}, "invalid", "events[1].text"),
        ({"events": [{"kind": "command", "text": "x", "data": {"cwd": 1}}]}, "invalid", "events.data"),
        ({"events": [{"kind": "a", "text": "x" * (1024 * 1024 + 1)}]}, "too_large", "events[0].text"),
        ({"events": [], "header": {"started_at": AT, "tags": ["c++"]}}, "invalid", "header.tags"),
        ({"events": [], "header": {"started_at": AT, "env": {"PATH": "x" * (1024 * 1024)}}}, "too_large",
         "header.env"),
        ({"events": [], "footer": {"ended_at": AT, "status": "recording"}}, "invalid", "footer.status"),
        ({"events": [], "header": {"started_at": AT, "meta": json.loads("[" * 70 + "]" * 70) and {
            "a": json.loads("[" * 70 + "]" * 70)}}}, "invalid", "header.meta"),
    ],
)  # fmt: skip
def test_a_session_that_is_not_sound_is_refused_whole(
    daemon: RunningDaemon, peer: Peer, fields: dict[str, Any], code: str, field: str
) -> None:
    reply = peer.call("save", **{"header": {"started_at": AT}, **fields})

    assert (reply["code"], reply["field"]) == (code, field)
    assert peer.call("list")["sessions"] == []
    check(daemon.data_dir)
