"""The text in which the commands of a session are edited: what it shows, and what it is taken for."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionctl.edition import EditedCommand, Edition, EditRefused, parse, text_of

EDITION = Edition("deploy", ["prod"], [EditedCommand("make\ntest", 3, "/src", 0), EditedCommand("ls", 5)])

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\t\"'\\\x00\x1b\x7f\x85\u202e")
)


@example(commands=["dos\r\nlines", "unix\nlines"], tags=[])
@given(commands=st.lists(TEXTS, max_size=5), tags=st.sampled_from([[], ["x"], ["a-b", "é"]]))
def test_a_text_that_was_not_touched_says_what_the_session_says(commands: list[str], tags: list[str]) -> None:
    edition = Edition("name", tags, [EditedCommand(text, seq) for seq, text in enumerate(commands)])

    text = text_of(edition, "2026-11-21T09:24:31.000000Z")

    assert parse(text, edition) == edition
    assert not set(text) & set("\x00\x1b\x7f\x85\u202e\u2066")


def test_the_text_is_made_for_people() -> None:
    text = text_of(EDITION, "2026-11-21T09:24:31.000000Z")

    assert text.startswith("# deploy, ended 2026-11-21T09:24:31.000000Z\n")
    assert 'name = "deploy"' in text
    assert '[[commands]]\ncommand = """\nmake\ntest"""\nseq = 3\ncwd = "/src"\nexit_code = 0\n' in text
    assert text.endswith('[[commands]]\ncommand = "ls"\nseq = 5\n')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = deploy", "no TOML.*line 1"),
        ("tags = []", "name"),
        ('name = "two words"', "^`name` is not a name"),
        ('name = "x"\ntags = ["!"]', "'!' is no tag"),
        ('name = "x"\ncolour = 1', "^`colour` is not known here"),
        ('name = "x"\n[[commands]]\nseq = 3', r"^`commands\[0\].command` is missing"),
        ('name = "x"\n[[commands]]\ncommand = "a"\nseq = 4', "command 1: none has seq 4"),
        ('name = "x"\n' + '[[commands]]\ncommand = "a"\nseq = 3\n' * 2, "command 2: seq 3 is there twice"),
        (
            'name = "x"\n[[commands]]\ncommand = "a"\nexit_code = "0"',
            "must be a whole number or null, not text",
        ),
        ('name = "x"\n[[commands]]\ncommand = "' + "x" * 1_100_000 + '"', "command 1 is longer"),
        ("name = " + "[" * 50_000, "no TOML"),
    ],
)
def test_a_text_that_says_no_session_is_refused_with_the_place(text: str, reason: str) -> None:
    with pytest.raises(EditRefused, match=reason):
        parse(text, EDITION)


def test_tags_are_normalised_as_everywhere() -> None:
    edited = parse('name = "x"\ntags = [" Two  Words ", "two-words", "b"]', EDITION)

    assert edited == Edition("x", ["two-words", "b"], [])
