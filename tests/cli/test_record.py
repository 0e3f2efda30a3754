"""`sessionctl record` without a terminal: exit codes, standard input and output, and what is recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sessionctl.recording.relay import DRAIN_SECONDS_QUIET
from sessionctl.terminal.screen import PENDING_BYTES_MAX
from tests.cli.conftest import SESSIONCTL, Sessionctl


@pytest.mark.parametrize(
    ("argv", "code", "signal_name"),
    [
        (["sh", "-c", "exit 3"], 3, None),
        (["true"], 0, None),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM, "SIGTERM"),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL, "SIGKILL"),
    ],
)
def test_the_exit_code_is_that_of_the_command(
    sessionctl: Sessionctl, argv: list[str], code: int, signal_name: str | None
) -> None:
    result = sessionctl("record", "--", *argv)

    assert (result.returncode, result.stderr) == (code, b"")
    (session,) = sessionctl.json("list")
    assert session["status"] == "completed"
    assert session["end_reason"] == "exited"
    assert session["exit_code"] == code
    exit_event = sessionctl.events()[-1]
    assert exit_event["kind"] == "exit"
    assert exit_event["data"] == {"exit_code": code} | ({"signal": signal_name} if signal_name else {})


def test_a_command_that_is_not_found_gives_127_and_an_ended_session(sessionctl: Sessionctl) -> None:
    result = sessionctl("record", "--", "no-such-command-at-all")

    assert result.returncode == 127
    assert result.stderr == b"sessionctl: no-such-command-at-all: command not found\n"
    assert sessionctl.json("list")[0]["exit_code"] == 127
    assert sessionctl.json("list")[0]["status"] == "completed"


def test_a_command_that_cannot_be_executed_gives_126(sessionctl: Sessionctl, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")

    result = sessionctl("record", "--", str(plain))

    assert result.returncode == 126
    assert result.stderr == f"sessionctl: {plain}: Permission denied\n".encode()


def test_a_script_that_names_no_interpreter_runs_as_in_a_shell(
    sessionctl: Sessionctl, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("echo from $1")
    script.chmod(0o700)

    result = sessionctl("record", "--", str(script), "here")

    assert (result.returncode, result.stdout) == (0, b"from here\r\n")


def test_output_passes_through_and_is_recorded_byte_for_byte(sessionctl: Sessionctl) -> None:
    program = "import os; os.write(1, bytes(range(256)) * 600)"
    result = sessionctl("record", "--", sys.executable, "-c", program)

    assert result.stdout == (bytes(range(256)) * 600).replace(b"\n", b"\r\n")
    assert sessionctl.output_bytes() == result.stdout
    outputs = [event for event in sessionctl.events() if event["kind"] == "output"]
    assert all("b64" in event["data"] for event in outputs)
    assert "0123456789" in outputs[0]["text"]


def test_valid_text_is_recorded_as_text_however_it_falls_into_pieces(sessionctl: Sessionctl) -> None:
    program = "import os; os.write(1, ('a' + '€' * 40_000).encode())"
    result = sessionctl("record", "--", sys.executable, "-c", program)

    outputs = [event for event in sessionctl.events() if event["kind"] == "output"]
    assert len(outputs) > 3
    assert all(event["data"] == {} for event in outputs)
    assert "".join(event["text"] for event in outputs) == "a" + "€" * 40_000
    assert result.stdout.decode() == "a" + "€" * 40_000


def test_the_command_reads_a_standard_input_that_is_no_terminal_itself(sessionctl: Sessionctl) -> None:
    data = bytes(range(256)) * 2000

    result = sessionctl("record", "--", "sha256sum", stdin=data)

    expected = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout
    assert result.stdout == expected.replace(b"\n", b"\r\n")


def test_reading_from_dev_null_ends_at_once_as_often_as_it_is_tried(sessionctl: Sessionctl) -> None:
    result = sessionctl("record", "--", "sh", "-c", "cat; cat; echo done", stdin=None)

    assert (result.returncode, result.stdout) == (0, b"done\r\n")


def test_a_loop_that_records_keeps_the_rest_of_its_input(sessionctl: Sessionctl, tmp_path: Path) -> None:
    script = 'while read -r word; do "$@" record -- echo "got $word"; done'
    result = subprocess.run(
        ["sh", "-c", script, "sh", *SESSIONCTL],
        input=b"one\ntwo\n",
        capture_output=True,
        env=sessionctl.environ,
        timeout=60,
    )

    assert result.stdout == b"got one\r\ngot two\r\n"


def test_with_stdin_what_goes_in_is_recorded_too(sessionctl: Sessionctl) -> None:
    data = b"caf\xe9\n" * 30_000

    result = sessionctl("record", "--stdin", "--", "wc", "-c", stdin=data)

    assert result.stdout.strip() == str(len(data)).encode()
    recorded = sessionctl("show", "--raw", "-k", "input", "@0")
    assert recorded.stdout == data


def test_the_command_has_a_controlling_terminal_with_a_size(sessionctl: Sessionctl) -> None:
    result = sessionctl(
        "record", "--", "sh", "-c", "stty size < /dev/tty; test -t 1 && test -t 2 && echo both"
    )

    assert result.stdout == b"24 80\r\nboth\r\n"
    first = sessionctl.events()[0]
    assert (first["kind"], first["data"]) == ("resize", {"cols": 80, "rows": 24})


def test_the_command_knows_its_session_and_nested_recordings_their_parent(sessionctl: Sessionctl) -> None:
    inner = " ".join([*SESSIONCTL, "record", "--", "true"])
    result = sessionctl("record", "--", "sh", "-c", f"echo $SESSIOND_SESSION $SESSIOND_SOCKET; {inner}")

    child, parent = sessionctl.json("list")
    assert result.stdout.decode().split()[:2] == [
        parent["ulid"],
        sessionctl.environ["XDG_RUNTIME_DIR"] + "/sessiond/sessiond.sock",
    ]
    assert child["parent_ulid"] == parent["ulid"]
    assert parent["parent_ulid"] is None


def test_a_parent_that_does_not_exist_is_left_out(sessionctl: Sessionctl) -> None:
    for nonsense in ("no ulid", "01M7YXD1KGXQK2AAA9C3V1686V"):
        assert sessionctl("record", "--", "true", SESSIOND_SESSION=nonsense).returncode == 0
        assert sessionctl.json("list")[0]["parent_ulid"] is None


def test_what_is_known_of_the_recording_is_stored(sessionctl: Sessionctl) -> None:
    sessionctl.out("record", "-n", "deploy", "-t", "Prod", "-t", "eu", "true")

    (session,) = sessionctl.json("list")
    assert session["name"] == "deploy"
    assert session["tags"] == ["prod", "eu"]
    assert session["source"] == "command"
    assert session["meta"] == {"argv": ["true"]}
    assert session["hostname"] == os.uname().nodename
    assert session["cwd"] == str(Path.cwd())
    assert set(session["env"]) <= {"PATH", "SHELL", "HOME", "USER", "PWD", "TERM"}


def test_without_a_command_the_shell_is_recorded(sessionctl: Sessionctl) -> None:
    result = sessionctl("record", stdin=b"echo in the shell; exit 4\n", SHELL="/bin/sh")

    assert (result.returncode, result.stdout) == (4, b"in the shell\r\n")
    assert sessionctl.json("list")[0]["source"] == "shell"


def test_json_is_one_object_on_a_line_of_its_own(sessionctl: Sessionctl) -> None:
    result = sessionctl("record", "--json", "--", "printf", "no newline")

    *shown, last = result.stdout.splitlines()
    outcome = json.loads(last)
    assert shown == [b"no newline"]
    assert outcome["exit_code"] == 0
    assert outcome["recorded"] == 3
    assert outcome["undelivered"] == 0
    assert outcome["session"]["status"] == "completed"
    assert outcome["session"]["event_count"] == 3


def test_a_reader_that_goes_away_ends_the_command_quietly(sessionctl: Sessionctl) -> None:
    pipeline = 'set -o pipefail; "$@" record -- yes | head -n 1'
    result = subprocess.run(
        ["bash", "-c", pipeline, "bash", *SESSIONCTL], capture_output=True, env=sessionctl.environ, timeout=60
    )

    assert result.stdout == b"y\r\n"
    assert result.stderr == b""
    assert result.returncode == 128 + signal.SIGPIPE


def test_a_reader_that_goes_away_ends_even_a_command_that_ignores_broken_pipes(
    sessionctl: Sessionctl,
) -> None:
    program = "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_IGN)\nwhile True: print('y')"
    pipeline = 'set -o pipefail; "$@" | head -n 1'
    result = subprocess.run(
        ["bash", "-c", pipeline, "bash", *SESSIONCTL, "record", "--", sys.executable, "-c", program],
        capture_output=True,
        env=sessionctl.environ,
        timeout=60,
    )

    assert result.stdout == b"y\r\n"
    assert result.returncode == 128 + signal.SIGHUP


def test_a_process_left_behind_on_the_terminal_does_not_hold_up_the_end(sessionctl: Sessionctl) -> None:
    script = "trap '' HUP; sleep 600 & echo $!; exit 6"
    result = sessionctl("record", "--", "sh", "-c", script)

    os.kill(int(result.stdout), signal.SIGKILL)
    assert result.returncode == 6


FILL_UNTIL_FULL = """
import os, select, sys
os.set_blocking(1, False)
written, at_least = 0, int(sys.argv[2])
while select.select([], [1], [], 3)[1] or written <= at_least:
    try:
        written += os.write(1, b"x" * 1000)
    except BlockingIOError:
        pass
with open(sys.argv[1], "w") as ended:
    ended.write(str(written))
"""
"""Writes until nobody takes more: the reader's pipe, our buffer and the terminal are full; and ends."""


def test_a_slow_reader_gets_what_was_written_last(sessionctl: Sessionctl, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    os.mkfifo(ended)
    recorder = subprocess.Popen(
        [
            *SESSIONCTL,
            "record",
            "--",
            sys.executable,
            "-c",
            FILL_UNTIL_FULL,
            str(ended),
            str(PENDING_BYTES_MAX),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=sessionctl.environ,
    )
    try:
        size = int(ended.read_text())
        time.sleep(DRAIN_SECONDS_QUIET * 5)  # the reader is slow: that is what this is about
        shown, _ = recorder.communicate(timeout=60)
    finally:
        recorder.kill()

    assert size > PENDING_BYTES_MAX
    assert shown == b"x" * size
    assert sessionctl.output_bytes() == shown


def test_signals_sent_to_the_recorder_reach_the_command(sessionctl: Sessionctl) -> None:
    script = "trap 'echo told; exit 9' {}; echo ready; while :; do sleep 0.05; done"
    for name in ("TERM", "HUP", "INT", "QUIT", "USR1"):
        recorder = subprocess.Popen(
            [*SESSIONCTL, "record", "--", "sh", "-c", script.format(name)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=sessionctl.environ,
        )
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == b"ready\r\n"
        recorder.send_signal(getattr(signal, f"SIG{name}"))
        assert recorder.communicate(timeout=60)[0].endswith(b"told\r\n")
        assert recorder.returncode == 9


def test_an_ignored_hangup_stays_ignored(sessionctl: Sessionctl) -> None:
    script = (
        f"trap '' HUP; {' '.join(SESSIONCTL)} record -- sh -c 'kill -HUP $PPID; kill -HUP $$; echo survived'"
    )
    result = subprocess.run(["sh", "-c", script], capture_output=True, env=sessionctl.environ, timeout=60)

    assert (result.returncode, result.stdout) == (0, b"survived\r\n")


def test_a_bad_name_is_refused_before_anything_is_run(sessionctl: Sessionctl, tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    result = sessionctl("record", "-n", "two words", "--", "touch", str(witness))

    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert not witness.exists()


def test_options_of_the_command_are_left_to_it(sessionctl: Sessionctl) -> None:
    result = sessionctl("record", "echo", "-n", "--json", "--", "x")

    assert result.stdout == b"--json -- x"
