"""`sessionctl import`: what becomes of files, good and bad, and what the user is told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.running import environ_for

ZSH = b": 1700000000:5;make test\n: 1700000010:0;git push\n"
HOSTILE = "\x1b]0;owned\x07\u202eevil"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    return directory


def put(directory: Path, name: str, content: bytes, modified_at: float | None = None) -> str:
    path = directory / name
    path.write_bytes(content)
    if modified_at is not None:
        os.utime(path, (modified_at, modified_at))
    return str(path)


def sessions(sessionctl: Sessionctl) -> list[dict[str, Any]]:
    return sessionctl.json("list")


def left_behind(home: Path) -> list[Path]:
    return [path for path in (home / "state").rglob("*") if path.is_file()]


def refused(sessionctl: Sessionctl, *arguments: str, stdin: bytes | None = None) -> str:
    """The one line that a file got of which nothing was stored."""
    result = sessionctl("import", *arguments, stdin=stdin)
    assert (result.returncode, result.stdout) == (1, b"imported 0 sessions, 0 events; 1 skipped\n"), result
    assert result.stderr.count(b"\n") == 1
    assert sessions(sessionctl) == []
    line = result.stderr.decode()
    assert line.endswith("nothing of it is stored\n")
    return line


# --- what is stored


def test_a_history_becomes_a_session_with_its_own_times(
    sessionctl: Sessionctl, files: Path, home: Path
) -> None:
    shown = sessionctl.out("import", put(files, ".zsh_history", ZSH), "-t", "My Laptop", "-t", "my-laptop")

    (session,) = sessions(sessionctl)
    assert shown.splitlines() == [
        f"zsh_history ({session['ulid']}) 2 events, from {files}/.zsh_history",
        "imported 1 session, 2 events",
    ]
    facts = ["name", "source", "status", "end_reason", "shell", "tags", "started_at", "ended_at"]
    assert [session[fact] for fact in facts] == [
        "zsh_history",
        "import",
        "completed",
        "imported",
        "zsh",
        ["my-laptop"],
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:30.000000Z",
    ]
    assert session["meta"] == {"imported_from": ".zsh_history", "format": "zsh"}
    first, second = sessionctl.events()
    assert (first["kind"], first["text"], first["at"]) == (
        "command",
        "make test",
        "2023-11-14T22:13:25.000000Z",
    )
    assert first["data"] == {
        "index": 0,
        "started_at": "2023-11-14T22:13:20.000000Z",
        "ended_at": "2023-11-14T22:13:25.000000Z",
        "duration_ms": 5000,
    }
    assert second["data"]["index"] == 1
    assert left_behind(home) == []


def test_the_same_content_is_stored_once_whoever_brings_it(
    sessionctl: Sessionctl, files: Path, tmp_path: Path
) -> None:
    timed, untimed = put(files, "zsh", ZSH), put(files, "list", b"ls\n", 1_600_000_000)
    sessionctl.out("import", timed, untimed)
    before = sessions(sessionctl)

    copies = [put(tmp_path, "other", ZSH), put(tmp_path, "another", b"ls\n", 1_500_000_000)]
    shown = sessionctl.out("import", *copies, timed, "-n", "renamed", "-t", "new")
    piped = sessionctl.out("import", "-", stdin=b"ls\n")

    assert shown.splitlines()[-1] == "imported 0 sessions, 0 events; 3 were there already"
    assert piped.splitlines()[-1] == "imported 0 sessions, 0 events; 1 was there already"
    assert sessions(sessionctl) == before


def test_what_has_no_times_has_those_of_its_file(sessionctl: Sessionctl, files: Path) -> None:
    sessionctl.out("import", put(files, "todo.txt", b"#!/bin/sh\n# why\nls\nmake\n", 1_600_000_000.25))

    (session,) = sessions(sessionctl)
    assert (session["name"], session["meta"]["format"], session["meta"]["times_from"]) == (
        "todo",
        "plain",
        "mtime",
    )
    assert session["started_at"] == session["ended_at"] == "2020-09-13T12:26:40.250000Z"
    assert [(event["text"], event["data"]) for event in sessionctl.events()] == [
        ("ls", {"index": 0}),
        ("make", {"index": 1}),
    ]


def test_bytes_that_are_no_text_are_kept_exactly(sessionctl: Sessionctl, files: Path) -> None:
    sessionctl.out("import", put(files, "zsh", b": 1700000000:0;echo caf\xe9\n"))

    (event,) = sessionctl.events()
    assert event["text"] == "echo caf\ufffd"
    assert event["data"]["b64"] == "ZWNobyBjYWbp"


def test_standard_input_and_pipes_are_read_to_their_end(sessionctl: Sessionctl, home: Path) -> None:
    sessionctl.out("import", "-", "-F", "bash", "-n", "server", stdin=b"#1700000000\nls\n")
    script = '"$@" import <(printf "make\\ntest\\n")'
    result = subprocess.run(
        ["bash", "-c", script, "bash", *SESSIONCTL], capture_output=True, env=sessionctl.environ, timeout=60
    )

    assert (result.returncode, result.stderr) == (0, b"")
    assert {it["name"]: it["event_count"] for it in sessions(sessionctl)} == {"server": 1, "stdin": 2}
    assert left_behind(home) == []


def test_asciicast_of_version_3_brings_its_title_and_its_end(sessionctl: Sessionctl, files: Path) -> None:
    header = {"version": 3, "term": {"cols": 80, "rows": 24}, "timestamp": 1700000000, "title": "my-demo"}
    lines = [header, [0.5, "o", "hi\r\n"], [0.25, "m", "here"], [0.25, "x", "3"]]
    sessionctl.out("import", put(files, "a.cast", "\n".join(map(json.dumps, lines)).encode()))

    (session,) = sessions(sessionctl)
    assert (session["name"], session["exit_code"]) == ("my-demo", 3)
    assert session["ended_at"] == "2023-11-14T22:13:21.000000Z"
    assert [(event["kind"], event["at"][17:26]) for event in sessionctl.events()] == [
        ("resize", "20.000000"),
        ("output", "20.500000"),
        ("marker", "20.750000"),
        ("exit", "21.000000"),
    ]


def test_a_session_that_was_exported_comes_back_as_it_was(sessionctl: Sessionctl, files: Path) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "mine", "-t", "x").strip()
    sessionctl.out("append", ulid, "output", "-", stdin=b"one\ncaf\xe9\n")
    sessionctl.out("append", ulid, "command", "ls", "--data", '{"exit_code": 1}')
    sessionctl.out("end", ulid, "--exit-code", "1")
    exported = put(files, "mine.ndjson", sessionctl.out("export", ulid).encode())
    (session,), events = sessions(sessionctl), sessionctl.events(ulid)

    there = sessionctl.out("import", exported)
    sessionctl.out("delete", "--force", "--purge", ulid)
    sessionctl.out("import", exported, "-t", "New", "-n", "again")

    assert there.splitlines()[-1] == "imported 0 sessions, 0 events; 1 was there already"
    (again,) = sessions(sessionctl)
    assert again["digest"] == session["digest"]
    assert (again["name"], again["tags"], again["exit_code"]) == ("again", ["x", "new"], 1)
    assert sessionctl.events(ulid) == events


def test_a_name_that_is_taken_gets_a_suffix_whatever_the_format(sessionctl: Sessionctl, files: Path) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "mine").strip()
    sessionctl.out("end", ulid)
    exported = put(files, "mine.ndjson", sessionctl.out("export", ulid).encode())
    sessionctl.out("delete", "--force", "--purge", ulid)

    sessionctl.out("import", put(files, "zsh", ZSH), put(files, "other", ZSH * 2), exported, "-n", "taken")

    assert sorted(it["name"] for it in sessions(sessionctl)) == ["taken", "taken-2", "taken-3"]


def test_the_files_of_rec_are_taken_as_they_are(sessionctl: Sessionctl, files: Path) -> None:
    header = {"type": "header", "version": 2, "id": "0b5e8a2e-6a0f-4f5f-9b9e-2f8f6f1c9a11", "name": "setup"}
    header |= {"shell": "bash", "os": "Debian", "hostname": "h", "env": {"HOME": "/"}, "tags": ["x"]}
    common = {"type": "command", "cwd": "/src"}
    lines = [
        header | {"started_at": 1700000000.5},
        common | {"index": 0, "command": "ls", "started_at": 1700000001.25, "exit_code": 0},
        {"type": "footer", "ended_at": 1700000009.0, "command_count": 1, "status": "completed"},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path = put(files, "x.ndjson", content)

    (outcome,) = sessionctl.json("import", path, "-F", "rec")
    again = sessionctl.out("import", path)

    assert again.splitlines()[-1] == "imported 0 sessions, 0 events; 1 was there already"
    assert (outcome["format"], outcome["existed"], outcome["session"]["name"]) == ("ndjson", False, "setup")
    (event,) = sessionctl.events()
    assert (event["kind"], event["text"], event["data"]["cwd"]) == ("command", "ls", "/src")
    assert event["data"]["started_at"] == "2023-11-14T22:13:21.250000Z"


# --- what is not whole


def test_a_damaged_file_is_imported_up_to_its_last_whole_entry(sessionctl: Sessionctl, files: Path) -> None:
    torn = put(files, "torn", ZSH + b": 1700000020:0;git pu")

    result = sessionctl("import", torn)

    assert result.returncode == 1
    assert result.stdout.decode().splitlines()[-1] == "imported 1 session, 2 events; 1 damaged"
    assert result.stderr.decode() == (
        f"sessionctl: {torn}: line 3, byte {len(ZSH)}: the last line is cut off;"
        " what is whole before that is stored\n"
    )
    assert [event["text"] for event in sessionctl.events()] == ["make test", "git push"]
    (session,) = sessions(sessionctl)
    assert session["status"] == "interrupted"


def test_a_torn_session_file_is_imported_up_to_its_last_whole_line(
    sessionctl: Sessionctl, files: Path
) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "note", "-", stdin=b"one\ntwo\n")
    content = sessionctl.out("export", ulid).encode()
    sessionctl.out("delete", "--force", "--purge", ulid)

    result = sessionctl("import", put(files, "torn.ndjson", content[:-9]), "--json")

    outcome = json.loads(result.stdout)
    assert (result.returncode, outcome["session"]["event_count"]) == (1, 1)
    assert outcome["damage"]
    assert outcome["damage"] in result.stderr.decode()


def test_one_bad_file_keeps_no_other_from_being_imported(sessionctl: Sessionctl, files: Path) -> None:
    good, other = put(files, "good", ZSH), put(files, "other", b"- cmd: ls\n  when: 1700000000\n")
    bad = [put(files, "empty", b""), str(files / "missing"), str(files)]
    torn = put(files, "torn", ZSH + b"cut o")

    result = sessionctl("import", bad[0], good, torn, bad[1], other, bad[2])
    again = sessionctl("import", good, torn, bad[0])

    assert result.returncode == 1
    assert result.stdout.decode().splitlines()[-1] == "imported 3 sessions, 5 events; 1 damaged; 3 skipped"
    assert result.stderr.decode().splitlines() == [
        f"sessionctl: {bad[0]}: it is empty; nothing of it is stored",
        (
            f"sessionctl: {torn}: line 3, byte {len(ZSH)}: the last line is cut off;"
            " what is whole before that is stored"
        ),
        f"sessionctl: {bad[1]}: No such file or directory; nothing of it is stored",
        (
            f"sessionctl: {bad[2]}: it is a directory; name the files in it, as in {bad[2]}/*;"
            " nothing of it is stored"
        ),
    ]
    assert len(sessions(sessionctl)) == 3
    assert again.returncode == 1
    assert again.stdout.decode().splitlines()[-1] == (
        "imported 0 sessions, 0 events; 2 were there already; 1 skipped"
    )


NOT_FOR_US = {
    "empty": (b"", "it is empty"),
    "blank": (b"\n \n\n", "there are no commands in it"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "it is binary"),
    "elf": (b"\x7fELF\x02\x01\x01" + b"\0" * 99, "it is binary"),
    "long": (b"x" * 10_000_000, "line 1, byte 0: the line is longer than"),
    "longish": (b"x" * 2_000_000 + b"\n", "line 1, byte 0: the command is longer than"),
    "bomb": (b'{"a":' * 100_000, "it is JSON, but neither"),
    "headless": (b'{"type":"header","version":3}\n', "header"),
    "bomb-in-header": (b'{"type":"header","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n", "header"),
    "nul": (b': 1700000000:0;"\0"\n', "NUL bytes"),
    "unknown-version": (b'{"version": 7, "width": 80}\n', "it is JSON, but neither"),
}


def test_files_with_nothing_in_them_for_us_get_one_clear_line_each(
    sessionctl: Sessionctl, files: Path, home: Path
) -> None:
    paths = [put(files, name, content) for name, (content, _) in NOT_FOR_US.items()]

    result = sessionctl("import", *paths)

    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1
    assert result.stdout.decode() == f"imported 0 sessions, 0 events; {len(paths)} skipped\n"
    for path, (_, reason), line in zip(paths, NOT_FOR_US.values(), lines, strict=True):
        assert line.startswith(f"sessionctl: {path}: ")
        assert reason in line
        assert len(line) < 400
    assert sessions(sessionctl) == []
    assert left_behind(home) == []


def test_a_wrong_format_that_was_forced_is_one_clear_line(sessionctl: Sessionctl, files: Path) -> None:
    png = put(files, "file", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0")

    for format_ in ("ndjson", "cast", "bash", "zsh", "fish", "plain"):
        refused(sessionctl, "-F", format_, png)


def test_what_may_not_be_read_or_is_no_file_is_refused(sessionctl: Sessionctl, files: Path) -> None:
    assert "neither a file nor a pipe" in refused(sessionctl, "/dev/zero")
    assert "Too many levels of symbolic links" in refused(sessionctl, _loop(files))
    if os.getuid():
        secret = put(files, "secret", ZSH)
        os.chmod(secret, 0)
        assert "Permission denied" in refused(sessionctl, secret)


def _loop(files: Path) -> str:
    (files / "loop").symlink_to("loop")
    return str(files / "loop")


def test_hostile_names_and_texts_reach_no_terminal(sessionctl: Sessionctl, files: Path) -> None:
    history = f": 1700000000:0;echo {HOSTILE}\n".encode()
    result = sessionctl("import", put(files, f"{HOSTILE}.txt", history), str(files / f"{HOSTILE}2"))

    shown = result.stdout.decode() + result.stderr.decode()
    assert result.returncode == 1
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    (session,) = sessions(sessionctl)
    assert session["name"] == "0-owned-evil"
    (event,) = sessionctl.events()
    assert event["text"] == f"echo {HOSTILE}"


# --- what is here already


def test_what_was_not_applied_to_what_is_here_already_is_said(sessionctl: Sessionctl, files: Path) -> None:
    history = put(files, "history", ZSH)
    (outcome,) = sessionctl.json("import", history, "-n", "mine", "-t", "a")
    ulid = outcome["session"]["ulid"]

    again = sessionctl.out("import", history, "-n", "other", "-t", "a", "-t", "b")
    tagged = sessionctl.out("import", history, "-n", "mine", "-t", "b")
    same = sessionctl.out("import", history, "-n", "mine", "-t", "a")

    there = f"mine ({ulid}) was there already"
    assert (
        f"{there} and keeps its name and tags (see: sessionctl rename and sessionctl tag add), from" in again
    )
    assert f"{there} and keeps its tags (see: sessionctl tag add), from" in tagged
    assert f"{there}, from" in same


def test_the_beginning_of_what_is_here_changes_nothing_and_says_so(
    sessionctl: Sessionctl, files: Path
) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "mine").strip()
    sessionctl.out("append", ulid, "note", "-", stdin=b"one\ntwo\n")
    early = put(files, "early.ndjson", sessionctl.out("export", ulid).encode())
    sessionctl.out("append", ulid, "note", "three")

    while_recording = sessionctl("import", early)
    sessionctl.out("end", ulid)
    afterwards = sessionctl("import", early)

    for result, how in ((while_recording, "and still recording"), (afterwards, "and longer")):
        assert result.returncode == 1
        assert result.stderr.decode() == (
            f"sessionctl: {early}: session {ulid} is here already, {how}: these are its first 2 events"
            " (nothing was changed); nothing of it is stored\n"
        )
    assert len(sessionctl.events(ulid)) == 3


def test_nul_bytes_in_a_list_end_it_there(sessionctl: Sessionctl, files: Path) -> None:
    result = sessionctl("import", put(files, "list", b"make\nls\nmak\0\0\0\0\n"))

    assert result.returncode == 1
    assert b"line 3, byte 8: there are NUL bytes in the line" in result.stderr
    assert [event["text"] for event in sessionctl.events()] == ["make", "ls"]


def test_a_format_that_is_not_so_is_answered_with_what_it_looks_like(
    sessionctl: Sessionctl, files: Path
) -> None:
    cast = put(files, "demo.cast", b'{"version": 2, "width": 80, "height": 24}\n')

    told = refused(sessionctl, "-F", "ndjson", cast)

    assert "it is no session's file but looks like cast; import it without -F" in told
    assert "sessionctl import" not in told


# --- what is asked for


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-F", "bsh"], "there is no format 'bsh'; did you mean bash?"),
        (["-F", "xyz123"], "there are: ndjson, cast, bash, zsh, fish, plain"),
        (["-n", "two words"], "'two words' is no name"),
        (["-t", "!"], "'!' is no tag"),
    ],
)
def test_wrong_usage_is_told_before_a_daemon_is_asked(
    home: Path, files: Path, arguments: list[str], reason: str
) -> None:
    result = Sessionctl(environ_for(home))("import", put(files, "good", ZSH), *arguments)

    assert (result.returncode, result.stdout) == (2, b"")
    assert reason in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1


def test_json_has_an_object_for_every_file(sessionctl: Sessionctl, files: Path) -> None:
    result = sessionctl("import", "--json", put(files, "good", ZSH), put(files, "empty", b""))

    good, empty = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 1
    assert (good["file"], good["format"], good["session"]["event_count"]) == (f"{files}/good", "zsh", 2)
    assert (good["existed"], good["damage"], good["error"]) == (False, None, None)
    assert (empty["session"], empty["error"]) == (None, "it is empty")


def test_a_session_in_the_trash_is_there_already_and_can_be_restored(
    sessionctl: Sessionctl, files: Path
) -> None:
    good = put(files, "good", ZSH)
    (outcome,) = sessionctl.json("import", good)
    ulid = outcome["session"]["ulid"]
    sessionctl.out("delete", "--force", ulid)

    shown = sessionctl.out("import", good)

    assert f"in the trash (see: sessionctl restore {ulid})" in shown
    assert sessions(sessionctl) == []


def test_what_a_killed_import_left_behind_is_swept_by_the_next(
    sessionctl: Sessionctl, files: Path, home: Path
) -> None:
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, timeout=60).stdout.decode().strip()
    leftover = home / "state" / "sessiond" / "import" / f"{gone}.x.ndjson"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"")

    sessionctl.out("import", put(files, "good", ZSH))

    assert left_behind(home) == []


def test_without_a_daemon_nothing_is_tried(sessionctl: Sessionctl, files: Path, tmp_path: Path) -> None:
    result = sessionctl("import", put(files, "good", ZSH), SESSIOND_SOCKET=str(tmp_path / "none"))

    assert (result.returncode, result.stdout) == (3, b"")
    assert result.stderr.count(b"\n") == 1
