"""What the README shows first works, and ends with two copies that are the same."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.checker import check, lines_in_file
from tests.cli.terminal import Terminal
from tests.running import ROOT, environ_for

README = (ROOT / "README.md").read_text()


def environ_with_commands(home: Path) -> dict[str, str]:
    """A home with nothing in it but the two commands, as an installation would put them on the path."""
    commands = home / "bin"
    commands.mkdir()
    for name, module in (("sessionctl", "sessionctl"), ("sessiond", "sessiond")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {module} "$@"\n')
        script.chmod(0o755)
    environ = environ_for(home)
    del environ["SESSIOND_AUTOSTART"], environ["XDG_RUNTIME_DIR"]
    return {**environ, "PATH": f"{commands}:{environ['PATH']}"}


def stop_daemon(environ: dict[str, str]) -> None:
    """Stop the daemon that was started on the way."""
    script = "kill $(sessionctl status --json | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')"
    subprocess.run(["sh", "-c", script], env=environ, check=True, cwd="/")


def test_the_first_command_records_lists_and_shows(home: Path) -> None:
    (command,) = re.findall(r"^python3 -m venv .*sessionctl record.*$", README, re.MULTILINE)
    _, _, after_install = command.partition("pip install -q . && ")
    environ = environ_with_commands(home)

    try:
        result = subprocess.run(
            ["sh", "-c", after_install.replace(".venv/bin/", "")],
            env=environ,
            capture_output=True,
            text=True,
            cwd=home,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, result.stderr
    finally:
        stop_daemon(environ)

    (path,) = (home / "data" / "sessiond" / "sessions").iterdir()
    assert result.stdout.startswith("hello")
    assert result.stdout.endswith(path.read_text())
    assert lines_in_file(path)[2] is not None
    check(home / "data" / "sessiond")


def test_the_python_of_the_readme_runs(home: Path) -> None:
    program, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environ = environ_with_commands(home)

    try:
        result = subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, cwd="/", timeout=60
        )
    finally:
        stop_daemon(environ)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("0 prompt hello\n1 note line 0\n")
    assert result.stdout.endswith("1000 note line 999\n")
    check(home / "data" / "sessiond")


def test_the_asynchronous_and_logging_python_of_the_readme_runs(home: Path) -> None:
    _, program = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environ = environ_with_commands(home)

    try:
        result = subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, cwd="/", timeout=60
        )
        listing = subprocess.run(
            ["sessionctl", "show", "logs", "--json"], env=environ, capture_output=True, text=True, cwd="/"
        ).stdout
    finally:
        stop_daemon(environ)

    assert result.returncode == 0, result.stderr
    assert '"kind":"warn"' in listing


def test_the_first_screen_looks_as_the_readme_shows_it(home: Path) -> None:
    """Times and ids differ; everything else is compared to the letter."""
    (screen,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    environ = {**environ_with_commands(home), "COLUMNS": "100", "NO_COLOR": "1"}
    commands = re.findall(r"^\$ (.*)$", screen, re.MULTILINE)
    script = "; ".join(f"echo '$' {shlex.quote(command)}; {command}" for command in commands)

    terminal = Terminal(["sh", "-c", script], environ, columns=100, rows=40)
    try:
        assert terminal.wait() == 0
        shown = terminal.seen.decode()
    finally:
        terminal.close()
        stop_daemon(environ)

    expected = [line for line in screen.splitlines() if not line.startswith("{")]
    seen = [line.rstrip() for line in shown.replace("\r", "").splitlines() if not line.startswith("{")]
    assert [masked(line) for line in seen] == [masked(line) for line in expected]


def masked(line: str) -> str:
    """The line without what differs from run to run: ids, times, durations."""
    line = re.sub(r"\b[0-9A-HJKMNP-TV-Z]{26}\b|\b[0-9A-HJKMNP-TV-Z]{8}$", "ID", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", line)
    return re.sub(r"\d\.\ds", "TOOK", line)
