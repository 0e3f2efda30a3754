"""What is a hit: filters, order, pages, snippets, sessions by name, tag and label, the trash."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.peer import Peer
from tests.running import RunningDaemon
from tests.search.asking import hits, marked, recorded, refusal, seqs, snippets

MODES = ["words", "substring", "regex"]
NOBODY = "01BX5ZZKBKACTAV9WEVGEMMVRZ"


def command(peer: Peer, session: str, text: str, **data: Any) -> None:
    """A finished command."""
    reply = peer.call("append", session=session, events=[{"kind": "command", "text": text, "data": data}])
    assert reply["type"] == "appended", reply


@pytest.mark.parametrize("mode", MODES)
def test_what_was_acknowledged_a_moment_ago_is_found(shared: RunningDaemon, mode: str) -> None:
    peer = shared.peer()
    session = recorded(peer)

    for number in range(50):
        peer.append(session, f"moment{number}")
        assert seqs(peer, f"moment{number}", mode=mode, session=session) == [number]


@pytest.mark.parametrize("mode", MODES)
def test_hits_of_events_are_newest_first_over_all_sessions(daemon: RunningDaemon, mode: str) -> None:
    peer = daemon.peer()
    one, two = recorded(peer), recorded(peer)
    for session in (one, two, two, one):
        peer.append(session, "same word")

    assert [(hit["session"], hit["seq"]) for hit in hits(peer, "same", mode=mode)] == [
        (one, 1), (two, 1), (two, 0), (one, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_hits_are_kept_to_a_session(shared: RunningDaemon, mode: str) -> None:
    peer = shared.peer()
    one, two, _ = (recorded(peer, "kept a", "kept b") for _ in range(3))
    peer.append(one, "kept c")

    assert seqs(peer, "kept", mode=mode, session=one) == [2, 1, 0]
    assert {hit["session"] for hit in hits(peer, "kept", mode=mode, session=two)} == {two}
    assert seqs(peer, "kept", mode=mode, session=recorded(peer)) == []
    assert refusal(peer, "kept", mode=mode, session=NOBODY)["code"] == "not_found"


def test_hits_are_kept_to_kinds(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer, "kinds")
    peer.append(session, "kinds", kind="output")
    peer.append(session, "kinds", kind="message")

    assert seqs(peer, "kinds", session=session, kinds=["output"]) == [1]
    assert seqs(peer, "kinds", session=session, kinds=["output", "prompt"]) == [1, 0]
    assert seqs(peer, "kinds", session=session, kinds=["nothing"]) == []


def test_hits_are_kept_to_tags_in_any_spelling(shared: RunningDaemon) -> None:
    peer = shared.peer()
    one = recorded(peer, "tagged", tags=["Deep Work", "x"])
    two = recorded(peer, "tagged", tags=["y"])
    recorded(peer, "tagged")

    assert [hit["session"] for hit in hits(peer, "tagged", tags=[" deep  WORK "])] == [one]
    assert [hit["session"] for hit in hits(peer, "tagged", tags=["x", "y"])] == [two, one]
    assert refusal(peer, "tagged", tags=["no tag!"])["field"] == "tags"


def test_hits_are_kept_to_a_time(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer)
    events = [{"kind": "note", "text": "timed", "at": f"2020-01-0{day}T00:00:00Z"} for day in (1, 2, 3, 4)]
    peer.call("append", session=session, events=events)

    between = {"since": "2020-01-02T00:00:00Z", "until": "2020-01-04T00:00:00Z"}
    assert seqs(peer, "timed", **between) == [2, 1]
    assert seqs(peer, "timed", until="2020-01-02T01:00:00+01:00") == [0]
    assert seqs(peer, "timed", since="2020-01-03T00:00:00Z", session=session) == [3, 2]


def test_hits_are_kept_to_commands_by_exit_code_and_directory(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer, "make noise", cwd="/home/u")
    command(peer, session, "make a", exit_code=0, cwd="/src")
    command(peer, session, "make b", exit_code=2, cwd="/src")
    command(peer, session, "make c", exit_code=2)

    assert seqs(peer, "make", session=session, exit_code=2) == [3, 2]
    assert seqs(peer, "make", session=session, exit_code=0) == [1]
    assert seqs(peer, "make", session=session, cwd="/src") == [2, 1]
    assert seqs(peer, "make", session=session, cwd="/home/u") == [3, 0]
    assert seqs(peer, "make", session=session, cwd="/home/u", exit_code=2) == [3]


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_found_by_its_name_and_tags_before_any_event(daemon: RunningDaemon, mode: str) -> None:
    peer = daemon.peer()
    old = recorded(peer, "Birch in a text", name="birch", started_at="2020-01-01T00:00:00Z")
    new = recorded(peer, tags=["birch"], started_at="2021-01-01T00:00:00Z")
    recorded(peer, name="oak")

    found = hits(peer, "birch", mode=mode)
    if mode == "regex":
        found = hits(peer, "(?i)^birch", mode=mode)

    assert [(hit["session"], hit["seq"], hit["kind"]) for hit in found] == [
        (new, None, None), (old, None, None), (old, 0, "prompt"),
    ]  # fmt: skip
    assert [hit["snippet"] for hit in found] == ["it birch", "birch", "Birch in a text"]
    assert found[1]["at"] == "2020-01-01T00:00:00.000000Z"
    assert [hit["session"] for hit in hits(peer, "birch", mode="words", until="2020-06-01T00:00:00Z")] == [
        old
    ]


@pytest.mark.parametrize("about_events", [{"kinds": ["prompt"]}, {"cwd": "/x"}, {"exit_code": 0}])
def test_sessions_are_no_hits_where_it_is_about_events(
    shared: RunningDaemon, about_events: dict[str, Any]
) -> None:
    peer = shared.peer()
    session = recorded(peer, name="eventful", cwd="/x")
    peer.append(session, "eventful")
    command(peer, session, "eventful", exit_code=0)

    found = hits(peer, "eventful", session=session, **about_events)

    assert found
    assert all(hit["seq"] is not None for hit in found)


def pages(
    peer: Peer, query: str, limit: int, between: Any = lambda: None, **fields: Any
) -> list[tuple[str, Any]]:
    """The hits of all pages, as pairs of session and seq."""
    found: list[tuple[str, Any]] = []
    before = None
    while True:
        reply = peer.call("search", query=query, limit=limit, before=before, **fields)
        assert reply["type"] == "hits", reply
        assert len(reply["hits"]) <= limit
        found += [(hit["session"], hit["seq"]) for hit in reply["hits"]]
        before = reply["next"]
        if before is None:
            return found
        between()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1, 7])
def test_pages_give_every_hit_once_while_writing_goes_on(
    daemon: RunningDaemon, mode: str, limit: int
) -> None:
    peer = daemon.peer()
    sessions = [recorded(peer, name=f"pine-{number}") for number in range(5)]
    for number in range(20):
        peer.append(sessions[number % 5], "pine tree")
    whole = [(hit["session"], hit["seq"]) for hit in hits(peer, "pine", mode=mode)]
    assert len(whole) == 25

    def write() -> None:
        peer.append(sessions[0], "another pine")
        recorded(peer, name="a-later-pine")

    assert pages(peer, "pine", limit, write, mode=mode) == whole


def test_a_page_that_ends_with_the_last_hit_says_so(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer, "last", "last")

    assert peer.call("search", query="last", limit=2, session=session)["next"] is None
    assert peer.call("search", query="last", limit=1, session=session)["next"] is not None


@pytest.mark.parametrize(
    "cursor", ["", "x", "1.", "1.2", "-1", "1.2.3.4", "9" * 19, "9" * 99, "٣", "1.2.x", "1\n"]
)
def test_a_cursor_that_is_none_is_refused(shared: RunningDaemon, cursor: str) -> None:
    error = refusal(shared.peer(), "a", before=cursor)

    assert (error["code"], error["field"]) == ("invalid", "before")


def test_a_limit_of_none_gives_none(shared: RunningDaemon) -> None:
    peer = shared.peer()
    recorded(peer, "zero")

    assert peer.call("search", query="zero", limit=0) == {"type": "hits", "id": 0, "hits": [], "next": None}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_in_the_trash_is_not_found_until_it_is_back(daemon: RunningDaemon, mode: str) -> None:
    peer = daemon.peer()
    session = recorded(peer, "hidden treasure", name="treasure")
    recorded(peer, "treasure in sight")
    peer.call("end", session=session)
    assert len(hits(peer, "treasure", mode=mode)) == 3

    assert peer.call("delete", session=session)["type"] == "deleted"
    assert snippets(peer, "treasure", mode=mode) == ["treasure in sight"]
    assert hits(peer, "treasure", mode=mode, session=session) == []
    assert peer.call("restore", session=session)["type"] == "session"

    assert len(hits(peer, "treasure", mode=mode)) == 3


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_found_by_what_it_is_called_now(daemon: RunningDaemon, mode: str) -> None:
    peer = daemon.peer()
    session, other = recorded(peer, name="larch"), recorded(peer)

    def found(query: str) -> list[str]:
        return [hit["session"] for hit in hits(peer, query, mode=mode)]

    assert found("larch") == [session]
    peer.call("rename", session=session, name="spruce")
    assert (found("larch"), found("spruce")) == ([], [session])
    peer.call("tag", session=session, add=["evergreen"])
    assert found("evergreen") == [session]
    peer.call("tag", session=session, remove=["evergreen"])
    assert found("evergreen") == []
    peer.call("label", label="tallest one", session=session)
    assert found("tallest") == [session]
    peer.call("label", label="tallest one", session=other)
    assert found("tallest") == [other]
    peer.call("label", label="tallest one", session=None)
    assert found("tallest") == []


@pytest.mark.parametrize("mode", MODES)
def test_what_is_purged_is_found_no_more_and_nothing_else_is_missed(daemon: RunningDaemon, mode: str) -> None:
    peer = daemon.peer()
    session, other = recorded(peer, name="secret"), recorded(peer)
    for number in range(300):
        peer.append(session if number % 3 else other, *(f"secret {number} {each}" for each in range(40)))
    assert len(hits(peer, "secret", mode=mode, limit=1000)) == 1000

    assert peer.call("delete", session=session, purge=True, force=True)["purged"]

    again = recorded(peer, "one more secret", name="secret-again")
    found = pages(peer, "secret", 1000, mode=mode)
    assert {ulid for ulid, _ in found} == {again, other}
    assert len(found) == len(set(found)) == 100 * 40 + 2
    assert daemon.log_text().count("built anew") == 0


@pytest.mark.parametrize(
    ("mode", "query"), [("words", "needle"), ("substring", "NEEDLE"), ("regex", "n(e+)dle")]
)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("needle", "needle"),
        ("a needle\r\n", "a needle"),
        ("a needle\nand\r\nanother needle", "a needle and  another needle"),
        ("ä " * 300 + "needle" + " ö" * 300, "…" + "ä " * 20 + "needle" + " ö" * 57 + "…"),
        ("ä " * 300 + "needle", "…" + "ä " * 77 + "needle"),
        ("needle" + " ö" * 300, "needle" + " ö" * 77 + "…"),
    ],
)
def test_a_snippet_is_one_line_around_the_first_match(
    shared: RunningDaemon, mode: str, query: str, text: str, expected: str
) -> None:
    peer = shared.peer()
    session = recorded(peer, text)

    assert snippets(peer, query, mode=mode, session=session) == [expected]
    (places,) = marked(peer, query, mode=mode, session=session)
    assert places == re.findall("needle", expected)


def test_an_event_without_a_text_is_no_hit(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer)
    peer.call(
        "append",
        session=session,
        events=[{"kind": "resize", "data": {"cols": 80}}, {"kind": "a", "text": ""}],
    )

    assert hits(peer, ".*", mode="regex", session=session, kinds=["resize", "a"]) == []


def test_a_text_with_zero_bytes_and_escapes_is_found_by_what_follows_them(shared: RunningDaemon) -> None:
    peer = shared.peer()
    session = recorded(peer, "\x00\x1b[31mcrimson\x1b[0m after\x00wards \u202e bidi")

    for query, mode in (("crimson", "substring"), ("after.wards", "regex"), ("wards", "words")):
        assert seqs(peer, query, mode=mode, session=session) == [0], mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mfailure\x1b[0m in main",
        "\x1b[1;38;2;1;2;3mfailure\x1b[m",
        "\x1b[01;31m\x1b[Kfailure\x1b[m\x1b[K",
        "\x1b]0;a title\x07failure",
        "\x1b]0;\u00dcbersicht\x07failure",  # a byte of this letter would be the end of a title
        "\x1b]8;;http://x\x1b\\failure\x1b]8;;\x1b\\",
        "\x1b(Bfailure",
        "failure\x1b[3",
    ],
)
def test_words_are_found_whatever_their_colour(shared: RunningDaemon, mode: str, text: str) -> None:
    peer = shared.peer()
    session = recorded(peer, text)
    query = r"\bfailure\b" if mode == "regex" else "failure"

    assert marked(peer, query, mode=mode, session=session) == [["failure"]]
    (shown,) = snippets(peer, query, mode=mode, session=session)
    assert not [each for each in ("\x1b", "title", "bersicht") if each in shown]


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_found_by_the_command_that_it_recorded(daemon: RunningDaemon, mode: str) -> None:
    peer = daemon.peer()
    session = recorded(peer, meta={"argv": ["make", "all-of-it", "1"]})
    recorded(peer, meta={"argv": {"deep": ["other"]}})
    recorded(peer, meta={"argv": "text"})

    assert [(hit["session"], hit["seq"]) for hit in hits(peer, "make all", mode=mode)] == [(session, None)]
    assert len(hits(peer, "other", mode=mode)) == len(hits(peer, "text", mode=mode)) == 1


def test_what_is_no_file_in_the_place_of_the_index_keeps_no_search_from_its_answer(
    daemon: RunningDaemon,
) -> None:
    recorded(daemon.peer(), "hello")
    daemon.stop()
    for suffix in ("", "-wal", "-shm"):
        path = daemon.data_dir / f"search.db{suffix}"
        path.unlink(missing_ok=True)
        path.mkdir()
        (path / "x").write_text("")

    daemon.start()

    assert seqs(daemon.peer(), "hello") == [0]
