"""What the shells complete: in real shells, from a real daemon, and quietly without one."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionctl.installation.completion import ANSWER_SECONDS
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.terminal import SECONDS_MAX, Terminal
from tests.running import RunningDaemon, environ_for

PATIENT = [
    sys.executable,
    "-P",
    "-c",
    (
        "from sessionctl.installation import completion; from sessionctl.main import main;"
        f" completion.ANSWER_SECONDS = {SECONDS_MAX}; main()"
    ),
]
"""`sessionctl` that waits for the answers: on a busy machine a daemon may need longer than a user has."""

HOSTILE_LABELS = ["two words", "$(touch owned)", "`id`", "-rf", "a;b", "x\u202ey"]


@pytest.fixture
def shell_environ(daemon: RunningDaemon) -> dict[str, str]:
    """An environment in which `sessionctl` is a program on the PATH."""
    return with_program(daemon.environ, daemon.home)


def with_program(environ: dict[str, str], home: Path) -> dict[str, str]:
    """`environ` with `sessionctl` on its PATH."""
    program = home / "bin" / "sessionctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PATIENT)} "$@"\n')
    program.chmod(0o755)
    return {**environ, "PATH": f"{program.parent}:{environ['PATH']}"}


def in_bash(environ: dict[str, str], *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = (
        '. "$HOME/completions"; COMP_WORDS=(sessionctl "$@"); COMP_CWORD=$#;'
        ' _sessionctl_completion sessionctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words], capture_output=True, env=environ, timeout=60
    )
    assert result.stderr == b"", result
    return result.stdout.decode().split()


def test_bash_completes_names_labels_and_tags(shell_environ: dict[str, str], sessionctl: Sessionctl) -> None:
    sessionctl.out("start", "--detach", "-n", "nightly-1", "-t", "deploy")
    sessionctl.out("start", "--detach", "-n", "other")
    sessionctl.out("label", "set", "nice", "@last")
    sessionctl.out("delete", "--force", sessionctl.out("start", "--detach", "-n", "nightly-2").strip())

    script = sessionctl.out("completions", "bash")
    Path(shell_environ["HOME"], "completions").write_text(script)

    assert in_bash(shell_environ, "show", "ni") == ["nightly-1", "nice"]
    assert in_bash(shell_environ, "rename", "") == ["@last", "other", "nightly-1", "nice"]
    assert in_bash(shell_environ, "restore", "ni") == ["nightly-2"]
    assert in_bash(shell_environ, "label", "remove", "") == ["nice"]
    assert in_bash(shell_environ, "list", "--tag", "de") == ["deploy"]
    assert in_bash(shell_environ, "tag", "add", "other", "d") == ["deploy"]
    assert in_bash(shell_environ, "res") == ["restore"]
    assert in_bash(shell_environ, "tag", "n") == ["normalize"]
    assert in_bash(shell_environ, "no-such-command", "x") == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_names_with_what_they_are(
    shell_environ: dict[str, str], sessionctl: Sessionctl
) -> None:
    sessionctl.out("start", "--detach", "-n", "nightly")
    sessionctl.out("label", "set", "nice", "nightly")
    script = "sessionctl completions fish | source; complete -C 'sessionctl show ni'"

    result = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, env=shell_environ, timeout=60
    )

    offered = dict(line.split("\t") for line in result.stdout.decode().splitlines())
    assert set(offered) == {"nightly", "nice"}
    assert offered["nightly"].startswith("recording session of 20")
    assert offered["nice"] == "label of nightly"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_a_name_at_the_press_of_the_key(
    shell_environ: dict[str, str], sessionctl: Sessionctl
) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "nightly").strip()
    terminal = Terminal(["zsh", "-f", "-i"], {**shell_environ, "PS1": "ready> ", "PAGER": "cat"})
    try:
        terminal.wait_for("ready> ")
        terminal.type(
            'autoload -Uz compinit; compinit -u; eval "$(sessionctl completions zsh)"; echo do""ne\n'
        )
        terminal.wait_for("done\r\n")
        terminal.wait_for("ready> ")
        terminal.type("sessionctl show --file nigh\t")
        terminal.wait_for("nightly")
        terminal.type("\n")
        terminal.wait_for(f"{ulid}.ndjson")
    finally:
        terminal.close()


def complete(
    environ: dict[str, str], words: str, program: list[str] = SESSIONCTL
) -> subprocess.CompletedProcess[bytes]:
    """One press of the key, without the shell."""
    variables = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_SESSIONCTL_COMPLETE": "bash_complete",
    }
    return subprocess.run(program, capture_output=True, env={**environ, **variables}, timeout=60)


def test_formats_are_completed_without_a_daemon(home: Path) -> None:
    environ = with_program(environ_for(home), home)
    Path(environ["HOME"], "completions").write_text(Sessionctl(environ).out("completions", "bash"))

    assert in_bash(environ, "export", "-F", "ma") == ["makefile"]
    assert in_bash(environ, "import", "-F", "") == ["ndjson", "cast", "bash", "zsh", "fish", "plain"]


def test_labels_that_a_shell_would_take_for_something_else_are_not_offered(sessionctl: Sessionctl) -> None:
    sessionctl.out("start", "--detach", "-n", "one")
    for label in (*HOSTILE_LABELS, "v1.2/final"):
        sessionctl.out("label", "set", "--", label, "one")

    result = complete(sessionctl.environ, "sessionctl label remove ", PATIENT)

    assert result.stdout.decode().split() == ["plain,v1.2/final"]


def test_without_a_daemon_nothing_is_offered_said_or_started(home: Path) -> None:
    environ = {**environ_for(home), "SESSIOND_AUTOSTART": "1"}

    result = complete(environ, "sessionctl show n")

    assert (result.stdout.strip(), result.stderr) == (b"", b"")
    assert list(home.iterdir()) == []


@pytest.fixture
def silent_socket(home: Path) -> Iterator[socket.socket]:
    """Something that accepts connections at the daemon's place, for the test to treat badly."""
    path = home / "run" / "sessiond" / "sessiond.sock"
    path.parent.mkdir(parents=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(SECONDS_MAX)
        yield listener


def test_a_daemon_that_does_not_answer_is_given_up_in_time(
    home: Path, silent_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    import click

    from sessionctl.installation import completion

    monkeypatch.setenv("SESSIOND_SOCKET", silent_socket.getsockname())
    context = click.Context(click.Command("show"))

    offered = completion.sessions(context, click.Argument(["session"]), "n")

    assert offered == []  # it would have waited for ever
    assert ANSWER_SECONDS <= 0.05
    result = complete(environ_for(home), "sessionctl show n")
    assert (result.stdout.strip(), result.stderr) == (b"", b"")


def test_an_answer_that_is_no_answer_is_no_trouble(home: Path, silent_socket: socket.socket) -> None:
    def answer() -> None:
        connection, _ = silent_socket.accept()
        with connection:
            connection.sendall(b'{"type":"welcome","id":1,"protocol":1}\nnonsense\n')

    answering = threading.Thread(target=answer)
    answering.start()
    result = complete(environ_for(home), "sessionctl show n")
    answering.join()

    assert (result.stdout.strip(), result.stderr) == (b"", b"")


def test_completing_a_command_loads_neither_commands_nor_the_client(sessionctl: Sessionctl) -> None:
    probe = "import os, sys; from sessionctl.main import main\n"
    probe += "os._exit = lambda code: print(*sys.modules, file=sys.stderr)\nmain()"
    variables = {"COMP_WORDS": "sessionctl ta", "COMP_CWORD": "1", "_SESSIONCTL_COMPLETE": "bash_complete"}

    result = subprocess.run(
        [sys.executable, "-P", "-c", probe],
        capture_output=True,
        env={**sessionctl.environ, **variables},
        timeout=60,
    )

    assert result.stdout.split() == [b"plain,tail", b"plain,tag"]
    assert b"sessionctl.commands" not in result.stderr
    assert b"msgspec" not in result.stderr


def test_the_script_of_an_unknown_shell_is_wrong_usage(sessionctl: Sessionctl) -> None:
    result = sessionctl("completions", "tcsh")

    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert sessionctl.json("completions", "fish")[0]["shell"] == "fish"
