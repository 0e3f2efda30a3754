"""`sessionctl copy` and `edit`: a new session made of an old one, which stays as it was."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Sessionctl


@pytest.fixture
def recorded(sessionctl: Sessionctl) -> str:
    """A session that has ended, with commands among other events; its ULID."""
    ulid = sessionctl.out("start", "--detach", "-n", "deploy", "-t", "prod").strip()
    sessionctl.out("append", ulid, "note", "before", "--at", "@1700000000.25")
    facts = '{"cwd": "/src", "exit_code": 0, "duration_ms": 7, "host": "x"}'
    sessionctl.out("append", ulid, "command", "make", "--data", facts, "--at", "@1700000001")
    sessionctl.out("append", ulid, "output", "-", stdin=b"caf\xe9\n")
    sessionctl.out("append", ulid, "command", "git push", "--at", "@1700000002")
    sessionctl.out("end", ulid, "--exit-code", "4")
    return ulid


def editor(tmp_path: Path, script: str) -> str:
    """An editor that does what a sed script says."""
    path = tmp_path / "script.sed"
    path.write_text(script)
    return f"sed -i -f {shlex.quote(str(path))}"


def texts(sessionctl: Sessionctl, session: str) -> list[tuple[str, str | None]]:
    return [(event["kind"], event["text"]) for event in sessionctl.events(session)]


def info(sessionctl: Sessionctl, session: str) -> dict[str, Any]:
    (found,) = sessionctl.json("show", "--no-events", session)
    assert isinstance(found, dict)
    return found


def leftovers(home: Path) -> list[Path]:
    return [path for path in (home / "state").rglob("*") if path.is_file()]


# --- copy


def test_a_copy_has_everything_but_the_id_and_says_where_it_comes_from(
    sessionctl: Sessionctl, recorded: str, home: Path
) -> None:
    (copy,) = sessionctl.json("copy", recorded, "deploy-copy")

    original = info(sessionctl, recorded)
    assert copy["ulid"] != recorded
    assert copy["meta"] == {**original["meta"], "copied_from": recorded}
    other = {"ulid", "name", "meta", "byte_count"}
    assert {key: value for key, value in copy.items() if key not in other} == {
        key: value for key, value in original.items() if key not in other
    }
    assert copy["name"] == "deploy-copy"
    assert sessionctl.events("deploy-copy") == sessionctl.events(recorded)
    assert leftovers(home) == []


def test_a_copy_of_many_events_is_whole(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "output", "-", stdin=b"".join(b"line %d\n" % n for n in range(20_000)))
    ended = sessionctl.json("end", ulid)[0]

    shown = sessionctl.out("copy", ulid, "big")

    copy = info(sessionctl, "big")
    assert shown == f"{ended['name']} is copied to big ({copy['ulid']})\n"
    assert (copy["event_count"], copy["digest"]) == (20_000, ended["digest"])


def test_a_taken_name_and_a_session_that_still_records_are_refused(
    sessionctl: Sessionctl, recorded: str
) -> None:
    open_ = sessionctl.out("start", "--detach", "-n", "open").strip()

    for arguments, reason in (
        (["copy", recorded, "open"], "there is a session open already"),
        (["copy", open_, "other"], "still recording; it can be copied once it has ended"),
        (["edit", open_], "still recording; it can be edited once it has ended"),
    ):
        result = sessionctl(*arguments)

        assert (result.returncode, result.stdout) == (1, b"")
        assert reason in result.stderr.decode()
        assert result.stderr.count(b"\n") == 1
    assert sessionctl("copy", recorded, "two words").returncode == 2
    assert len(sessionctl.json("list")) == 2


# --- edit


def test_edited_commands_are_a_session_of_their_own(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path, home: Path
) -> None:
    before = sessionctl.events(recorded)

    result = sessionctl("edit", recorded, EDITOR=editor(tmp_path, 's/"make"/"make -j2"/'))

    edited = info(sessionctl, "deploy-2")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == (
        f"the edited commands are deploy-2 ({edited['ulid']});"
        f" the recorded ones stay, remove them with: sessionctl delete {recorded}\n"
    )
    assert (edited["parent_ulid"], edited["meta"]["edited_from"]) == (recorded, recorded)
    assert (edited["tags"], edited["exit_code"], edited["status"]) == (["prod"], 4, "completed")
    after = sessionctl.events("deploy-2")
    assert after == [event | {"text": "make -j2"} if event["text"] == "make" else event for event in before]
    assert sessionctl.events(recorded) == before
    assert leftovers(home) == []


def test_commands_can_be_moved_removed_and_added(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path
) -> None:
    text = tmp_path / "edited.toml"
    commands = ["command = 'git push'\nseq = 3", "command = 'true'\ncwd = '/'", "command = 'make'\nseq = 1"]

    text.write_text("name = 'other'\n" + "".join(f"[[commands]]\n{it}\n" for it in commands))
    (moved,) = sessionctl.json("edit", recorded, "--from", str(text))
    text.write_text("name = 'fewer'\n[[commands]]\ncommand = 'git push'\nseq = 3\n")
    sessionctl.out("edit", recorded, "--from", str(text))

    assert (moved["name"], moved["tags"]) == ("other", [])
    assert texts(sessionctl, "other") == [
        ("note", "before"),
        ("command", "git push"),
        ("command", "true"),
        ("command", "make"),
        ("output", "caf\ufffd\n"),
    ]
    _, push, added, make, output = sessionctl.events("other")
    assert [event["data"]["index"] for event in (push, added, make)] == [0, 1, 2]
    assert (push["at"], added["at"], make["at"]) == (
        "2023-11-14T22:13:22.000000Z",
        "2023-11-14T22:13:21.000000Z",
        "2023-11-14T22:13:21.000000Z",
    )
    assert make["data"] == {"index": 2, "duration_ms": 7, "host": "x"}
    assert output["data"]["b64"] == "Y2Fm6Qo="
    assert [text for _, text in texts(sessionctl, "fewer")] == ["before", "caf\ufffd\n", "git push"]


def test_exact_bytes_stay_with_the_text_they_belong_to(sessionctl: Sessionctl, tmp_path: Path) -> None:
    ulid = sessionctl.out("start", "--detach", "-n", "bytes").strip()
    for text in ("echo 1", "echo 2"):
        sessionctl.out("append", ulid, "command", text, "--data", '{"b64": "ZWNobyDp"}')
    sessionctl.out("end", ulid)

    sessionctl("edit", ulid, EDITOR=editor(tmp_path, "s/echo 1/true/"))

    changed, kept = sessionctl.events("bytes-2")
    assert (changed["text"], changed["data"]) == ("true", {"index": 0})
    assert (kept["text"], kept["data"]) == ("echo 2", {"index": 1, "b64": "ZWNobyDp"})


def test_a_new_name_and_new_tags_alone_are_given_to_the_session_itself(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path
) -> None:
    script = 's/^name = .*/name = "renamed"/; s/"prod"/"New Tag", "x"/'

    shown = sessionctl("edit", recorded, EDITOR="false", VISUAL=editor(tmp_path, script)).stdout.decode()

    assert shown == f"renamed ({recorded}) has its new name and tags\n"
    (session,) = sessionctl.json("list")
    assert (session["ulid"], session["name"], session["tags"]) == (recorded, "renamed", ["new-tag", "x"])


def test_without_a_terminal_no_editor_is_opened_that_needs_one(
    sessionctl: Sessionctl, recorded: str, home: Path
) -> None:
    result = sessionctl("edit", recorded)

    assert (result.returncode, result.stdout) == (2, b"")
    assert b"vi needs a terminal; set $EDITOR" in result.stderr
    assert leftovers(home) == []


def test_an_editor_that_changes_nothing_or_fails_changes_nothing(
    sessionctl: Sessionctl, recorded: str, home: Path
) -> None:
    unchanged = sessionctl("edit", recorded, EDITOR="true")
    failing = sessionctl("edit", recorded, EDITOR="false")
    missing = sessionctl("edit", recorded, EDITOR="no-such-editor")

    assert (unchanged.returncode, failing.returncode, missing.returncode) == (0, 1, 1)
    assert unchanged.stdout.decode() == f"deploy ({recorded}) stays as it is: nothing was changed\n"
    assert b"ended with 1; nothing was changed" in failing.stderr
    assert b"cannot be started: No such file or directory; set $EDITOR" in missing.stderr
    assert len(sessionctl.json("list")) == 1
    assert leftovers(home) == []


@pytest.mark.parametrize("script", ["s/^name = .*/name = deploy/", "s/^seq = 1/seq = 99/", "s/deploy/a b/"])
def test_a_text_that_cannot_be_used_is_kept_and_named(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path, home: Path, script: str
) -> None:
    result = sessionctl("edit", recorded, EDITOR=editor(tmp_path, script))

    message = result.stderr.decode()
    assert (result.returncode, result.stdout, message.count("\n")) == (1, b"", 1)
    assert "nothing was changed" in message
    (kept,) = leftovers(home)
    assert kept.stat().st_mode & 0o777 == 0o600
    advice = re.search(r"sessionctl (edit \S+ --from \S+)\n", message)
    assert advice is not None
    kept.write_text('name = "mended"\ntags = []\n[[commands]]\ncommand = "x"\n')
    assert sessionctl(*advice[1].split()).returncode == 0
    assert info(sessionctl, "mended")["command_count"] == 1
