"""What was on a terminal, as plain lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionctl.export.terminal_text import LINE_LENGTH_MAX, STRING_LENGTH_MAX, TerminalText

SEQUENCES = [
    "text",
    "漢字",
    "\n",
    "\r",
    "\b",
    "\t",
    "\x1b",
    "\x1b[",
    "\x1b[31m",
    "\x1b[2K",
    "\x1b[3D",
    "\x1b[99999999999G",
    "\x1b]0;title",
    "\x07",
    "\x1b\\",
    "\x9b",
    "\x9d",
    "\x1bP1;2q",
    "\x1b(B",
    "\x00",
    "\x85",
    "\x18",
]


def shown(*pieces: str) -> str:
    terminal = TerminalText()
    return "".join(map(terminal.feed, pieces)) + terminal.rest()


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("plain\r\nlines\n", "plain\nlines\n"),
        ("\x1b[1;31mred\x1b[0m \x9b32mgreen\x1b(B", "red green"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("a\x1bP1;2qimage\x1b\\b\x1b_app\x9cc", "abc"),
        ("\x1b]cut short\x1b[1mtext", "text"),
        ("10%\r50%\r100%\n", "100%\n"),
        ("longer\rab\n", "abnger\n"),
        ("longer\rab\x1b[K\n", "ab\n"),
        ("gti\b\b\x1b[Kit\n", "git\n"),
        ("abc\x1b[2D\x1b[Pd\n", "ad\n"),
        ("ac\b\x1b[@b\n", "abc\n"),
        ("a\x1b[5Gb\x1b[3Cc\n", "a   b   c\n"),
        ("gone\x1b[2K\rnew\n", "new\n"),
        ("top\x1b[2;1Hbottom\x1b[2J", "top\nbottom\n"),
        ("old\r\x1b[J$ ls\n", "$ ls\n"),
        ("bell\x07 nul\x00 del\x7f\n", "bell nul del\n"),
        ("\x1b", ""),
        ("a\x1b\nb", "a\nb"),
        ("spaces   \n", "spaces\n"),
    ],
)
def test_a_line_comes_out_as_it_was_last_seen(written: str, seen: str) -> None:
    assert shown(written) == seen
    assert shown(*written) == seen


def test_a_title_without_an_end_swallows_no_more_than_its_limit() -> None:
    pieces = ["\x1b]0;", *["x" * 1000 + "\n"] * (STRING_LENGTH_MAX // 1000 + 1), "after\n"]

    assert shown(*pieces).endswith("after\n")


def test_a_line_stays_one_however_long_and_little_of_it_is_kept() -> None:
    terminal = TerminalText()
    pieces = [terminal.feed("y" * 1000) for _ in range(40)]

    rest = terminal.rest()

    assert "".join(pieces) + rest == "y" * 40_000
    assert len(rest) < LINE_LENGTH_MAX
    assert shown("y" * 2 * LINE_LENGTH_MAX, "\r\nz") == "y" * 2 * LINE_LENGTH_MAX + "\nz"


@given(st.lists(st.sampled_from(SEQUENCES), max_size=40), st.integers(1, 7))
def test_it_matters_not_how_the_output_was_cut_and_no_control_comes_out(parts: list[str], size: int) -> None:
    text = "".join(parts)

    whole = shown(text)
    assert shown(*(text[at : at + size] for at in range(0, len(text), size))) == whole
    assert not any(character < " " and character not in "\t\n" for character in whole)
    assert not any("\x7f" <= character <= "\x9f" for character in whole)
