"""rename, tag, label, milestone, fork, last, summary, stats, and the filters of list."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sessionctl.commands.stats import short_size
from sessionctl.main import cli
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.terminal import Terminal
from tests.running import RunningDaemon

HOSTILE = "\x1b]0;owned\x07\u202e"
SHOWN = r"\x1b]0;owned\x07\u202e"


def start(sessionctl: Sessionctl, *options: str) -> str:
    """A session that nobody owns; its ULID."""
    return sessionctl.out("start", "--detach", *options).strip()


def names(sessionctl: Sessionctl, *options: str) -> list[str]:
    """The names that a listing has."""
    return [line.split("\t")[1] for line in sessionctl.out("list", *options).splitlines()]


# --- rename


def test_a_recording_session_is_renamed_and_keeps_what_it_was_called(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl, "-n", "first")
    sessionctl.out("append", ulid, "note", "x")

    said = sessionctl.out("rename", "first", "second")
    (again,) = sessionctl.json("rename", "@last", "third")

    assert said == f"first is now second ({ulid})\n"
    assert (again["name"], again["previous_names"]) == ("third", ["first", "second"])
    assert "# formerly: first second" in sessionctl.out("show", ulid).splitlines()
    assert len(sessionctl.events("third")) == 1


def test_a_name_that_another_session_has_is_refused(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "one")
    start(sessionctl, "-n", "two")

    result = sessionctl("rename", "one", "two")

    assert result.returncode == 1
    assert b"another session is called 'two'" in result.stderr
    assert names(sessionctl) == ["two", "one"]


def test_a_bad_name_is_one_clear_line_and_nothing_changes(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "good")

    for name in ("two words", "", HOSTILE, "x" * 129, "a/b"):
        result = sessionctl("rename", "good", name)

        assert result.returncode == 2, name
        assert result.stderr.startswith(b"sessionctl: ")
        assert result.stderr.count(b"\n") == 1
        assert b"\x1b" not in result.stderr
    assert names(sessionctl) == ["good"]


# --- tag


def test_tags_are_added_in_order_each_once_and_removed_however_they_are_written(
    sessionctl: Sessionctl,
) -> None:
    ulid = start(sessionctl, "-t", "b")

    assert sessionctl.out("tag", "add", ulid, " Blue  Team ", "a", "b") == "b\nblue-team\na\n"
    assert sessionctl.out("tag", "remove", ulid, "BLUE TEAM", "none") == "b\na\n"
    assert sessionctl.out("tag", "list", ulid) == "b\na\n"
    (session,) = sessionctl.json("tag", "add", ulid, "c")
    assert session["tags"] == ["b", "a", "c"]


def test_the_tags_in_use_are_counted(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-t", "x")
    start(sessionctl, "-t", "x", "-t", "y")

    assert sessionctl.out("tag", "list") == "x\t2\ny\t1\n"
    assert sessionctl.json("tag", "list") == [{"tag": "x", "sessions": 2}, {"tag": "y", "sessions": 1}]


def test_a_tag_of_other_characters_is_refused_as_a_whole(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    result = sessionctl("tag", "add", ulid, "good", "!" + HOSTILE)

    assert result.returncode == 2
    assert SHOWN.encode() in result.stderr
    assert b"\x1b" not in result.stderr
    assert sessionctl.out("tag", "list", ulid) == ""


def test_tags_from_elsewhere_are_brought_into_normal_form(
    sessionctl: Sessionctl, daemon: RunningDaemon
) -> None:
    ulid = start(sessionctl, "-n", "foreign", "-t", "deploy")
    sessionctl.out("end", ulid)
    start(sessionctl, "-n", "fine", "-t", "x")
    daemon.stop()
    file = daemon.data_dir / "sessions" / f"{ulid}.ndjson"
    file.write_text(file.read_text().replace('"tags":["deploy"]', '"tags":["Blue Team","deploy"]'))
    for leftover in daemon.data_dir.glob("sessiond.db*"):
        leftover.unlink()
    daemon.start()

    changed = sessionctl.out("tag", "normalize").splitlines()

    assert sessionctl.out("tag", "list", ulid) == "blue-team\ndeploy\n"
    assert changed == [f"foreign ({ulid}): blue-team deploy"]
    assert sessionctl.out("tag", "normalize") == ""


# --- label


def test_a_label_stands_for_a_session_until_it_is_moved_or_removed(sessionctl: Sessionctl) -> None:
    one, two = start(sessionctl, "-n", "one"), start(sessionctl, "-n", "two")

    assert sessionctl.out("label", "set", " the base ", one) == f"the base stands for one ({one})\n"
    assert sessionctl.out("label", "list") == f"the base\t{one}\tone\n"
    (moved,) = sessionctl.json("label", "set", "the base", "two")
    assert moved == {"label": "the base", "session": two, "previous": one}
    assert sessionctl.out("end", "the base").startswith("two ")
    assert (
        sessionctl.out("label", "remove", "the base") == f"the base is removed; before, it stood for {two}\n"
    )
    missing = sessionctl("label", "remove", "the base")
    assert missing.returncode == 4
    assert b"sessionctl label list" in missing.stderr


def test_without_a_session_a_label_is_for_the_one_of_this_shell(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    sessionctl.out("label", "set", "here", SESSIOND_SESSION=ulid)

    assert sessionctl.json("label", "list")[0]["session"] == ulid
    assert sessionctl("label", "set", "nowhere").returncode == 4


def test_a_label_that_hides_another_sessions_name_says_so(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "nightly")
    other = start(sessionctl, "-n", "other")

    hiding = sessionctl("label", "set", "nightly", "other")
    own = sessionctl("label", "set", "other", "other")

    assert (hiding.returncode, own.returncode) == (0, 0)
    assert b"nightly is a session's name, too" in hiding.stderr
    assert own.stderr == b""
    assert sessionctl.json("show", "--no-events", "nightly")[0]["ulid"] == other


def test_a_hostile_label_is_shown_escaped_or_refused(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    refused = sessionctl("label", "set", "a\x1b[2J", ulid)
    taken = sessionctl.out("label", "set", "a\u202eb", ulid)

    assert refused.returncode == 2
    assert b"\x1b" not in refused.stderr
    assert r"a\u202eb stands for" in taken
    assert r"a\u202eb" in sessionctl.out("label", "list")


def test_what_names_a_session_by_itself_can_be_no_label(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    for label in (ulid, ulid.lower()):
        result = sessionctl("label", "set", label, ulid)
        assert result.returncode == 2
        assert b"is an id, and an id always means its own session" in result.stderr
    assert sessionctl.out("label", "list") == ""


# --- milestone


def test_a_milestone_is_set_got_and_listed(sessionctl: Sessionctl) -> None:
    assert sessionctl.out("milestone", "set", "a.b", "one\ntwo") == "one\ntwo\n"
    assert sessionctl.out("milestone", "get", "a.b") == "one\ntwo\n"
    assert sessionctl.out("milestone", "list") == "a.b\tone\\ntwo\n"
    assert sessionctl.json("milestone", "list") == [{"a.b": "one\ntwo"}]
    assert sessionctl.json("milestone", "get", "a.b") == [{"key": "a.b", "value": "one\ntwo"}]


def test_a_milestone_is_set_only_on_its_condition(sessionctl: Sessionctl) -> None:
    first = sessionctl("milestone", "set", "first", "1", "--if-absent")
    second = sessionctl("milestone", "set", "first", "2", "--if-absent")

    assert (first.returncode, first.stdout) == (0, b"1\n")
    assert (second.returncode, second.stdout) == (1, b"1\n")
    assert b"has a value already" in second.stderr

    sessionctl.out("milestone", "set", "count", "7")
    assert sessionctl("milestone", "set", "count", "9", "--expect", "8").returncode == 1
    assert sessionctl.out("milestone", "set", "count", "8", "--expect", "7") == "8\n"
    assert sessionctl("milestone", "set", "count", "9", "--expect", "8", "--if-absent").returncode == 2
    never = sessionctl("milestone", "get", "none")
    assert (never.returncode, never.stdout) == (1, b"")
    assert b"none was never set" in never.stderr


def test_a_milestone_is_given_back_as_it_was_and_escaped_only_where_a_person_looks(
    sessionctl: Sessionctl, on_terminal: Callable[..., Terminal]
) -> None:
    sessionctl.out("milestone", "set", "k", HOSTILE)

    terminal = on_terminal("milestone", "get", "k")
    assert terminal.wait() == 0
    assert terminal.seen == SHOWN.encode() + b"\r\n"
    assert sessionctl.out("milestone", "get", "k") == HOSTILE + "\n"
    assert SHOWN in sessionctl.out("milestone", "list")
    assert sessionctl.json("milestone", "get", "k")[0]["value"] == HOSTILE


# --- fork


def test_a_fork_is_a_child_that_inherits_what_was_before(sessionctl: Sessionctl) -> None:
    parent = start(sessionctl, "-n", "trial", "-t", "x", "--cwd", "/srv")
    for text in ("one", "two", "three"):
        sessionctl.out("append", parent, "note", text)

    child = sessionctl.out("fork", "trial", "--at", "1", "--detach").strip()
    sessionctl.out("append", child, "note", "other")

    (info, *events) = sessionctl.json("show", child, "--inherit")
    assert (info["name"], info["parent_ulid"], info["parent_seq"]) == ("trial-2", parent, 1)
    assert (info["cwd"], info["tags"], info["status"]) == ("/srv", ["x"], "recording")
    assert [event["text"] for event in events] == ["one", "two", "other"]
    assert [event["text"] for event in sessionctl.events(parent)] == ["one", "two", "three"]


def test_a_fork_belongs_to_the_process_that_called(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "parent")
    script = '"$@" fork parent -n child; "$@" list --name-prefix child | cut -f 3'
    result = subprocess.run(
        ["bash", "-c", script, "bash", *SESSIONCTL], capture_output=True, env=sessionctl.environ, timeout=60
    )

    ulid, status = result.stdout.decode().split()
    assert status == "recording"
    sessionctl("tail", "-f", ulid)
    (info,) = sessionctl.json("show", "--no-events", ulid)
    assert (info["status"], info["end_reason"]) == ("interrupted", "client_lost")


def test_a_fork_at_an_event_that_is_not_there_is_refused(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "empty")

    result = sessionctl("fork", "empty", "--at", "5")

    assert result.returncode == 2
    assert b"no event 5" in result.stderr
    assert names(sessionctl) == ["empty"]


# --- last, and the filters of list


def test_last_is_the_newest_session_of_its_kind(sessionctl: Sessionctl) -> None:
    agent = start(sessionctl, "--source", "agent", "-t", "x", "--cwd", "/srv")
    both = start(sessionctl, "-t", "x", "-t", "y", "--cwd", "/home")
    newest = start(sessionctl, "-t", "y", "--cwd", "/tmp")
    host = sessionctl.json("show", "--no-events", newest)[0]["hostname"]

    assert sessionctl.out("last") == f"{newest}\n"
    assert sessionctl.out("last", "--source", "agent") == f"{agent}\n"
    assert sessionctl.out("last", "--cwd", "/tmp/../srv") == f"{agent}\n"
    assert sessionctl.out("last", "-t", "x", "-t", "y") == f"{both}\n"
    assert sessionctl.json("last", "--host", host)[0]["ulid"] == newest
    nowhere = sessionctl("last", "--host", "elsewhere")
    assert (nowhere.returncode, nowhere.stdout) == (4, b"")


def test_last_of_nothing_says_how_to_begin(sessionctl: Sessionctl) -> None:
    result = sessionctl("last")

    assert (result.returncode, result.stderr) == (
        4,
        b"sessionctl: no sessions yet; record one with: sessionctl record -- COMMAND\n",
    )


def test_list_narrows_by_name_directory_and_host(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "nightly-1", "--cwd", "/srv")
    start(sessionctl, "-n", "nightly-2", "--cwd", "/tmp")
    start(sessionctl, "-n", "other", "--cwd", "/srv")
    host = sessionctl.json("list", "-n", "1")[0]["hostname"]

    assert names(sessionctl, "--name-prefix", "nightly-") == ["nightly-2", "nightly-1"]
    assert names(sessionctl, "--cwd", "/srv/.") == ["other", "nightly-1"]
    assert names(sessionctl, "--host", host, "--cwd", "/tmp") == ["nightly-2"]
    assert names(sessionctl, "--host", "elsewhere") == []


# --- summary and stats


def test_a_summary_counts_events_and_ranks_commands_the_same_way_every_time(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl, "-n", "trial")
    for kind, text in (
        ("prompt", b"/zebra\n/status BTC\n/status\nwhat is going on"),
        ("command", b"git status\ngit push\n/alpha\n  "),
    ):
        sessionctl.out("append", ulid, kind, "-", stdin=text)
    sessionctl.out("append", ulid, "system", "/not-a-command")

    (recording,) = sessionctl.json("summary", ulid)
    sessionctl.out("end", ulid)
    (summary,) = sessionctl.json("summary", "trial")

    info = sessionctl.json("show", "--no-events", ulid)[0]
    assert recording["ended_at"] is None
    assert summary == {
        "schema": 1,
        "session_ulid": ulid,
        "started_at": info["started_at"],
        "ended_at": info["ended_at"],
        "duration_secs": summary["duration_secs"],
        "total_events": 9,
        "event_counts": {"command": 4, "prompt": 4, "system": 1},
        "top_commands": [
            {"name": "/status", "count": 2},
            {"name": "git", "count": 2},
            {"name": "/alpha", "count": 1},
            {"name": "/zebra", "count": 1},
        ],
    }
    assert sessionctl.json("summary", "trial") == [summary]
    assert f"session       trial ({ulid})\n" in sessionctl.out("summary")


def test_a_summary_of_many_pages_counts_them_all_and_shows_hostile_names_escaped(
    sessionctl: Sessionctl,
) -> None:
    ulid = start(sessionctl)
    lines = "".join(f"{HOSTILE}{number % 12:02} x\n" for number in range(4000))
    sessionctl.out("append", ulid, "command", "-", stdin=lines.encode())

    (summary,) = sessionctl.json("summary", ulid)

    assert summary["total_events"] == 4000
    assert len(summary["top_commands"]) == 10
    assert summary["top_commands"][0] == {"name": f"{HOSTILE}00", "count": 334}
    assert f"{SHOWN}00" in sessionctl.out("summary", ulid)


def test_stats_has_the_keys_of_rec_and_more(
    sessionctl: Sessionctl, on_terminal: Callable[..., Terminal]
) -> None:
    (nothing,) = sessionctl.json("stats")
    assert (nothing["total_sessions"], nothing["average_session_length_seconds"]) == (0, 0.0)
    ulid = start(sessionctl, "-t", "x", "--source", "agent")
    sessionctl.out("append", ulid, "command", "make")
    sessionctl.out("append", ulid, "note", "y")
    sessionctl.out("end", ulid)
    start(sessionctl, "-t", "x", "-t", "y")

    (totals,) = sessionctl.json("stats")
    terminal = on_terminal("stats", NO_COLOR="1")

    assert terminal.wait() == 0
    assert b"on the disk   " in terminal.seen
    assert (totals["total_sessions"], totals["total_commands"], totals["total_events"]) == (2, 1, 2)
    assert totals["average_session_length_seconds"] == totals["total_duration_seconds"] > 0
    assert totals["storage_bytes"] > 0
    assert totals["storage_human"].endswith((" KB", " MB"))
    assert totals["most_used_tags"] == [{"tag": "x", "count": 2}, {"tag": "y", "count": 1}]
    assert (totals["recording"], totals["sources"]) == (1, {"agent": 1, "app": 1})
    lines = sessionctl.out("stats").splitlines()
    assert {"sessions\t2", "commands\t1", "tags\tx 2, y 1"} <= set(lines)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (1258291, "1.2 MB"), (2**70, "1048576.0 PB")],
)
def test_sizes_are_shown_as_rec_shows_them(count: int, shown: str) -> None:
    assert short_size(count) == shown


# --- all of them


def test_an_unknown_session_gives_4_and_a_suggestion(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "nightly")

    for line in (
        "rename nightli y",
        "tag add nightli y",
        "tag list nightli",
        "label set x nightli",
        "fork nightli",
        "summary nightli",
    ):
        result = sessionctl(*line.split())

        assert result.returncode == 4, line
        assert b"did you mean: nightly?" in result.stderr
        assert result.stderr.count(b"\n") == 1


def test_every_subcommand_has_help_with_an_example_and_json() -> None:
    for group in ("tag", "label", "milestone"):
        parent = click.Context(cli, info_name="sessionctl")
        command = cli.get_command(parent, group)
        assert isinstance(command, click.Group)
        for name, subcommand in command.commands.items():
            context = click.Context(subcommand, info_name=name, parent=click.Context(command, parent=parent))

            shown = subcommand.get_help(context)

            assert f"sessionctl {group} {name}" in shown.partition("Example")[2], name
            assert "--json" in shown, name


def test_without_a_daemon_every_new_command_says_so_in_one_line(
    sessionctl: Sessionctl, tmp_path: Path
) -> None:
    missing = str(tmp_path / "none.sock")
    for line in (
        "rename x y",
        "tag list",
        "label list",
        "milestone list",
        "fork x",
        "delete x --force",
        "restore x",
        "search x",
        "stats",
        "summary x",
        "last",
    ):
        result = sessionctl(*line.split(), SESSIOND_SOCKET=missing)

        assert (result.returncode, result.stdout) == (3, b""), line
        assert result.stderr.count(b"\n") == 1


def test_json_of_one_thing_is_one_object(sessionctl: Sessionctl) -> None:
    start(sessionctl, "-n", "a")

    for arguments in (["stats"], ["summary"], ["last"], ["fork", "a", "--detach"], ["rename", "a", "b"]):
        assert isinstance(json.loads(sessionctl.out(*arguments, "--json")), dict)


def test_a_name_that_a_label_hides_is_said(sessionctl: Sessionctl) -> None:
    one, two = start(sessionctl, "-n", "one"), start(sessionctl, "-n", "two")
    sessionctl.out("label", "set", "best", one)
    sessionctl.out("label", "set", "mine", two)

    hidden = sessionctl("rename", two, "best")
    own = sessionctl("rename", two, "mine")

    assert hidden.stderr.startswith(b"sessionctl: best is a label, too")
    assert (hidden.returncode, own.returncode, own.stderr) == (0, 0, b"")


def test_the_events_that_forks_inherit_do_not_go_unsaid(sessionctl: Sessionctl) -> None:
    parent = start(sessionctl, "-n", "parent")
    sessionctl.out("append", parent, "note", "early")
    sessionctl.out("fork", parent, "--detach", "-n", "child")

    purged = sessionctl("delete", parent, "--purge", "--force")
    shown = sessionctl("show", "child", "--inherit")

    assert b"are purged with parent for child, too" in purged.stderr
    assert f"its parent {parent} is gone".encode() in shown.stderr
    assert (purged.returncode, shown.returncode) == (0, 0)
