"""Deleting, restoring and purging sessions."""

from __future__ import annotations

import pytest

from tests.checker import check, facts_in_database
from tests.daemon.halting import TRIES_MAX, Stage, halts
from tests.daemon.test_metadata import ended, get
from tests.peer import Peer
from tests.running import RunningDaemon


@pytest.fixture
def peer(daemon: RunningDaemon) -> Peer:
    """A connection."""
    return daemon.peer()


def test_a_deleted_session_is_in_the_trash_and_comes_back(daemon: RunningDaemon, peer: Peer) -> None:
    ulid = ended(peer, "a", name="one")
    peer.call("label", label="best", session=ulid)

    assert peer.call("delete", session=ulid) == {
        "type": "deleted", "id": 0, "session": ulid, "purged": False,
    }  # fmt: skip

    assert (daemon.data_dir / "trash" / f"{ulid}.ndjson").exists()
    assert not (daemon.data_dir / "sessions" / f"{ulid}.ndjson").exists()
    assert peer.call("list")["sessions"] == []
    for needle in (ulid, ulid[-6:], "one", "best"):
        assert peer.call("find", needle=needle)["code"] == "not_found"
        assert peer.call("find", needle=needle, trashed=True)["session"]["ulid"] == ulid
    assert [session["ulid"] for session in peer.call("list", trashed=True)["sessions"]] == [ulid]
    assert peer.call("labels")["labels"] == []
    assert peer.call("rename", session=ulid, name="x")["code"] == "not_found"
    check(daemon.data_dir)

    restored = peer.call("restore", session=ulid)["session"]

    assert (restored["name"], restored["trashed_at"], restored["labels"]) == ("one", None, ["best"])
    assert (daemon.data_dir / "sessions" / f"{ulid}.ndjson").exists()
    check(daemon.data_dir)


def test_deleting_and_restoring_twice_is_the_same_as_once(daemon: RunningDaemon, peer: Peer) -> None:
    ulid = ended(peer, "a")

    for _ in range(2):
        assert peer.call("delete", session=ulid)["type"] == "deleted"
    for _ in range(2):
        assert peer.call("restore", session=ulid)["type"] == "session"
    check(daemon.data_dir)


def test_a_session_that_records_is_deleted_only_by_force(daemon: RunningDaemon, peer: Peer) -> None:
    ulid = peer.start(owner_pid=0)
    peer.append(ulid, "a")

    assert peer.call("delete", session=ulid)["code"] == "session_recording"
    assert peer.append(ulid, "b")["first"] == 1
    assert peer.call("delete", session=ulid, force=True)["type"] == "deleted"

    assert get(peer, ulid)["status"] == "interrupted"
    assert "code" in peer.append(ulid, "c")
    assert (daemon.data_dir / "trash" / f"{ulid}.ndjson").exists()
    check(daemon.data_dir)


def test_the_name_of_a_deleted_session_is_free(daemon: RunningDaemon, peer: Peer) -> None:
    first = ended(peer, name="one")
    peer.call("delete", session=first)
    second = ended(peer, name="one")

    restored = peer.call("restore", session=first)["session"]

    assert (get(peer, second)["name"], restored["name"]) == ("one", "one-2")
    assert restored["previous_names"] == ["one"]
    check(daemon.data_dir)


def test_a_purged_session_is_gone_for_good(daemon: RunningDaemon, peer: Peer) -> None:
    kept = ended(peer, "kept words")
    ulid = ended(peer, *(f"secret {number}" for number in range(4000)), name="one", tags=["t"])
    peer.call("label", label="best", session=ulid)
    peer.call("delete", session=ulid)

    assert peer.call("delete", session=ulid, purge=True)["purged"] is True

    assert get(peer, ulid) is None
    assert not list(daemon.data_dir.glob(f"*/{ulid}*"))
    assert peer.call("delete", session=ulid, purge=True)["code"] == "not_found"
    assert peer.call("tags")["tags"] == []
    assert peer.call("count", session=kept)["events"] == 1
    check(daemon.data_dir)
    daemon.stop()
    assert b"secret" not in (daemon.data_dir / "sessiond.db").read_bytes()


def test_positions_of_purged_events_are_not_given_again(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    kept, ulid = peer.start(owner_pid=0), ended(peer, "a", "b", "c")
    cursor = daemon.peer().call("follow", id=1)["cursor"]
    peer.call("delete", session=ulid, purge=True)
    daemon.restart()
    peer = daemon.peer()
    peer.append(kept, "after")

    follower = daemon.peer()
    follower.call("follow", id=1, after=cursor)

    assert [event["text"] for event in follower.receive()["events"]] == ["after"]


def halted_in_a_purge(daemon: RunningDaemon) -> str:
    """The session that a daemon was purging when it was stopped."""
    for _ in range(TRIES_MAX):
        peer = daemon.peer()
        ulid = peer.start(owner_pid=0)
        for _ in range(8):
            peer.append(ulid, *["x" * 200] * 4000)
        peer.call("end", session=ulid)

        def stage(ulid: str = ulid) -> Stage:
            row = facts_in_database(daemon.data_dir).get(ulid, {"shelf": "gone"})
            return {"purged": Stage.UNDER_WAY, "gone": Stage.OVER}.get(row["shelf"], Stage.BEFORE)

        peer.send("delete", session=ulid, purge=True)
        if halts(daemon, stage):
            return ulid
    raise AssertionError("the daemon was quicker every time")


def test_a_purge_that_was_cut_short_is_finished_at_the_next_start(daemon: RunningDaemon) -> None:
    ulid = halted_in_a_purge(daemon)
    daemon.kill()
    assert ulid in facts_in_database(daemon.data_dir)

    daemon.start()

    while ulid in facts_in_database(daemon.data_dir):
        pass
    assert not list(daemon.data_dir.glob(f"*/{ulid}*"))
    check(daemon.data_dir)


def test_a_follower_of_a_session_that_is_purged_is_told_and_nobody_else_notices(peer: Peer) -> None:
    ulid = peer.start(owner_pid=0)
    peer.append(ulid, "a")
    other = peer.start(owner_pid=0)
    assert peer.call("follow", id=7, session=ulid)["type"] == "following"

    peer.send("delete", id=8, session=ulid, purge=True, force=True)

    replies = {reply["id"]: reply for reply in (peer.receive(), peer.receive())}
    assert replies[7].get("code") == "not_found" or replies[7]["type"] == "ended"
    assert replies[8]["type"] == "deleted"
    assert peer.append(other, "b")["first"] == 0


def test_nothing_of_a_purged_session_is_left_in_the_search_index(daemon: RunningDaemon, peer: Peer) -> None:
    kept = ended(peer, "harmless words", name="one")
    ulid = ended(peer, "xyzzysecret plugh", name="quuxsecret", tags=["fredsecret"])
    for query in ("xyzzysecret", "quuxsecret"):
        assert len(peer.call("search", query=query)["hits"]) == 1

    peer.call("delete", session=ulid, purge=True)

    assert peer.call("search", query="harmless")["hits"][0]["session"] == kept
    for query in ("xyzzysecret", "quuxsecret", "fredsecret"):
        assert peer.call("search", query=query)["hits"] == []
    words = (b"xyzzysecret", b"quuxsecret", b"fredsecret", b"plugh")
    # The index drops the words themselves when it is tidied, soon after.
    while any(word in path.read_bytes() for path in daemon.data_dir.glob("search.db*") for word in words):
        pass
    daemon.stop()
    for path in daemon.data_dir.glob("*.db*"):
        assert not any(word in path.read_bytes() for word in words), path
