"""Histories that the shells themselves have written: what was typed is what is read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessionctl.imports.conversion import READERS
from sessionctl.imports.detect import Format, detect
from sessionctl.imports.entry import Entry
from sessionctl.imports.source import Source
from tests.cli.terminal import Terminal

SECOND = 1_000_000
READY = "ready> "
Typist = Callable[..., tuple[float, float]]

TYPED = [
    "echo one",
    "echo 'a \\ b \\n \\\\'",
    "echo 'two\nlines'",
    "echo é€ Ńă 😀 # #1700000000",
    ": colon",
    "echo backslash\\\\",
]
"""What a user types, with the line breaks that are typed."""

LOOP = "for x in 1 2\ndo\necho $x\ndone"
LOOP_OF_FISH = "for x in 1 2\necho $x\nend"


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Typist]:
    """Types into an interactive shell in a terminal, until it ends; gives when that began and ended."""
    terminals: list[Terminal] = []

    def run(shell: list[str], more: list[str], **variables: str) -> tuple[float, float]:
        if shutil.which(shell[0]) is None:
            pytest.skip(f"{shell[0]} is not installed")
        environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm"}
        began = time.time()
        terminal = Terminal(shell, {**environ, "XDG_DATA_HOME": str(tmp_path), **variables}, columns=200)
        terminals.append(terminal)
        for number, text in enumerate([*TYPED, *more]):
            terminal.wait_for(READY)
            for line in text.split("\n"):
                terminal.type(line + "\r")
            # What is typed while the shell gets ready for the next command could be lost.
            terminal.type(f"echo ma''rk{number}\r")
            terminal.wait_for(f"mark{number}\r")
        terminal.wait_for(READY)
        terminal.type("exit\r")
        assert terminal.wait() == 0
        return began, time.time()

    yield run
    for terminal in terminals:
        terminal.close()


def entries(path: Path, format_: Format) -> list[Entry]:
    """The history, detected as what it is, without the marks of this test."""
    with Source(path) as source:
        assert detect(source) is format_
        return [it for it in READERS[format_](source) if b"ma''rk" not in it.text and it.text != b"exit"]


def check(found: list[Entry], more: list[str], began: float, ended: float) -> None:
    assert [entry.text.decode() for entry in found] == [*TYPED, *more]
    for entry in found:
        assert entry.started_at is not None
        # Seconds; fish rounds them, the others cut them off.
        assert int(began) <= entry.started_at // SECOND <= ended + 1


def test_what_bash_has_kept_is_what_was_typed(tmp_path: Path, typed: Typist) -> None:
    history = tmp_path / "history"
    settings = tmp_path / "settings"
    settings.write_text(f"HISTTIMEFORMAT='%F '; PS1='{READY}'; PS2=; shopt -s cmdhist lithist\n")

    span = typed(["bash", "--rcfile", str(settings), "-i"], [LOOP], HISTFILE=str(history))

    check(entries(history, Format.BASH), [LOOP], *span)


def test_what_zsh_has_kept_is_what_was_typed_and_how_long_it_took(tmp_path: Path, typed: Typist) -> None:
    history = tmp_path / "history"
    (tmp_path / ".zshrc").write_text(
        f"HISTFILE={history} HISTSIZE=99 SAVEHIST=99; setopt extended_history; PS1='{READY}' PS2=\n"
    )

    span = typed(["zsh", "-i"], [LOOP, "sleep 1.1"], ZDOTDIR=str(tmp_path))

    found = entries(history, Format.ZSH)
    check(found, [LOOP, "sleep 1.1"], *span)
    assert found[-1].duration is not None
    assert 1 <= found[-1].duration // SECOND <= span[1] - span[0] + 1
    assert b"\x83" in history.read_bytes()


def test_what_fish_has_kept_is_what_was_typed(tmp_path: Path, typed: Typist) -> None:
    config = tmp_path / "config" / "fish" / "config.fish"
    config.parent.mkdir(parents=True)
    config.write_text(f"function fish_prompt; echo '{READY}'; end; set fish_greeting\n")

    span = typed(["fish", "-i"], [LOOP_OF_FISH], XDG_CONFIG_HOME=str(tmp_path / "config"))

    check(entries(tmp_path / "fish" / "fish_history", Format.FISH), [LOOP_OF_FISH], *span)
