"""`sessionctl replay` of a terminal: the bytes, the time between them, the keys, and what it leaves."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tty
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sessionctl.replaying.playback import Keyboard, NoKeys, Output, Player
from sessionctl.terminal.screen_modes import ScreenModes
from sessionctl.terminal.user_terminal import UserTerminal
from sessiond_client.client import Client
from tests.cli.conftest import SESSIONCTL, Sessionctl
from tests.cli.recorded import shared_daemon
from tests.cli.terminal import Terminal
from tests.running import RunningDaemon

daemon = shared_daemon

Start = Callable[..., Terminal]
BEGAN = datetime(2026, 11, 20, tzinfo=UTC)
DRAWN = [b"\x1b[?1049h\x1b[?25l\x1b[2J\x1b[31mred", b"caf\xe9 \xff\x00", b"\x1b[?1000h\x1b[5;5Hlast"]
UNDONE = b"\x1b[?1049l\x1b[?25h\x1b[?1000l"


# --- the clock


class Simulation:
    """Time that passes only where somebody waits, and keys that come at their moments."""

    def __init__(self, *keys: tuple[float, str]) -> None:
        self.now = 100.0
        self.shown: list[tuple[float, bytes]] = []
        self._keys = [(100.0 + at, key) for at, key in keys]

    def clock(self) -> float:
        """What time it is."""
        return self.now

    def write(self, data: bytes) -> None:
        """Note what is shown when."""
        self.shown.append((round(self.now - 100, 6), data))

    def wait(self, seconds: float | None) -> str | None:
        """Until the next key, or for so long."""
        end = float("inf") if seconds is None else self.now + seconds
        if self._keys and self._keys[0][0] <= end:
            at, key = self._keys.pop(0)
            self.now = max(self.now, at)
            return key
        assert end < float("inf"), "it waits for ever"
        self.now = end
        return None

    def play(self, *ats: float, speed: float = 1.0, idle_limit: float | None = None) -> list[float]:
        """Play outputs of these moments; when they were shown."""
        outputs = [Output(at, b"%d" % number) for number, at in enumerate(ats)]
        player = Player(self.write, self, self.clock, speed=speed, idle_limit=idle_limit)
        player.play(outputs)
        return [at for at, _ in self.shown]


def test_outputs_come_with_the_time_that_was_between_them() -> None:
    assert Simulation().play(7.0, 7.5, 9.0, 8.0, 10.0) == [0, 0.5, 2, 2, 4]


def test_speed_and_the_limit_of_idle_time_shorten_waits() -> None:
    assert Simulation().play(0, 1, 11, 11.5, speed=2) == [0, 0.5, 5.5, 5.75]
    assert Simulation().play(0, 1, 11, 11.5, idle_limit=2) == [0, 1, 3, 3.5]
    assert Simulation().play(0, 1, 11, 11.5, idle_limit=2, speed=2) == [0, 0.5, 1.5, 1.75]
    assert Simulation().play(0, 1, 11, 11.5, idle_limit=0) == [0, 0, 0, 0]


def test_space_stops_the_clock_and_lets_it_go_on() -> None:
    assert Simulation((0.25, " "), (60.25, " ")).play(0, 1, 2) == [0, 61, 62]
    assert Simulation((0.25, " "), (5, "x"), (60.25, " ")).play(0, 1, 2) == [0, 61, 62]


def test_a_dot_shows_the_next_output_and_pauses() -> None:
    assert Simulation((3, "."), (4, "."), (10, " ")).play(0, 100, 200, 250, 251) == [0, 3, 4, 60, 61]


def test_q_ends_and_ctrl_c_interrupts() -> None:
    assert Simulation((1.5, "q")).play(0, 1, 2) == [0, 1]
    assert Simulation((0.5, " "), (7, "q")).play(0, 1, 2) == [0]
    with pytest.raises(KeyboardInterrupt):
        Simulation((1.5, "\x03")).play(0, 1, 2)


def test_without_keys_it_just_waits() -> None:
    assert NoKeys().wait(0) is None


# --- the keys


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """What is typed goes into the second end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_what_a_terminal_answers_is_no_key(pipe: tuple[int, int]) -> None:
    keyboard = Keyboard(pipe[0])
    answers = [
        b"\x1b[?62;22c",
        b"\x1b[5;7R",
        b"\x1b]11;rgb:ffff/q.. /0\x1b\\",
        b"\x1b]10;?\x07",
        b"\x1bP>|q. (3)\x1b\\",
        b"\x1b[C",
        b"\x1bOA",
        b"\x1bq",
    ]
    os.write(pipe[1], b"a".join(answers) + b"q")

    pressed = [keyboard.wait(0) for _ in range(len(answers))]

    assert pressed == ["a"] * (len(answers) - 1) + ["q"]
    assert keyboard.wait(0) is None


def test_an_answer_may_come_in_pieces_and_never_swallows_ctrl_c(pipe: tuple[int, int]) -> None:
    keyboard = Keyboard(pipe[0])
    for piece in (b"\x1b]11;rgb:q", b"q. ", b"/ff\x1b\\."):
        os.write(pipe[1], piece)
        last = keyboard.wait(0)
    assert last == "."

    os.write(pipe[1], b"\x1b]never ended")
    assert keyboard.wait(0) is None
    os.write(pipe[1], b"\x03")
    pressed = [keyboard.wait(0) for _ in range(20)]
    assert "\x03" in pressed


# --- what it leaves behind


def test_an_answer_that_comes_too_late_is_not_left_for_the_shell() -> None:
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        terminal = UserTerminal(slave)
        terminal.raw = True
        os.write(master, b"\x1b[?62;22c")
        assert select.select([slave], [], [], 30)[0]

        terminal.forget_typed()

        assert not select.select([slave], [], [], 0)[0]
    finally:
        os.close(slave)
        os.close(master)


def test_what_a_recording_switches_is_switched_back_and_nothing_else() -> None:
    modes = ScreenModes()
    modes.feed(b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?1000;1006h\x1b[?2004h plain \x1b[?1006l\x1b[?7h\n")

    assert modes.undo() == b"\x1b\\\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?2004l\x1b[0m"


def test_sequences_are_understood_wherever_they_are_cut() -> None:
    whole = b"\x1b[?1049h\x1b[2;20r\x1b(0\x1b[>1u\x1b[>4;2m\x1b[4 q\x1b=text\x1b[?25l\n"
    at_once = ScreenModes()
    at_once.feed(whole)
    byte_by_byte = ScreenModes()
    for byte in whole:
        byte_by_byte.feed(bytes([byte]))

    assert byte_by_byte.undo() == at_once.undo()
    for undo in (
        b"\x1b[?1049l",
        b"\x1b[r",
        b"\x1b(B",
        b"\x1b[<32u",
        b"\x1b[>4;0m",
        b"\x1b[0 q",
        b"\x1b>",
        b"\x1b[?25h",
    ):
        assert undo in at_once.undo()


def test_a_reset_leaves_no_mode_to_switch_back() -> None:
    modes = ScreenModes()
    modes.feed(b"\x1b[?1049h\x1bc\x1b[?25l\n")

    assert modes.undo() == b"\x1b\\\x1b[?25h\x1b[0m"


# --- the command


@pytest.fixture(scope="module")
def drawing(daemon: RunningDaemon) -> str:
    """A recording of a program that draws, an hour between its outputs; the ULID of its session."""
    with (
        Client.connect(daemon.socket, autostart=False) as client,
        client.start("drawing", owner_pid=0) as session,
    ):
        session.append("resize", data={"cols": 120, "rows": 40}, at=BEGAN)
        for hour, data in enumerate(DRAWN):
            exact = {"b64": b64encode(data).decode()}
            session.append("output", data.decode(errors="replace"), exact, at=BEGAN + timedelta(hours=hour))
        session.append("resize", data={"cols": 60, "rows": 10}, at=BEGAN)
        return session.ulid


def test_elsewhere_than_on_a_terminal_the_bytes_are_those_that_were_recorded(
    sessionctl: Sessionctl, drawing: str
) -> None:
    for options in (["--no-wait"], ["--idle-limit", "0"]):
        result = sessionctl("replay", drawing, *options)

        assert (result.returncode, result.stdout, result.stderr) == (0, b"".join(DRAWN), b"")


def test_on_a_terminal_it_is_steered_by_keys_and_everything_is_restored(
    on_terminal: Start, drawing: str
) -> None:
    terminal = on_terminal("replay", drawing)
    before = terminal.settings()

    terminal.wait_for(DRAWN[0])
    assert terminal.settings() != before
    terminal.type(".")
    terminal.wait_for(DRAWN[1])
    terminal.type(".")
    terminal.wait_for(DRAWN[2])

    assert terminal.wait() == 0
    assert terminal.settings() == before
    assert UNDONE in terminal.seen
    assert terminal.seen.endswith(b"\r\n")


@pytest.mark.parametrize(
    ("ending", "code"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)]
)
def test_broken_off_in_any_way_the_terminal_is_restored(
    on_terminal: Start, drawing: str, ending: str | signal.Signals, code: int
) -> None:
    terminal = on_terminal("replay", drawing)
    before = terminal.settings()
    terminal.wait_for(DRAWN[0])

    if isinstance(ending, signal.Signals):
        terminal.process.send_signal(ending)
    else:
        terminal.type(ending)

    assert terminal.wait() == code
    assert terminal.settings() == before
    assert b"\x1b[?1049l\x1b[?25h" in terminal.seen
    assert DRAWN[1] not in terminal.seen


def test_output_of_a_pipe_begins_each_line_at_the_left(on_terminal: Start, sessionctl: Sessionctl) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "output", "-", stdin=b"one\ntwo\r\nthree\n")
    sessionctl.out("end", ulid)

    played = on_terminal("replay", ulid, "--no-wait")

    assert played.wait() == 0
    assert played.seen.startswith(b"one\r\ntwo\r\nthree\r\n")
    assert sessionctl.out("replay", ulid, "--no-wait") == "one\ntwo\r\nthree\n"


def test_a_window_that_is_too_small_is_told(on_terminal: Start, drawing: str) -> None:
    small = on_terminal("replay", drawing, "--no-wait")
    assert small.wait() == 0
    assert b"recorded in a window of 120x40; this one has 90x30" in small.seen


def test_a_recorded_command_is_played_as_it_looked(on_terminal: Start, sessionctl: Sessionctl) -> None:
    script = "printf 'one\\n'; stty raw; printf '\\033[31mtwo\\n'; stty sane; printf 'three\\n'"
    recorded = on_terminal("record", "--json", "--", "sh", "-c", script)
    assert recorded.wait() == 0

    played = on_terminal("replay", "@0", "--no-wait")
    assert played.wait() == 0

    output = sessionctl.output_bytes()
    assert played.seen.startswith(output)
    assert recorded.seen.startswith(output)


def test_a_reader_that_goes_away_ends_it_quietly(sessionctl: Sessionctl, drawing: str) -> None:
    result = subprocess.run(
        [
            "bash",
            "-c",
            'set -o pipefail; "$@" | head -c 4',
            "bash",
            *SESSIONCTL,
            "replay",
            drawing,
            "--no-wait",
        ],
        capture_output=True,
        env=sessionctl.environ,
        timeout=60,
    )

    assert (result.stdout, result.stderr) == (DRAWN[0][:4], b"")


def test_a_session_that_still_records_is_played_as_far_as_it_goes(
    sessionctl: Sessionctl, daemon: RunningDaemon
) -> None:
    ulid = sessionctl.out("start", "--detach").strip()
    sessionctl.out("append", ulid, "output", "so far")

    result = sessionctl("replay", ulid)

    assert (result.returncode, result.stdout) == (0, b"so far")
    assert b"no proper end (recording)" in result.stderr
