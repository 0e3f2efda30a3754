"""The order in which the spool is taken over: what goes first, what waits, and what came too late."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sessiond.rests import RESTS_MAX
from tests.checker import check, texts
from tests.daemon.left import OTHER, PRODUCER, SESSION, SpoolFile, collected, quarantine, ulid
from tests.running import RunningDaemon


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


def test_what_comes_after_the_end_in_another_outage_goes_into_another_child(
    daemon: RunningDaemon, home: Path
) -> None:
    peer = daemon.peer()
    ended = peer.start(name="night")
    peer.call("end", session=ended)
    for number in range(1, RESTS_MAX + 2):
        spooled = SpoolFile(home, PRODUCER, number)
        spooled.n = number
        spooled.append(str(number), session=ended)
        again = spooled.path.read_bytes()
        collected(daemon, home)
    spooled.path.write_bytes(again)  # put back under its first name, with more
    spooled.append("latest", session=ended)
    collected(daemon, home)

    rests = peer.call("list", parent_ulid=ended)["sessions"]
    stored = [texts(daemon.data_dir, rest["ulid"]) for rest in rests]
    assert sorted(stored) == sorted([[str(number)] for number in range(1, RESTS_MAX + 2)] + [["latest"]])
    assert {rest["status"] for rest in rests} == {"completed"}
    assert quarantine(daemon) == {}


@pytest.mark.parametrize("clock", [-1, 1])
def test_a_clock_that_is_set_costs_nothing(
    start_daemon: Callable[[], RunningDaemon], home: Path, clock: int
) -> None:
    """A client starts and ends a session; of another producer is what was recorded in between."""
    first, second = SpoolFile(home), SpoolFile(home, OTHER)
    first.stamp = 1_000_000
    second.stamp = first.stamp + clock * 500_000
    first.start().line("end", session=SESSION)
    second.append(*map(str, range(300)))

    daemon = start_daemon()
    collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == [*map(str, range(300))]
    assert quarantine(daemon) == {}


def test_what_belongs_to_a_session_that_a_living_client_has_begun_waits_for_it(
    daemon: RunningDaemon, home: Path
) -> None:
    """Its start is on disk, but not to be taken over yet; the events of another producer are."""
    start, events = SpoolFile(home).start(), SpoolFile(home, OTHER).append("one", "two")
    events.start(session=ulid(8))
    with start.path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        peer = collected(daemon, home)
        assert events.path.exists()
        greeting = peer.call("hello", protocol=1, producer=OTHER, spool=str(events.directory))
        assert greeting["waiting"] == 1
        assert peer.call("get", session=ulid(8))["session"] is not None

    collected(daemon, home)

    assert texts(daemon.data_dir, SESSION) == ["one", "two"]
    assert (quarantine(daemon), list(events.directory.iterdir())) == ({}, [])


def test_a_session_on_its_way_out_holds_up_only_who_begins_it_again(
    daemon: RunningDaemon, home: Path
) -> None:
    peer = daemon.peer()
    peer.call("hello", protocol=1, producer=PRODUCER)
    session = peer.call("start", ulid=SESSION, owner_pid=0)["session"]["ulid"]
    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db", isolation_level=None)) as database:
        database.execute("UPDATE session SET shelf = 'incoming'")
        again = SpoolFile(home).start().append("again")
        other = SpoolFile(home, OTHER).start(session=ulid(8)).append("other", session=ulid(8))
        own = daemon.peer().call("hello", protocol=1, producer=PRODUCER, spool=str(again.directory))
        assert texts(daemon.data_dir, ulid(8)) == ["other"]
        assert (own["waiting"], again.path.exists(), other.path.exists()) == (1, True, False)
        database.execute("UPDATE session SET shelf = 'kept'")

    wait_until(lambda: not again.path.exists())  # without anybody asking for it
    assert texts(daemon.data_dir, session) == ["again"]
    assert quarantine(daemon) == {}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
