"""Data that are taken away under the daemon: it ends, and calls nothing stored that nobody would find."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checker import check, texts
from tests.running import STOP_SECONDS_MAX, RunningDaemon


def remove_everything(data_dir: Path) -> Path:
    while data_dir.exists():  # the daemon may have made its search index after the last name
        shutil.rmtree(data_dir, ignore_errors=True)
    return data_dir


def remove_the_database(data_dir: Path) -> Path:
    for part in data_dir.glob("sessiond.db*"):
        part.unlink()
    return data_dir / "sessiond.db"


def remove_its_log(data_dir: Path) -> Path:
    (data_dir / "sessiond.db-wal").unlink()
    return data_dir / "sessiond.db-wal"


def put_a_copy_in_its_place(data_dir: Path) -> Path:
    shutil.copy(data_dir / "sessiond.db", data_dir / "copy")
    (data_dir / "copy").rename(data_dir / "sessiond.db")
    return data_dir / "sessiond.db"


def remove_the_sessions(data_dir: Path) -> Path:
    shutil.rmtree(data_dir / "sessions")
    return data_dir / "sessions"


def remove_the_lock(data_dir: Path) -> Path:
    (data_dir / "lock").unlink()
    return data_dir / "lock"


def move_everything_away(data_dir: Path) -> Path:
    data_dir.rename(data_dir.with_name("elsewhere"))
    return data_dir


@pytest.mark.parametrize(
    "take_away",
    [
        remove_everything,
        remove_the_database,
        remove_its_log,
        put_a_copy_in_its_place,
        remove_the_sessions,
        remove_the_lock,
        move_everything_away,
    ],
)
def test_a_daemon_whose_data_are_taken_away_ends_and_says_what_is_missing(
    daemon: RunningDaemon, take_away: Callable[[Path], Path]
) -> None:
    missing = take_away(daemon.data_dir)

    assert daemon.process.wait(STOP_SECONDS_MAX) == 70
    (line,) = [line for line in daemon.log_text().splitlines() if "was removed or replaced" in line]
    assert str(daemon.data_dir) in line
    assert str(missing) in line or take_away is remove_everything
    assert "Traceback" not in daemon.log_text()
    assert not (daemon.home / "run" / "sessiond" / "storage-failures").exists()


@pytest.mark.parametrize("take_away", [remove_the_database, remove_its_log])
def test_nothing_is_called_stored_once_the_database_went_and_the_next_daemon_says_so(
    daemon: RunningDaemon, take_away: Callable[[Path], Path]
) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    peer.append(session, "before")
    os.kill(daemon.process.pid, signal.SIGSTOP)
    take_away(daemon.data_dir)
    peer.send("append", session=session, events=[{"kind": "prompt", "text": "after"}])
    os.kill(daemon.process.pid, signal.SIGCONT)

    with pytest.raises((ConnectionError, EOFError)):
        peer.receive()

    assert daemon.process.wait(STOP_SECONDS_MAX) == 70
    daemon.start()
    # Built anew from its file, which nobody ends any more, it has ended: whoever sends it again is told.
    assert daemon.peer().append(session, "after")["code"] == "session_ended"
    assert texts(daemon.data_dir, session) == ["before"]
    assert daemon.stop() == 0
    check(daemon.data_dir)
