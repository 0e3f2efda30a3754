"""The hooks of `sessionctl init`, in the real shells on real terminals."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.cli.conftest import Sessionctl
from tests.cli.hooked import (
    SESSIONCTL,
    SHELLS,
    HookedShell,
    feeders,
    first_event,
    only_session,
    spools,
    texts,
    until_ended,
)
from tests.running import RunningDaemon

Start = Callable[..., HookedShell]
each_shell = pytest.mark.parametrize("name", SHELLS)
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def shell(daemon: RunningDaemon) -> Iterator[Start]:
    """Starts shells with hooks; what still runs at the end is killed."""
    started: list[HookedShell] = []

    def start(name: str, **options: str) -> HookedShell:
        started.append(HookedShell(name, daemon, **options))
        return started[-1]

    yield start
    for it in started:
        it.close()
        for pid in feeders(it):
            os.kill(pid, signal.SIGKILL)


@each_shell
def test_every_command_is_recorded_whole_and_without_a_process_for_it(
    shell: Start, daemon: RunningDaemon, name: str
) -> None:
    it = shell(name)

    it.run("""echo "a 'b'" 'c;' | cat""")
    before = it.children_faults()
    it.run("cd /usr")
    it.run("false")
    it.run("false")
    started_no_process = it.children_faults() == before
    it.exit(3)

    first_event(daemon, "command", "exit 3")
    session, events = only_session(daemon)
    starts = texts(events, "command_start")
    assert started_no_process
    assert texts(events) == starts == ["""echo "a 'b'" 'c;' | cat""", "cd /usr", "false", "false", "exit 3"]
    commands = [event.data for event in events if event.kind == "command"]
    assert [data["index"] for data in commands] == [0, 1, 2, 3, 4]
    assert [data["exit_code"] for data in commands] == [0, 0, 1, 1, 3]
    assert [data["cwd"] for data in commands][2:] == ["/usr"] * 3
    assert all(data["started_at"] <= data["ended_at"] for data in commands)
    assert all(data["duration_ms"] >= 0 for data in commands)
    assert (session.source, session.status, session.end_reason) == ("shell", "completed", "exited")
    assert (session.exit_code, session.parent_ulid) == (3, None)
    assert session.shell is not None
    assert session.shell.endswith(name)


@each_shell
def test_a_command_is_stored_while_it_runs_and_a_killed_shell_is_interrupted(
    shell: Start, daemon: RunningDaemon, name: str
) -> None:
    it = shell(name)
    it.run("echo one")
    it.terminal.type("cat\r")
    ulid = first_event(daemon, "command_start", "cat").session
    assert ulid is not None

    os.kill(it.pid, signal.SIGKILL)

    session, events = until_ended(daemon, ulid)
    assert (session.status, session.end_reason) == ("interrupted", "client_lost")
    assert texts(events) == ["echo one"]


@each_shell
def test_a_space_and_a_switch_keep_commands_out_and_a_dot_means_this_session(
    shell: Start, daemon: RunningDaemon, name: str
) -> None:
    switch = {"fish": ("set -g SESSIONCTL_RECORD 0", "set -e SESSIONCTL_RECORD")}
    off, on = switch.get(name, ("SESSIONCTL_RECORD=0", "unset SESSIONCTL_RECORD"))
    it = shell(name)

    it.run("echo one")
    ulid = first_event(daemon, "command", "echo one").session
    assert f'"ulid":"{ulid}"' in it.run(f" {SESSIONCTL} show --json . | head -c 60")
    it.run(" echo secret")
    it.run(off)
    it.run("echo off")
    it.run(on)
    it.run("echo two")
    it.exit()

    first_event(daemon, "command", "exit 0")
    _, events = only_session(daemon)
    assert texts(events) == ["echo one", off, "echo two", "exit 0"]
    assert all("secret" not in (event.text or "") for event in events)


@each_shell
def test_a_shell_in_a_shell_has_its_own_session_and_the_outer_one_as_parent(
    shell: Start, daemon: RunningDaemon, name: str
) -> None:
    it = shell(name)
    inner = {"bash": f"bash --rcfile {daemon.home}/bashrc -i", "zsh": "zsh -i", "fish": "fish -i"}[name]

    it.run("echo outer")
    it.run(inner)
    it.run("echo inner")
    it.run("exit")
    it.run("echo again")
    it.exit()

    outer = first_event(daemon, "command", "exit 0").session
    nested = first_event(daemon, "command", "echo inner").session
    assert outer is not None
    assert nested is not None
    assert texts(until_ended(daemon, outer)[1]) == ["echo outer", inner, "echo again", "exit 0"]
    session, events = until_ended(daemon, nested)
    assert texts(events) == ["echo inner", "exit"]
    assert session.parent_ulid == outer


@each_shell
def test_a_shell_that_replaces_itself_ends_its_session(
    shell: Start, daemon: RunningDaemon, name: str
) -> None:
    it = shell(name)
    again = {
        "bash": f"exec bash --rcfile {daemon.home}/bashrc -i",
        "zsh": "exec zsh -i",
        "fish": "exec fish -i",
    }[name]

    it.run("echo before")
    it.run(again)
    it.run("echo after")

    first = first_event(daemon, "command", "echo before").session
    second = first_event(daemon, "command", "echo after").session
    assert first is not None
    assert until_ended(daemon, first)[0].status == "completed"
    assert first != second


@each_shell
def test_a_shell_that_a_recorder_records_is_not_recorded_twice_unless_asked(
    shell: Start, daemon: RunningDaemon, name: str, sessionctl: Sessionctl
) -> None:
    it = shell(name)
    inner = {"bash": f"bash --rcfile {daemon.home}/bashrc -i", "zsh": "zsh -i", "fish": "fish -i"}[name]

    it.run(f"{SESSIONCTL} record -- {inner}")
    it.run("echo once")
    it.run("exit")
    it.run(f"env SESSIONCTL_RECORD=always {SESSIONCTL} record -- {inner}")
    it.run("echo twice")
    first_event(daemon, "command", "echo twice")
    it.run("exit")

    sessions = sessionctl.json("list")
    assert sorted(session["source"] for session in sessions) == ["command", "command", "shell", "shell"]
    # A shell may be told of after the recordings in it have begun: these are in their order.
    first = [session["ulid"] for session in sessions if session["source"] == "command"][-1]
    assert b"echo once" in sessionctl.output_bytes(first)


@needs_bash
def test_an_absent_daemon_is_not_noticed_and_gets_everything_once_it_is_back(
    shell: Start, daemon: RunningDaemon
) -> None:
    it = shell("bash")
    daemon.kill()
    shown = it.run("echo one")
    daemon.start()
    first_event(daemon, "command", "echo one")
    daemon.kill()

    shown += it.run("echo two") + it.run("false") + it.run("echo three")
    daemon.start()
    first_event(daemon, "command", "echo three")
    it.exit()

    assert "sessiond" not in shown
    first_event(daemon, "command", "exit 0")
    session, events = only_session(daemon)
    assert session.status == "completed"
    assert (
        texts(events)
        == texts(events, "command_start")
        == ["echo one", "echo two", "false", "echo three", "exit 0"]
    )


@needs_bash
def test_what_a_killed_process_left_behind_is_delivered_by_the_next_one(
    shell: Start, daemon: RunningDaemon
) -> None:
    it = shell("bash")
    it.run("echo one")
    first = first_event(daemon, "command", "echo one").session
    assert first is not None
    for pid in feeders(it):
        os.kill(pid, signal.SIGKILL)
    until_ended(daemon, first)

    it.run("echo two")
    it.exit()
    for spool in spools(daemon):
        os.utime(spool, (1, 1))
    shell("bash").run("echo three")

    second = first_event(daemon, "command", "echo two").session
    assert second is not None
    session, events = until_ended(daemon, second)
    assert texts(events) == ["echo two", "exit 0"]
    assert (session.parent_ulid, session.status, session.exit_code) == (first, "completed", 0)
    assert session.name.endswith("-rest")


@needs_bash
def test_nothing_is_left_behind_when_the_shell_has_gone(shell: Start, daemon: RunningDaemon) -> None:
    it = shell("bash")
    it.run("echo one")
    session = first_event(daemon, "command", "echo one").session
    (pid,) = feeders(it)
    with open(f"/proc/{pid}/comm"):
        descriptor = os.pidfd_open(pid)
    assert session is not None

    it.exit()

    until_ended(daemon, session)
    select.select([descriptor], [], [], 30)
    os.close(descriptor)
    assert spools(daemon) == []


@each_shell
def test_a_shell_without_its_directory_works_on(shell: Start, daemon: RunningDaemon, name: str) -> None:
    it = shell(name)
    shutil.rmtree(daemon.home / "state" / "sessiond" / "shells")
    status = "$status" if name == "fish" else "$?"

    shown = it.run("false") + it.run(f"echo code={status}.") + it.run("echo two")
    it.exit(7)

    assert "code=1." in shown
    assert "sessiond" not in shown
    assert "shells" not in shown


@pytest.mark.parametrize("name", SHELLS[:2])
def test_the_terminal_shows_what_it_would_show_without_hooks(shell: Start, name: str) -> None:
    lines = [
        "echo one",
        "false",
        "echo $?",
        "",
        "nosuchcommand",
        "(exit 3)",
        'echo "$?"',
        "sleep 0 & wait",
        "set -u",
        "echo two",
        "echo hello",
        'echo "<$_>"',
        "jobs",
    ]
    shown = []

    for hooks in ("", "yes"):
        it = shell(name, hooks=hooks)
        shown.append(
            [
                line.rstrip()
                for text in map(it.run, lines)
                for line in text.splitlines()
                if not line.startswith("[1]")
            ]
        )

    assert shown[0] == shown[1]


@needs_bash
def test_the_traps_and_the_prompt_of_bash_stay_as_they_are(shell: Start, daemon: RunningDaemon) -> None:
    log = daemon.home / "log"
    before = f"""
trap 'echo "debug $BASH_COMMAND" >>{log}' DEBUG
trap 'echo "exit $?" >>{log}' EXIT
PROMPT_COMMAND='echo "prompt $?" >>{log}'
PS0='[before]'
"""
    it = shell("bash", before=before, after=f"""PROMPT_COMMAND+='; echo "added $?" >>{log}'\n""")

    log.write_text("")
    shown = it.run("(exit 5)")
    it.run("echo hello")
    it.exit(4)

    lines = log.read_text().splitlines()
    assert "[before]" in shown
    assert "prompt 5" in lines
    assert "added 5" in lines
    assert "debug echo hello" in lines
    assert lines[-1] == "exit 4"
    first_event(daemon, "command", "exit 4")


@needs_bash
def test_bash_records_repetitions_that_its_history_does_not_keep_and_nothing_it_leaves_out(
    shell: Start, daemon: RunningDaemon
) -> None:
    it = shell("bash", before="HISTIGNORE='*password*'\nalias say=echo\n")

    for line in (
        "say one",
        "say one",
        "(true)",
        "(true)",
        " say one two",
        "echo password",
        "for i in 1; do :; done",
    ):
        it.run(line)
    it.exit()

    first_event(daemon, "command", "exit 0")
    _, events = only_session(daemon)
    assert texts(events) == ["say one", "say one", "(true)", "(true)", "for i in 1; do :; done", "exit 0"]


@needs_bash
def test_bash_records_with_a_debug_trap_that_replaced_ours(shell: Start, daemon: RunningDaemon) -> None:
    it = shell("bash")

    it.run("trap ': mine' DEBUG")
    it.run("echo one")
    shown = it.run("trap -p DEBUG")
    it.exit()

    assert ": mine" in shown
    first_event(daemon, "command", "exit 0")
    _, events = only_session(daemon)
    assert texts(events)[1] == "echo one"


@needs_bash
def test_bash_without_its_newer_features_records_all_the_same(shell: Start, daemon: RunningDaemon) -> None:
    it = shell("bash", before="unset EPOCHREALTIME PROMPT_COMMAND\nPROMPT_COMMAND='true'\n")

    it.run("echo one")
    it.exit()

    first_event(daemon, "command", "exit 0")
    assert texts(only_session(daemon)[1]) == ["echo one", "exit 0"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_that_is_not_interactive_is_left_alone(
    daemon: RunningDaemon, sessionctl: Sessionctl, name: str
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    code = sessionctl.out("init", name)

    result = subprocess.run(
        [name, "-c", code + "\necho $SESSIOND_SESSION; true"], env=daemon.environ, capture_output=True
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, b"\n", b"")


def test_an_unknown_shell_is_refused_with_those_there_are(sessionctl: Sessionctl) -> None:
    result = sessionctl("init", "tcsh")

    assert result.returncode == 2
    assert b"'bash', 'zsh', 'fish'" in result.stderr
