"""`sessionctl export -F cast`: what a player gets of a session."""

from __future__ import annotations

import json
from datetime import timedelta

from sessiond_client import Client
from sessiond_client.events import event
from tests.cli.recorded import (
    START,
    Told,
    commands,
    exported,
    record,
    shared_client,
    shared_daemon,
    terminal_session,
)

daemon, client = shared_daemon, shared_client


def test_cast_tells_the_terminal_its_times_and_characters(client: Client) -> None:
    header, *events = map(json.loads, exported(client, terminal_session(client), "cast").splitlines())

    assert header == {
        "version": 3,
        "term": {"cols": 100, "rows": 30, "type": "xterm"},
        "timestamp": 1795253071,
        "command": "sh -c 'it'\"'\"'s'",
        "title": "demo",
        "tags": ["prod"],
        "env": {"TERM": "xterm"},
    }
    assert events == [
        [0.5, "o", "\x1b[1mgr\u00fc\u00df\x1b[0m\r\n"],
        [0.5, "o", "\u20ac!\ufffd"],
        [0.25, "i", "q"],
        [0.25, "r", "80x24"],
        [0.25, "m", "here"],
        [0.25, "x", "3"],
    ]


def test_cast_knows_the_command_and_terminal_of_an_imported_recording(client: Client) -> None:
    header = {"command": "ls -l", "env": {"TERM": "vt100", "SHELL": "/bin/sh", "X": 1}}
    ulid = record(client, meta=header, env={})

    told = json.loads(exported(client, ulid, "cast"))
    assert (told["command"], told["term"]["type"]) == ("ls -l", "vt100")
    assert told["env"] == {"SHELL": "/bin/sh", "TERM": "vt100"}


def test_cast_gives_output_that_no_terminal_saw_the_carriage_returns_of_one(client: Client) -> None:
    told: list[Told] = [("output", text, {}) for text in ("one\ntwo\r", "\nthree\r\n", "\n")]
    of_a_pipe = record(client, *told)
    of_a_terminal = record(client, ("resize", None, {"cols": 80, "rows": 24}), *told)

    def played(ulid: str) -> str:
        _, *events = map(json.loads, exported(client, ulid, "cast").splitlines())
        return "".join(text for _, code, text in events if code == "o")

    assert played(of_a_pipe) == "one\r\ntwo\r\nthree\r\n\r\n"
    assert played(of_a_terminal) == "one\ntwo\r\nthree\r\n\n"


def test_cast_gives_back_the_title_and_the_markers_of_an_imported_recording(client: Client) -> None:
    marker: Told = ("marker", "two\nlines \x1b", {})
    imported = record(client, marker, name="file", meta={"title": "A talk, 2026"})
    renamed = record(client, name="renamed", meta={"title": "talk"})

    header, label = map(json.loads, exported(client, imported, "cast").splitlines())
    assert (header["title"], label[2]) == ("A talk, 2026", "two\nlines \x1b")
    assert json.loads(exported(client, renamed, "cast"))["title"].startswith("renamed")


def test_cast_of_version_2_has_absolute_times_and_no_exit(client: Client) -> None:
    ulid = terminal_session(client)

    header, *events = map(json.loads, exported(client, ulid, "cast", cast_version=2).splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, 100, 30)
    assert "term" not in header
    assert [(at, code) for at, code, _ in events] == [
        (0.5, "o"),
        (1.0, "o"),
        (1.25, "i"),
        (1.5, "r"),
        (1.75, "m"),
    ]


def test_cast_never_goes_back_in_time_and_keeps_half_a_character(client: Client) -> None:
    ulid = record(client, ended=False)
    moments = [START + timedelta(seconds=2), START - timedelta(seconds=5), START + timedelta(seconds=3)]
    client.append(ulid, [event("output", "x", None, at) for at in moments])
    client.append(ulid, [event("output", "?", {"b64": "4oI="}, START + timedelta(seconds=4))])

    _, *events = map(json.loads, exported(client, ulid, "cast").splitlines())
    assert events == [[2.0, "o", "x"], [0.0, "o", "x"], [1.0, "o", "x"], [1.0, "o", "\ufffd"]]


def test_cast_turns_what_else_happened_into_markers(client: Client) -> None:
    ulid = record(client, *commands("make\x1b"), ("message", "hi\nthere", {}), ("paused", None, {}))

    _, *events = map(json.loads, exported(client, ulid, "cast").splitlines())
    assert [label for _, code, label in events if code == "m"] == [
        r"make\x1b",
        r"message: hi\nthere",
        "paused",
    ]
