"""Descriptors and memory: none leak, idle peers cost little, and a want of them passes."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.checker import check, texts
from tests.peer import Peer
from tests.running import RunningDaemon, environ_for

COUNTS = [500, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
CROWD = 100
POOR_DESCRIPTORS = 64


@pytest.fixture
def poor_daemon(home: Path) -> Iterator[RunningDaemon]:
    """A daemon that may have few descriptors open."""
    daemon = RunningDaemon(home, under=["sh", "-c", f'ulimit -n {POOR_DESCRIPTORS}; exec "$@"', "sh"])
    yield daemon
    daemon.close_peers()
    daemon.kill()


@pytest.mark.parametrize("count", [12, 63])
def test_a_daemon_that_may_open_too_few_files_says_so_in_one_line(home: Path, count: int) -> None:
    command = ["sh", "-c", f'ulimit -n {count}; exec "$@"', "sh", sys.executable, "-P", "-m", "sessiond"]

    result = subprocess.run(
        [*command, "serve"], env=environ_for(home), capture_output=True, text=True, timeout=20
    )

    told = f"sessiond: this process may open only {count} files; raise the limit: ulimit -n 64\n"
    assert (result.returncode, result.stderr) == (78, told)


@contextmanager
def many_descriptors(wanted: int) -> Iterator[None]:
    """So many descriptors may be open in this process meanwhile, or the test is skipped."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        pytest.skip(f"needs {wanted} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowd_in(daemon: RunningDaemon) -> list[Peer]:
    """More connections than the daemon has descriptors for; it has noticed."""
    crowd = [daemon.peer() for _ in range(CROWD)]
    while "cannot accept a connection" not in daemon.log_text():
        assert daemon.process.poll() is None
    return crowd


def descriptors(daemon: RunningDaemon) -> int:
    """How many it has open, but for those of its few threads that read the databases."""
    return sum(".db" not in Path(name).name for name in open_names(daemon))


def open_names(daemon: RunningDaemon) -> list[str]:
    """What its descriptors are of."""
    names = []
    for descriptor in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            names.append(os.readlink(descriptor))
    return names


def until_at_most(daemon: RunningDaemon, count: int) -> None:
    """Return once it has no more descriptors open; a leak lets the test run into its timeout."""
    while descriptors(daemon) > count:
        pass


def settle(daemon: RunningDaemon) -> None:
    """Return once every peer is gone and every file has caught up."""
    with daemon.peer() as peer:
        while (status := peer.call("status"))["connections"] > 1 or status["lagging_files"]:
            pass
    assert status["pid"] == daemon.process.pid
    assert "Traceback" not in daemon.log_text()


def test_descriptors_that_a_peer_passes_are_dropped(daemon: RunningDaemon, home: Path) -> None:
    passed_on = home / "passed on"
    with daemon.peer() as peer, passed_on.open("w") as passed:
        for _ in range(50):
            socket.send_fds(peer.socket, [b'{"type":"ping"}\n'], [passed.fileno()] * 20)
            assert peer.receive()["type"] == "pong"

        assert str(passed_on) not in open_names(daemon)


@pytest.mark.parametrize("count", COUNTS)
def test_connections_that_come_and_go_cost_nothing(daemon: RunningDaemon, count: int) -> None:
    def come_and_go() -> tuple[float, int]:
        for _ in range(count):
            with Peer(daemon.socket) as peer:
                peer.call("ping")
        settle(daemon)
        return daemon.memory_mib(), descriptors(daemon)

    memory, before = come_and_go()
    memory_after, _ = come_and_go()

    assert memory_after - memory < 4
    until_at_most(daemon, before)


@pytest.mark.parametrize("count", COUNTS)
def test_sessions_that_begin_and_end_cost_nothing(daemon: RunningDaemon, count: int) -> None:
    def begin_and_end(turn: int) -> tuple[float, int]:
        with Peer(daemon.socket) as peer:
            for number in range(count):
                session = peer.start(owner_pid=0, name=f"s-{turn}-{number}")
                peer.append(session, "text")
                assert peer.call("end", session=session)["type"] == "ended"
        settle(daemon)
        return daemon.memory_mib(), descriptors(daemon)

    begin_and_end(0)  # caches fill as far as they may
    memory, before = begin_and_end(1)
    memory_after, _ = begin_and_end(2)

    assert memory_after - memory < 8
    until_at_most(daemon, before)


def test_two_thousand_idle_connections_cost_little_and_an_active_one_is_served(
    daemon: RunningDaemon,
) -> None:
    with many_descriptors(2_500), ExitStack() as stack:
        active = stack.enter_context(Peer(daemon.socket))
        session = active.start()
        before = daemon.memory_mib()
        for number in range(2_000):
            idle = stack.enter_context(Peer(daemon.socket))
            if number % 2:
                assert idle.call("ping")["type"] == "pong"

        for number in range(200):
            assert active.append(session, str(number))["first"] == number

        assert active.call("status")["connections"] == 2_001
        assert daemon.memory_mib() - before < 20
    settle(daemon)


def test_a_daemon_out_of_descriptors_accepts_again_when_some_are_free(poor_daemon: RunningDaemon) -> None:
    known = poor_daemon.peer()
    session = known.start(owner_pid=0)
    crowd = crowd_in(poor_daemon)

    for number in range(20):
        assert known.append(session, str(number))["first"] == number
    for peer in crowd[:-1]:
        peer.close()

    assert crowd[-1].call("ping")["type"] == "pong"
    assert known.append(session, "after")["first"] == 20
    poor_daemon.close_peers()
    settle(poor_daemon)
    check(poor_daemon.data_dir)


def test_more_sessions_than_descriptors_are_all_recorded(poor_daemon: RunningDaemon) -> None:
    with poor_daemon.peer() as peer:
        sessions = [peer.start(owner_pid=0) for _ in range(2 * POOR_DESCRIPTORS)]
        for turn in range(3):
            for session in sessions:
                assert peer.append(session, f"turn {turn}")["first"] == turn

        assert peer.call("status")["lagging_files"] == [], "the handles made room for each other"

    settle(poor_daemon)
    assert poor_daemon.stop() == 0
    check(poor_daemon.data_dir)
    for session in sessions:
        assert texts(poor_daemon.data_dir, session) == [f"turn {turn}" for turn in range(3)]


def test_sessions_begun_without_a_descriptor_are_recorded_too(poor_daemon: RunningDaemon) -> None:
    with poor_daemon.peer() as peer:
        crowd_in(poor_daemon)

        sessions = [peer.start(owner_pid=os.getpid()) for _ in range(10)]
        for session in sessions:
            assert peer.append(session, "in need")["first"] == 0

    poor_daemon.close_peers()
    settle(poor_daemon)
    with poor_daemon.peer() as peer:
        for session in sessions:
            # Its owner lives, even if there was no descriptor to look at it with.
            assert peer.append(session, "after")["first"] == 1
    settle(poor_daemon)
    check(poor_daemon.data_dir)
    assert texts(poor_daemon.data_dir, sessions[0]) == ["in need", "after"]
