"""`sessionctl` while no daemon can be reached: what it was given is kept, and stored once one comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checker import check, texts
from tests.cli.conftest import Sessionctl
from tests.running import RunningDaemon

SESSION = "01M7YXD1KGXQK2AAA9C3V1686V"


def test_a_script_goes_on_and_its_session_is_there_once_a_daemon_comes(
    alone: Sessionctl, spool: Path, start_daemon: Callable[[], RunningDaemon]
) -> None:
    started = alone("start", "nightly", "--detach")
    ulid = started.stdout.decode().strip()
    appended = alone("append", ulid, "output", "-", stdin=b"one\ntwo\n")
    dotted = alone("append", ".", "note", "three", stdin=None, SESSIOND_SESSION=ulid)
    ended = alone("end", ulid, "--exit-code", "3")

    for result in (started, appended, dotted, ended):
        assert result.returncode == 0
        assert result.stderr.count(b"\n") == 1
        assert f"it waits in {spool}, and the daemon takes it over".encode() in result.stderr
    assert (appended.stdout, dotted.stdout, ended.stdout) == (b"", b"", b"")
    assert len(list(spool.iterdir())) == 4
    daemon = start_daemon()
    session = when_taken_over(alone, spool)
    assert (session["ulid"], session["name"], session["exit_code"]) == (ulid, "nightly", 3)
    assert texts(daemon.data_dir, ulid) == ["one\n", "two\n", "three"]
    check(daemon.data_dir)


def test_the_next_command_after_the_daemon_has_come_finds_what_was_kept(
    alone: Sessionctl, start_daemon: Callable[[], RunningDaemon]
) -> None:
    ulid = alone("start", "--detach").stdout.decode().strip()
    start_daemon()

    assert alone.out("append", ulid, "note", "live") == "0\n"


@pytest.mark.parametrize("command", ["show", "list"])
def test_what_is_read_by_the_command_that_starts_the_daemon_has_what_waited(
    alone: Sessionctl, command: str
) -> None:
    ulid = alone("start", "kept", "--detach").stdout.decode().strip()
    alone("append", ulid, "output", "-", stdin=b"line\n" * 2000)
    alone("end", ulid)

    read = alone(command, *([] if command == "list" else [ulid]), SESSIOND_AUTOSTART="1")
    alone.stop_daemon()

    assert (read.returncode, read.stderr) == (0, b"")
    assert (b"kept" if command == "list" else b"line") in read.stdout


def test_json_says_that_it_waits(alone: Sessionctl) -> None:
    started = json.loads(alone("start", "x", "--detach", "--json").stdout)
    appended = json.loads(alone("append", SESSION, "note", "y", "--json").stdout)
    ended = json.loads(alone("end", SESSION, "--json").stdout)

    assert (started["name"], started["next_seq"], started["spooled"]) == ("x", -1, True)
    assert appended == {"session": SESSION, "events": 1, "first": None, "last": None, "spooled": True}
    assert (ended["status"], ended["spooled"]) == ("completed", True)


@pytest.mark.parametrize("reference", ["nightly", "@last", "@0", SESSION[-6:]])
def test_a_session_that_only_the_daemon_could_find_is_a_clear_error(
    alone: Sessionctl, spool: Path, reference: str
) -> None:
    refused = alone("append", reference, "note", "x", stdin=None)

    assert refused.returncode == 3
    assert refused.stderr.count(b"\n") == 1
    assert f"known only by its id, not as {reference}".encode() in refused.stderr
    assert not spool.exists()


def test_status_and_doctor_tell_what_waits(alone: Sessionctl, spool: Path) -> None:
    alone("append", SESSION, "note", "x", stdin=None)

    status = alone("status")
    doctor = [json.loads(line) for line in alone("doctor", "--json").stdout.splitlines()]
    findings = {finding["check"]: finding for finding in doctor}

    assert status.returncode == 3
    assert b"1 file to be taken over" in status.stderr
    assert findings["leftovers"]["verdict"] == "warn"
    assert "sessiond serve" in findings["leftovers"]["fix"]


def test_a_spool_that_cannot_be_used_is_a_clear_error(alone: Sessionctl, spool: Path) -> None:
    spool.mkdir(parents=True)
    spool.chmod(0o755)

    refused = alone("append", SESSION, "note", "x", stdin=None)

    assert refused.returncode == 3
    assert refused.stderr.count(b"\n") == 1
    assert f"chmod 700 {spool}".encode() in refused.stderr


def when_taken_over(sessionctl: Sessionctl, spool: Path) -> dict[str, object]:
    """The only session there is, once nothing waits."""
    deadline = time.monotonic() + 30
    while list(spool.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (session,) = sessionctl.json("list")
    return dict(session)
