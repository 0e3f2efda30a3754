"""No descriptors left: what can be done goes on, nothing is lost, and all is well once there are some."""

from __future__ import annotations

import os
import resource

from tests.checker import check, texts
from tests.peer import Peer
from tests.running import RunningDaemon

SPARE = 3
CONNECTIONS = 20
SESSIONS = 12
SOME = 512


def limit_descriptors(daemon: RunningDaemon, spare: int | None) -> None:
    """Leave the daemon so many descriptors besides those it has; None for as many as it likes."""
    pid = daemon.process.pid
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard if spare is None else highest + 1 + spare, hard))


def test_a_daemon_without_descriptors_goes_on_with_those_it_has_and_recovers_without_a_restart(
    daemon: RunningDaemon,
) -> None:
    peer = daemon.peer()
    first = peer.start(owner_pid=0)
    peer.append(first, "before")
    waiting: list[Peer] = []
    limit_descriptors(daemon, SPARE)
    try:
        waiting += [Peer(daemon.socket) for _ in range(CONNECTIONS)]
        while "cannot accept a connection" not in daemon.log_text():
            pass
        sessions = [peer.start(owner_pid=0) for _ in range(SESSIONS)]
        for session in [first, *sessions]:
            assert peer.append(session, "without")["type"] == "appended"

        limit_descriptors(daemon, None)

        for connected in waiting:
            assert connected.call("ping")["type"] == "pong"
        while peer.call("status")["lagging_files"]:
            pass
        for session in [first, *sessions]:
            assert peer.append(session, "after")["type"] == "appended"
            assert peer.call("end", session=session)["type"] == "ended"
        check(daemon.data_dir)
        assert texts(daemon.data_dir, first) == ["before", "without", "after"]
        assert texts(daemon.data_dir, sessions[-1]) == ["without", "after"]
        assert "Traceback" not in daemon.log_text()
    finally:
        for connected in waiting:
            connected.close()


def test_a_check_that_can_open_nothing_is_refused_and_finds_no_damage(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    peer.append(peer.start(owner_pid=0), "before")
    assert peer.call("verify")["faults"] == [], "from now on its connection to the database is open"

    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, SOME))
    refused = peer.call("verify")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (SOME, SOME))

    assert (refused["type"], refused.get("code")) == ("error", "busy")
    assert peer.call("verify")["faults"] == []
    assert "Traceback" not in daemon.log_text()
