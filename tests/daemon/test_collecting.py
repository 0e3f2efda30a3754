"""Files of the spool, taken over: in order, once, and whatever cannot be stored is kept and told."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.checker import check, texts
from tests.client.both import connected
from tests.daemon.left import OTHER, PRODUCER, SESSION, SpoolFile, collected, quarantine, ulid
from tests.peer import Peer
from tests.running import RunningDaemon, environ_for

MANY = 5000
"""So many lines take a while."""


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
    assert daemon.log_text().count("spool passed over") == 2
    assert "a link, and no file: remove it" in daemon.log_text()
    assert "a pipe, and no file: remove it" in daemon.log_text()


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
    wait_until(lambda: "spool passed over" in daemon.log_text())


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
        greeting = peer.call("hello", protocol=1, producer=PRODUCER, spool=str(spooled.directory))
        assert greeting["waiting"] == 0  # a recorder has one of its own, and is not to wait for itself

    daemon.peer().close()  # it looks whenever somebody goes

    wait_until(lambda: not spooled.path.exists())
    assert texts(daemon.data_dir, SESSION) == ["one"]


def test_what_is_passed_over_is_told_once(daemon: RunningDaemon, home: Path) -> None:
    spooled = SpoolFile(home, OTHER).start()
    (spooled.directory / f"{PRODUCER}-000001.ndjson").mkdir()
    for _ in range(3):
        collected(daemon, home)

    assert daemon.log_text().count("spool passed over") == 1
    assert not spooled.path.exists()


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
