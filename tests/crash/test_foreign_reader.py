"""A program that reads the database for long: neither a start nor the recorders wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.checker import check, texts
from tests.running import RunningDaemon

LOG_BYTES = 4000 * 4096
"""At this size the write-ahead log goes back into the database."""

MEGABYTE = "x" * (1024 * 1024)
MEGABYTES = 24


@contextmanager
def reading(daemon: RunningDaemon) -> Iterator[sqlite3.Connection]:
    """A read transaction that stays open."""
    with closing(sqlite3.connect(f"file:{daemon.data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM event").fetchone()
        yield connection
        connection.execute("COMMIT")


def log_bytes(daemon: RunningDaemon) -> int:
    return (daemon.data_dir / "sessiond.db-wal").stat().st_size


def test_a_daemon_starts_beside_a_reader_and_makes_durable_what_it_then_shows(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    stored = [f"event {number}" for number in range(50)]
    for text in stored[:25]:
        peer.append(session, text)
    with reading(daemon) as reader:
        for text in stored[25:]:
            peer.append(session, text)
        before = log_bytes(daemon)

        daemon.restart()

        assert log_bytes(daemon) >= before, "the log could not be truncated, so it was written over itself"
        peer = daemon.peer()
        assert peer.call("count", session=session)["events"] == len(stored)
        assert peer.append(session, "on")["first"] == len(stored)
        assert reader.execute("SELECT count(*) FROM event").fetchone() == (25,)
    check(daemon.data_dir)
    assert texts(daemon.data_dir, session) == [*stored, "on"]


def test_the_log_grows_while_somebody_reads_and_no_more_after_that(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    peer.append(session, "first")
    with reading(daemon):
        for _ in range(MEGABYTES):
            assert peer.append(session, MEGABYTE)["type"] == "appended"
    peer.append(session, MEGABYTE)  # with this one the whole log goes back into the database
    grown = log_bytes(daemon)
    assert grown > LOG_BYTES

    for _ in range(MEGABYTES):
        peer.append(session, MEGABYTE)

    # A short read of the daemon itself may keep one commit from beginning the log again: the next one does.
    assert log_bytes(daemon) < grown + LOG_BYTES, "what was there is used again"
    assert daemon.stop() == 0
    assert not (daemon.data_dir / "sessiond.db-wal").exists()
    check(daemon.data_dir)
