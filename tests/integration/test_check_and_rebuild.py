"""`sessiond check` and `sessiond rebuild` as a user runs them: what they print, and how they end."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessiond.clock import Clock
from sessiond.commands.progress import Progress
from tests import checker
from tests.crash.damaged import OPEN, SEALED, make
from tests.running import RunningDaemon, environ_for


@pytest.fixture
def data_dir(home: Path) -> Path:
    """The data directory of this home, with two sessions and no daemon."""
    (home / "data").mkdir(mode=0o700)
    make(home / "data" / "sessiond")
    return home / "data" / "sessiond"


def sessiond(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sessiond", *arguments],
        env=environ_for(home),
        text=True,
        capture_output=True,
        cwd="/",
        **options,
    )


def damaged(data_dir: Path) -> Path:
    """The file of the sealed session, with another letter in its first event."""
    path = data_dir / "sessions" / f"{SEALED}.ndjson"
    path.write_bytes(path.read_bytes().replace(b"one", b"One"))
    return path


def test_a_sound_directory_is_told_in_one_line(home: Path, data_dir: Path) -> None:
    done = sessiond(home, "check")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "compared 2 sessions, 6 events, 544 bytes: all is well\n"


def test_a_fault_says_where_it_is_and_the_named_command_mends_it(home: Path, data_dir: Path) -> None:
    path = damaged(data_dir)
    line = path.read_bytes().index(b'{"type":"event"')

    found = sessiond(home, "check")

    assert found.returncode == 1
    first, second, third, last = found.stdout.splitlines()
    assert first == f"line_differs  {path}, byte {line}"
    assert second.startswith(f"    session {SEALED}: ")
    assert last.endswith(": 1 fault")
    command = third.split("`")[1].split()
    assert command == ["sessiond", "rebuild", "--session", SEALED]
    mended = sessiond(home, *command[1:])
    assert (mended.returncode, mended.stdout) == (0, "mended: 1 fault\n")
    again = sessiond(home, "check")
    assert again.returncode == 0
    assert f"left over: {data_dir}/quarantine/{SEALED}.ndjson.damaged-" in again.stdout
    checker.check(data_dir)


def test_json_is_one_object_a_line_and_a_summary(home: Path, data_dir: Path) -> None:
    path = damaged(data_dir)

    fault, summary = map(json.loads, sessiond(home, "check", "--json").stdout.splitlines())

    assert {key: fault[key] for key in ("type", "code", "session", "path")} == {
        "type": "fault", "code": "line_differs", "session": SEALED, "path": str(path),
    }  # fmt: skip
    assert summary == {
        "type": "summary", "sessions": 2, "events": 6, "bytes": 544, "faults": 1, "leftovers": [],
    }  # fmt: skip
    (summary,) = map(json.loads, sessiond(home, "rebuild", "--mend", "--json").stdout.splitlines())
    assert summary == {"type": "summary", "mended": 1, "left": 0, "incomplete": 0, "recovery": {}}
    (summary,) = map(json.loads, sessiond(home, "rebuild", "--yes", "--json").stdout.splitlines())
    assert (summary["sessions"], summary["events"], summary["mended"]) == (2, 6, 0)


def test_one_session_is_checked_by_itself(home: Path, data_dir: Path) -> None:
    damaged(data_dir)

    assert sessiond(home, "check", "--session", OPEN.lower()).returncode == 0
    assert sessiond(home, "check", "--session", SEALED).returncode == 1
    unknown = sessiond(home, "check", "--session", f"{SEALED[:-1]}9")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "\x1b" not in sessiond(home, "check", "--session", "01\x1b[31m").stderr


def test_a_rebuild_brings_every_event_back_and_keeps_the_old_database(home: Path, data_dir: Path) -> None:
    lines = checker.lines_in_database(data_dir)
    damaged(data_dir)

    done = sessiond(home, "rebuild", "--yes")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the database is built anew: 2 sessions, 6 events\nmended before: 1 file\n")
    checker.check(data_dir)
    assert checker.lines_in_database(data_dir) == lines
    assert any(each.name.startswith("sessiond.db.replaced-") for each in (data_dir / "quarantine").iterdir())


def test_a_rebuild_asks_first_and_where_nobody_can_answer_it_is_refused(home: Path, data_dir: Path) -> None:
    refused = sessiond(home, "rebuild", stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "use --yes" in refused.stderr

    controller, terminal = pty.openpty()
    os.write(controller, b"n\n")
    asked = sessiond(home, "rebuild", stdin=terminal)
    os.close(terminal)
    os.close(controller)

    assert asked.returncode == 1
    assert "Go on? [y/N]" in asked.stderr
    assert not list((data_dir / "quarantine").iterdir())


def test_while_a_daemon_has_the_data_both_say_so(daemon: RunningDaemon) -> None:
    for command, hint in (("check", "`sessionctl verify`"), ("rebuild", "stop it first")):
        done = sessiond(daemon.home, command, *(["--yes"] if command == "rebuild" else []))

        assert (done.returncode, done.stdout) == (75, "")
        assert done.stderr.startswith(f"sessiond: a daemon has the data in {daemon.data_dir}")
        assert hint in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_daemon_does_not_start_meanwhile_and_is_told_who_is_at_work(home: Path, data_dir: Path) -> None:
    from sessiond.commands.possession import possession

    (home / "run").mkdir(mode=0o700)
    with possession(data_dir, "rebuild", writes=True):
        for command in ("serve", "check"):
            refused = sessiond(home, command)
            assert refused.returncode == 75
            assert f"`sessiond rebuild` ({os.getpid()}) is at work: wait until it ends" in refused.stderr
    with possession(data_dir, "check", writes=False):
        refused = sessiond(home, "serve")
        again = sessiond(home, "check")

    assert refused.returncode == 75
    assert "`sessiond check` is at work: wait until it ends" in refused.stderr
    assert again.returncode == 0


def test_a_check_makes_no_lock_and_leaves_one_as_it_is(home: Path, data_dir: Path) -> None:
    before = sorted(each.name for each in data_dir.iterdir())
    assert "lock" not in before

    assert sessiond(home, "check").returncode == 0

    assert sorted(each.name for each in data_dir.iterdir()) == before
    (data_dir / "lock").write_text("/run/of/a/daemon\n")
    assert sessiond(home, "check").returncode == 0
    assert (data_dir / "lock").read_text() == "/run/of/a/daemon\n"


def test_the_repair_of_a_copy_says_which_directory_is_meant(home: Path, data_dir: Path) -> None:
    copy = home / "the copy"
    shutil.copytree(data_dir, copy)
    damaged(copy)

    found = sessiond(home, "check", "--data-dir", str(copy))
    command = shlex.split(found.stdout.split("`")[1])
    assert command == ["sessiond", "rebuild", "--data-dir", str(copy), "--session", SEALED]
    assert sessiond(home, *command[1:]).returncode == 0

    assert sessiond(home, "check", "--data-dir", str(copy)).returncode == 0


def test_where_nothing_is_recorded_or_links_lead_elsewhere_nobody_looks_further(
    home: Path, data_dir: Path
) -> None:
    empty, linked = home / "empty", home / "linked"
    (empty / "sessions").mkdir(parents=True)
    linked.mkdir(mode=0o700)
    (linked / "sessiond.db").symlink_to(data_dir / "sessiond.db")
    said = {
        empty: f"there is no data of sessiond in {empty}; give the directory with --data-dir",
        linked: f"{linked}/sessiond.db is a link; put what it leads to in its place",
    }

    for directory, words in said.items():
        before = sorted(directory.rglob("*"))
        for command in (["check"], ["rebuild", "--mend"]):
            done = sessiond(home, *command, "--data-dir", str(directory))
            assert (done.returncode, done.stdout, done.stderr) == (78, "", f"sessiond: {words}\n")
        assert sorted(directory.rglob("*")) == before


def test_a_directory_that_is_not_there_is_refused_and_not_made(home: Path) -> None:
    done = sessiond(home, "check", "--data-dir", str(home / "nowhere"))

    assert done.returncode == 78
    assert done.stderr == (
        f"sessiond: there is no data in {home}/nowhere; give the directory with --data-dir\n"
    )
    assert not (home / "nowhere").exists()


def test_what_a_file_is_called_is_shown_without_what_a_terminal_obeys(home: Path, data_dir: Path) -> None:
    (data_dir / "sessions" / "\x1b[31mred\u202e.ndjson").touch()
    (data_dir / "quarantine" / b"\xff\x1b".decode("utf-8", "surrogateescape")).touch()

    done = sessiond(home, "check")

    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "\\u001b[31mred\\u202e.ndjson" in done.stdout
    assert "\\xff\\u001b" in done.stdout
    for line in sessiond(home, "check", "--json").stdout.splitlines():
        json.loads(line)


def test_the_help_has_examples(home: Path) -> None:
    for command in ("check", "rebuild"):
        text = sessiond(home, command, "--help").stdout
        assert f"sessiond {command}" in text.partition("Examples:")[2]
    assert "check" in sessiond(home, "--help").stdout


def test_progress_is_drawn_after_a_second_and_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Later(Clock):
        seconds = 0.0

        def monotonic(self) -> float:
            return self.seconds

    monkeypatch.setenv("TERM", "xterm")
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda is_terminal=is_terminal: is_terminal)
        clock = Later()
        with Progress(clock) as bar:
            bar.show("comparing", 1, 2)
            assert capsys.readouterr().err == ""
            clock.seconds = 1.1
            bar.show("comparing", 1, 2)
            bar.show("comparing", 2, 2)
        assert ("comparing" in capsys.readouterr().err) == is_terminal


def test_a_session_that_neither_copy_has_whole_is_named_and_the_exit_code_says_so(
    home: Path, data_dir: Path
) -> None:
    (data_dir / "sessiond.db").unlink()
    path = data_dir / "sessions" / f"{SEALED}.ndjson"
    path.write_bytes(path.read_bytes().replace(b'"seq":1,', b'"seq":x,'))

    done = sessiond(home, "rebuild", "--yes")

    assert done.returncode == 1
    first, advice, *_ = done.stdout.splitlines()
    assert first == (
        f"not whole: session {SEALED} (sealed): 1 event from the beginning,"
        f" 1 more in quarantine/{SEALED}.rest-…, 1 event in neither copy"
    )
    assert "backup" in advice
    assert sessiond(home, "check").returncode == 0
    assert sessiond(home, "rebuild", "--yes").returncode == 0


def test_what_mending_takes_in_from_the_trash_is_in_the_trash_afterwards(home: Path, data_dir: Path) -> None:
    (data_dir / "sessiond.db").unlink()
    file = data_dir / "trash" / f"{SEALED}.ndjson"
    (data_dir / "sessions" / file.name).rename(file)

    assert sessiond(home, "rebuild", "--mend").returncode == 0

    assert file.exists()
    checker.check(data_dir)


def test_without_a_database_a_mend_and_a_start_name_what_the_files_lack(home: Path, data_dir: Path) -> None:
    (data_dir / "sessiond.db").unlink()
    path = data_dir / "sessions" / f"{SEALED}.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    shutil.copytree(data_dir, home / "copy")

    mended = sessiond(home, "rebuild", "--mend")
    other = sessiond(home, "rebuild", "--mend", "--json", "--data-dir", str(home / "copy"))

    assert mended.returncode == other.returncode == 1
    assert f"not whole: session {SEALED} (sealed): nothing is stored" in mended.stdout
    incomplete, summary = map(json.loads, other.stdout.splitlines())
    assert (incomplete["type"], incomplete["session"], summary["incomplete"]) == ("incomplete", SEALED, 1)
    assert sessiond(home, "check").returncode == 0


def test_where_there_is_more_than_one_fault_a_check_says_what_mends_all_at_once(
    home: Path, data_dir: Path
) -> None:
    shutil.rmtree(data_dir / "sessions")

    found = sessiond(home, "check")
    assert (
        found.stdout.splitlines()[-1] == "`sessiond rebuild --mend` does at once what can be done about them"
    )
    assert sessiond(home, "rebuild", "--mend").returncode == 0
    assert sessiond(home, "check").returncode == 0


@pytest.mark.parametrize("command", ["check", "rebuild"])
def test_a_session_is_named_by_its_ulid_only(home: Path, data_dir: Path, command: str) -> None:
    done = sessiond(home, command, "--session", "sealed")

    assert done.returncode == 2
    assert "'sealed' is no ULID; `sessionctl find NAME` tells that of a session" in done.stderr
