"""The verbs about whole sessions, of both clients: names, labels, milestones, forks, the trash, filters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import (
    Client,
    ErrorCode,
    RequestFailed,
    SavedFooter,
    SavedHeader,
    SearchMode,
    Source,
    event,
    new_ulid,
)
from sessiond_client.wire.messages import LIST_LIMIT_DEFAULT, READ_LIMIT_DEFAULT, SEARCH_LIMIT_DEFAULT
from tests.client.both import connected
from tests.running import RunningDaemon

SESSION = new_ulid()
AT = datetime(2026, 11, 21, 9, 24, 31, 123456, tzinfo=UTC)


@pytest.fixture
def client(daemon: RunningDaemon, asynchronous: bool) -> Iterator[Client]:
    with connected(asynchronous, daemon.socket) as client:
        yield client


def ended(client: Client, name: str, *texts: str) -> str:
    """A session that has ended, with these events."""
    session = client.start(name)
    if texts:
        session.append_many([event("note", text) for text in texts])
    session.end()
    return session.ulid


def refusal(error: pytest.ExceptionInfo[RequestFailed]) -> ErrorCode:
    return error.value.code


# --- names, tags, labels, milestones


def test_a_session_is_renamed_while_it_records_and_after(client: Client) -> None:
    session = client.start("one")

    assert session.rename("two").name == "two"
    session.end()
    renamed = client.rename(session.ulid, "three")

    assert (renamed.name, renamed.previous_names) == ("three", ["one", "two"])
    assert client.find("three").ulid == session.ulid
    client.start("taken")
    with pytest.raises(RequestFailed) as taken:
        client.rename(session.ulid, "taken")
    assert refusal(taken) is ErrorCode.EXISTS


def test_tags_are_removed_and_added_and_counted(client: Client) -> None:
    session = client.start("one", tags=["a", "b"])
    client.start("two")

    assert session.tag(["New One", "a"], ["b"]).tags == ["a", "new-one"]
    client.tag(client.find("two").ulid, add=["a"])

    assert [(count.tag, count.sessions) for count in client.tags()] == [("a", 2), ("new-one", 1)]


def test_a_label_stands_for_one_session_at_a_time(client: Client) -> None:
    first, second = client.start("one"), client.start("two").ulid

    assert first.label(" the good one ").previous is None
    moved = client.label("the good one", second)

    assert (moved.label, moved.session, moved.previous) == ("the good one", second, first.ulid)
    assert client.find("the good one").ulid == second
    assert [(found.label, found.session, found.name) for found in client.labels()] == [
        ("the good one", second, "two")
    ]
    assert client.unlabel("the good one").previous == second
    assert client.labels() == []
    assert client.unlabel("the good one").previous is None


def test_milestones_are_set_always_once_or_in_place_of_another(client: Client) -> None:
    assert client.milestone("build") is None
    assert client.set_milestone("build", "1").stored
    assert client.set_milestone("build", "2").value == "2"

    late = client.set_milestone("build", "3", if_absent=True)
    outdated = client.set_milestone("build", "4", expect="1")
    current = client.set_milestone("build", "5", expect="2")

    assert (late.value, late.stored, outdated.value, outdated.stored) == ("2", False, "2", False)
    assert (current.value, current.stored) == ("5", True)
    assert client.milestone("build") == "5"
    assert client.milestones() == {"build": "5"}


def test_milestones_of_any_size_and_number_are_all_told(client: Client) -> None:
    values = {f"{number:03}": "\x01" * 65_536 for number in range(50)}
    for key, value in values.items():
        client.set_milestone(key, value)

    assert client.milestones() == values


def test_totals_are_those_of_what_is_not_in_the_trash(client: Client) -> None:
    client.start("one", tags=["a"]).append("note", "hello")
    client.delete(ended(client, "two", "gone"))

    stats = client.stats()

    assert (stats.sessions, stats.recording, stats.trashed, stats.events) == (1, 1, 1, 1)
    assert [(count.tag, count.sessions) for count in stats.tags] == [("a", 1)]


# --- forks


def test_a_fork_begins_where_it_was_forked_and_inherits_what_came_before(client: Client) -> None:
    parent = client.start("one", tags=["a"])
    parent.append_many([event("note", text) for text in "abc"])

    child = parent.fork(at=1)
    child.append("note", "x")
    grandchild = client.fork(child.ulid, name="third", owner_pid=0)
    grandchild.append("note", "y")
    parent.append("note", "d")

    assert (child.info.parent_ulid, child.info.parent_seq) == (parent.ulid, 1)
    assert (child.info.name, child.info.tags, grandchild.info.name) == ("one-2", ["a"], "third")
    page = client.read(grandchild.ulid, inherit=True)
    assert [(read.text, read.session, read.seq) for read in page] == [
        ("a", parent.ulid, 0),
        ("b", parent.ulid, 1),
        ("x", child.ulid, 0),
        ("y", grandchild.ulid, 0),
    ]
    assert [read.text for read in grandchild.read(after=1, before=3, inherit=True)] == ["x"]
    assert [read.text for read in grandchild.events(inherit=True, after=0)] == ["b", "x", "y"]
    assert [read.text for read in grandchild.events()] == ["y"]


# --- the trash


def test_what_is_in_the_trash_is_found_only_there_until_it_is_restored(client: Client) -> None:
    ulid = ended(client, "one", "hello")

    deleted = client.delete(ulid)

    assert (deleted.session, deleted.purged) == (ulid, False)
    with pytest.raises(RequestFailed) as gone:
        client.find("one")
    assert refusal(gone) is ErrorCode.NOT_FOUND
    assert client.find("one", trashed=True).trashed_at is not None
    assert [session.ulid for session in client.list(trashed=True)] == [ulid]
    assert client.last() is None
    found = client.get(ulid)
    assert found is not None
    assert found.trashed_at is not None
    client.start("one")
    assert client.restore(ulid).name == "one-2"


def test_a_session_that_records_is_deleted_by_force_and_a_purged_one_is_gone(client: Client) -> None:
    session = client.start("one")

    with pytest.raises(RequestFailed) as recording:
        client.delete(session.ulid)
    assert client.delete(session.ulid, force=True, purge=True).purged

    assert refusal(recording) is ErrorCode.SESSION_RECORDING
    assert client.get(session.ulid) is None


# --- whole sessions


def test_a_whole_session_is_stored_once(client: Client) -> None:
    header = SavedHeader(started_at=AT, ulid=SESSION, name="old", tags=["a"], source=Source.AGENT)
    events = [event("prompt", "hello", at=AT), event("command", "make", {"exit_code": 2}, AT)]
    footer = SavedFooter(ended_at=AT + timedelta(minutes=1), exit_code=2)

    saved = client.save(header, events, footer)
    again = client.save(header, events, footer)

    assert (saved.existed, again.existed) == (False, True)
    assert saved.session == again.session == client.find("old")
    assert (saved.session.status, saved.session.end_reason) == ("completed", "imported")
    assert (saved.session.started_at, saved.session.tags) == ("2026-11-21T09:24:31.123456Z", ["a"])
    assert [(read.kind, read.text) for read in client.read(SESSION)] == [
        ("prompt", "hello"),
        ("command", "make"),
    ]
    with pytest.raises(RequestFailed) as other:
        client.save(header, events[:1], footer)
    assert refusal(other) is ErrorCode.EXISTS
    unfinished = client.save(SavedHeader(started_at=AT, name="old"), [])
    assert (unfinished.session.name, unfinished.session.status) == ("old-2", "interrupted")


def write_session(path: Path, torn: str = "") -> None:
    """A session file by hand, without a footer."""
    at = "2026-11-21T09:24:31.123456Z"
    lines = [
        {"type": "header", "version": 3, "id": SESSION, "name": "old", "source": "agent", "started_at": at},
        {"type": "event", "seq": 0, "kind": "prompt", "at": at, "text": "hello"},
        {"type": "event", "seq": 1, "kind": "prompt", "at": at, "text": "bye"},
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + torn)


def test_a_file_is_stored_once_up_to_its_last_whole_line(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path / "old.ndjson", '{"type":"event","seq":2,"ki')

    saved = client.adopt("old.ndjson")
    again = client.adopt(tmp_path / "old.ndjson")

    assert (saved.existed, again.existed) == (False, True)
    assert saved.damage
    assert (saved.session.ulid, saved.session.status, saved.session.end_reason) == (
        SESSION,
        "interrupted",
        "imported",
    )
    assert [read.text for read in client.read(SESSION)] == ["hello", "bye"]
    with pytest.raises(RequestFailed) as missing:
        client.adopt("missing.ndjson")
    assert refusal(missing) is ErrorCode.NOT_FOUND


# --- filters and pages


def test_sessions_are_listed_by_every_filter(client: Client) -> None:
    nightly = client.start("nightly-1", cwd="/src", hostname="büro", source="agent").ulid
    client.start("other", cwd="/src/deeper", hostname="elsewhere")

    for filters in (
        {"name_prefix": "nightly"},
        {"cwd": "/src"},
        {"hostname": "büro"},
        {"source": "agent"},
    ):
        assert [session.ulid for session in client.list(**filters)] == [nightly], filters  # type: ignore[arg-type]
        newest = client.last(**filters)  # type: ignore[arg-type]
        assert newest is not None
        assert newest.ulid == nightly
    last = client.last()
    assert last is not None
    assert last.name == "other"
    assert client.last(name_prefix="missing") is None


def test_all_sessions_come_page_after_page(client: Client) -> None:
    names = [f"s-{number:02}" for number in range(LIST_LIMIT_DEFAULT + 1)]
    for name in names:
        client.start(name, source="agent")
    client.start("other")

    assert [session.name for session in client.sessions(source="agent")] == names[::-1]


def test_all_events_come_page_after_page(client: Client) -> None:
    session = client.start("one")
    for second in range(3):
        at = AT + timedelta(seconds=second)
        session.append_many([event("note", str(second), at=at)] * (READ_LIMIT_DEFAULT // 2))
    session.append("output", "last", at=AT)

    later = AT + timedelta(seconds=1)

    assert [read.seq for read in session.events()] == [*range(READ_LIMIT_DEFAULT * 3 // 2 + 1)]
    assert len([*client.events(session.ulid, kinds=["note"], since=later)]) == READ_LIMIT_DEFAULT
    assert {read.text for read in client.events(session.ulid, until=later)} == {"0", "last"}
    assert session.read(kinds=["note"], since=later, until=AT + timedelta(seconds=2)).events[0].text == "1"


def test_a_filter_that_does_not_exist_is_an_error(client: Client) -> None:
    with pytest.raises(TypeError, match="colour"):
        [*client.sessions(colour="red")]  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="kinds: a sequence of strings"):
        client.read(SESSION, kinds="note")
    with pytest.raises(TypeError, match="remove: a sequence of strings"):
        client.tag(SESSION, remove="note")
    with pytest.raises(ValueError, match="'sounds' is not a valid SearchMode"):
        client.search("x", mode="sounds")
    with pytest.raises(ValueError, match="since: a time zone is needed"):
        client.search("x", since=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(ValueError, match="ended_at: a time zone is needed"):
        client.save(SavedHeader(started_at=AT), [], SavedFooter(ended_at=datetime(2026, 1, 1)))  # noqa: DTZ001


# --- search


def test_a_search_finds_sessions_and_events_and_marks_what_matches(client: Client) -> None:
    session = client.start("make-nightly", tags=["ci"], cwd="/src")
    session.append("prompt", "please make it", at=AT)
    session.append("command", "make test", {"exit_code": 2, "cwd": "/src/deeper"}, AT + timedelta(hours=1))
    client.start("other").append("note", "nothing of the kind")

    hits = client.search("mak*")

    assert [(hit.name, hit.seq, hit.kind) for hit in hits] == [
        ("make-nightly", None, None),
        ("make-nightly", 1, "command"),
        ("make-nightly", 0, "prompt"),
    ]
    for hit in hits:
        assert {hit.snippet[begin:end] for begin, end in hit.marks} == {"make"}

    def seqs(query: str, **filters: Any) -> list[int | None]:
        return [hit.seq for hit in client.search(query, **filters)]

    assert seqs("AKE TE", mode="substring") == [1]
    assert seqs("m[aeiou]ke$|test$", mode=SearchMode.REGEX, kinds=["command"]) == [1]
    assert seqs("make", exit_code=2) == seqs("make", cwd="/src/deeper") == [1]
    assert seqs("make", kinds=["prompt"], session=session.ulid) == [0]
    assert seqs("make", kinds=["prompt"], tags=["other"]) == []
    assert seqs("make", since=AT, until=AT + timedelta(minutes=1)) == [0]
    with pytest.raises(RequestFailed) as unreadable:
        client.search("(", mode="regex")
    assert (refusal(unreadable), unreadable.value.reply.field) == (ErrorCode.INVALID, "query")


def test_all_hits_come_page_after_page(client: Client) -> None:
    session = client.start("one")
    session.append_many([event("note", f"found {number}") for number in range(SEARCH_LIMIT_DEFAULT + 1)])

    first = client.search("found", limit=2)
    rest = client.search("found", limit=1000, before=first.next)

    seqs = [hit.seq for hit in client.hits("found", session=session.ulid)]
    assert seqs == [*range(SEARCH_LIMIT_DEFAULT, -1, -1)]
    assert [hit.seq for hit in [*first, *rest]] == seqs
