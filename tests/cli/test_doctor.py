"""`sessionctl doctor`: each check sees what it is for."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sessionctl.installation import examination
from sessiond_client import paths
from sessiond_client.client import Client
from tests.cli.conftest import SECONDS_MAX, Sessionctl
from tests.running import STOP_SECONDS_MAX, RunningDaemon, environ_for


def findings(sessionctl: Sessionctl, code: int | None = None, **variables: str) -> dict[str, Any]:
    """What doctor found, by check."""
    result = sessionctl("doctor", "--json", stdin=b"", **variables)
    found = {it["check"]: it for it in map(json.loads, result.stdout.splitlines())}
    failed = any(it["verdict"] == "fail" for it in found.values())
    assert result.returncode == int(failed)
    assert result.stderr == b""
    assert code is None or result.returncode == code
    return found


def test_all_is_well_and_every_check_is_made(sessionctl: Sessionctl) -> None:
    found = findings(sessionctl, 0, SESSIOND_SESSION="X", SESSIOND_SHELL="1:X")

    assert list(found) == list(examination.CHECKS)
    assert len(found) >= 9
    assert {name for name, it in found.items() if it["verdict"] != "pass"} <= {"service", "free space"}


def test_what_is_wrong_comes_with_what_to_do(sessionctl: Sessionctl, daemon: RunningDaemon) -> None:
    config = daemon.home / "config" / "sessiond" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[log]\nlevel = 'loud'\n")
    daemon.data_dir.chmod(0o755)
    (daemon.home / "run").chmod(0o755)
    spool = daemon.home / "state" / "sessiond" / "spool"
    spool.mkdir(mode=0o700, parents=True)
    with (spool / "01M7YXD1KGXQK2AAA9C3V1686V-000001.ndjson").open("wb") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        found = findings(sessionctl, 1)
    shown = sessionctl("doctor").stdout.decode()

    assert found["settings"]["verdict"] == "fail"
    assert found["settings"]["fix"] == "sessionctl config edit"
    assert found["data directory"]["fix"] == f"chmod 700 {daemon.data_dir}"
    assert found["runtime directory"]["fix"] == f"chmod 700 {daemon.home / 'run'}"
    assert found["leftovers"]["detail"] == f"1 files of requests wait in {spool}"
    assert "unless their writers still run" in found["leftovers"]["fix"]
    assert found["shell hooks"]["fix"] == "see: sessionctl init --help"
    assert "fail  settings" in shown
    assert "-> sessionctl config edit" in shown


def test_no_daemon_is_a_failure_only_where_nobody_starts_one(home: Path) -> None:
    sessionctl = Sessionctl(environ_for(home))

    assert findings(sessionctl)["daemon"]["verdict"] == "fail"
    assert findings(sessionctl, SESSIOND_AUTOSTART="1")["daemon"]["verdict"] == "warn"
    assert not (home / "data").exists()
    assert not (home / "run").exists()


def test_something_else_in_the_place_of_the_socket_is_told(home: Path) -> None:
    place = home / "run" / "sessiond" / "sessiond.sock"
    place.parent.mkdir(mode=0o700, parents=True)
    place.write_text("not a socket")

    found = findings(Sessionctl(environ_for(home)), 1)["socket"]

    assert (found["verdict"], found["fix"]) == ("fail", f"look what it is, and remove it: rm {place}")


def test_commands_that_nobody_delivers_are_told(sessionctl: Sessionctl, daemon: RunningDaemon) -> None:
    shells = daemon.home / "state" / "sessiond" / "shells"
    shells.mkdir(parents=True)
    (shells / "01K0000000000000000000000A.spool").touch()
    os.utime(shells / "01K0000000000000000000000A.spool", (1, 1))

    assert "1 shell" in findings(sessionctl)["leftovers"]["detail"]


def test_a_socket_that_others_do_not_look_for_is_told(sessionctl: Sessionctl, daemon: RunningDaemon) -> None:
    found = findings(sessionctl, XDG_RUNTIME_DIR=str(daemon.home), SESSIOND_SOCKET=str(daemon.socket))[
        "socket"
    ]

    assert found["verdict"] == "warn"
    assert f"look for the same recordings at {daemon.home}/sessiond/sessiond.sock" in found["detail"]


def test_a_clock_that_was_turned_back_is_told(sessionctl: Sessionctl, daemon: RunningDaemon) -> None:
    with Client.connect(daemon.socket, autostart=False) as client:
        client.start(started_at=datetime.now(UTC) + timedelta(days=1), owner_pid=0)

    assert findings(sessionctl, 1)["clock"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("variables", "verdict"),
    [
        ({"SESSIOND_SESSION": "A", "SESSIOND_SHELL": "7:A"}, "pass"),
        ({"SESSIOND_SESSION": "B", "SESSIOND_SHELL": "7:A"}, "pass"),
        ({"SESSIONCTL_RECORD": "0"}, "warn"),
        ({}, "warn"),
    ],
)
def test_the_hooks_of_this_shell_are_seen(home: Path, variables: dict[str, str], verdict: str) -> None:
    around = examination.Surroundings(environ={**environ_for(home), **variables})

    assert examination.CHECKS["shell hooks"]("shell hooks", around).verdict == verdict


def test_network_file_systems_old_databases_and_small_disks_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, daemon: RunningDaemon
) -> None:
    with Client.connect(daemon.socket, autostart=False) as client:
        health = client.status()
    old = msgspec.structs.replace(health, sqlite_version="3.40.1")
    around = examination.Surroundings(environ=environ_for(home), version="0.0.1", health=old)
    monkeypatch.setattr(paths, "file_system", lambda _path: "nfs4")
    monkeypatch.setattr(examination, "FREE_BYTES_FAIL", 2**62)

    verdicts = {name: check(name, around).verdict for name, check in examination.CHECKS.items()}

    assert verdicts["sqlite"] == "fail"
    assert verdicts["daemon"] == "warn"
    assert verdicts["data directory"] == "warn"
    assert verdicts["free space"] == "fail"


def wait_until_synced(daemon: RunningDaemon, session: str) -> None:
    """Return once the daemon has noted that a file is on the disk."""
    deadline = time.monotonic() + SECONDS_MAX
    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db", isolation_level=None)) as database:
        while not database.execute("SELECT synced_bytes FROM session WHERE ulid = ?", (session,)).fetchone()[
            0
        ]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_data_that_are_gone_under_a_daemon_are_told_until_it_notices_itself(
    sessionctl: Sessionctl, daemon: RunningDaemon
) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    wait_until_synced(daemon, session)  # with that it would notice
    (daemon.home / "data").rename(daemon.home / "elsewhere")  # no name in the watched directory goes

    found = findings(sessionctl, 1)["data directory"]
    status = sessionctl("status")

    assert found["verdict"] == "fail"
    assert f"kill {daemon.process.pid}" in found["fix"]
    assert f"{daemon.data_dir}, which is gone" in status.stdout.decode()
    assert status.returncode == 1
    peer.append(session, "and the file is synced after this")
    assert daemon.process.wait(STOP_SECONDS_MAX) == 70
    assert "was removed or replaced" in daemon.log_text()
