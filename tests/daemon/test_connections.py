"""What one connection may do, and that it never costs the others."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.running import RunningDaemon

SYSTEM_PYTHON = Path("/usr/bin/python3")


def test_a_half_closed_connection_still_gets_its_answers(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    peer.send("ping", id=1)
    peer.send("list", id=2)
    peer.socket.shutdown(socket.SHUT_WR)

    assert {peer.receive()["id"], peer.receive()["id"]} == {1, 2}
    assert peer.is_cut()


def test_a_follower_that_closed_its_sending_side_is_let_go_of_when_it_is_gone(daemon: RunningDaemon) -> None:
    observer, follower = daemon.peer(), daemon.peer()
    session = observer.start()
    follower.call("follow", session=session)
    follower.socket.shutdown(socket.SHUT_WR)
    observer.append(session, "still told")
    assert follower.receive()["type"] == "events"
    assert observer.call("status")["followers"] == 1

    follower.close()

    while (status := observer.call("status"))["connections"] > 1 or status["followers"]:
        pass


def test_messages_split_anywhere_are_put_together(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    for byte in b'{"type":"ping","id":1}\r\n\n{"type":"ping","id":2}\n':
        peer.send_bytes(bytes([byte]))

    assert [peer.receive()["id"], peer.receive()["id"]] == [1, 2]


def test_a_peer_that_does_not_read_is_read_no_further(daemon: RunningDaemon) -> None:
    peer, polite = daemon.peer(), daemon.peer()
    session = polite.start()
    polite.append(session, *["x" * 1000] * 4000)
    peer.socket.settimeout(3)
    request = b'{"type":"read","session":"%s","limit":10000}\n' % session.encode()

    with pytest.raises(TimeoutError):
        peer.send_bytes(request * 100_000)

    assert polite.call("ping")["type"] == "pong"
    assert daemon.memory_mib() < 150


def test_a_connection_that_goes_before_its_answer_does_no_harm(daemon: RunningDaemon) -> None:
    polite = daemon.peer()
    session = polite.start()
    for _ in range(50):
        with daemon.peer() as peer:
            peer.send("append", session=session, events=[{"kind": "a"}])
            peer.send("read", session=session)
            peer.send("follow", session=session, after=-1)

    polite.send("status")
    while (reply := polite.receive())["type"] != "status":
        pass
    assert reply["pid"] == daemon.process.pid
    assert "Traceback" not in daemon.log_text()


def test_a_peer_that_goes_with_questions_waiting_for_it_to_read_does_no_harm(daemon: RunningDaemon) -> None:
    polite = daemon.peer()
    session = polite.start()
    polite.append(session, *["x" * 1000] * 4000)
    question = b'{"type":"read","session":"%s","limit":10000}\n' % session.encode()
    for _ in range(5):
        with daemon.peer() as peer:
            peer.send_bytes(question * 3)
            peer.socket.shutdown(socket.SHUT_WR)
            peer.receive()  # and nothing more, so that the rest has to wait

    while (status := polite.call("status"))["connections"] > 1:
        pass
    assert status["pid"] == daemon.process.pid
    assert "Traceback" not in daemon.log_text()


def test_another_user_is_cut_off_before_being_read(daemon: RunningDaemon, home: Path) -> None:
    if os.geteuid() != 0 or not SYSTEM_PYTHON.exists() or shutil.which("setpriv") is None:
        pytest.skip("needs root, setpriv and a Python that other users can run")
    # Even with every door opened, the kernel still tells who knocks.
    for directory in [daemon.socket.parent, *daemon.socket.parents]:
        if directory == home.parent:
            break
        directory.chmod(0o755)
    daemon.socket.chmod(0o666)
    script = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        'try:\n s.sendall(b\'{"type":"ping"}\\n\'); print(s.recv(100))\n'
        "except OSError: print(b'')\n"
    )
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

    result = subprocess.run(
        [*nobody, str(SYSTEM_PYTHON), "-c", script, str(daemon.socket)],
        capture_output=True,
        text=True,
        cwd="/",
    )

    if "PermissionError" in result.stderr:
        pytest.skip("a directory above the test's is closed to other users")
    assert result.stdout.strip() == "b''", result.stderr
    assert "connection refused" in daemon.log_text()
    assert daemon.peer().call("ping")["type"] == "pong"


def test_recorded_text_never_gets_into_the_log(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(name="hidden-name")
    peer.append(session, "hidden-text")
    peer.send_bytes(b'{"type":"append","hidden-text":\n')
    peer.receive()
    peer.call("end", session=session)
    daemon.stop()

    assert "hidden-" not in daemon.log_text()


def test_half_lines_of_peers_that_went_cost_no_memory(daemon: RunningDaemon) -> None:
    half = b'{"type":"ping","x":"' + b"a" * (8 << 20)

    def abandon() -> None:
        with daemon.peer() as peer:
            peer.send_bytes(half)
        with daemon.peer() as other:
            while other.call("status")["connections"] > 1:
                pass

    for _ in range(3):
        abandon()
    before = daemon.memory_mib()
    for _ in range(20):
        abandon()

    assert daemon.memory_mib() - before < 20
