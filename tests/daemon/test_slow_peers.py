"""Peers that say nothing, or never come to an end: they are let go of in time, and nobody else is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.peer import Peer
from tests.running import RunningDaemon

HURRIED = """
import sys
from sessiond import cli, connection
connection.FIRST_LINE_SECONDS_MAX = connection.LINE_SECONDS_MAX = 0.5
sys.argv = ["sessiond", "serve"]
cli.main()
"""


@pytest.fixture
def hurried_daemon(home: Path) -> Iterator[RunningDaemon]:
    """A daemon that waits for half a second where it would wait for half a minute."""
    daemon = RunningDaemon(home, under=[sys.executable, "-c", HURRIED])
    yield daemon
    daemon.close_peers()
    daemon.kill()


def spoken(daemon: RunningDaemon) -> Peer:
    """A connection that has sent its first line in time, however busy the machine is."""
    while True:
        peer = daemon.peer()
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            assert peer.call("ping")["type"] == "pong"
            return peer


def drip(peer: Peer) -> None:
    """Send white space, a byte at a time, for ever."""
    while True:
        peer.send_bytes(b" ")


def test_peers_that_never_finish_a_line_are_let_go_of_and_idle_ones_stay(
    hurried_daemon: RunningDaemon,
) -> None:
    idle = spoken(hurried_daemon)
    silent = [hurried_daemon.peer() for _ in range(100)]
    half = [spoken(hurried_daemon) for _ in range(100)]
    for peer in half:
        peer.send_bytes(b'{"type":"ping"')

    assert all(peer.is_cut() for peer in [*silent, *half])

    assert idle.call("status")["connections"] == 1
    assert "Traceback" not in hurried_daemon.log_text()


def test_a_byte_at_a_time_does_not_keep_a_line_alive(hurried_daemon: RunningDaemon) -> None:
    peer = hurried_daemon.peer()

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip(peer)


def test_blank_lines_do_not_make_up_for_a_first_one(hurried_daemon: RunningDaemon) -> None:
    peer = hurried_daemon.peer()
    with suppress(BrokenPipeError, ConnectionResetError):  # it may be over before they are sent
        peer.send_bytes(b"\n\n")

    assert peer.is_cut()
