"""Sessions and the processes they belong to."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.checker import check
from tests.peer import Peer
from tests.running import RunningDaemon


def sleeper() -> subprocess.Popen[bytes]:
    """A process that lives until it is killed."""
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def wait_for_end(peer: Peer, session: str) -> dict[str, Any]:
    """The session, once a follower is told that it has ended."""
    reply = peer.call("follow", session=session, id=99)
    while reply["type"] != "ended":
        reply = peer.receive()
    ended: dict[str, Any] = reply["session"]
    return ended


def test_a_session_is_interrupted_when_its_owner_dies(daemon: RunningDaemon) -> None:
    owner = sleeper()
    peer = daemon.peer()
    session = peer.start(owner_pid=owner.pid)

    end(owner)

    ended = wait_for_end(peer, session)
    assert (ended["status"], ended["end_reason"]) == ("interrupted", "client_lost")
    check(daemon.data_dir)


def test_the_peer_is_the_owner_unless_told_otherwise(daemon: RunningDaemon) -> None:
    script = (
        "import json,os,signal,socket,sys\n"
        "s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        's.sendall(b\'{"type":"start"}\\n\'); print(s.recv(9999).decode(), flush=True)\n'
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, str(daemon.socket)], capture_output=True, text=True
    ).stdout

    ended = wait_for_end(daemon.peer(), json.loads(output)["session"]["ulid"])

    assert ended["end_reason"] == "client_lost"


def test_what_an_owner_sent_before_it_died_is_kept(daemon: RunningDaemon) -> None:
    script = (
        "import json,os,signal,socket,sys\n"
        "s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        's.sendall(b\'{"type":"start"}\\n\'); u=json.loads(s.recv(9999))["session"]["ulid"]\n'
        "print(u, flush=True)\n"
        'line=json.dumps({"type":"append","session":u,"events":[{"kind":"a"}]}).encode()+b"\\n"\n'
        "s.sendall(line*2000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    session = subprocess.run(
        [sys.executable, "-c", script, str(daemon.socket)], capture_output=True, text=True
    ).stdout.strip()

    ended = wait_for_end(daemon.peer(), session)

    assert ended["event_count"] == 2000


SENDER = """
import json, os, signal, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"type":"start"}\\n')
session = json.loads(s.recv(9999))["session"]["ulid"]
print(session, flush=True)
sys.stdin.readline()
line = json.dumps({"type": "append", "session": session, "events": [{"kind": "a"}]}).encode() + b"\\n"
s.sendall(line * 2000)
os.kill(os.getpid(), signal.SIGKILL)
"""

IMPATIENT = """
import sys
from sessiond import cli, owners
owners.QUIET_SECONDS = 0.001
sys.argv = ["sessiond", "serve"]
cli.main()
"""


def test_what_an_owner_sent_before_it_died_is_kept_however_long_the_disk_takes(home: Path) -> None:
    daemon = RunningDaemon(home, under=[sys.executable, "-c", IMPATIENT])
    try:
        peer = daemon.peer()
        command = [sys.executable, "-c", SENDER, str(daemon.socket)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            session = owner.stdout.readline().strip()
            with closing(sqlite3.connect(daemon.data_dir / "sessiond.db", isolation_level=None)) as intruder:
                intruder.execute("BEGIN IMMEDIATE")
                owner.communicate("go\n")
                for _ in range(200):  # in which it has noticed that the owner is gone, and is patient
                    assert peer.call("ping")["type"] == "pong"
                intruder.execute("ROLLBACK")

        assert wait_for_end(peer, session)["event_count"] == 2000
    finally:
        daemon.close_peers()
        daemon.kill()


def test_a_connection_that_a_child_has_inherited_keeps_no_session_of_a_dead_owner_open(
    daemon: RunningDaemon,
) -> None:
    script = (
        "import json, socket, subprocess, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        's.sendall(b\'{"type":"start"}\\n\'); ulid = json.loads(s.recv(9999))["session"]["ulid"]\n'
        'child = subprocess.Popen(["sleep", "600"], pass_fds=[s.fileno()], stdout=subprocess.DEVNULL)\n'
        "print(ulid, child.pid)\n"
    )
    run = [sys.executable, "-c", script, str(daemon.socket)]
    session, child = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    try:
        assert wait_for_end(daemon.peer(), session)["end_reason"] == "client_lost"
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_session_without_owner_stays_open(daemon: RunningDaemon) -> None:
    with daemon.peer() as peer:
        session = peer.start(owner_pid=0)
    daemon.restart()

    assert daemon.peer().append(session, "still here")["first"] == 0


def test_a_session_goes_on_after_a_restart_while_its_owner_lives(daemon: RunningDaemon) -> None:
    owner = sleeper()
    session = daemon.peer().start(owner_pid=owner.pid)
    daemon.restart()
    peer = daemon.peer()

    assert peer.append(session, "still here")["first"] == 0
    end(owner)
    assert wait_for_end(peer, session)["end_reason"] == "client_lost"
    check(daemon.data_dir)


def test_a_session_whose_owner_died_while_no_daemon_ran_is_interrupted(daemon: RunningDaemon) -> None:
    owner = sleeper()
    session = daemon.peer().start(owner_pid=owner.pid)
    daemon.kill()
    end(owner)

    daemon.start()

    found = daemon.peer().call("get", session=session)["session"]
    assert (found["status"], found["end_reason"]) == ("interrupted", "daemon_lost")
    assert found["recovered"] is True
    check(daemon.data_dir)


def change_owner(daemon: RunningDaemon, **columns: object) -> None:
    """Change what the database says of the owner, while no daemon runs."""
    import apsw

    connection = apsw.Connection(str(daemon.data_dir / "sessiond.db"))
    for column, value in columns.items():
        connection.execute(f"UPDATE session SET {column} = ?", (value,))
    connection.close()


def test_a_reused_pid_is_not_taken_for_the_owner(daemon: RunningDaemon) -> None:
    session = daemon.peer().start(owner_pid=os.getpid())
    daemon.kill()
    change_owner(daemon, owner_start=1)

    daemon.start()

    assert daemon.peer().call("get", session=session)["session"]["end_reason"] == "daemon_lost"


def test_after_a_restart_of_the_machine_its_sessions_are_interrupted(daemon: RunningDaemon) -> None:
    session = daemon.peer().start(owner_pid=os.getpid())
    daemon.kill()
    change_owner(daemon, owner_boot="00000000-0000-0000-0000-000000000000")

    daemon.start()

    assert daemon.peer().call("get", session=session)["session"]["end_reason"] == "host_restarted"


def test_an_owner_that_is_gone_already_ends_its_session_at_once(daemon: RunningDaemon) -> None:
    owner = sleeper()
    end(owner)
    peer = daemon.peer()

    session = peer.start(owner_pid=owner.pid)

    assert wait_for_end(peer, session)["status"] == "interrupted"


def test_an_owner_of_many_sessions_is_watched_with_one_descriptor(daemon: RunningDaemon) -> None:
    owner = sleeper()
    peer = daemon.peer()
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")

    def watched() -> int:
        found = 0
        for entry in descriptors.iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                found += "pidfd" in os.readlink(entry)
        return found

    sessions = [peer.start(owner_pid=owner.pid) for _ in range(20)]
    assert watched() == 1
    for session in sessions:
        peer.call("end", session=session)
    assert watched() == 0
    end(owner)


def test_sigterm_stops_in_order_and_leaves_open_sessions_open(daemon: RunningDaemon) -> None:
    owner = sleeper()
    session = daemon.peer().start(owner_pid=owner.pid)
    daemon.peer().append(session, "a")

    assert daemon.stop() == 0
    check(daemon.data_dir)
    daemon.start()

    assert daemon.peer().call("get", session=session)["session"]["status"] == "recording"
    end(owner)


def test_requests_read_before_the_stop_are_answered(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    for number in range(200):
        peer.send("append", session=session, events=[{"kind": "a"}], id=number)
    peer.receive()

    os.kill(daemon.process.pid, signal.SIGTERM)

    answered = 1
    try:
        while peer.receive():
            answered += 1
    except (EOFError, ConnectionResetError):
        pass
    daemon.process.wait(15)
    daemon.start()
    assert daemon.peer().call("count", session=session)["events"] >= answered
    check(daemon.data_dir)
