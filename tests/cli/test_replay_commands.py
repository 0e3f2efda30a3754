"""`sessionctl replay` of commands: what runs, what does not, and who is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sessiond_client.client import Client
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.recorded import shared_daemon
from tests.cli.terminal import Terminal
from tests.running import RunningDaemon

daemon = shared_daemon

Record = Callable[..., str]
Start = Callable[..., Terminal]


@pytest.fixture
def record(daemon: RunningDaemon, tmp_path: Path) -> Record:
    """Records commands; the ULID of their session."""

    def record(
        commands: Sequence[str], *, shell: str | None = "/bin/sh", cwd: str | None = None, end: bool = True
    ) -> str:
        with Client.connect(daemon.socket, autostart=False) as client:
            session = client.start("setup", owner_pid=0, shell=shell, source="shell")
            for command in commands:
                session.append("command", command, {"cwd": cwd or str(tmp_path), "exit_code": 0})
            if end:
                session.end()
            return session.ulid

    return record


def summary(result: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """What `--json` prints behind the output of the commands."""
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    del told["session"]
    return told


def counts(total: int, executed: int, **others: Any) -> dict[str, Any]:
    """A summary in which all else is nothing, unless told."""
    nothing = {"skipped": 0, "denied": 0, "failed": 0, "aborted": False, "planned": None}
    return {"total": total, "executed": executed, **nothing, **others}


# --- running


def test_commands_run_in_order_and_are_counted(sessionctl: Sessionctl, record: Record) -> None:
    record(["echo one", "echo two >&2", "echo three"])

    result = sessionctl("replay", "@0", "--json")

    assert result.returncode == 0
    assert result.stdout.startswith(b"one\nthree\n")
    assert result.stderr == b"[0] $ echo one\n[1] $ echo two >&2\ntwo\n[2] $ echo three\n"
    assert summary(result) == counts(3, 3)
    assert sessionctl("replay", "@0").stderr.endswith(b"3 commands: 3 executed, 0 skipped, 0 failed\n")


def test_a_failure_is_told_counted_and_gone_past(sessionctl: Sessionctl, record: Record) -> None:
    record(["exit 3", "kill -KILL $$", "echo after"])

    result = sessionctl("replay", "@0", "--json")

    assert result.returncode == 1
    assert result.stdout.startswith(b"after\n")
    assert b"[0] failed: exit code 3" in result.stderr
    assert b"[1] failed: exit code 137" in result.stderr
    assert summary(result) == counts(3, 3, failed=2)


def test_commands_run_where_they_were_run_unless_told_otherwise(
    sessionctl: Sessionctl, record: Record, tmp_path: Path
) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    record(["pwd"], cwd=str(there))

    assert sessionctl("replay", "@0").stdout.decode() == f"{there}\n"
    assert sessionctl("replay", "@0", "--cwd", str(elsewhere)).stdout.decode() == f"{elsewhere}\n"
    there.rmdir()
    gone = sessionctl("replay", "@0")
    assert gone.stdout.decode() == f"{os.getcwd()}\n"
    assert f"{there} is not there any more".encode() in gone.stderr


def test_the_shell_of_the_session_runs_them_if_it_is_known(sessionctl: Sessionctl, record: Record) -> None:
    bash, unknown, none = (
        record(["echo ${BASH_VERSION:+bash}${0##*/}"], shell=shell)
        for shell in ("/usr/local/nowhere/bash", "/tmp/evil", None)
    )

    def ran(ulid: str) -> tuple[bytes, bool]:
        result = sessionctl("replay", ulid)
        return result.stdout, b"is not known here" in result.stderr

    assert ran(bash) == (b"bashbash\n", False)
    assert ran(unknown) == (b"sh\n", True)
    assert ran(none) == (b"sh\n", False)


def test_bytes_that_are_no_text_reach_the_shell_as_they_were(
    sessionctl: Sessionctl, daemon: RunningDaemon
) -> None:
    with Client.connect(daemon.socket, autostart=False) as client, client.start(owner_pid=0) as session:
        session.append("command", "printf caf\ufffd", {"b64": "cHJpbnRmIGNhZuk="})

    assert sessionctl("replay", "@0").stdout == b"caf\xe9"
    (plan,) = sessionctl.json("replay", "@0", "--dry-run")
    assert plan["planned"][0]["command"] == "printf caf\ufffd"


def test_a_command_is_shown_without_controlling_the_terminal(sessionctl: Sessionctl, record: Record) -> None:
    record(["true '\x1b]0;owned\x07\u202e'\ntrue", "\x00"])

    result = sessionctl("replay", "@0")

    assert b"[0] $ true '\\x1b]0;owned\\x07\\u202e'\n      true\n" in result.stderr
    assert b"cannot be run" in result.stderr
    assert b"[1] failed: exit code 126" in result.stderr


def test_a_session_without_an_end_is_replayed_with_a_warning(sessionctl: Sessionctl, record: Record) -> None:
    record(["echo here"], end=False)

    result = sessionctl("replay", "@0")

    assert (result.returncode, result.stdout) == (0, b"here\n")
    assert b"no proper end (recording)" in result.stderr


# --- choosing


def test_filters_leave_commands_out_and_dry_run_runs_none(sessionctl: Sessionctl, record: Record) -> None:
    record([f"echo {word}" for word in ("zero", "one", "two", "three", "four")] + ["vim x"])

    def left(*options: str) -> list[str]:
        shown = sessionctl.out("replay", "@0", "--dry-run", *options)
        return [line.split("\t")[2].removeprefix("echo ") for line in shown.splitlines()]

    assert left() == ["zero", "one", "two", "three", "four", "vim x"]
    assert left("--from", "4") == ["four", "vim x"]
    assert left("--skip", "0,2", "--skip", "5") == ["one", "three", "four"]
    assert left("--skip-pattern", "vim *,*t*", "--from", "1") == ["one", "four"]
    result = sessionctl("replay", "@0", "--skip-pattern", "vim *", "--from", "3", "--json")
    assert result.stdout.startswith(b"three\nfour\n")
    assert summary(result) == counts(6, 2, skipped=4)


def test_filters_that_leave_nothing_say_so(sessionctl: Sessionctl, record: Record) -> None:
    ulid = record(["echo one"])

    for options in (["--from", "99"], ["--skip", "0", "--dry-run"], ["--skip-pattern", "echo *"]):
        result = sessionctl("replay", ulid, *options)
        told = b"sessionctl: nothing is left to run: 1 command, and all are passed over\n"
        assert (result.returncode, result.stdout, result.stderr) == (1, b"", told)


def test_a_plan_names_what_is_destructive(sessionctl: Sessionctl, record: Record, tmp_path: Path) -> None:
    ulid = record(["ls", "rm -rf x"])

    (plan,) = sessionctl.json("replay", "@0", "--dry-run", "--skip", "7", "--danger-policy", "abort")

    steps = [
        {"index": 0, "command": "ls", "cwd": str(tmp_path), "destructive": None},
        {
            "index": 1,
            "command": "rm -rf x",
            "cwd": str(tmp_path),
            "destructive": "deletes recursively or without asking",
        },
    ]
    assert plan == {"session": ulid, **counts(2, 0, planned=steps)}


# --- danger


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Commands of which one deletes a file, and the file."""
    (tmp_path / "precious").touch()
    return ["echo before", "rm -f precious", "echo after"]


def test_with_nobody_to_ask_what_is_destructive_is_not_run(
    sessionctl: Sessionctl, record: Record, files: list[str], tmp_path: Path
) -> None:
    record(files)

    for options in ((), ("--danger-policy", "skip")):
        result = sessionctl("replay", "@0", "--json", *options)

        assert result.returncode == 1
        assert result.stdout.startswith(b"before\nafter\n")
        assert b"[1] not run: this deletes recursively" in result.stderr
        assert summary(result) == counts(3, 2, skipped=1, denied=1)
        assert (tmp_path / "precious").exists()


def test_it_runs_when_told_to(
    sessionctl: Sessionctl, record: Record, files: list[str], tmp_path: Path
) -> None:
    record(files)

    for options in (["--force"], ["--danger-policy", "allow"], ["--danger-level", "minimal"]):
        (tmp_path / "precious").touch()
        assert sessionctl("replay", "@0", *options).returncode == 0
        assert not (tmp_path / "precious").exists()


def test_abort_runs_nothing_if_anything_that_would_run_is_destructive(
    sessionctl: Sessionctl, record: Record, files: list[str], tmp_path: Path
) -> None:
    record(files)

    result = sessionctl("replay", "@0", "--danger-policy", "abort", "--json")
    filtered = sessionctl("replay", "@0", "--danger-policy", "abort", "--skip", "1", "--json")

    assert (result.returncode, result.stdout.count(b"\n")) == (1, 1)
    assert b"[1] deletes recursively or without asking: rm -f precious" in result.stderr
    assert summary(result) == counts(3, 0, denied=1, aborted=True)
    assert (filtered.returncode, filtered.stdout.count(b"\n")) == (0, 3)
    assert (tmp_path / "precious").exists()


def test_levels_and_patterns_of_the_user_decide_what_is_destructive(
    sessionctl: Sessionctl, record: Record
) -> None:
    record(["mv a b", "./deploy prod", "./deploy test"])

    def denied(*options: str) -> list[int]:
        (plan,) = sessionctl.json("replay", "@0", "--dry-run", *options)
        return [step["index"] for step in plan["planned"] if step["destructive"]]

    assert denied() == []
    assert denied("--danger-level", "strict") == [0]
    assert denied("--danger-pattern", "prod$", "--danger-pattern", "b$") == [0, 1]


# --- a terminal to ask at


def test_each_step_is_asked_for(on_terminal: Start, record: Record) -> None:
    record([f"echo did-{word}" for word in ("zero", "one", "two", "three")])
    terminal = on_terminal("replay", "@0", "--step", "--json")

    for answer in ("r", "nonsense", "skip", "all"):
        terminal.wait_for("run all (a)?" if "run all" in answer else "all (a)?")
        terminal.type(f"{answer}\r")

    assert terminal.wait() == 0
    assert b"did-two\r\n" in terminal.seen
    assert b"did-three\r\n" in terminal.seen
    assert json.loads(terminal.seen.splitlines()[-1])["executed"] == 3


def test_a_step_can_be_the_last(on_terminal: Start, record: Record) -> None:
    record(["echo did-zero", "echo did-one"])
    terminal = on_terminal("replay", "@0", "--step")

    terminal.wait_for("all (a)?")
    terminal.type("q\r")

    assert terminal.wait() == 1
    assert b"2 commands: 0 executed, 0 skipped, 0 failed, aborted" in terminal.seen


def test_what_is_destructive_is_asked_about(
    on_terminal: Start, record: Record, files: list[str], tmp_path: Path
) -> None:
    record(files)

    for answer, code, exists in (("s", 1, True), ("q", 1, True), ("r", 0, False)):
        terminal = on_terminal("replay", "@0")
        terminal.wait_for("this deletes recursively or without asking:")
        terminal.type(f"{answer}\r")

        assert terminal.wait() == code
        assert (tmp_path / "precious").exists() == exists
        assert (b"\r\nafter\r\n" in terminal.seen) == (answer != "q")


def test_after_a_failure_it_goes_on_ends_or_tries_again(
    on_terminal: Start, record: Record, tmp_path: Path
) -> None:
    record(["test -e made", "test -e never", "echo not reached"])
    terminal = on_terminal("replay", "@0", "--json")

    terminal.wait_for("retry (t)?")
    (tmp_path / "made").touch()
    terminal.type("t\r")
    terminal.wait_for("retry (t)?")
    terminal.type("q\r")

    assert terminal.wait() == 1
    told = json.loads(terminal.seen.splitlines()[-1])
    assert (told["executed"], told["failed"], told["aborted"]) == (2, 1, True)


def test_steps_need_a_terminal(sessionctl: Sessionctl, record: Record) -> None:
    record(["echo one"])

    result = sessionctl("replay", "@0", "--step")

    assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (2, b"", 1)


# --- being told to end


def test_ctrl_c_ends_the_command_and_the_replay(on_terminal: Start, record: Record) -> None:
    record(["echo ready; exec sleep 60", "echo not reached"])
    terminal = on_terminal("replay", "@0")

    terminal.wait_for("\r\nready")
    terminal.type("\x03")

    assert terminal.wait() == 130
    assert b"2 commands: 1 executed, 0 skipped, 0 failed, aborted" in terminal.seen
    assert b"\r\nnot reached" not in terminal.seen


def test_told_to_end_it_takes_the_command_along(sessionctl: Sessionctl, record: Record) -> None:
    record(["echo ready; sleep 60; echo survived", "echo not reached"])
    with subprocess.Popen(
        [*SESSIONCTL, "replay", "@0", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=sessionctl.environ,
    ) as replay:
        assert replay.stdout is not None
        assert replay.stdout.readline() == b"ready\n"

        replay.send_signal(signal.SIGTERM)
        rest = replay.stdout.read()  # it ends only when nobody has it open: the sleep, too

    assert replay.returncode == 130
    assert json.loads(rest)["aborted"] is True


# --- one way or the other


def test_what_a_session_has_decides_what_replay_does(sessionctl: Sessionctl, daemon: RunningDaemon) -> None:
    with Client.connect(daemon.socket, autostart=False) as client:
        for name, kinds in {"both": ("output", "command"), "none": ("note",), "shown": ("output",)}.items():
            with client.start(name, owner_pid=0) as session:
                for kind in kinds:
                    session.append(kind, "echo ran")

    assert sessionctl("replay", "both").stdout == b"echo ran"
    assert sessionctl("replay", "both", "--commands").stdout == b"ran\n"
    assert sessionctl("replay", "both", "--terminal").stdout == b"echo ran"
    for arguments in (["none"], ["none", "--terminal"], ["none", "--commands"], ["shown", "--commands"]):
        result = sessionctl("replay", *arguments)
        assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (1, b"", 1), arguments


def test_options_that_do_not_fit_are_refused_before_anything_runs(
    sessionctl: Sessionctl, daemon: RunningDaemon
) -> None:
    with Client.connect(daemon.socket, autostart=False) as client:
        for name, kind in (("commands", "command"), ("shown", "output")):
            with client.start(name, owner_pid=0) as session:
                session.append(kind, "echo ran")

    for arguments in (
        ["commands", "--speed", "2"],
        ["commands", "--no-wait", "--commands"],
        ["shown", "--dry-run"],
        ["shown", "--terminal", "--json"],
        ["commands", "--skip", "one"],
        ["commands", "--from", "-1"],
        ["commands", "--danger-pattern", "("],
        ["commands", "--danger-policy", "skip", "--force"],
        ["commands", "--cwd", "/nowhere"],
        ["commands", "--danger-level", "lax"],
    ):
        result = sessionctl("replay", *arguments)

        assert (result.returncode, result.stdout) == (2, b""), arguments
        assert result.stderr.count(b"\n") == 1
