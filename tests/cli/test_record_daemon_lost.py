"""`sessionctl record` while the daemon dies: the command is not disturbed, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import SECONDS_MAX, SESSIONCTL, Sessionctl
from tests.cli.terminal import Terminal
from tests.running import RunningDaemon

Start = Callable[..., Terminal]


def counting(lines: int, gate: Path, pause: int = -1) -> list[str]:
    """A program that writes a line, waits until the pipe `gate` was opened, and writes many more.

    Before the line `pause` it waits for the gate once more.
    """
    program = f"""if True:
        print("first", flush=True)
        open({str(gate)!r}).read()
        for i in range({lines}):
            if i == {pause}:
                sys.stdout.flush()
                open({str(gate)!r}).read()
            print(i, "." * 60)"""
    program = f"import sys\n{program}"
    return [sys.executable, "-c", program]


def expected_bytes(lines: int) -> bytes:
    return b"first\r\n" + b"".join(b"%d %s\r\n" % (i, b"." * 60) for i in range(lines))


def wait_recorded(sessionctl: Sessionctl, kind: str) -> None:
    """Return when an event of this kind is stored."""
    follower = subprocess.Popen(
        [*SESSIONCTL, "tail", "-f", "-n", "100", "-k", kind, "@0"],
        env=sessionctl.environ,
        stdout=subprocess.PIPE,
    )
    with follower:
        assert follower.stdout is not None
        assert kind.encode() in follower.stdout.readline()
        follower.kill()


def taken_over(sessionctl: Sessionctl, home: Path) -> dict[str, Any]:
    """The one session there is, once nothing waits in the spool."""
    deadline = time.monotonic() + SECONDS_MAX
    while list((home / "state" / "sessiond" / "spool").glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (session,) = sessionctl.json("list")
    return dict(session)


def test_a_daemon_killed_and_started_again_has_everything(
    daemon: RunningDaemon, sessionctl: Sessionctl, on_terminal: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    terminal = on_terminal("record", "--", *counting(20_000, gate, pause=15_001))
    terminal.wait_for("first")
    wait_recorded(sessionctl, "output")

    daemon.kill()
    gate.write_bytes(b"")
    terminal.wait_for("15000 ")
    daemon.start()
    gate.write_bytes(b"")

    assert terminal.wait() == 0
    assert b"the daemon was away once; nothing was lost" in terminal.seen
    assert sessionctl.output_bytes() == expected_bytes(20_000)
    (session,) = sessionctl.json("list")
    assert (session["status"], session["exit_code"]) == ("completed", 0)
    assert [event["seq"] for event in sessionctl.events()] == list(range(session["event_count"]))


def test_killing_the_daemon_again_and_again_loses_and_doubles_nothing(
    daemon: RunningDaemon, sessionctl: Sessionctl, tmp_path: Path, home: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    log = tmp_path / "log"
    with log.open("wb") as out:
        recorder = subprocess.Popen(
            [*SESSIONCTL, "record", "--", *counting(150_000, gate)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env=sessionctl.environ,
        )
    gate.write_bytes(b"")
    for _ in range(5):
        daemon.restart()
    _, complaint = recorder.communicate(timeout=60)

    assert recorder.returncode == 0
    # Where the daemon was away for too long at the end, the rest waits in the spool.
    assert b"nothing was lost" in complaint or b"the daemon takes them over" in complaint or complaint == b""
    assert log.read_bytes() == expected_bytes(150_000)
    recorded = taken_over(sessionctl, home)
    assert sessionctl.output_bytes(recorded["ulid"]) == expected_bytes(150_000)


def test_what_a_daemon_that_stays_away_did_not_take_is_kept_in_a_private_file(
    daemon: RunningDaemon, sessionctl: Sessionctl, on_terminal: Start, home: Path
) -> None:
    terminal = on_terminal("record", "--", "sh", "-c", "echo one; read x; echo two; exit 4")
    terminal.wait_for("one")
    wait_recorded(sessionctl, "output")

    daemon.kill()
    terminal.type("\r")
    terminal.wait_for("two")
    assert terminal.wait() == 4

    spool = home / "state" / "sessiond" / "spool"
    files = list(spool.iterdir())
    assert {path.stat().st_mode & 0o777 for path in (spool, *files)} == {0o700, 0o600}
    shown = terminal.seen.decode()
    assert "the daemon did not take the last" in shown
    assert any(f"they are in {path}, and the daemon takes them over" in shown for path in files)

    daemon.start()
    recorded = taken_over(sessionctl, home)
    assert (recorded["status"], recorded["exit_code"]) == ("completed", 4)
    assert sessionctl.output_bytes(recorded["ulid"]) == b"one\r\n\r\ntwo\r\n"


def test_waiting_for_a_stuck_daemon_shows_progress_and_ctrl_c_ends_it_with_nothing_lost(
    daemon: RunningDaemon, sessionctl: Sessionctl, on_terminal: Start, home: Path
) -> None:
    terminal = on_terminal("record", "--", "sh", "-c", "echo one; read x; echo two; exit 4")
    terminal.wait_for("one")
    wait_recorded(sessionctl, "output")

    daemon.process.send_signal(signal.SIGSTOP)
    terminal.type("\r")
    terminal.wait_for("two")
    terminal.wait_for("sessionctl: storing [")
    terminal.type("\x03")
    code = terminal.wait()
    daemon.process.send_signal(signal.SIGCONT)

    assert code == 4
    assert "and the daemon takes them over when it comes" in terminal.seen.decode()
    recorded = taken_over(sessionctl, home)
    assert (recorded["status"], recorded["exit_code"]) == ("completed", 4)
    assert sessionctl.output_bytes(recorded["ulid"]) == b"one\r\n\r\ntwo\r\n"


def test_what_was_left_in_another_directory_is_taken_over_when_asked_for(
    sessionctl: Sessionctl, tmp_path: Path
) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    producer = "01M7YXD1KGXQK2AAA9C3V1686V"
    lines = [{"type": "hello", "protocol": 1, "producer": producer}]
    lines += [
        {
            "type": "append",
            "id": n,
            "session": ulid,
            "producer": producer,
            "n": n,
            "events": [{"kind": "note", "text": f"note {n}"}],
        }
        for n in (1, 2)
    ]
    spill = tmp_path / "spill"
    for name in ("000001", "000002"):
        spill.mkdir(mode=0o700, exist_ok=True)
        (spill / f"{producer}-{name}.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))

    (taken,) = sessionctl.json("append", "--spill", str(spill))

    assert taken == {"spill": str(spill), "taken_over": 2, "waiting": 0}
    assert [event["text"] for event in sessionctl.events(ulid)] == ["note 1", "note 2"]
    assert list(spill.iterdir()) == []


def test_a_file_that_is_no_spill_file_is_refused_and_kept(sessionctl: Sessionctl, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("hello\n")

    refused = sessionctl("append", "--spill", str(other), stdin=None)
    missing = sessionctl("append", "--spill", str(tmp_path / "missing"), stdin=None)

    assert (refused.returncode, missing.returncode) == (2, 2)
    assert refused.stderr.count(b"\n") == 1
    assert other.read_text() == "hello\n"
