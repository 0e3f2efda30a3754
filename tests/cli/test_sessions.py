"""start, append, end, list, show, tail and status: what they print, store and end with."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessiond_client.wire.messages import TEXT_BYTES_MAX
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.running import RunningDaemon

HOSTILE = "\x1b]0;owned\x07\u202e\u2028\x9b31m\r"
SHOWN = r"\x1b]0;owned\x07\u202e\u2028\x9b31m\r"


def start(sessionctl: Sessionctl, *options: str) -> str:
    """A session that nobody owns; its ULID."""
    return sessionctl.out("start", "--detach", *options).strip()


# --- start and end


def test_start_prints_the_id_and_nothing_else(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl, "-n", "nightly", "-t", "a b", "--source", "agent", "--cwd", "/srv")

    (session,) = sessionctl.json("list")
    assert session["ulid"] == ulid
    assert (session["name"], session["source"], session["cwd"]) == ("nightly", "agent", "/srv")
    assert (session["tags"], session["status"]) == (["a-b"], "recording")


def test_start_takes_the_name_either_way_but_once(sessionctl: Sessionctl) -> None:
    sessionctl.out("start", "--detach", "one")
    sessionctl.out("start", "--detach", "-n", "two")
    twice = sessionctl("start", "--detach", "three", "-n", "four")

    assert [session["name"] for session in sessionctl.json("list")] == ["two", "one"]
    assert (twice.returncode, twice.stderr.count(b"\n")) == (2, 1)


def test_a_started_session_belongs_to_the_process_that_called(sessionctl: Sessionctl) -> None:
    script = 'id=$("$@" start -n mine); "$@" list --status recording | cut -f 2; kill -9 $$'
    result = subprocess.run(
        ["bash", "-c", script, "bash", *SESSIONCTL], capture_output=True, env=sessionctl.environ, timeout=60
    )

    assert result.returncode == -signal.SIGKILL
    assert result.stdout == b"mine\n"
    followed = sessionctl("tail", "-f", "mine")
    assert followed.returncode == 0
    (session,) = sessionctl.json("list")
    assert (session["status"], session["end_reason"]) == ("interrupted", "client_lost")


def test_end_ends_once_and_a_second_end_changes_nothing(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl, "-n", "short")

    assert (
        sessionctl.out("end", ulid, "--exit-code", "3")
        == f"short ({ulid}) completed, 0 events, exit code 3\n"
    )
    (again,) = sessionctl.json("end", ulid, "--status", "interrupted")
    assert (again["status"], again["exit_code"]) == ("completed", 3)


# --- append


def test_append_prints_the_number_of_the_event(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    assert sessionctl.out("append", ulid, "note", "first") == "0\n"
    assert sessionctl.out("append", ulid, "note", "--data", '{"step": 3}', "--at", "@1.5") == "1\n"
    (third,) = sessionctl.json("append", ulid, "note", "x", "--expect", "2")
    assert third == {"session": ulid, "events": 1, "first": 2, "last": 2}
    first, second, _ = sessionctl.events(ulid)
    assert (first["text"], first["data"]) == ("first", {})
    assert (second["text"], second["data"], second["at"]) == (
        None,
        {"step": 3},
        "1970-01-01T00:00:01.500000Z",
    )


def test_lines_of_standard_input_become_events_byte_for_byte(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    lines = [b"one", b"", b"caf\xe9", "zwei €".encode(), b"cr\r", b"no newline"]

    assert sessionctl.out("append", ulid, "output", "-", stdin=b"\n".join(lines)) == "0-5\n"
    events = sessionctl.events(ulid)
    texts = ["one\n", "\n", "caf\ufffd\n", "zwei €\n", "cr\r\n", "no newline"]
    assert [event["text"] for event in events] == texts
    assert sessionctl("show", "--raw", ulid).stdout == b"\n".join(lines)


def test_only_output_keeps_its_newlines_for_only_output_is_pieces_of_one_text(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    sessionctl.out("append", ulid, "output", "-", stdin=b"a\nb\n")
    sessionctl.out("append", ulid, "note", "-", stdin=b"c\nd\n")

    assert [event["text"] for event in sessionctl.events(ulid)] == ["a\n", "b\n", "c", "d"]
    assert sessionctl.out("export", ulid, "-F", "txt") == "a\nb\nnote: c\nnote: d\n"
    assert "```text\na\nb\n```" in sessionctl.out("export", ulid, "-F", "md")
    assert sessionctl.out("tail", ulid, "-k", "output", "--raw") == "a\nb\n"


def test_a_pipe_needs_no_dash_and_dev_null_is_no_pipe(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)

    assert sessionctl.out("append", ulid, "output", stdin=b"a\nb\n") == "0-1\n"
    assert sessionctl.out("append", ulid, "marker", stdin=None) == "2\n"
    assert sessionctl.json("append", ulid, "output", "-", stdin=b"") == [
        {"session": ulid, "events": 0, "first": None, "last": None}
    ]


def test_many_lines_go_through_in_order(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    lines = [f"line {number}" for number in range(20_000)]

    (stored,) = sessionctl.json("append", ulid, "output", "-", stdin="\n".join(lines).encode())

    assert (stored["events"], stored["first"], stored["last"]) == (20_000, 0, 19_999)
    assert [event["text"] for event in sessionctl.events(ulid)] == [
        *(f"{line}\n" for line in lines[:-1]),
        lines[-1],
    ]


def test_a_slow_writers_line_is_stored_at_once(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    appender = subprocess.Popen(
        [*SESSIONCTL, "append", ulid, "output", "-"], stdin=subprocess.PIPE, env=sessionctl.environ
    )
    follower = subprocess.Popen(
        [*SESSIONCTL, "tail", "-f", "-n", "9", ulid], stdout=subprocess.PIPE, env=sessionctl.environ
    )
    with appender, follower:
        assert appender.stdin is not None
        assert follower.stdout is not None
        for word in (b"one", b"two"):
            appender.stdin.write(word + b"\n")
            appender.stdin.flush()
            assert follower.stdout.readline().rstrip().endswith(word + rb"\n")
        follower.kill()


def test_a_line_that_is_too_long_is_named_and_what_came_before_is_kept(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    data = b"a\nb\n" + b"x" * (TEXT_BYTES_MAX + 1) + b"\nnever\n"

    result = sessionctl("append", ulid, "output", "-", stdin=data)

    assert result.returncode == 2
    assert result.stderr == (
        b"sessionctl: line 3 of standard input is longer than 1048576 bytes; "
        b"2 lines before are stored as 0-1\n"
    )
    assert len(sessionctl.events(ulid)) == 2


def test_the_longest_allowed_line_is_taken_even_if_it_is_no_text(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    line = b"\xff" * TEXT_BYTES_MAX

    assert sessionctl.out("append", ulid, "output", "-", stdin=line + b"\n") == "0-1\n"
    assert sessionctl("show", "--raw", ulid).stdout == line + b"\n"
    assert sessionctl.out("append", ulid, "note", "-", stdin=line + b"\n") == "2\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["append", "SESSION", "note", "--data", "{nonsense"],
        ["append", "SESSION", "note", "--data", "[1]"],
        ["append", "SESSION", "note", "x", "--at", "someday"],
        ["append", "SESSION", "note", "x", "--expect", "many"],
        ["append", "SESSION", "No Kind", "x"],
        ["append", "SESSION"],
        ["end", "SESSION", "--status", "recording"],
        ["list", "--since", "soon"],
        ["list", "--limit", "-1"],
        ["show", "SESSION", "--raw", "--json"],
        ["show", "--nonsense", "SESSION"],
        ["start", "-n", "two words"],
        ["show", ""],
        ["show", "@first"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(sessionctl: Sessionctl, arguments: list[str]) -> None:
    ulid = start(sessionctl)

    result = sessionctl(*(ulid if word == "SESSION" else word for word in arguments), stdin=None)

    assert result.returncode == 2, result
    assert result.stdout == b""
    assert result.stderr.startswith(b"sessionctl: ")
    assert result.stderr.count(b"\n") == 1
    assert sessionctl.events(ulid) == []


def test_a_refusal_is_a_negative_result(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    sessionctl.out("append", ulid, "note", "x")

    conflict = sessionctl("append", ulid, "note", "y", "--expect", "0", stdin=None)
    sessionctl.out("end", ulid)
    ended = sessionctl("append", ulid, "note", "z", stdin=None)

    assert (conflict.returncode, ended.returncode) == (1, 1)
    assert b"not 0" in conflict.stderr
    assert b"has ended" in ended.stderr


# --- names of sessions


def test_a_session_can_be_named_in_every_documented_way(sessionctl: Sessionctl) -> None:
    older = start(sessionctl, "-n", "older")
    newer = start(sessionctl, "-n", "newer")

    def named(reference: str, here: str = "") -> str:
        shown = sessionctl.out("show", "--no-events", "--json", reference, SESSIOND_SESSION=here)
        return str(json.loads(shown)["ulid"])

    assert named(older) == older
    assert named("older") == older
    assert named(newer[-8:]) == newer
    assert named("@last") == named("@0") == newer
    assert named("@1") == older
    assert named(".", here=older) == older


def test_what_is_not_found_gives_4_and_a_suggestion(sessionctl: Sessionctl) -> None:
    empty = sessionctl("show", "@0")
    assert (empty.returncode, empty.stderr) == (
        4,
        b"sessionctl: no sessions yet; record one with: sessionctl record -- COMMAND\n",
    )
    start(sessionctl, "-n", "nightly")

    missing = sessionctl("show", "nightli")
    beyond = sessionctl("show", "@7")
    nowhere = sessionctl("show", ".")

    assert (missing.returncode, beyond.returncode, nowhere.returncode) == (4, 4, 4)
    assert b"did you mean: nightly?" in missing.stderr
    assert b"only 1 session" in beyond.stderr
    assert b"SESSIOND_SESSION" in nowhere.stderr


def test_an_ambiguous_name_gives_2_and_the_candidates(sessionctl: Sessionctl) -> None:
    first, second = start(sessionctl), start(sessionctl)
    common = first[:6]
    assert second.startswith(common)

    result = sessionctl("show", common)

    assert result.returncode == 2
    assert first.encode() in result.stderr
    assert second.encode() in result.stderr


# --- list


def test_list_filters_and_limits(sessionctl: Sessionctl) -> None:
    sessionctl.out("end", start(sessionctl, "-n", "one", "-t", "x"))
    before = datetime.now(UTC).isoformat()
    start(sessionctl, "-n", "two", "-t", "x", "-t", "y")
    start(sessionctl, "-n", "three", "--source", "agent")

    def names(*options: str) -> list[str]:
        lines = sessionctl.out("list", *options).splitlines()
        return [line.split("\t")[1] for line in lines]

    assert names() == ["three", "two", "one"]
    assert names("-n", "2") == ["three", "two"]
    assert names("-n", "0") == []
    assert names("--all") == ["three", "two", "one"]
    assert names("--status", "completed") == ["one"]
    assert names("--source", "agent") == ["three"]
    assert names("-t", "x", "-t", "y") == ["two", "one"]
    assert names("-t", "x", "-t", "y", "--all-tags") == ["two"]
    assert names("--since", before) == ["three", "two"]
    assert names("--until", before) == ["one"]
    assert names("--since", "1h", "--until", "1m") == []
    assert sessionctl.out("ls") == sessionctl.out("list")


def test_an_empty_list_is_empty_for_programs(sessionctl: Sessionctl) -> None:
    assert sessionctl.out("list") == ""
    assert sessionctl.json("list") == []


# --- show and tail


def test_recorded_text_is_escaped_everywhere_but_raw(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    sessionctl.out("append", ulid, "output", HOSTILE, "--data", json.dumps({"x": HOSTILE}))

    for arguments in (["show", ulid], ["tail", ulid], ["show", "--json", ulid], ["tail", "--json", ulid]):
        shown = sessionctl.out(*arguments)
        assert not [letter for letter in shown if letter in set(HOSTILE) - {"\r"} - set("]0;owned31m")], (
            arguments
        )
    assert SHOWN in sessionctl.out("show", ulid)
    assert sessionctl.out("show", "--raw", ulid) == HOSTILE


def test_show_prints_the_facts_then_the_events_of_the_kinds_asked_for(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl, "-n", "facts")
    for kind in ("note", "output", "note"):
        sessionctl.out("append", ulid, kind, f"a {kind}")

    shown = sessionctl.out("show", "-k", "note", ulid).splitlines()

    assert shown[0] == f"# session: facts ({ulid})"
    assert "# status: recording" in shown
    events = [line.split("\t") for line in shown if not line.startswith("#")]
    assert [(seq, kind, text) for seq, _, kind, text in events] == [
        ("0", "note", "a note"),
        ("2", "note", "a note"),
    ]


def test_tail_shows_the_last_events(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    sessionctl.out("append", ulid, "note", "-", stdin=b"".join(b"%d\n" % number for number in range(30)))

    def seqs(*options: str) -> list[int]:
        return [event["seq"] for event in sessionctl.json("tail", *options)]

    assert seqs(ulid) == list(range(20, 30))
    assert seqs("-n", "2", ulid) == [28, 29]
    assert seqs("-n", "0", ulid) == []
    assert seqs("-n", "100") == list(range(30))


def test_tail_follows_until_the_session_ends_with_no_gap_and_no_double(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    appender = subprocess.Popen(
        [*SESSIONCTL, "append", ulid, "output", "-"], stdin=subprocess.PIPE, env=sessionctl.environ
    )
    assert appender.stdin is not None
    appender.stdin.write(b"".join(b"%d\n" % number for number in range(5000)))
    follower = subprocess.Popen(
        [*SESSIONCTL, "tail", "-f", "-n", "10000", "--json", ulid],
        stdout=subprocess.PIPE,
        bufsize=0,  # communicate would not know of what readline had read ahead
        env=sessionctl.environ,
    )
    assert follower.stdout is not None
    first = follower.stdout.readline()
    appender.communicate(b"".join(b"%d\n" % number for number in range(5000, 10_000)), timeout=60)
    sessionctl.out("end", ulid)
    rest, _ = follower.communicate(timeout=60)

    seqs = [json.loads(line)["seq"] for line in (first + rest).splitlines()]
    assert seqs == list(range(10_000))
    assert follower.returncode == 0


def test_ctrl_c_ends_a_follow_quietly_with_130(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    sessionctl.out("append", ulid, "note", "here")
    follower = subprocess.Popen(
        [*SESSIONCTL, "tail", "-f", ulid],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=sessionctl.environ,
    )
    assert follower.stdout is not None
    assert b"here" in follower.stdout.readline()

    follower.send_signal(signal.SIGINT)

    assert follower.communicate(timeout=60) == (b"", b"")
    assert follower.returncode == 130


def test_a_reader_that_goes_away_ends_a_listing_quietly(sessionctl: Sessionctl) -> None:
    ulid = start(sessionctl)
    sessionctl.out("append", ulid, "output", "-", stdin=b"a line of text\n" * 20_000)

    result = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash", *SESSIONCTL, "show", ulid],
        capture_output=True,
        env=sessionctl.environ,
        timeout=60,
    )

    assert result.stdout.count(b"\n") == 1
    assert result.stderr == b""
    assert result.returncode == 128 + signal.SIGPIPE


# --- status, and no daemon


def test_status_tells_how_the_daemon_is(sessionctl: Sessionctl, daemon: RunningDaemon) -> None:
    start(sessionctl)

    shown = sessionctl.out("status")
    (health,) = sessionctl.json("status")

    assert f"pid {daemon.process.pid}" in shown
    assert "1 session" in shown
    assert health["pid"] == daemon.process.pid
    assert health["sessions_recording"] == 1


def test_without_a_daemon_every_command_says_so_in_one_line(sessionctl: Sessionctl, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.sock")
    for arguments in (
        ["status"],
        ["list"],
        ["show", "x"],
        ["start", "--parent", "x"],
        ["end", "x"],
        ["append", "x", "note", "y"],
    ):
        result = sessionctl(*arguments, stdin=None, SESSIOND_SOCKET=missing)

        assert result.returncode == 3, arguments
        assert result.stdout == b""
        assert result.stderr.count(b"\n") == 1
        assert missing.encode() in result.stderr


def test_status_starts_no_daemon(sessionctl: Sessionctl, home: Path) -> None:
    other = home / "other"
    other.mkdir(mode=0o700)

    result = sessionctl("status", SESSIOND_AUTOSTART="1", XDG_RUNTIME_DIR=str(other))

    assert result.returncode == 3
    assert list(other.iterdir()) == []
