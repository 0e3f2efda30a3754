"""Rows that say nothing: who asks for them is told of which session they are, and the others are served."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.peer import Peer
from tests.running import RunningDaemon

LINES = {
    "cut": """'{"type":'""",
    "two": "line || char(10) || line",
    "many": "line || ',' || line",
    "no-object": "'7'",
    "no-text": "x'00ff'",
    "no-utf8": "CAST(CAST(replace(line, '}', '') AS BLOB) || x'ff227d' AS TEXT)",
}


@pytest.fixture
def damaged(daemon: RunningDaemon) -> dict[str, str]:
    """Sessions by what is damaged of them: their event, how; the row; the label; nothing."""
    peer = daemon.peer()
    sessions = {name: peer.start(name=name, owner_pid=0) for name in (*LINES, "row", "label", "sound")}
    for name, session in sessions.items():
        peer.append(session, "text")
        peer.call("label", label=f"label-of-{name}", session=session)
    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db")) as database, database:
        for name, line in LINES.items():
            of = "session_id = (SELECT id FROM session WHERE ulid = ?)"
            database.execute(f"UPDATE event SET line = {line} WHERE {of}", (sessions[name],))
        database.execute("UPDATE session SET meta = '[' WHERE ulid = ?", (sessions["row"],))
        database.execute("UPDATE label SET label = CAST(x'ff' AS TEXT) WHERE label = 'label-of-label'")
    return sessions


def told(peer: Peer, kind: str, session: str, **fields: object) -> str:
    """What a request is refused with because of this session."""
    reply = peer.call(kind, session=session, **fields)
    if reply["type"] == "following":
        reply = peer.receive()
    assert (reply["type"], reply.get("code")) == ("error", "corrupt"), reply
    assert f"what the database has of session {session} cannot be read" in reply["message"]
    assert "`sessionctl verify`" in reply["hint"]
    assert "`sessiond rebuild`" in reply["hint"]
    return str(reply["message"])


def test_whoever_asks_for_what_cannot_be_read_is_told_of_which_session_it_is(
    daemon: RunningDaemon, damaged: dict[str, str]
) -> None:
    peer = daemon.peer()

    for name in LINES:
        told(peer, "read", damaged[name])
        told(daemon.peer(), "follow", damaged[name], after=-1)
    for name in ("row", "label"):
        told(peer, "get", damaged[name])
        told(peer, "rename", damaged[name], name="other")

    assert "Traceback" not in daemon.log_text()


def test_beside_what_cannot_be_read_the_others_are_listed_found_and_read(
    daemon: RunningDaemon, damaged: dict[str, str]
) -> None:
    peer = daemon.peer()

    listed = peer.call("list")

    assert {session["name"] for session in listed["sessions"]} == damaged.keys() - {"row", "label"}
    assert listed["unreadable"] == 2
    assert peer.call("find", needle="sound")["session"]["ulid"] == damaged["sound"]
    assert peer.call("find", needle="sonud")["suggestions"] == ["sound"]
    assert [event["text"] for event in peer.call("read", session=damaged["sound"])["events"]] == ["text"]
    assert peer.call("labels")["code"] == "corrupt"
    assert peer.append(damaged["cut"], "on")["first"] == 1
    assert peer.call("read", session=damaged["cut"], after=0)["events"][0]["text"] == "on"
