"""search: what is found, how it is shown, where it goes on, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sessionctl.commands.search import Writer
from sessionctl.output import Form
from sessiond_client.wire.messages import Hit
from tests.cli.conftest import Sessionctl
from tests.cli.terminal import Terminal

Start = Callable[..., Terminal]

HOSTILE = "\x9b31m\x07\u202e"
SHOWN = r"\x9b31m\x07\u202e"


def recorded(sessionctl: Sessionctl, name: str, *lines: str, kind: str = "output", tag: str = "x") -> str:
    """A session with a line of text in each event; its ULID."""
    ulid = sessionctl.out("start", "--detach", "-n", name, "-t", tag).strip()
    sessionctl.out("append", ulid, kind, "-", stdin="\n".join(lines).encode())
    return ulid


def found(sessionctl: Sessionctl, *arguments: str) -> list[str]:
    """The texts that a search finds, newest first; none is a negative result."""
    result = sessionctl("search", *arguments, "--json")
    assert result.stderr == b"", result
    hits = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == (0 if hits else 1)
    return [hit["snippet"] for hit in hits]


def test_words_characters_and_expressions_are_found_newest_first(sessionctl: Sessionctl) -> None:
    recorded(sessionctl, "one", "Deploy begins", "an error: timeout", "deployment ends")

    assert found(sessionctl, "deploy") == ["Deploy begins"]
    assert found(sessionctl, "deploy*") == ["deployment ends", "Deploy begins"]
    assert found(sessionctl, "begins OR timeout") == ["an error: timeout", "Deploy begins"]
    assert found(sessionctl, "--substring", "PLOYM") == ["deployment ends"]
    assert found(sessionctl, "-e", r"error: \w+out") == found(sessionctl, "--mode", "regex", "error: .*out")
    assert found(sessionctl, "-e", r"error: \w+out") == ["an error: timeout"]
    assert found(sessionctl, "nothing-like-it") == []


def test_sessions_are_found_by_name_tag_and_label(sessionctl: Sessionctl) -> None:
    ulid = recorded(sessionctl, "nightly", "some output", tag="deploy")
    sessionctl.out("label", "set", "baseline", ulid)

    for query in ("nightly", "deploy", "baseline"):
        (line,) = sessionctl.out("search", query).splitlines()
        assert line.split("\t")[:3] == [ulid, "", "session"]


def test_a_search_is_narrowed_by_every_filter(sessionctl: Sessionctl) -> None:
    one = recorded(sessionctl, "one", "make", kind="note", tag="red")
    sessionctl.out("append", one, "command", "make", "--data", '{"exit_code": 2, "cwd": "/srv"}')
    sessionctl.out("append", one, "note", "make", "--at", "2001-02-03T04:05:06Z")
    two = recorded(sessionctl, "two", "make", tag="blue")

    def places(*options: str) -> list[tuple[str, int]]:
        result = sessionctl("search", "make", *options, "--json")
        return [(hit["session"], hit["seq"]) for hit in map(json.loads, result.stdout.splitlines())]

    assert set(places()) == {(one, 0), (one, 1), (one, 2), (two, 0)}
    assert places("-s", "two") == places("-t", "blue") == places("-k", "output") == [(two, 0)]
    assert places("--exit-code", "2") == places("--cwd", "/srv/.") == [(one, 1)]
    assert places("--until", "2001-02-04") == [(one, 2)]
    assert set(places("--since", "1h", "-k", "note", "-k", "output")) == {(one, 0), (two, 0)}
    assert sessionctl("search", "make", "-s", "three").returncode == 4


def test_a_search_that_stops_at_its_limit_says_how_to_go_on(sessionctl: Sessionctl) -> None:
    recorded(sessionctl, "many", *(f"line {number}" for number in range(30)))

    first = sessionctl("search", "line", "-n", "20")
    *_, cursor = first.stderr.decode().split()
    rest = sessionctl.out("search", "line", "--before", cursor)
    everything = sessionctl.out("search", "line", "--all")

    assert first.stderr.startswith(b"sessionctl: there is more; go on with: --before ")
    assert len(first.stdout.splitlines()) == 20
    assert first.stdout.decode() + rest == everything
    assert everything.count("\n") == 30
    assert sessionctl("search", "line", "-n", "0").stdout == b""
    assert sessionctl("search", "line", "--before", "nonsense\x1b").returncode == 2


def test_all_goes_through_every_page(sessionctl: Sessionctl) -> None:
    recorded(sessionctl, "many", *("again" for _ in range(2500)))

    assert sessionctl.out("search", "again", "--all").count("\n") == 2500
    assert sessionctl.out("search", "again", "-n", "2500").count("\n") == 2500


def test_on_a_terminal_matches_are_marked_and_hostile_text_is_escaped(
    sessionctl: Sessionctl, on_terminal: Start
) -> None:
    recorded(sessionctl, "one", f"{HOSTILE} deploy {HOSTILE} failed")

    coloured = on_terminal("search", "deploy")
    plain = on_terminal("search", "deploy", NO_COLOR="1")

    assert (coloured.wait(), plain.wait()) == (0, 0)
    assert f"{SHOWN} \x1b[31mdeploy\x1b[0m {SHOWN} failed".encode() in coloured.seen
    assert f"one 0  output  {SHOWN} deploy {SHOWN} failed".encode() in plain.seen
    assert not set("\x1b\x07\u202e") & set(plain.seen.decode())
    assert SHOWN in sessionctl.out("search", "deploy")


@pytest.mark.parametrize(
    ("marks", "shown"),
    [
        ([], "ab\\x1bcd"),
        ([(0, 1)], "<a>b\\x1bcd"),
        ([(1, 3), (2, 4)], "a<b\\x1b><c>d"),
        ([(3, 99), (4, 1), (2, 2)], "ab\\x1b<cd>"),
    ],
)
def test_marks_never_lose_or_double_text(
    marks: list[tuple[int, int]], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    hit = Hit(session="s", name="n", at="2026-11-21T09:24:31Z", snippet="ab\x1bcd", marks=marks)

    marked = Writer(Form.PRETTY).marked(hit)

    assert marked.replace("\x1b[31m", "<").replace("\x1b[0m", ">") == shown


def test_a_bad_query_is_one_clear_line(sessionctl: Sessionctl) -> None:
    for arguments in (
        ["-e", "("],
        ["-e", "a**"],
        ['"open'],
        [""],
        ["x", "-e", "--substring"],
        ["x", "--mode", "words", "-e"],
        ["x" * 5000],
    ):
        result = sessionctl("search", *arguments)

        assert (result.returncode, result.stdout) == (2, b""), result
        assert result.stderr.startswith(b"sessionctl: ")
        assert result.stderr.count(b"\n") == 1


def test_several_words_need_no_quotes(sessionctl: Sessionctl) -> None:
    recorded(sessionctl, "one", "the connection was refused", "refused")

    found = sessionctl.out("search", "connection", "refused")

    assert found == sessionctl.out("search", "connection refused")
    assert len(found.splitlines()) == 1


def test_nothing_found_on_a_terminal_says_so(on_terminal: Start) -> None:
    terminal = on_terminal("search", "nothing")

    assert terminal.wait() == 1
    assert b"nothing was found" in terminal.seen
