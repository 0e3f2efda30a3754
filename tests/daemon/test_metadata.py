"""Names, tags, labels, milestones, forks and totals, asked for over the socket."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.checker import check, parts_of_file
from tests.peer import Peer
from tests.running import RunningDaemon

NOBODY = "01KAJSZ5T0Q4B8M2X7C9D3E6FG"


@pytest.fixture
def peer(daemon: RunningDaemon) -> Peer:
    """A connection."""
    return daemon.peer()


def ended(peer: Peer, *texts: str, **fields: Any) -> str:
    """A session that has ended."""
    ulid = peer.start(owner_pid=0, **fields)
    if texts:
        peer.append(ulid, *texts)
    assert peer.call("end", session=ulid)["type"] == "ended"
    return ulid


def get(peer: Peer, ulid: str) -> dict[str, Any]:
    session: dict[str, Any] = peer.call("get", session=ulid)["session"]
    return session


# --- rename and tag ----------------------------------------------------------------------------------


def test_a_recording_session_is_renamed_by_a_line_in_its_file(daemon: RunningDaemon, peer: Peer) -> None:
    ulid = peer.start(name="one", owner_pid=0)
    peer.append(ulid, "a")

    reply = peer.call("rename", session=ulid, name="two")
    peer.append(ulid, "b")

    assert (reply["type"], reply["session"]["name"]) == ("session", "two")
    assert reply["session"]["previous_names"] == ["one"]
    header, lines, amends, _ = parts_of_file(daemon.data_dir / "sessions" / f"{ulid}.ndjson")
    assert (header["name"], len(lines), amends[0]["name"]) == ("one", 2, "two")
    assert peer.append(ulid, "c")["first"] == 2
    check(daemon.data_dir)


def test_an_ended_session_is_renamed_in_its_header(daemon: RunningDaemon, peer: Peer) -> None:
    ulid = ended(peer, "a", name="one", tags=["x"])
    before = parts_of_file(daemon.data_dir / "sessions" / f"{ulid}.ndjson")

    peer.call("rename", session=ulid, name="two")
    peer.call("tag", session=ulid, add=["Two Words", "x"], remove=[])

    header, lines, amends, footer = parts_of_file(daemon.data_dir / "sessions" / f"{ulid}.ndjson")
    assert (header["name"], header["tags"], header["previous_names"]) == ("two", ["x", "two-words"], ["one"])
    assert (lines, amends, footer) == (before[1], [], before[3])
    assert not list((daemon.data_dir / "sessions").glob("*.bak"))
    check(daemon.data_dir)


def test_a_session_renamed_while_it_recorded_has_a_fresh_header_once_sealed(
    daemon: RunningDaemon, peer: Peer
) -> None:
    ulid = peer.start(name="one", owner_pid=0)
    peer.call("rename", session=ulid, name="two")
    peer.append(ulid, "a")
    peer.call("tag", session=ulid, add=["t"])
    peer.call("end", session=ulid)

    peer.call("tag", session=ulid, add=["late"])  # is answered once the file has followed

    header, _, amends, footer = parts_of_file(daemon.data_dir / "sessions" / f"{ulid}.ndjson")
    assert (header["name"], header["tags"], amends) == ("two", ["t", "late"], [])
    assert footer is not None
    check(daemon.data_dir)


def test_a_name_that_another_session_has_is_refused(peer: Peer) -> None:
    peer.start(name="taken", owner_pid=0)
    ulid = peer.start(name="mine", owner_pid=0)

    reply = peer.call("rename", session=ulid, name="taken")

    assert (reply["code"], get(peer, ulid)["name"]) == ("exists", "mine")
    assert peer.call("rename", session=ulid, name="mine")["type"] == "session"
    assert get(peer, ulid)["previous_names"] == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("rename", {"name": "x"}),
        ("tag", {"add": ["x"]}),
        ("label", {"label": "x"}),
        ("fork", {}),
        ("delete", {}),
        ("delete", {"purge": True}),
        ("restore", {}),
    ],
)
def test_a_session_that_is_not_there_is_not_found(peer: Peer, kind: str, fields: dict[str, Any]) -> None:
    assert peer.call(kind, session=NOBODY, **fields)["code"] == "not_found"


def test_tags_keep_their_order_and_skip_duplicates(peer: Peer) -> None:
    ulid = peer.start(tags=["b", "z"], owner_pid=0)

    reply = peer.call("tag", session=ulid, add=["A", "b", "c d", "a"], remove=["Z"])

    assert reply["session"]["tags"] == ["b", "a", "c-d"]
    assert peer.call("tag", session=ulid, add=["?"])["code"] == "invalid"
    assert peer.call("tags")["tags"] == [{"tag": tag, "sessions": 1} for tag in ("a", "b", "c-d")]


def test_amendments_between_appends_survive_a_kill(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    ulid = peer.start(name="n0", owner_pid=0)
    for number in range(1, 20):
        peer.append(ulid, "x" * number)
        peer.call("rename", session=ulid, name=f"n{number}")
    daemon.restart()
    peer = daemon.peer()
    peer.append(ulid, "after")
    peer.call("tag", session=ulid, add=["t"])

    assert peer.call("status")["recovery"] == {}
    check(daemon.data_dir)
    daemon.kill()
    file = daemon.data_dir / "sessions" / f"{ulid}.ndjson"
    content = file.read_bytes()
    for cut in (1, 40, 150, 700):
        file.write_bytes(content[:-cut])
        daemon.start()
        assert file.read_bytes() == content
        daemon.kill()


def test_names_and_tags_come_back_from_the_files_alone(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    open_one = peer.start(name="one", owner_pid=0)
    peer.append(open_one, "a")
    peer.call("rename", session=open_one, name="two")
    peer.call("tag", session=open_one, add=["t"])
    closed = ended(peer, "b", name="three")
    peer.call("rename", session=closed, name="four")
    peer.call("label", label="best", session=closed)
    peer.call("label", label="gone", session=closed)
    peer.call("label", label="gone", session=None)
    peer.call("milestone_set", key="k", value="v")
    binned = ended(peer, "c", name="five")
    peer.call("delete", session=binned)
    daemon.kill()
    for part in daemon.data_dir.glob("sessiond.db*"):
        part.unlink()

    daemon.start()

    peer = daemon.peer()
    assert (get(peer, open_one)["name"], get(peer, open_one)["tags"]) == ("two", ["t"])
    assert (get(peer, closed)["name"], get(peer, closed)["labels"]) == ("four", ["best"])
    assert get(peer, closed)["previous_names"] == ["three"]
    assert peer.call("milestones")["milestones"] == {"k": "v"}
    assert get(peer, binned)["trashed_at"] is not None
    peer.call("restore", session=binned)
    assert get(peer, binned)["name"] == "five"
    check(daemon.data_dir)


# --- labels and milestones ---------------------------------------------------------------------------


def test_a_label_stands_for_one_session_at_a_time(daemon: RunningDaemon, peer: Peer) -> None:
    one, two = peer.start(owner_pid=0), peer.start(owner_pid=0)

    first = peer.call("label", label=" best of ", session=one)
    second = peer.call("label", label="best of", session=two)

    assert (first["label"], first["session"], first["previous"]) == ("best of", one, None)
    assert second["previous"] == one
    assert peer.call("find", needle="best of")["session"]["ulid"] == two
    assert [entry["session"] for entry in peer.call("labels")["labels"]] == [two]
    assert peer.call("label", label="best of", session=None)["previous"] == two
    assert peer.call("labels")["labels"] == []
    assert peer.call("label", label="  ", session=one)["code"] == "invalid"
    assert peer.call("label", label="a\nb", session=one)["code"] == "invalid"
    check(daemon.data_dir)


def test_milestones_are_set_once_or_compared(daemon: RunningDaemon, peer: Peer) -> None:
    assert peer.call("milestone_get", key="k")["value"] is None

    first = peer.call("milestone_set", key="k", value="1", if_absent=True)
    again = peer.call("milestone_set", key="k", value="2", if_absent=True)
    wrong = peer.call("milestone_set", key="k", value="3", expect="0")
    right = peer.call("milestone_set", key="k", value="4", expect="1")

    replies = [(reply["value"], reply["stored"]) for reply in (first, again, wrong, right)]
    assert replies == [("1", True), ("1", False), ("1", False), ("4", True)]
    assert peer.call("milestone_get", key="k")["value"] == "4"
    assert peer.call("milestone_set", key="", value="x")["code"] == "invalid"
    assert peer.call("milestone_set", key="k", value="ü" * 40_000)["code"] == "too_large"
    check(daemon.data_dir)


def test_a_lost_or_shortened_state_file_is_written_anew(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    ulid = peer.start(owner_pid=0)
    peer.call("label", label="a", session=ulid)
    peer.call("milestone_set", key="k", value="v")
    path = daemon.data_dir / "state.ndjson"
    content = path.read_bytes()

    for damage in (b"", content[:-7], content + b'{"type":"lab'):
        daemon.kill()
        path.write_bytes(damage)
        daemon.start()
        check(daemon.data_dir)
    daemon.kill()
    path.unlink()
    daemon.start()
    check(daemon.data_dir)
    daemon.peer().call("milestone_set", key="k", value="w")
    check(daemon.data_dir)


def test_an_older_database_takes_in_the_labels_that_the_file_has_beyond_it(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    ulid = peer.start(owner_pid=0)
    peer.call("label", label="old", session=ulid)
    daemon.stop()
    shutil.copy(daemon.data_dir / "sessiond.db", daemon.home / "older.db")
    daemon.start()
    daemon.peer().call("label", label="new", session=ulid)
    daemon.kill()
    for part in daemon.data_dir.glob("sessiond.db*"):
        part.unlink()
    shutil.copy(daemon.home / "older.db", daemon.data_dir / "sessiond.db")

    daemon.start()

    assert [entry["label"] for entry in daemon.peer().call("labels")["labels"]] == ["new", "old"]
    check(daemon.data_dir)


# --- forks -------------------------------------------------------------------------------------------


def test_a_fork_inherits_what_its_parent_had_up_to_there(daemon: RunningDaemon, peer: Peer) -> None:
    parent = peer.start(name="tale", tags=["t"], cwd="/src", owner_pid=0)
    peer.append(parent, "p0", "p1", "p2")
    child = peer.call("fork", session=parent, at=1, owner_pid=0)["session"]
    peer.append(child["ulid"], "c0")
    grandchild = peer.call("fork", session=child["ulid"], name="other", owner_pid=0)["session"]
    peer.append(grandchild["ulid"], "g0", "g1")
    peer.append(parent, "p3")

    assert (child["parent_ulid"], child["parent_seq"]) == (parent, 1)
    assert (child["name"], child["tags"], child["cwd"]) == ("tale-2", ["t"], "/src")
    assert child["event_count"] == 0
    read = peer.call("read", session=grandchild["ulid"], inherit=True)
    assert [event["text"] for event in read["events"]] == ["p0", "p1", "c0", "g0", "g1"]
    assert [event["session"] for event in read["events"]] == [
        parent, parent, child["ulid"], grandchild["ulid"], grandchild["ulid"],
    ]  # fmt: skip
    assert read["next"] is None
    own = peer.call("read", session=grandchild["ulid"])
    assert [event["text"] for event in own["events"]] == ["g0", "g1"]
    check(daemon.data_dir)


def test_inherited_events_are_read_in_pages_both_ways(peer: Peer) -> None:
    parent = peer.start(owner_pid=0)
    peer.append(parent, *(f"p{number}" for number in range(5)))
    child = peer.call("fork", session=parent, at=2, owner_pid=0)["session"]["ulid"]
    peer.append(child, "c0", "c1")
    whole = ["p0", "p1", "p2", "c0", "c1"]

    for limit in range(1, 6):
        forwards: list[str] = []
        after: int | None = -1
        while after is not None:
            page = peer.call("read", session=child, inherit=True, after=after, limit=limit)
            forwards += [event["text"] for event in page["events"]]
            after = page["next"]
        assert forwards == whole
        backwards: list[str] = []
        before: int | None = 2**40
        while before is not None:
            page = peer.call("read", session=child, inherit=True, before=before, tail=limit)
            backwards = [event["text"] for event in page["events"]] + backwards
            before = page["next"]
        assert backwards == whole


def test_a_fork_at_an_event_that_is_not_there_is_refused(peer: Peer) -> None:
    parent = peer.start(owner_pid=0)
    peer.append(parent, "a")

    assert peer.call("fork", session=parent, at=1)["field"] == "at"
    assert peer.call("fork", session=parent, at=-1, owner_pid=0)["session"]["parent_seq"] == -1


def test_a_fork_that_is_sent_again_is_made_once(daemon: RunningDaemon) -> None:
    peer = daemon.peer(producer="01KAJSYWJ3A1B2C3D4E5F6G7H8")
    parent = peer.start(owner_pid=0)

    replies = [peer.call("fork", session=parent, ulid=NOBODY, owner_pid=0) for _ in range(2)]

    assert replies[0] == replies[1]
    assert len(peer.call("list", parent_ulid=parent)["sessions"]) == 1


# --- reading -----------------------------------------------------------------------------------------


def test_events_are_read_by_time(peer: Peer) -> None:
    ulid = peer.start(owner_pid=0)
    times = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 6)]
    peer.call("append", session=ulid, events=[{"kind": "note", "text": at, "at": at} for at in times])

    page = peer.call("read", session=ulid, since=times[1], until=times[3])

    assert [event["text"] for event in page["events"]] == times[1:3]


def test_sessions_are_listed_by_place_and_name(peer: Peer) -> None:
    here = peer.start(name="nightly-1", cwd="/a", hostname="h1", owner_pid=0)
    peer.start(name="nightly_2", cwd="/b", hostname="h1", owner_pid=0)
    peer.start(name="other", cwd="/a", hostname="h2", owner_pid=0)

    def names(**filters: Any) -> set[str]:
        return {session["name"] for session in peer.call("list", **filters)["sessions"]}

    assert names(name_prefix="nightly") == {"nightly-1", "nightly_2"}
    assert names(cwd="/a", hostname="h1") == {"nightly-1"}
    assert names(name_prefix="nothing") == set()
    assert peer.call("find", needle=here[-6:])["session"]["name"] == "nightly-1"


def test_totals_count_what_is_in_the_list(peer: Peer) -> None:
    ended(peer, "a", "b", started_at="2026-01-01T00:00:00Z", tags=["t"], source="agent")
    peer.start(owner_pid=0)
    binned = ended(peer, "c")
    peer.call("delete", session=binned)

    totals = peer.call("stats")

    expected = {"sessions": 2, "recording": 1, "trashed": 1, "events": 2, "commands": 0}
    assert {key: totals[key] for key in expected} == expected
    assert totals["tags"] == [{"tag": "t", "sessions": 1}]
    assert totals["sources"] == {"agent": 1, "app": 1}
    assert totals["duration_seconds"] > 86_400
    assert json.dumps(totals["storage_bytes"]).isdigit()


def test_a_session_that_is_its_own_ancestor_inherits_its_events_once(peer: Peer) -> None:
    ulids = ["01M7AAAA000000000000000001", "01M7AAAA000000000000000002"]
    for own, parent in (ulids, ulids[::-1]):
        header = {"ulid": own, "name": "n", "source": "app", "started_at": "2026-01-01T00:00:00Z"}
        events = [{"kind": "note", "text": own}]
        born = {**header, "parent_ulid": parent, "parent_seq": 0}
        assert peer.call("save", header=born, events=events)["type"] == "saved"

    read = peer.call("read", session=ulids[0], inherit=True)

    assert [event["text"] for event in read["events"]] == ulids[::-1]
