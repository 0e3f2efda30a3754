"""`sessionctl diff`: what two sessions did differently."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from sessiond_client.client import Client
from tests.cli.conftest import Sessionctl
from tests.cli.terminal import Terminal
from tests.running import RunningDaemon

HOSTILE = "\x1b]0;owned\x07\u202e"

Record = Callable[..., str]


@pytest.fixture
def record(daemon: RunningDaemon) -> Record:
    """Records a session of events of one kind; its ULID."""

    def record(name: str, texts: Sequence[str], kind: str = "command") -> str:
        with Client.connect(daemon.socket, autostart=False) as client:
            session = client.start(name, owner_pid=0)
            for text in texts:
                session.append(kind, text)
            session.end()
            return session.ulid

    return record


def test_the_commands_are_compared_in_unified_form(sessionctl: Sessionctl, record: Record) -> None:
    a = record("old", ["cd /src", "make", "make test", "exit"])
    b = record("new", ["cd /src", "make -j4", "make test", "exit"])

    result = sessionctl("diff", "old", "new", "-U", "1")

    assert (result.returncode, result.stderr) == (1, b"")
    assert result.stdout.decode().splitlines() == [
        f"--- old\t{a}",
        f"+++ new\t{b}",
        "@@ -1,3 +1,3 @@",
        " cd /src",
        "-make",
        "+make -j4",
        " make test",
    ]


def test_the_same_commands_are_no_difference_whatever_else_there_is(
    sessionctl: Sessionctl, daemon: RunningDaemon, record: Record
) -> None:
    record("a", ["make"])
    with Client.connect(daemon.socket, autostart=False) as client:
        session = client.start("b", owner_pid=0)
        session.append("output", "hello")
        session.append("command", "make")
        session.end()

    assert sessionctl.out("diff", "a", "b") == ""
    (same,) = sessionctl.json("diff", "a", "b")
    assert (same["differ"], same["changes"]) == (False, [])
    assert sessionctl("diff", "a", "b", "--events").returncode == 1


def test_sessions_without_commands_are_not_the_same_for_that(sessionctl: Sessionctl, record: Record) -> None:
    record("a", ["one\n"], "output")
    record("b", ["two\n"], "output")

    result = sessionctl("diff", "a", "b")

    told = b"sessionctl: neither a nor b has commands; --events compares their output\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", told)
    assert b"-output: one\n+output: two\n" in sessionctl("diff", "a", "b", "--events").stdout


def test_json_says_where_what_was_removed_and_added(sessionctl: Sessionctl, record: Record) -> None:
    a, b = record("a", ["one", "two", "three"]), record("b", ["one", "2", "II", "three", "four"])

    result = sessionctl("diff", "a", "b", "--json")

    assert result.returncode == 1
    assert json.loads(result.stdout) == {
        "a": a,
        "b": b,
        "differ": True,
        "changes": [
            {"a": 1, "b": 1, "removed": ["two"], "added": ["2", "II"]},
            {"a": 3, "b": 4, "removed": [], "added": ["four"]},
        ],
    }


def test_a_command_of_several_lines_stays_one_and_controls_nothing(
    sessionctl: Sessionctl, record: Record
) -> None:
    record("a", [f"cat <<X\n+{HOSTILE}\nX"])
    record("b", ["cat <<X\n+\nX"])

    shown = sessionctl("diff", "a", "b").stdout.decode()

    assert shown.splitlines()[3:] == [r"-cat <<X\n+\x1b]0;owned\x07\u202e\nX", r"+cat <<X\n+\nX"]


def test_output_is_compared_line_by_line_however_it_was_cut(sessionctl: Sessionctl, record: Record) -> None:
    record("a", ["one\r\ntw", "o\r\n", "three\r\n"], "output")
    record("b", ["one\r\ntwo\r\nth", "ree\r\n"], "output")
    record("c", ["one\r\nzwei\r\nthree\r\n"], "output")

    assert sessionctl.out("diff", "a", "b", "--events") == ""
    assert sessionctl("diff", "a", "c", "--events").stdout.decode().splitlines()[3:] == [
        " output: one",
        "-output: two",
        "+output: zwei",
        " output: three",
    ]


def test_colours_are_for_terminals_only(
    sessionctl: Sessionctl, on_terminal: Callable[..., Terminal], record: Record
) -> None:
    record("a", ["make"])
    record("b", ["make test"])

    assert b"\x1b[" not in sessionctl("diff", "a", "b").stdout
    terminal = on_terminal("diff", "a", "b", PAGER="cat")
    assert terminal.wait() == 1
    assert b"\x1b[31m-make\x1b[0m\r\n\x1b[32m+make test\x1b[0m" in terminal.seen


def test_what_is_not_there_is_not_found(sessionctl: Sessionctl, record: Record) -> None:
    record("a", ["make"])

    result = sessionctl("diff", "a", "nowhere")

    assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (4, b"", 1)
