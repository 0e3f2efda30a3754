"""Whole sessions, adopted from files: all of one is stored and seen, or nothing of it."""

from __future__ import annotations

import hashlib
import json
import os
import select
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.checker import check, lines_in_database
from tests.crash.test_disk_errors import strace
from tests.daemon.halting import TRIES_MAX, Stage, go_on, halts
from tests.peer import Peer
from tests.running import RunningDaemon
from tests.storage.test_adoption import (
    AT,
    HEADER,
    REC_COMMAND,
    REC_FOOTER,
    REC_HEADER,
    ULID,
    encoded,
    event,
    footer,
)
from tests.storage.test_full_disk import small_disk  # noqa: F401 - a fixture

BIG_EVENTS = 300_000
MEMORY_GROWTH_MIB_MAX = 40
APPENDS = 20


@pytest.fixture
def peer(daemon: RunningDaemon) -> Peer:
    return daemon.peer()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where a file from elsewhere is."""
    return tmp_path / "foreign.ndjson"


def big_file(path: Path, count: int, text: str = "x" * 80) -> None:
    """A session of so many events."""
    with path.open("wb") as file:
        file.write(encoded(HEADER))
        for seq in range(count):
            file.write(b'{"type":"event","seq":%d,"kind":"output","at":"%s","text":"%s"}\n' % (
                seq, AT.encode(), text.encode()
            ))  # fmt: skip


def shelves(data_dir: Path) -> dict[str, str]:
    """Where the database keeps each session."""
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT ulid, shelf FROM session"))


def until_nothing_is_left(data_dir: Path) -> None:
    """What an adoption that failed had stored is removed behind its answer; wait for that."""
    while shelves(data_dir):
        pass
    assert lines_in_database(data_dir) == {}
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM tag").fetchone() == (0,)
    assert list((data_dir / "sessions").iterdir()) == []
    check(data_dir)


def is_answered(peer: Peer, seconds: float = 0) -> bool:
    """Whether there is an answer, or comes one within this time."""
    return bool(select.select([peer.socket], [], [], seconds)[0])


def adopting_stage(data_dir: Path) -> Stage:
    """Whether some of the events are stored, or all of them."""
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT id, shelf FROM session WHERE ulid = ?", (ULID,)).fetchone()
        if row is None:
            return Stage.BEFORE
        sql = "SELECT count(*) > 5000 FROM event WHERE session_id = ?"
        (some,) = connection.execute(sql, row[:1]).fetchone()
        return Stage.OVER if row[1] != "incoming" else Stage.UNDER_WAY if some else Stage.BEFORE


def halted_in_an_adoption(daemon: RunningDaemon, source: Path) -> Peer:
    """Who asked for the adoption of a file that a daemon was in the middle of when it was stopped."""
    for _ in range(TRIES_MAX):
        peer = daemon.peer()
        peer.send("adopt", path=str(source))
        if halts(daemon, lambda: adopting_stage(daemon.data_dir)):
            return peer
        assert peer.receive()["type"] == "saved"
        assert peer.call("delete", session=ULID, purge=True)["type"] == "deleted"
    raise AssertionError("the daemon was quicker every time")


def test_a_file_of_ours_goes_into_another_daemon_byte_for_byte(home: Path, tmp_path: Path) -> None:
    daemons = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
        daemons.append(RunningDaemon(tmp_path / name))
    first, second = daemons
    try:
        peer = first.peer()
        ulid = peer.start(name="demo", tags=["b", "a"], meta={"x": [1.5]}, env={"HOME": "/"}, cwd="/src")
        peer.append(ulid, "grüße", "\x1b[31m")
        command = {"kind": "command", "text": "ls", "data": {"exit_code": 1, "x": "y"}}
        peer.call("append", session=ulid, events=[command])
        session = peer.call("end", session=ulid, exit_code=1, end_reason="exited")["session"]
        path = first.data_dir / "sessions" / f"{ulid}.ndjson"

        reply = second.peer().call("adopt", path=str(path))

        assert (reply["existed"], reply["damage"]) == (False, None)
        assert reply["session"] == session
        assert (second.data_dir / "sessions" / f"{ulid}.ndjson").read_bytes() == path.read_bytes()
        check(second.data_dir)
        second.restart()
        assert second.peer().call("get", session=ulid)["session"] == session
        assert second.peer().call("status")["recovery"] == {}
        check(second.data_dir)
    finally:
        for daemon in daemons:
            daemon.close_peers()
            daemon.kill()


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"event","seq":1,"kind":"a","data":[1],"data":{"q":1},"at":"2026-01-01T00:00:00Z"}',
        b'{"type":"event","seq":1,"kind":"a","x":' + b"5" * 5000 + b',"at":"2026-01-01T00:00:00Z"}',
        b'{"type":"event","seq":1,"kind":"a","x":1e400,"at":"2026-01-01T00:00:00Z"}',
        b'{"type":"event","seq":1,"kind":"a","at":"9999-12-31T23:59:59-23:59"}',
    ],
)
def test_a_line_that_some_reader_would_not_understand_is_where_the_session_ends(
    daemon: RunningDaemon, peer: Peer, source: Path, line: bytes
) -> None:
    source.write_bytes(encoded(HEADER, event(0)) + line + b"\n")

    reply = peer.call("adopt", path=str(source))

    assert (reply["type"], reply["session"]["event_count"]) == ("saved", 1)
    assert reply["damage"].startswith("line 3 ")
    check(daemon.data_dir)


TOO_MUCH = {"x": "y" * 1100000}


@pytest.mark.parametrize(
    "header", [{"parent_seq": 1 << 63}, {"parent_seq": -5}, {"meta": TOO_MUCH}, {"env": TOO_MUCH}]
)
def test_a_header_that_cannot_be_kept_is_refused(
    daemon: RunningDaemon, peer: Peer, source: Path, header: dict[str, object]
) -> None:
    source.write_bytes(encoded({**HEADER, **header}, event(0)))

    assert peer.call("adopt", path=str(source))["code"] == "invalid"
    assert peer.call("ping")["type"] == "pong"


def test_adopting_again_changes_nothing(daemon: RunningDaemon, peer: Peer, source: Path) -> None:
    peer.start(name="demo", owner_pid=0)
    source.write_bytes(encoded(HEADER, event(0), footer(event(0))))

    first = peer.call("adopt", path=str(source))
    again = peer.call("adopt", path=str(source))

    assert (first["existed"], again["existed"]) == (False, True)
    assert again["session"] == first["session"]
    assert first["session"]["name"] == "demo-2"
    own = daemon.data_dir / "sessions" / f"{ULID}.ndjson"
    assert peer.call("adopt", path=str(own))["existed"]
    check(daemon.data_dir)


def test_other_events_under_the_same_id_are_refused(daemon: RunningDaemon, peer: Peer, source: Path) -> None:
    source.write_bytes(encoded(HEADER, event(0)))
    stored = peer.call("adopt", path=str(source))["session"]
    source.write_bytes(encoded(HEADER, event(0, "other")))

    assert peer.call("adopt", path=str(source))["code"] == "exists"
    assert peer.call("get", session=ULID)["session"] == stored
    check(daemon.data_dir)


def test_the_beginning_of_a_longer_session_is_told_from_another_one(
    daemon: RunningDaemon, peer: Peer, source: Path
) -> None:
    source.write_bytes(encoded(HEADER, event(0), event(1)))
    stored = peer.call("adopt", path=str(source))["session"]

    for beginning, how in ((event(0), "is here already, and longer"), (event(0, "other"), "another session")):
        source.write_bytes(encoded(HEADER, beginning))
        reply = peer.call("adopt", path=str(source))
        assert reply["code"] == "exists"
        assert how in reply["message"]
    assert peer.call("get", session=ULID)["session"] == stored


def test_a_session_in_the_trash_counts_as_there(daemon: RunningDaemon, peer: Peer, source: Path) -> None:
    source.write_bytes(encoded(HEADER, event(0)))
    peer.call("adopt", path=str(source))
    peer.call("delete", session=ULID)

    reply = peer.call("adopt", path=str(source))

    assert reply["code"] == "exists"
    assert f"sessionctl restore {ULID}" in reply["hint"]
    peer.call("delete", session=ULID, purge=True)
    assert not peer.call("adopt", path=str(source))["existed"]
    check(daemon.data_dir)


def test_a_file_of_version_2_is_stored_once(daemon: RunningDaemon, peer: Peer, source: Path) -> None:
    source.write_bytes(encoded(REC_HEADER, REC_COMMAND, {"type": "odd"}, REC_FOOTER))

    first = peer.call("adopt", path=str(source))
    again = peer.call("adopt", path=str(source))

    session = first["session"]
    assert (first["existed"], again["existed"]) == (False, True)
    assert (session["event_count"], session["command_count"], session["status"]) == (2, 1, "completed")
    assert peer.call("find", needle="deploy")["session"] == session
    events = peer.call("read", session=session["ulid"])["events"]
    assert [(event["type"], event["seq"]) for event in events] == [("command", 0), ("event", 1)]
    check(daemon.data_dir)


def test_a_torn_file_is_adopted_up_to_its_last_whole_line(
    daemon: RunningDaemon, peer: Peer, source: Path
) -> None:
    whole = encoded(HEADER, event(0), event(1))
    source.write_bytes(whole + b'{"type":"event","seq":2,"kin')

    reply = peer.call("adopt", path=str(source))

    assert reply["damage"] == f"line 4 (byte {len(whole)}): it is cut off; what follows was left out"
    assert (reply["session"]["event_count"], reply["session"]["status"]) == (2, "interrupted")
    assert peer.call("adopt", path=str(source))["damage"] == reply["damage"]
    check(daemon.data_dir)


def test_a_line_of_ten_megabytes_is_adopted(daemon: RunningDaemon, peer: Peer, source: Path) -> None:
    source.write_bytes(encoded(HEADER, event(0, data={"x": "y" * 10_000_000}), event(1)))

    assert peer.call("adopt", path=str(source))["session"]["event_count"] == 2
    check(daemon.data_dir)


def test_what_is_no_session_file_of_this_user_is_refused(
    daemon: RunningDaemon, peer: Peer, tmp_path: Path
) -> None:
    good, link, empty, binary = (tmp_path / name for name in ("good", "link", "empty", "binary"))
    good.write_bytes(encoded(HEADER))
    link.symlink_to(good)
    empty.touch()
    binary.write_bytes(b"\x7fELF\0" * 1000)

    refusals = {
        path: (code, peer.call("adopt", path=path))
        for path, code in {
            str(link): "denied",
            str(empty): "invalid",
            str(binary): "invalid",
            str(tmp_path): "invalid",
            str(tmp_path / "none"): "not_found",
            f"{good}/x": "not_found",
            "good": "invalid",
            "/\0": "invalid",
        }.items()
    }

    for path, (code, reply) in refusals.items():
        assert reply["code"] == code
        assert reply["path"] == path
        assert reply["hint"]
        assert "\n" not in reply["message"]
    assert (refusals[str(empty)][1]["offset"], refusals[str(binary)][1]["offset"]) == (0, 0)
    until_nothing_is_left(daemon.data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_another_user_is_refused(daemon: RunningDaemon, peer: Peer, source: Path) -> None:
    source.write_bytes(encoded(HEADER))
    os.chown(source, 12345, -1)

    assert peer.call("adopt", path=str(source))["code"] == "denied"
    until_nothing_is_left(daemon.data_dir)


def test_a_file_that_the_daemon_does_not_know_is_not_replaced(
    daemon: RunningDaemon, peer: Peer, source: Path
) -> None:
    source.write_bytes(encoded(HEADER, event(0)))
    stranger = daemon.data_dir / "sessions" / f"{ULID}.ndjson"
    stranger.write_bytes(encoded(HEADER, event(0, "another")))

    for path in (source, stranger):
        reply = peer.call("adopt", path=str(path))

        assert (reply["code"], reply["path"]) == ("exists", str(stranger))
        assert stranger.read_bytes() == encoded(HEADER, event(0, "another"))
    while shelves(daemon.data_dir):
        pass
    assert stranger.read_bytes() == encoded(HEADER, event(0, "another"))


def test_a_big_file_is_adopted_between_the_appends_of_others(
    daemon: RunningDaemon, peer: Peer, source: Path
) -> None:
    big_file(source, BIG_EVENTS)
    live = peer.start(owner_pid=0)
    for _ in range(8):  # until the caches are as full as they get, with or without an adoption
        peer.append(live, *["x" * 80] * 4000)
    before = peak = daemon.memory_mib()
    follower = daemon.peer()
    follower.call("follow")

    adopting = halted_in_an_adoption(daemon, source)
    for _ in range(APPENDS):
        peer.send("append", session=live, events=[{"kind": "note", "text": "during"}])
    go_on(daemon)
    for _ in range(APPENDS):
        assert peer.receive()["type"] == "appended"
    while not is_answered(adopting, 0.005):
        assert peer.append(live, "on")["type"] == "appended"
        peak = max(peak, daemon.memory_mib())
        told = follower.receive()["events"]
        if shelves(daemon.data_dir).get(ULID) == "incoming":
            assert ULID not in {event["session"] for event in told}

    reply = adopting.receive()
    assert (reply["session"]["event_count"], reply["session"]["name"]) == (BIG_EVENTS, "demo")
    assert stored_between(daemon.data_dir, "during") == APPENDS
    assert peak - before < MEMORY_GROWTH_MIB_MAX
    events = source.read_bytes().partition(b"\n")[2]
    stored = b"".join(line + b"\n" for line in lines_in_database(daemon.data_dir)[ULID])
    assert stored == events
    own = (daemon.data_dir / "sessions" / f"{ULID}.ndjson").read_bytes().partition(b"\n")[2]
    assert own.startswith(events)
    assert json.loads(own[len(events) :])["digest"] == hashlib.sha256(events).hexdigest()


def stored_between(data_dir: Path, text: str) -> int:
    """How many events of this text were stored before the last one that was adopted."""
    sql = (
        "SELECT count(*) FROM event_text WHERE text = ?"
        " AND id < (SELECT max(e.id) FROM event e JOIN session s ON s.id = e.session_id WHERE s.ulid = ?)"
    )
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        return int(connection.execute(sql, (text, ULID)).fetchone()[0])


def test_nothing_is_seen_of_a_file_until_all_of_it_is_stored(
    daemon: RunningDaemon, peer: Peer, source: Path
) -> None:
    big_file(source, 40_000)
    asking = daemon.peer()

    adopting = halted_in_an_adoption(daemon, source)
    for number, kind in enumerate(("get", "read", "count", "follow"), 1):
        asking.send(kind, id=number, session=ULID)
    for number, needle in ((5, ULID), (6, "demo")):
        asking.send("find", id=number, needle=needle)
    asking.send("list", id=7)
    peer.send("append", id=1, session=ULID, events=[{"kind": "note"}])
    peer.send("delete", id=2, session=ULID, force=True, purge=True)
    peer.send("save", id=3, header={"started_at": AT, "ulid": ULID}, events=[])
    peer.send("start", id=4, name="demo", owner_pid=0)
    go_on(daemon)
    asked = {reply["id"]: reply for reply in (asking.receive() for _ in range(7))}
    done = {reply["id"]: reply for reply in (peer.receive() for _ in range(4))}

    assert asked[1]["session"] is None
    assert [asked[number]["code"] for number in range(2, 7)] == ["not_found"] * 5
    assert ULID not in [session["ulid"] for session in asked[7]["sessions"]]
    assert [done[number].get("code") for number in range(1, 5)] == ["not_found", "not_found", "busy", None]
    assert done[4]["session"]["name"] == "demo-2", "the name is taken already"
    assert adopting.receive()["session"]["event_count"] == 40_000


def test_one_file_at_a_time_and_each_is_stored_once(daemon: RunningDaemon, source: Path) -> None:
    big_file(source, 5000)
    peers = [daemon.peer() for _ in range(5)]

    for peer in peers:
        peer.send("adopt", path=str(source))

    assert sorted(peer.receive()["existed"] for peer in peers) == [False, True, True, True, True]
    check(daemon.data_dir)


def test_a_client_that_only_stops_sending_still_gets_its_answer(daemon: RunningDaemon, source: Path) -> None:
    big_file(source, 20_000)
    peer = daemon.peer()
    peer.send("adopt", path=str(source))
    peer.socket.shutdown(1)

    assert peer.receive()["type"] == "saved"
    with pytest.raises(EOFError):
        peer.receive()


def test_what_has_no_room_on_the_disk_is_not_begun(small_disk: Path, home: Path, source: Path) -> None:  # noqa: F811
    daemon = RunningDaemon(home)
    try:
        peer = daemon.peer()
        big_file(source, 12_000)

        assert peer.call("adopt", path=str(source))["code"] == "disk_full"

        until_nothing_is_left(daemon.data_dir)
        (small_disk / "ballast").unlink()
        big_file(source, 4000)
        assert peer.call("adopt", path=str(source))["session"]["event_count"] == 4000
        check(daemon.data_dir)
    finally:
        daemon.close_peers()
        daemon.kill()


@strace
@pytest.mark.parametrize(("call", "nth"), [("write", 2), ("pwrite64", 100)])
def test_on_a_disk_that_fills_up_meanwhile_nothing_is_left(
    daemon: RunningDaemon, source: Path, call: str, nth: int
) -> None:
    big_file(source, 10_000)
    peer = daemon.peer()
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error=ENOSPC:when={nth}"]
    if call == "write":
        inject += ["-P", str(daemon.data_dir / "sessions" / f"{ULID}.ndjson.tmp-adopt")]
    tracer = subprocess.Popen(
        ["strace", "-f", "-o", "/dev/null", *inject, "-p", str(daemon.process.pid)], stderr=subprocess.PIPE
    )
    assert tracer.stderr is not None
    assert b"attached" in tracer.stderr.readline()

    assert peer.call("adopt", path=str(source))["code"] == "disk_full"

    tracer.terminate()
    tracer.communicate()
    until_nothing_is_left(daemon.data_dir)
    assert peer.call("adopt", path=str(source))["session"]["event_count"] == 10_000
    assert peer.call("status")["refusing"] is None
    check(daemon.data_dir)
