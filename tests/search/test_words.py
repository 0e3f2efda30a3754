"""Search by words: words, beginnings, phrases, AND, OR, NOT, any script; no query breaks anything."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.errors import Refused
from sessiond.search.words import PREFIXES_MAX, TERMS_MAX, parse_words
from tests.running import RunningDaemon
from tests.search.asking import hits, marked, recorded, refusal, seqs, snippets

TEXTS = ["red apple", "green apple tree", "red brick wall", "the apple of the tree"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("apple", [3, 1, 0]),
        ("red apple", [0]),
        ("app*", [3, 1, 0]),
        ("app", []),
        ('"apple tree"', [1]),
        ('"apple tr"*', [1]),
        ("apple AND tree", [3, 1]),
        ("brick OR green", [2, 1]),
        ("apple NOT tree", [0]),
        ("apple AND NOT tree", [0]),
        ("red AND (brick OR apple)", [2, 0]),
        ("(red OR green) NOT (wall OR tree)", [0]),
        ("red brick OR green tree", [2, 1]),
        ("apple NOT red NOT green", [3]),
        ("RED", [2, 0]),
        ("red !!!", [2, 0]),
        ("red OR ???", [2, 0]),
        ("nothing", []),
    ],
)
def test_a_query_in_words_finds_what_it_says(shared: RunningDaemon, query: str, found: list[int]) -> None:
    peer = shared.peer()
    session = recorded(peer, *TEXTS)

    assert seqs(peer, query, session=session) == found


@pytest.mark.parametrize(
    ("text", "query", "mark"),
    [
        ("Grüße aus Köln", "koln", "Köln"),
        ("Grüße aus Koln", "KÖLN", "Koln"),
        ("cafe\u0301 noir", "café", "cafe\u0301"),
        ("café noir", "cafe\u0301 noir", "café"),
        ("Ελληνικά και Ρωσικά", "ΕΛΛΗΝΙΚΆ", "Ελληνικά"),
        ("ΣΟΦΟΣ και", "σοφος", "ΣΟΦΟΣ"),
        ("МОСКВА", "москва", "МОСКВА"),  # noqa: RUF001
        ("日本語 テキスト", "日本語", "日本語"),
        ("run foo-bar.py now", "foo-bar.py", "foo-bar.py"),
        ("a 🦀 crab", "crab", "crab"),
        ("version 2.0.1", "2.0.1", "2.0.1"),
        ("snake_case", "case", "case"),
    ],
)
def test_words_are_found_in_any_script_case_and_with_or_without_diacritics(
    shared: RunningDaemon, text: str, query: str, mark: str
) -> None:
    peer = shared.peer()
    session = recorded(peer, text)

    assert marked(peer, query, session=session)[0][0] == mark


@pytest.mark.parametrize(
    "query",
    ["", "   ", '"', 'a "b', "(", ")", "(a", "a)", "()", "!!!", "*", "'", "\\", "AND", "a AND", "OR b",
     "NOT a", "a OR NOT b", "a NOT", "a AND OR b", "(" * 40 + "a" + ")" * 40, "? NOT a"],
)  # fmt: skip
def test_a_query_that_means_nothing_is_refused_with_a_hint(shared: RunningDaemon, query: str) -> None:
    peer = shared.peer()

    error = refusal(peer, query)

    assert (error["code"], error["field"]) == ("invalid", "query")


@pytest.mark.parametrize(
    "query",
    ["text:apple", "NEAR(red apple)", "^red", "red + apple", "-red", "{text}:red", "event_word",
     'a""b', '"red"" apple"', "red\0apple", "it's", "re\\d", "rank",
     "red;DROP TABLE page", "\ud83e\udd80 red"],
)  # fmt: skip
def test_the_syntax_of_the_index_means_nothing_to_a_query(shared: RunningDaemon, query: str) -> None:
    peer = shared.peer()
    session = recorded(peer, "red apple", "near text apple")

    assert hits(peer, query, session=session) is not None


def test_a_word_that_stands_for_an_operator_can_be_quoted(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer, "do NOT panic", "panic")

    assert snippets(peer, '"NOT" panic', session=session) == ["do NOT panic"]


def test_a_query_of_very_many_words_is_refused() -> None:
    assert parse_words(" ".join(["w"] * TERMS_MAX))
    with pytest.raises(Refused, match="more than"):
        parse_words(" ".join(["w"] * (TERMS_MAX + 1)))
    with pytest.raises(Refused, match="more than"):
        parse_words(" ".join(["w*"] * (PREFIXES_MAX + 1)))


FRAGMENTS = st.lists(
    st.one_of(
        st.sampled_from(["AND", "OR", "NOT", "NEAR", "(", ")", '"', '""', "*", "^", ":", "-", "+", "{"]),
        st.sampled_from(["}", "red", "a*", "*", '" ']),
        st.text(max_size=8),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    FRAGMENTS.flatmap(lambda parts: st.sampled_from([" ".join(parts), "".join(parts)])),
    st.sampled_from(["words", "substring", "regex"]),
)
def test_no_query_whatever_is_a_fault_of_the_daemon(shared: RunningDaemon, query: str, mode: str) -> None:
    with shared.peer() as peer:
        reply = peer.call("search", query=query, mode=mode)

    assert reply["type"] == "hits" or (reply["code"], reply["field"]) == ("invalid", "query"), reply


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40), st.text(max_size=20))
def test_marks_are_places_in_the_text(text: str, query: str) -> None:
    try:
        words = parse_words(query)
    except Refused:
        return

    places = list(words.spans(text))

    assert all(0 <= begin < end <= len(text) for begin, end in places)
    assert places == sorted(places)
