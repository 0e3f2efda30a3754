"""Adoptions that come to no end: the daemon is killed or stopped, the client goes, the file is changed."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.checker import check
from tests.daemon.halting import go_on
from tests.daemon.test_adopting import big_file, halted_in_an_adoption, until_nothing_is_left
from tests.running import STOP_SECONDS_MAX, RunningDaemon
from tests.storage.test_adoption import HEADER, encoded, event, footer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where a file from elsewhere is."""
    return tmp_path / "foreign.ndjson"


def test_killed_in_the_middle_nothing_is_left_and_it_can_be_adopted_again(
    daemon: RunningDaemon, source: Path
) -> None:
    big_file(source, 30_000)
    halted_in_an_adoption(daemon, source)

    daemon.restart()

    until_nothing_is_left(daemon.data_dir)
    halted_in_an_adoption(daemon, source)
    daemon.restart()
    # Asked for at once, it waits until what was left is gone.
    reply = daemon.peer().call("adopt", path=str(source))
    assert (reply["existed"], reply["session"]["event_count"]) == (False, 30_000)
    check(daemon.data_dir)


def test_killed_before_the_last_commit_the_file_goes_too(daemon: RunningDaemon, source: Path) -> None:
    source.write_bytes(encoded(HEADER, event(0), footer(event(0))))
    daemon.peer().call("adopt", path=str(source))
    daemon.kill()
    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db")) as connection:
        connection.execute("UPDATE session SET shelf = 'incoming'")
        connection.commit()

    daemon.start()

    until_nothing_is_left(daemon.data_dir)


def test_an_adoption_ends_with_who_asked_for_it(daemon: RunningDaemon, source: Path) -> None:
    big_file(source, 30_000)
    peer = halted_in_an_adoption(daemon, source)

    peer.close()
    go_on(daemon)

    until_nothing_is_left(daemon.data_dir)
    assert daemon.peer().call("adopt", path=str(source))["session"]["event_count"] == 30_000
    check(daemon.data_dir)


def test_a_daemon_that_is_stopped_meanwhile_stops_and_leaves_nothing(
    daemon: RunningDaemon, source: Path
) -> None:
    big_file(source, 30_000)
    halted_in_an_adoption(daemon, source)

    daemon.process.send_signal(signal.SIGTERM)
    go_on(daemon)

    assert daemon.process.wait(STOP_SECONDS_MAX) == 0

    daemon.start()
    until_nothing_is_left(daemon.data_dir)


def test_a_file_that_is_changed_while_it_is_read_is_refused(daemon: RunningDaemon, source: Path) -> None:
    big_file(source, 30_000)
    peer = halted_in_an_adoption(daemon, source)

    with source.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(b"X")
    go_on(daemon)

    assert peer.receive()["code"] == "conflict"
    until_nothing_is_left(daemon.data_dir)
