"""Our name in the file system: put back when it is deleted or replaced."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond.publication import take_lock
from tests.peer import Peer
from tests.running import RunningDaemon

DELETIONS_MAX = 100


def connect_when_there(path: Path) -> Peer:
    """A connection to the daemon at `path`, once its socket is there again; the test's timeout bounds it."""
    while True:
        try:
            peer = Peer(path)
            assert peer.call("ping")["type"] == "pong"
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            continue
        return peer


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    return sum(_target(descriptor).startswith("socket:") for descriptor in Path(f"/proc/{pid}/fd").iterdir())


def watches(pid: int) -> int:
    """How many directories a process has watches over."""
    descriptors = Path(f"/proc/{pid}/fd").iterdir()
    return sum("inotify" in _target(descriptor) for descriptor in descriptors)


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:  # closed since it was listed
        return ""


def delete(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def put_a_file_in_its_place(path: Path) -> None:
    path.with_name("planted").write_text("")
    path.with_name("planted").rename(path)


def put_a_dead_socket_in_its_place(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path.with_name("planted")))
    path.with_name("planted").rename(path)


def put_a_link_in_its_place(path: Path) -> None:
    path.with_name("planted").symlink_to("/dev/null")
    path.with_name("planted").rename(path)


def delete_the_directory(path: Path) -> None:
    for _ in range(DELETIONS_MAX):
        try:
            return shutil.rmtree(path.parent)
        except OSError as error:  # the daemon published between the last file and the directory
            if error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
                raise
    raise AssertionError("the daemon was faster every time")


def move_the_directory_away(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize(
    "take_away",
    [
        delete,
        move_away,
        put_a_file_in_its_place,
        put_a_dead_socket_in_its_place,
        put_a_link_in_its_place,
        delete_the_directory,
        move_the_directory_away,
    ],
)
def test_a_socket_that_was_taken_away_is_published_again(
    daemon: RunningDaemon, take_away: Callable[[Path], None]
) -> None:
    before = daemon.peer()
    session = before.start()

    take_away(daemon.socket)

    with connect_when_there(daemon.socket) as after:
        assert after.call("status")["pid"] == daemon.process.pid
    assert before.append(session, "as if nothing had been")["first"] == 0
    assert daemon.socket.lstat().st_mode & 0o777 == 0o600
    assert daemon.socket.parent.stat().st_mode & 0o777 == 0o700
    assert "published again" in daemon.log_text()
    daemon.close_peers()
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_it_is_published_again_as_often_as_it_is_deleted(daemon: RunningDaemon) -> None:
    pid = daemon.process.pid
    with connect_when_there(daemon.socket):
        undisturbed = sockets(pid)

    for _ in range(3):
        daemon.socket.unlink()
        with connect_when_there(daemon.socket):
            while sockets(pid) != undisturbed:  # those that were closed go within a turn of the loop
                pass
            assert watches(pid) <= 2  # of the socket, and of the data
    assert "Traceback" not in daemon.log_text()


def test_whoever_was_waiting_at_the_old_socket_is_let_in(daemon: RunningDaemon) -> None:
    os.kill(daemon.process.pid, signal.SIGSTOP)
    waiting = [Peer(daemon.socket) for _ in range(100)]
    daemon.socket.unlink()
    os.kill(daemon.process.pid, signal.SIGCONT)

    for peer in waiting:
        assert peer.call("ping")["type"] == "pong"
        peer.close()
    connect_when_there(daemon.socket).close()


def test_a_name_whose_lock_another_daemon_holds_is_left_to_it(daemon: RunningDaemon) -> None:
    lock = daemon.socket.with_name(f"{daemon.socket.name}.lock")
    lock.unlink()
    theirs = take_lock(lock, "the socket", daemon.socket)
    before = daemon.peer()

    put_a_dead_socket_in_its_place(daemon.socket)

    identity = daemon.socket.lstat().st_ino
    while "nobody finds us" not in daemon.log_text():
        assert before.call("ping")["type"] == "pong"
    assert daemon.socket.lstat().st_ino == identity
    daemon.close_peers()
    assert daemon.stop() == 0
    assert daemon.socket.lstat().st_ino == identity
    os.close(theirs)
