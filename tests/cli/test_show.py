"""`sessionctl show`: choosing events, the forms they take, and going on where a script stopped."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessiond_client.client import Client
from sessiond_client.wire.messages import Fork
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.recorded import shared_daemon
from tests.cli.terminal import Terminal
from tests.running import RunningDaemon

daemon = shared_daemon

HOSTILE = "\x1b]0;owned\x07\x7f\u202e"
BEGAN = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def recorded(daemon: RunningDaemon) -> str:
    """Six events, one a minute; the ULID of their session, which has ended."""
    with Client.connect(daemon.socket, autostart=False) as client:
        session = client.start("nightly", owner_pid=0, started_at=BEGAN)
        kinds = ("prompt", "output", "output", "command", "output", "note")
        texts = ("make", "one\r\n", "two\r\n", "make test", f"three {HOSTILE}", "é")
        for minute, (kind, text) in enumerate(zip(kinds, texts, strict=True)):
            session.append(kind, text, at=BEGAN.replace(minute=minute))
        session.end(exit_code=0)
        return session.ulid


def seqs(shown: str) -> list[int]:
    """The numbers of the events in plain output."""
    return [int(line.partition("\t")[0]) for line in shown.splitlines() if not line.startswith("#")]


# --- forms


def test_ndjson_is_the_lines_of_the_file_and_has_its_digest(sessionctl: Sessionctl, recorded: str) -> None:
    lines = sessionctl("show", recorded, "-o", "ndjson").stdout

    file = Path(sessionctl.out("show", "--file", recorded).strip())
    assert lines.splitlines() == file.read_bytes().splitlines()[1:-1]
    (session,) = sessionctl.json("show", "--no-events", recorded)
    assert hashlib.sha256(lines).hexdigest() == session["digest"]


def test_cat_is_what_was_recorded_and_raw_is_its_other_name(sessionctl: Sessionctl, recorded: str) -> None:
    shown = sessionctl("show", recorded, "-o", "cat").stdout

    assert shown == f"one\r\ntwo\r\nthree {HOSTILE}".encode()
    assert sessionctl("show", recorded, "--raw").stdout == shown
    assert sessionctl("show", recorded, "-o", "cat", "-k", "note").stdout == "é".encode()


def test_forms_can_be_asked_for_wherever_the_output_goes(
    sessionctl: Sessionctl, on_terminal: Callable[..., Terminal], recorded: str
) -> None:
    pretty = sessionctl.out("show", recorded, "-o", "pretty", "-k", "prompt")
    assert pretty.splitlines()[-1] == "     0  12:00:00.000  prompt        make"

    terminal = on_terminal("show", recorded, "-o", "plain", "-k", "prompt", PAGER="false")
    assert terminal.wait() == 0
    assert terminal.seen.endswith(b"0\t2026-11-20T12:00:00.000000Z\tprompt\tmake\r\n")


def test_on_a_terminal_the_lines_of_the_file_cannot_control_it(
    on_terminal: Callable[..., Terminal], recorded: str
) -> None:
    terminal = on_terminal("show", recorded, "-o", "ndjson", "-k", "output")

    assert terminal.wait() == 0
    assert b"three" in terminal.seen
    assert not set(HOSTILE.encode()) & set(terminal.seen) - set(b"]0;owned")


def test_only_what_is_for_reading_goes_through_the_pager(
    sessionctl: Sessionctl, on_terminal: Callable[..., Terminal], recorded: str
) -> None:
    pager = "sed s/^/paged:/"
    paged = on_terminal("show", recorded, SESSIONCTL_PAGER=pager)
    plain = on_terminal("show", recorded, "-o", "ndjson", SESSIONCTL_PAGER=pager)

    assert (paged.wait(), plain.wait()) == (0, 0)
    assert b"paged:" in paged.seen
    assert b"paged:" not in plain.seen
    assert "paged:" not in sessionctl.out("show", recorded, SESSIONCTL_PAGER=pager)


def test_the_facts_say_when_it_began_how_it_stands_and_how_much_there_is(
    sessionctl: Sessionctl, daemon: RunningDaemon, recorded: str
) -> None:
    facts = sessionctl.out("show", "--no-events", recorded).splitlines()

    assert facts[0] == f"# session: nightly ({recorded})"
    assert "# status: completed, stopped, exit code 0" in facts
    assert "# started: 2026-11-20 12:00:00.000+00:00" in facts
    assert "# events: 6, of which 1 command" in facts


# --- choosing


def test_grep_shows_the_events_whose_text_matches(sessionctl: Sessionctl, recorded: str) -> None:
    assert seqs(sessionctl.out("show", recorded, "--grep", "^make")) == [0, 3]
    assert seqs(sessionctl.out("show", recorded, "--grep", "(?i)MAKE", "-k", "command")) == [3]
    assert sessionctl("show", recorded, "--raw", "--grep", "t[wh]").stdout.startswith(b"two\r\nthree")


def test_nothing_found_is_exit_code_1_in_every_form(sessionctl: Sessionctl, recorded: str) -> None:
    for form in (["-o", "plain"], ["-o", "ndjson"], ["--raw"], ["--json"]):
        result = sessionctl("show", recorded, "--grep", "nowhere", *form)

        assert (result.returncode, result.stderr) == (1, b"")


def test_a_bad_pattern_is_one_line(sessionctl: Sessionctl, recorded: str) -> None:
    for pattern in ("(", "(?<=x)y", r"(a)\1", "x{100000}", "[z-a]"):
        result = sessionctl("show", recorded, "--grep", pattern)

        assert (result.returncode, result.stdout) == (2, b"")
        assert result.stderr.count(b"\n") == 1
        assert b"no regular expression of RE2" in result.stderr


def test_no_pattern_hangs(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "note", "a" * 100_000 + "!")

    assert sessionctl("show", ulid, "--grep", "(a|a|aa)+$").returncode == 1


def test_times_choose_from_a_moment_on_and_up_to_before_one(sessionctl: Sessionctl, recorded: str) -> None:
    def chosen(*options: str) -> list[int]:
        return seqs(sessionctl.out("show", recorded, *options))

    assert chosen("--since", "2026-11-20T12:02:00Z") == [2, 3, 4, 5]
    assert chosen("--until", "2026-11-20T12:02:00Z") == [0, 1]
    assert chosen("--since", "2026-11-20", "--until", "2026-11-20T12:03:00Z", "-k", "output") == [1, 2]
    assert chosen("--since", "1m ago") == []


def test_of_a_fork_the_events_before_it_can_be_shown_too(
    daemon: RunningDaemon, sessionctl: Sessionctl, recorded: str
) -> None:
    with Client.connect(daemon.socket, autostart=False) as client:
        child = client.call(Fork(session=recorded, at=1, owner_pid=0)).session.ulid
        client.session(child).append("note", "other way")

    own = sessionctl.out("show", child)
    both = sessionctl.out("show", child, "--inherit")

    assert seqs(own) == [0]
    assert seqs(both) == [0, 1, 0]
    assert [line for line in both.splitlines() if line.startswith("# events of")] == [
        f"# events of: {recorded}",
        f"# events of: {child}",
    ]
    assert f"# parent: {recorded}, forked at 1" in own


# --- the cursor file


def note(cursor: Path) -> int:
    """The position that the file says."""
    return int(json.loads(cursor.read_bytes())["next"])


def test_with_a_cursor_file_each_event_is_written_once(sessionctl: Sessionctl, tmp_path: Path) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    cursor = tmp_path / "seen"
    show = ["show", ulid, "--cursor-file", str(cursor), "-k", "note"]

    assert sessionctl.out(*show) == ""
    sessionctl.out("append", ulid, "note", "-", stdin=b"a\nb\n")
    first = sessionctl.out(*show)
    again = sessionctl.out(*show)
    sessionctl.out("append", ulid, "output", "no note")
    sessionctl.out("append", ulid, "note", "c")
    last = sessionctl.out(*show)

    assert (seqs(first), again, seqs(last)) == ([0, 1], "", [3])
    assert json.loads(cursor.read_bytes()) == {"session": ulid, "next": 4}
    assert stat.S_IMODE(cursor.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("seen")] == ["seen"]


DAMAGED = [
    b"{",
    b"[]",
    b"\x00" * 40,
    b'{"session": "x", "next": 0}',
    b'{"session": "ULID", "next": -1}',
    b'{"session": "ULID", "next": 7}',
    b'{"session": "01M7YXD1KGXQK2AAA9C3V1686V", "next": 0}',
    b'{"session": "ULID", "next": 1}' + b" " * 10_000,
]


def test_a_cursor_file_that_does_not_fit_is_refused_in_one_line_and_kept(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path
) -> None:
    cursor = tmp_path / "seen"
    for damaged in DAMAGED:
        content = damaged.replace(b"ULID", recorded.encode())
        cursor.write_bytes(content)

        result = sessionctl("show", recorded, "--cursor-file", str(cursor))

        assert (result.returncode, result.stdout) == (2, b""), damaged
        assert result.stderr.startswith(f"sessionctl: {cursor}: ".encode())
        assert result.stderr.count(b"\n") == 1
        assert cursor.read_bytes() == content


def test_what_is_no_regular_file_is_no_cursor_file(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")

    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null"), tmp_path / "no" / "where"):
        result = sessionctl("show", recorded, "--cursor-file", str(path))

        assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (2, b"", 1)


def test_an_empty_cursor_file_is_a_beginning(sessionctl: Sessionctl, recorded: str, tmp_path: Path) -> None:
    cursor = tmp_path / "seen"
    cursor.touch()

    assert len(seqs(sessionctl.out("show", recorded, "--cursor-file", str(cursor)))) == 6


def test_two_at_once_do_not_go_by_one_cursor_file(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path
) -> None:
    cursor = tmp_path / "seen"
    with cursor.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        result = sessionctl("show", recorded, "--cursor-file", str(cursor))

    assert (result.returncode, result.stdout) == (1, b"")
    assert b"another sessionctl" in result.stderr


def test_a_cursor_file_that_cannot_be_written_is_told(
    sessionctl: Sessionctl, recorded: str, tmp_path: Path
) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    cursor = folder / "seen"
    cursor.touch()
    folder.chmod(0o500)
    try:
        result = sessionctl("show", recorded, "--cursor-file", str(cursor))
    finally:
        folder.chmod(0o700)

    if os.geteuid() != 0:
        assert result.returncode == 1
        assert b"seen" in result.stderr


@pytest.mark.parametrize(
    ("number", "size"), [(signal.SIGTERM, 100), (signal.SIGINT, 300_000)], ids=["small", "larger than a pipe"]
)
def test_told_to_end_it_notes_exactly_what_it_has_written(
    sessionctl: Sessionctl, tmp_path: Path, number: signal.Signals, size: int
) -> None:
    ulid, count = filled(sessionctl, size)
    cursor = tmp_path / "seen"
    with showing(sessionctl, ulid, cursor) as shower:
        assert shower.stdout is not None
        wait_until_full(shower)

        shower.send_signal(number)
        received = shower.stdout.read()

    assert shower.returncode == 130
    assert received.endswith(b"\n")
    assert received.count(b"\n") == note(cursor) < count
    rest = sessionctl("show", ulid, "-o", "ndjson", "--cursor-file", str(cursor)).stdout
    assert received + rest == sessionctl("show", ulid, "-o", "ndjson").stdout


def test_a_reader_that_goes_away_gets_the_rest_next_time(sessionctl: Sessionctl, tmp_path: Path) -> None:
    ulid, count = filled(sessionctl, 100)
    cursor = tmp_path / "seen"
    with showing(sessionctl, ulid, cursor) as shower:
        assert shower.stdout is not None
        taken = wait_until_full(shower)

        shower.stdout.close()

    assert shower.returncode == 128 + signal.SIGPIPE
    position = note(cursor)
    whole = sessionctl("show", ulid, "-o", "ndjson").stdout[:taken].count(b"\n")
    assert whole <= position <= whole + 40 < count  # so many might have found room before we were gone
    rest = sessionctl("show", ulid, "-o", "ndjson", "--cursor-file", str(cursor)).stdout
    assert [json.loads(line)["seq"] for line in rest.splitlines()] == list(range(position, count))


def test_killed_it_has_noted_nothing_that_it_has_not_written(sessionctl: Sessionctl, tmp_path: Path) -> None:
    ulid, count = filled(sessionctl, 100)
    cursor = tmp_path / "seen"
    with showing(sessionctl, ulid, cursor) as shower:
        assert shower.stdout is not None
        received = b"".join(shower.stdout.readline() for _ in range(1500))

        shower.kill()
        received += shower.stdout.read()

    position = note(cursor)
    assert received.count(b"\n") - 1000 <= position <= received.count(b"\n")
    rest = sessionctl("show", ulid, "-o", "ndjson", "--cursor-file", str(cursor)).stdout
    assert [json.loads(line)["seq"] for line in rest.splitlines()] == list(range(position, count))


def filled(sessionctl: Sessionctl, size: int) -> tuple[str, int]:
    """A session with far more than a pipe holds, in events of this size; how many there are."""
    ulid = sessionctl.out("start", "--detach").strip()
    count = max(20, 1_500_000 // size)
    sessionctl.out("append", ulid, "output", "-", stdin=(b"x" * size + b"\n") * count)
    return ulid, count


def showing(sessionctl: Sessionctl, ulid: str, cursor: Path) -> subprocess.Popen[bytes]:
    """`show` with a cursor file, into a pipe that is not read yet."""
    return subprocess.Popen(
        [*SESSIONCTL, "show", ulid, "-o", "ndjson", "--cursor-file", str(cursor)],
        stdout=subprocess.PIPE,
        bufsize=0,
        env=sessionctl.environ,
    )


def wait_until_full(shower: subprocess.Popen[bytes]) -> int:
    """Until the pipe takes hardly any more; how many bytes it has taken."""
    assert shower.stdout is not None
    full = (
        fcntl.fcntl(shower.stdout, fcntl.F_GETPIPE_SZ) - 16 * 256
    )  # up to an event less in each of its pages
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        waiting = int(struct.unpack("i", fcntl.ioctl(shower.stdout, termios.FIONREAD, b"\0" * 4))[0])
        if waiting > full:
            return waiting
        time.sleep(0.002)
    raise AssertionError("the pipe was not filled")


def test_one_is_no_plural_and_too_little_of_an_id_is_said(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "command", "ls")

    assert "# events: 1, of which 1 command\n" in sessionctl.out("show", ulid)
    assert ", 1 event\n" in sessionctl.out("end", ulid)
    short = sessionctl("show", ulid[:2])
    assert short.returncode == 4
    assert short.stderr.endswith(b"; of an id, at least 4 characters are needed\n")
    assert b"characters" not in sessionctl("show", "nowhere").stderr


def test_a_shell_that_has_recorded_nothing_yet_says_so(sessionctl: Sessionctl) -> None:
    result = sessionctl("show", ".", SESSIOND_SESSION="01KAQ2J8Y7WHVXX3D7KD2S1R8B")

    told = b"sessionctl: this shell has recorded nothing yet\n"
    assert (result.returncode, result.stderr) == (4, told)


def test_grep_looks_at_the_text_without_its_colours(sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "output", "\x1b[31mfailure\x1b[0m of \x1b]0;title\x07one")

    assert seqs(sessionctl.out("show", ulid, "--grep", "^failure of one$")) == [0]
    assert sessionctl("show", ulid, "--grep", "title").returncode == 1
