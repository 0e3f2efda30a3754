"""Files of the spool, taken over: in order, once, and whatever cannot be stored is kept and told."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.checker import check, texts
from tests.client.both import connected
from tests.peer import Peer
from tests.running import RunningDaemon, environ_for

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(number: int) -> str:
    """A ULID of the tests' own."""
    digits = ""
    while number:
        digits = LETTERS[number % 32] + digits
        number //= 32
    return "01M7" + digits.rjust(22, "0")


PRODUCER, OTHER = ulid(1), ulid(2)
SESSION = ulid(100)
MANY = 5000
"""So many lines take a while."""


class SpoolFile:
    """A file as a client would leave it; written with nothing but `json`."""

    def __init__(self, home: Path, producer: str = PRODUCER, number: int = 1) -> None:
        self.directory = home / "state" / "sessiond" / "spool"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = self.directory / f"{producer}-{number:06}.ndjson"
        self.producer = producer
        self.n = 0
        self.stamp = 0
        with self.path.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
        self.line("hello", protocol=1, producer=producer)

    def line(self, kind: str, **fields: Any) -> SpoolFile:
        """Add a line."""
        self.stamp += 10
        return self.add(json.dumps({"type": kind, "id": self.stamp, **fields}).encode() + b"\n")

    def add(self, data: bytes) -> SpoolFile:
        """Add bytes as they are."""
        with self.path.open("ab") as file:
            file.write(data)
        return self

    def start(self, session: str = SESSION, **fields: Any) -> SpoolFile:
        """Add a start; nobody owns the session."""
        return self.line("start", **{"ulid": session, "owner_pid": 0, **fields})

    def append(self, *texts_: str, session: str = SESSION, **fields: Any) -> SpoolFile:
        """Add an append for each text."""
        for text in texts_:
            self.n += 1
            events = [{"kind": "note", "text": text}]
            own = {"producer": self.producer, "n": self.n}
            self.line("append", **{"session": session, "events": events, **own, **fields})
        return self


def quarantine(daemon: RunningDaemon) -> dict[str, bytes]:
    """What is in the quarantine, by name without the moment."""
    found = (daemon.data_dir / "quarantine").iterdir()
    return {path.name.rpartition("-")[0]: path.read_bytes() for path in found}


def collected(daemon: RunningDaemon, home: Path) -> Peer:
    """A connection that was greeted once everything that waits was taken over."""
    peer = daemon.peer()
    greeting = peer.call("hello", protocol=1, spool=str(home / "state" / "sessiond" / "spool"))
    assert (greeting["type"], greeting["waiting"]) == ("welcome", 0), greeting
    return peer


def counters(peer: Peer) -> dict[str, int]:
    return {name: count for name, count in peer.call("status")["recovery"].items() if "spool" in name}


def test_a_file_that_was_left_is_taken_over_at_the_start_and_removed(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    spooled = SpoolFile(home).start(name="left").append("one", "two").line("end", session=SESSION)

    daemon = start_daemon()
    peer = collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["one", "two"]
    session = peer.call("get", session=SESSION)["session"]
    assert (session["name"], session["status"]) == ("left", "completed")
    assert not spooled.path.exists()
    assert counters(peer) == {"spooled_requests_taken": 4}
    check(daemon.data_dir)


def test_lines_of_several_producers_are_done_in_the_order_of_their_writing(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    first, second = SpoolFile(home), SpoolFile(home, OTHER)
    first.start()
    second.stamp = first.stamp
    first.append("a")
    second.stamp = first.stamp
    second.append("b")
    again = SpoolFile(home, PRODUCER, 2)
    again.n, again.stamp = first.n, second.stamp
    again.append("c").line("end", session=SESSION)

    daemon = start_daemon()
    collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["a", "b", "c"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_whoever_connects_reads_what_waited_before(
    start_daemon: Callable[[], RunningDaemon],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    asynchronous: bool,
    keeps: bool,
) -> None:
    SpoolFile(home).start().append(*map(str, range(MANY)))
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, environ_for(home)[name])

    daemon = start_daemon()

    with connected(asynchronous, daemon.socket, spool=keeps) as client:
        assert client.count(SESSION).events == MANY


def test_what_is_read_behind_a_hello_waits_for_it_and_what_does_not_concern_it_does_not(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    spooled = SpoolFile(home).start().append(*map(str, range(MANY)))
    daemon = start_daemon()
    peer, other = daemon.peer(), daemon.peer()

    peer.send("hello", protocol=1, id=1, spool=str(spooled.directory))
    peer.send("count", id=2, session=SESSION)

    assert other.call("status")["type"] == "status"
    assert [(it["id"], it["type"]) for it in (peer.receive(), peer.receive())] == [
        (1, "welcome"),
        (2, "counted"),
    ]
    assert peer.call("count", session=SESSION)["events"] == MANY


def test_lines_that_are_marked_are_not_done(start_daemon: Callable[[], RunningDaemon], home: Path) -> None:
    spooled = SpoolFile(home).start().append("one", "two")
    spooled.path.write_bytes(spooled.path.read_bytes().replace(b'{"type": "append"', b'#"type": "append"', 1))

    daemon = start_daemon()
    collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["two"]


def test_a_torn_last_line_is_kept_aside_and_the_rest_is_stored(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    SpoolFile(home).start().append("whole").add(b'{"type":"append","session":')

    daemon = start_daemon()
    peer = collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["whole"]
    assert quarantine(daemon) == {f"{PRODUCER}-000001.ndjson.torn": b'{"type":"append","session":'}
    assert counters(peer)["spool_tails_torn"] == 1


def test_what_is_refused_is_kept_aside_with_its_reason_and_the_rest_goes_on(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    spooled = SpoolFile(home).start().add(b"garbage\n").append("one")
    spooled.line("rename", session=SESSION, name="x").append("lost", session=ulid(7)).append("two")
    spooled.line("append", session=SESSION, events=[{"kind": "note"}])

    daemon = start_daemon()
    peer = collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["one", "two"]
    kept = quarantine(daemon)
    assert {name.rpartition(".")[2]: data.count(b"\n") for name, data in kept.items()} == {
        "invalid": 4,
        "not_found": 2,
    }
    assert all(data.startswith(b'{"type": "hello"') for data in kept.values())
    assert counters(peer) == {"spooled_requests_taken": 3, "spooled_requests_refused": 4}
    assert not spooled.path.exists()
    assert "garbage" not in daemon.log_text()


def test_a_file_that_does_not_begin_with_a_hello_is_set_aside_whole(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    spooled = SpoolFile(home)
    spooled.path.write_bytes(b"hello world\nand more\n")
    SpoolFile(home, OTHER).start().append("fine")

    daemon = start_daemon()
    peer = collected(daemon, home)

    assert quarantine(daemon) == {f"{PRODUCER}-000001.ndjson.no-hello": b"hello world\nand more\n"}
    assert counters(peer)["spool_files_refused"] == 1
    assert texts(daemon.data_dir, SESSION) == ["fine"]


def test_an_empty_file_and_other_files_do_no_harm(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    empty = SpoolFile(home)
    empty.path.write_bytes(b"")
    half = SpoolFile(home, OTHER)
    half.path.write_bytes(b'{"type":"hel')
    other = empty.directory / "notes.txt"
    other.write_text("mine")

    daemon = start_daemon()
    collected(daemon, home)

    assert [path.name for path in empty.directory.iterdir()] == ["notes.txt"]


def test_a_link_or_a_device_is_passed_over(start_daemon: Callable[[], RunningDaemon], home: Path) -> None:
    spooled = SpoolFile(home).start()
    real = home / "elsewhere"
    spooled.path.rename(real)
    spooled.path.symlink_to(real)
    os.mkfifo(spooled.directory / f"{OTHER}-000001.ndjson")

    daemon = start_daemon()
    peer = collected(daemon, home)

    assert peer.call("get", session=SESSION)["session"] is None
    assert daemon.log_text().count("spool file passed over") >= 2


@pytest.mark.parametrize("mode", [0o750, 0o707])
def test_a_directory_that_is_open_to_others_is_passed_over(
    start_daemon: Callable[[], RunningDaemon], home: Path, mode: int
) -> None:
    spooled = SpoolFile(home).start()
    spooled.directory.chmod(mode)

    daemon = start_daemon()
    peer = daemon.peer()
    refused = peer.call("hello", protocol=1, spool=str(spooled.directory))

    assert (refused["code"], refused["field"]) == ("invalid", "spool")
    assert peer.call("get", session=SESSION)["session"] is None
    assert spooled.path.exists()
    assert "spool passed over" in daemon.log_text()


@pytest.mark.parametrize("directory", ["relative", "/nonexistent", "/tmp", "/etc/passwd", "/a\0b"])
def test_a_directory_that_is_no_spool_is_refused(daemon: RunningDaemon, directory: str) -> None:
    refused = daemon.peer().call("hello", protocol=1, spool=directory)

    assert (refused["code"], refused["field"]) == ("invalid", "spool")


def test_a_file_is_left_to_its_writer_until_that_lets_go(daemon: RunningDaemon, home: Path) -> None:
    spooled = SpoolFile(home)
    with spooled.path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        spooled.start().append("one")
        peer = collected(daemon, home)
        assert peer.call("get", session=SESSION)["session"] is None

    daemon.peer().close()  # it looks whenever somebody goes

    wait_until(lambda: not spooled.path.exists())
    assert texts(daemon.data_dir, SESSION) == ["one"]


def test_what_came_after_the_end_goes_into_a_child_once(daemon: RunningDaemon, home: Path) -> None:
    peer = daemon.peer()
    ended = peer.start(name="night", tags=["a"])
    peer.append(ended, "in time")
    peer.call("end", session=ended)
    spooled = SpoolFile(home).append("late", "later", session=ended)
    again = spooled.path.read_bytes()

    peer = collected(daemon, home)
    spooled.path.write_bytes(again)  # as if the daemon had been killed before it was marked
    peer = collected(daemon, home)

    (rest,) = peer.call("list", parent_ulid=ended)["sessions"]
    assert (rest["name"], rest["status"], rest["tags"]) == ("night-rest", "completed", ["a"])
    assert rest["meta"] == {"rest_of": ended}
    assert texts(daemon.data_dir, rest["ulid"]) == ["late", "later"]
    assert texts(daemon.data_dir, ended) == ["in time"]
    assert quarantine(daemon) == {}
    check(daemon.data_dir)


def test_a_session_that_cannot_be_read_costs_the_others_nothing(daemon: RunningDaemon, home: Path) -> None:
    peer = daemon.peer()
    damaged = peer.start()
    peer.call("end", session=damaged)
    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db")) as database, database:
        database.execute("UPDATE session SET meta = '[', unsettled = 1")
    left = SpoolFile(home).append("late", session=damaged).start().append("fine")
    left.line("end", session=SESSION)

    peer = collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["fine"]
    assert [name.rpartition(".")[2] for name in quarantine(daemon)] == ["internal"]
    assert "a session cannot be read" in daemon.log_text()
    wait_until(lambda: damaged in peer.call("status")["lagging_files"])  # its file does not follow either


def test_events_left_by_an_owner_go_into_its_session_before_that_is_interrupted(
    daemon: RunningDaemon, home: Path
) -> None:
    owner = os.fork()
    if owner == 0:
        signal.pause()
    watcher = daemon.peer()
    session = watcher.start(owner_pid=owner)
    watcher.append(session, "live")
    SpoolFile(home).append(*map(str, range(300)), session=session)

    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)

    reply = watcher.call("follow", session=session, after=-1)
    while reply["type"] != "ended":
        reply = watcher.receive()
    assert (reply["session"]["status"], reply["session"]["end_reason"]) == ("interrupted", "client_lost")
    assert texts(daemon.data_dir, session) == ["live", *map(str, range(300))]


def test_events_left_while_the_daemon_was_away_go_into_the_session_before_that_is_interrupted(
    daemon: RunningDaemon, home: Path
) -> None:
    owner = os.fork()
    if owner == 0:
        signal.pause()
    session = daemon.peer().start(owner_pid=owner)
    daemon.kill()
    SpoolFile(home).append("left", session=session)
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)

    daemon.start()

    peer = collected(daemon, home)
    wait_until(lambda: peer.call("get", session=session)["session"]["status"] == "interrupted")
    assert peer.call("get", session=session)["session"]["end_reason"] == "daemon_lost"
    assert texts(daemon.data_dir, session) == ["left"]


def test_a_session_whose_owner_is_dead_is_interrupted_once_its_lines_are_in(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    owner = os.fork()
    if owner == 0:
        os._exit(0)
    os.waitpid(owner, 0)
    SpoolFile(home).start(owner_pid=owner).append(*map(str, range(600)))

    daemon = start_daemon()

    peer = collected(daemon, home)
    wait_until(lambda: peer.call("get", session=SESSION)["session"]["status"] == "interrupted")
    assert texts(daemon.data_dir, SESSION) == [*map(str, range(600))]


def test_a_process_that_has_the_number_of_a_dead_owner_is_not_taken_for_it(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    spooled = SpoolFile(home).start(owner_pid=os.getpid()).append("old")
    os.utime(spooled.path, (1, 1))
    SpoolFile(home, OTHER).start(session=ulid(8), owner_pid=os.getpid())

    peer = collected(start_daemon(), home)

    wait_until(lambda: peer.call("get", session=SESSION)["session"]["status"] == "interrupted")
    assert peer.call("get", session=ulid(8))["session"]["status"] == "recording"


def test_a_take_over_that_is_cut_short_goes_on_and_stores_nothing_twice(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    """More appends than the window in which the daemon recognises them: the marks make up for it."""
    count, producers = 2500, 3
    files = [SpoolFile(home, ulid(number)) for number in range(10, 10 + producers)]
    sessions = [ulid(number) for number in range(200, 200 + producers)]
    for file, session in zip(files, sessions, strict=True):
        file.start(session=session).append(*map(str, range(count)), session=session)

    daemon = start_daemon()
    for wanted in (4500, 5000, 5500):
        watcher = daemon.peer()
        watcher.call("follow", after=-1)
        seen = 0
        while seen < wanted:  # in the middle of it, whatever the speed of the machine
            seen += len(watcher.receive()["events"])
        daemon.restart()
    collected(daemon, home)

    for session in sessions:
        assert texts(daemon.data_dir, session) == [*map(str, range(count))]
    check(daemon.data_dir)
    assert quarantine(daemon) == {}


def test_many_small_files_are_taken_over(start_daemon: Callable[[], RunningDaemon], home: Path) -> None:
    SpoolFile(home, ulid(9)).start()
    for number in range(400):
        spooled = SpoolFile(home, ulid(1000 + number))
        spooled.stamp = 100 + number
        spooled.append(str(number))

    daemon = start_daemon()
    collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == [*map(str, range(400))]
    assert list(spooled.directory.iterdir()) == []


def test_what_cannot_be_stored_now_waits_and_is_told(daemon: RunningDaemon, home: Path) -> None:
    spooled = SpoolFile(home).start().append("one")
    peer = daemon.peer()
    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        greeting = peer.call("hello", protocol=1, spool=str(spooled.directory))
        assert greeting["waiting"] == 1
        assert spooled.path.exists()
        database.execute("ROLLBACK")

    wait_until(lambda: not spooled.path.exists())  # without anybody asking for it
    assert texts(daemon.data_dir, SESSION) == ["one"]


def test_stopping_does_not_wait_for_a_long_take_over(
    start_daemon: Callable[[], RunningDaemon], home: Path
) -> None:
    spooled = SpoolFile(home).start().append(*map(str, range(5000)))

    daemon = start_daemon()

    assert daemon.stop() == 0
    if spooled.path.exists():
        daemon.start()
        collected(daemon, home)
    assert texts(daemon.data_dir, SESSION) == [*map(str, range(5000))]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
