"""A disk that fails again and again: after the third time the daemon only reads, says so, and tries again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.distrust import READ_ONLY_SECONDS
from sessiond.failures import FAILURES_MAX, FILE_NAME, WINDOW_SECONDS, Failures
from tests.checker import check, texts
from tests.cli.conftest import Sessionctl
from tests.peer import Peer
from tests.running import RunningDaemon

PRODUCER = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to make system calls fail")
FAILING = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
FAILING += ["-e", "inject=fdatasync:error=EIO:when=40+"]

WRITES: list[tuple[str, Mapping[str, object]]] = [
    ("start", {}),
    ("append", {"session": "", "events": [{"kind": "note"}]}),
    ("end", {"session": ""}),
    ("rename", {"session": "", "name": "other"}),
    ("tag", {"session": "", "add": ["a"]}),
    ("label", {"session": "", "label": "x"}),
    ("milestone_set", {"key": "k", "value": "v"}),
    ("fork", {"session": ""}),
    ("delete", {"session": "", "force": True}),
    ("restore", {"session": ""}),
    ("save", {"header": {"started_at": "2026-11-21T09:24:31Z"}, "events": []}),
]
READS: list[tuple[str, Mapping[str, object], str]] = [
    ("ping", {}, "pong"),
    ("get", {"session": ""}, "session"),
    ("find", {"needle": ""}, "session"),
    ("list", {}, "sessions"),
    ("read", {"session": ""}, "events"),
    ("count", {"session": ""}, "counted"),
    ("tags", {}, "tags"),
    ("labels", {}, "labels"),
    ("milestone_get", {"key": "k"}, "milestone"),
    ("milestones", {}, "milestones"),
    ("stats", {}, "stats"),
    ("follow", {"session": ""}, "following"),
]


def with_session(fields: Mapping[str, object], session: str) -> dict[str, object]:
    return {name: session if value == "" else value for name, value in fields.items()}


def append_until_the_disk_fails(home: Path) -> None:
    """One life of a daemon on a disk whose syncs begin to fail."""
    daemon = RunningDaemon(home, under=FAILING)
    try:
        peer = daemon.peer()
        session = peer.start(owner_pid=0)
        for number in range(1000):
            assert peer.append(session, f"event {number}")["type"] == "appended"
    except (EOFError, ConnectionError):
        pass  # nobody was answered, which is what must be
    finally:
        daemon.close_peers()
        code = daemon.process.wait(30)
        daemon.kill()
    assert code == 70


def note_failures(daemon: RunningDaemon) -> Path:
    """What as many failures leave behind as it takes, without the failures."""
    failures = Failures(daemon.socket.parent, daemon.data_dir, Clock())
    for _ in range(FAILURES_MAX):
        failures.note("storage failed while committing: EIO")
    return failures.path


def record_some(home: Path) -> tuple[RunningDaemon, str, list[str]]:
    """A daemon that was stopped, a session that goes on, and its texts, which are searched for."""
    daemon = RunningDaemon(home)
    peer = daemon.peer()
    session = peer.start(owner_pid=0, name="before")
    recorded = [f"before {number}" for number in range(5)]
    peer.append(session, *recorded, producer=PRODUCER, n=1)
    assert peer.call("search", query="before")["hits"]
    daemon.close_peers()
    assert daemon.stop() == 0
    return daemon, session, recorded


@pytest.fixture
def distrusting(home: Path) -> Iterator[tuple[RunningDaemon, str, list[str]]]:
    """A daemon that only reads, a session from before, and its texts."""
    daemon, session, recorded = record_some(home)
    note_failures(daemon)
    daemon.start()
    yield daemon, session, recorded
    daemon.close_peers()
    daemon.kill()


@strace
def test_after_three_failures_of_the_disk_the_daemon_only_reads(home: Path) -> None:
    daemon, session, recorded = record_some(home)
    for _ in range(FAILURES_MAX):
        append_until_the_disk_fails(home)

    daemon.start()

    try:
        peer = daemon.peer()
        status = peer.call("status")
        assert "storage failed while committing: IOError" in status["read_only"], status
        assert peer.append(session, "more")["code"] == "read_only"
        assert [event["text"] for event in peer.call("read", session=session)["events"]] == recorded
    finally:
        daemon.close_peers()
        daemon.kill()


def texts_of_file(data_dir: Path, session: str) -> list[str]:
    """The texts that the file of a session has."""
    lines = (data_dir / "sessions" / f"{session}.ndjson").read_text().splitlines()
    return [event["text"] for event in map(json.loads, lines) if event["type"] == "event"]


def contents(data_dir: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Each name, its size, when it was written, and what it says."""
    found = {path: path.stat() for path in (data_dir, *data_dir.rglob("*"))}
    return {
        path: (about.st_size, about.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path, about in found.items()
    }


def scramble(path: Path) -> None:
    """Every page but the first says nothing any more."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def test_what_reads_is_answered_and_what_writes_is_refused_and_nothing_is_written(
    distrusting: tuple[RunningDaemon, str, list[str]],
) -> None:
    daemon, session, recorded = distrusting
    before = contents(daemon.data_dir)
    peer = daemon.peer()

    for kind, fields in WRITES:
        reply = peer.call(kind, **with_session(fields, session))
        assert (reply["type"], reply.get("code")) == ("error", "read_only"), (kind, reply)
        assert "storage failed while" in reply["message"]
        assert FILE_NAME in reply["hint"]
    for kind, fields, expected in READS:
        assert peer.call(kind, **with_session(fields, session))["type"] == expected, kind

    assert [event["text"] for event in peer.call("read", session=session)["events"]] == recorded
    # What was stored before is not called stored either: nothing has made it durable since the failures.
    again = peer.append(session, *recorded, producer=PRODUCER, n=1)
    assert again["code"] == "read_only"
    assert contents(daemon.data_dir) == before
    assert "Traceback" not in daemon.log_text()


def test_a_log_that_has_to_be_read_is_read_and_nothing_is_written_for_it(home: Path) -> None:
    daemon = RunningDaemon(home)
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    peer.append(session, "only in the log")
    assert peer.call("search", query="log")["hits"]
    daemon.close_peers()
    daemon.kill()
    assert (daemon.data_dir / "sessiond.db-wal").stat().st_size
    (daemon.data_dir / "lock").unlink()
    note_failures(daemon)
    before = contents(daemon.data_dir)
    daemon.start()

    try:
        peer = daemon.peer()
        assert [event["text"] for event in peer.call("read", session=session)["events"]] == [
            "only in the log"
        ]
        assert len(peer.call("search", query="log")["hits"]) == 1
        assert peer.call("verify")["type"] == "verified"
        assert peer.append(session, "more")["code"] == "read_only"
        assert contents(daemon.data_dir) == before
        daemon.close_peers()
        assert daemon.stop() == 0
        assert contents(daemon.data_dir) == before
    finally:
        daemon.kill()


@pytest.mark.parametrize("name", ["sessiond.db", "search.db"])
def test_damage_that_is_found_meanwhile_is_told_and_left_as_it_is(
    distrusting: tuple[RunningDaemon, str, list[str]], name: str
) -> None:
    daemon, session, _ = distrusting
    daemon.close_peers()
    assert daemon.stop() == 0
    scramble(daemon.data_dir / name)
    before = contents(daemon.data_dir)
    daemon.start()

    peer = daemon.peer()
    replies = [peer.call("list"), peer.call("read", session=session), peer.call("verify")]
    found = peer.call("search", query="before")

    assert found["type"] == "error", found
    if name == "sessiond.db":
        assert [reply.get("code") for reply in replies] == ["corrupt"] * 3
    assert contents(daemon.data_dir) == before
    assert "Traceback" not in daemon.log_text()


def test_a_search_is_answered_from_an_index_that_is_whole_and_else_refused(
    distrusting: tuple[RunningDaemon, str, list[str]],
) -> None:
    daemon, _, recorded = distrusting
    with daemon.peer() as peer:
        assert len(peer.call("search", query="before")["hits"]) == len(recorded) + 1  # and the name
    daemon.close_peers()
    assert daemon.stop() == 0
    (daemon.data_dir / "search.db").unlink()

    daemon.start()

    assert daemon.peer().call("search", query="before")["code"] == "read_only"
    assert "Traceback" not in daemon.log_text()


def make_older(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 1")


@pytest.mark.parametrize(
    ("change", "reason"), [(make_older, "has schema 1"), (Path.unlink, "there is no database")]
)
def test_a_database_that_would_have_to_be_written_first_is_a_clear_refusal(
    distrusting: tuple[RunningDaemon, str, list[str]], change: Callable[[Path], None], reason: str
) -> None:
    daemon, session, recorded = distrusting
    daemon.close_peers()
    assert daemon.stop() == 0
    for suffix in ("-wal", "-shm"):
        daemon.data_dir.joinpath(f"sessiond.db{suffix}").unlink(missing_ok=True)
    change(daemon.data_dir / "sessiond.db")

    daemon.start()

    with daemon.peer() as peer:
        assert peer.call("ping")["type"] == "pong"
        status = peer.call("status")
        assert (status["refusing"], status["sessions_recording"]) == ("read_only", 0)
        asked = [*READS[1:], ("search", {"query": "before"}, ""), ("verify", {}, "")]
        for kind, fields, _ in asked:
            reply = peer.call(kind, **with_session(fields, session))
            assert (reply["code"], reason in reply["message"]) == ("read_only", True), (kind, reply)
            assert "the next start that may write" in reply["hint"]
    assert "Traceback" not in daemon.log_text()
    assert daemon.stop() == 0
    assert texts_of_file(daemon.data_dir, session) == recorded


def test_status_and_doctor_say_since_when_why_and_what_to_do(
    distrusting: tuple[RunningDaemon, str, list[str]],
) -> None:
    daemon, _, _ = distrusting
    sessionctl = Sessionctl(daemon.environ)

    status = sessionctl("status")
    as_json = sessionctl("status", "--json")
    doctor = sessionctl("doctor", "--json")
    refused = sessionctl("start", "--detach")

    (line,) = [line for line in status.stdout.decode().splitlines() if line.startswith("storing")]
    found = json.loads(as_json.stdout)
    assert found["refusing"] == "read_only"
    assert f"nothing since {found['read_only_since']}: storage failed while" in line
    assert "3 failures within 60 s" in line
    assert "see to the disk" in line
    (finding,) = [it for it in map(json.loads, doctor.stdout.splitlines()) if it["check"] == "storing"]
    assert finding["verdict"] == "fail"
    assert "only reads since" in finding["detail"]
    assert "see to the disk" in finding["fix"]
    assert (status.returncode, as_json.returncode, doctor.returncode) == (1, 1, 1)
    assert refused.returncode == 1
    assert b"only reads since" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_once_the_notes_are_deleted_a_restart_stores_again_and_has_lost_nothing(
    distrusting: tuple[RunningDaemon, str, list[str]],
) -> None:
    daemon, session, recorded = distrusting
    (daemon.socket.parent / FILE_NAME).unlink()

    daemon.close_peers()
    assert daemon.stop() == 0
    daemon.start()

    with daemon.peer() as peer:
        assert peer.append(session, "after")["first"] == len(recorded)
        assert "read_only" not in peer.call("status")
    assert daemon.stop() == 0
    check(daemon.data_dir)
    assert texts(daemon.data_dir, session) == [*recorded, "after"]


def test_when_its_time_is_over_the_daemon_ends_to_try_the_disk_again(home: Path) -> None:
    daemon = RunningDaemon(home)
    daemon.stop()
    note_failures(daemon)
    script = (
        "import os, sys; from sessiond import config, daemon; daemon.READ_ONLY_SECONDS = 0.05;"
        "sys.exit(daemon.serve(config.load(os.environ, None, None)))"
    )

    ended = subprocess.run([sys.executable, "-c", script], env=daemon.environ, timeout=30)

    assert ended.returncode == 70


def test_a_reading_daemon_serves_for_as_long_as_failures_count() -> None:
    assert READ_ONLY_SECONDS >= WINDOW_SECONDS


def test_a_peer_that_follows_is_served_as_ever(distrusting: tuple[RunningDaemon, str, list[str]]) -> None:
    daemon, session, recorded = distrusting
    with Peer(daemon.socket) as peer:
        assert peer.call("follow", session=session, after=-1)["type"] == "following"
        notice = peer.receive()

    assert [event["text"] for event in notice["events"]] == recorded
