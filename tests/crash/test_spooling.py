"""kill -9 for the daemon and its clients while requests are spooled, handed over and taken over.

What a client was told is kept is in the stores once and in its order, whoever was killed when. A failure says
its seed: `python -m pytest -n 0 tests/crash/test_spooling.py -k 'seed-7'` repeats it, as far as time does.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.checker import check, lines_in_database, texts
from tests.running import ROOT, RunningDaemon

KINDS = ["blocking", "asynchronous", "recorder"]
COUNT = 1_000_000
"""More than any of them gets done: they are killed, or told to come to their end by none."""

STEPS = 6
EVENTS_BETWEEN_STEPS = 60
SECONDS_MAX = 60


class Recording:
    """A process that records, and what it said."""

    def __init__(self, daemon: RunningDaemon, kind: str, output: Path, count: int = COUNT) -> None:
        self.output = output
        with output.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.spooling", str(count), kind],
                env=daemon.environ,
                stdout=stdout,
                cwd=ROOT,
            )

    def lines(self) -> list[str]:
        """What it has said; a last line that it was killed in the middle of does not count."""
        return self.output.read_text().split("\n")[:-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Storm:
    """One daemon, some clients, and a seed that says who is killed next."""

    def __init__(self, daemon: RunningDaemon, home: Path, seed: int) -> None:
        self.daemon = daemon
        self.recordings: list[Recording] = []
        self._home = home
        self._choice = random.Random(seed)
        self._is_up = True

    def start_one(self) -> None:
        kind = KINDS[len(self.recordings) % len(KINDS)]
        output = self._home / f"output-{len(self.recordings)}"
        self.recordings.append(Recording(self.daemon, kind, output))

    def step(self) -> None:
        """Kill or start something, and let all that live get on with it."""
        running = [it for it in self.recordings if it.process.poll() is None]
        if self._choice.random() < 0.3:
            self._choice.choice(running).kill()
            self.start_one()
        elif self._is_up and self._choice.random() < 0.3:
            self.daemon.process.send_signal(signal.SIGSTOP)
            self.progress()
            self.daemon.process.send_signal(signal.SIGCONT)
        elif self._is_up:
            self.daemon.kill()
            self._is_up = False
        else:
            self.daemon.start()
            self._is_up = True
        self.progress()

    def progress(self) -> None:
        """Return when every client that lives has done some more."""
        before = {it: len(it.lines()) for it in self.recordings if it.process.poll() is None}
        deadline = time.monotonic() + SECONDS_MAX
        while any(len(it.lines()) < count + EVENTS_BETWEEN_STEPS for it, count in before.items()):
            assert time.monotonic() < deadline, {it.output.name: len(it.lines()) for it in before}
            time.sleep(0.01)

    def finish(self) -> None:
        """Kill every client, and have a daemon take over what is left, killed once in the middle of it."""
        for recording in self.recordings:
            recording.kill()
        if self._is_up:
            self.daemon.kill()
        self.daemon.start()
        self.daemon.restart()
        spool = self._home / "state" / "sessiond" / "spool"
        with self.daemon.peer() as peer:
            if spool.exists():
                greeting = peer.call("hello", protocol=1, spool=str(spool))
                assert (greeting["type"], greeting["waiting"]) == ("welcome", 0)
                assert list(spool.iterdir()) == []


def assert_everything_once(daemon: RunningDaemon, recordings: list[Recording]) -> None:
    """Every event that was acknowledged or kept stands once, at its seq where that was told, in its order."""
    check(daemon.data_dir)
    sessions = lines_in_database(daemon.data_dir)
    assert [
        path.name for path in (daemon.data_dir / "quarantine").iterdir() if ".torn-" not in path.name
    ] == []
    for recording in recordings:
        if not (said := recording.lines()):
            continue
        ulid, *lines = said
        assert ulid in sessions, f"the session of {recording.output.name} is lost"
        stored = texts(daemon.data_dir, ulid)
        assert set(Counter(stored).values()) <= {1}, f"{recording.output.name}: stored twice"
        numbers = [int(text.split()[1]) for text in stored]
        assert numbers == [*range(len(numbers))], f"{recording.output.name}: a gap, or out of order"
        for line in lines:
            if line != "end":
                seq, _, text = line.partition(" ")
                assert stored[int(text.split()[1])] == text
                assert int(seq) in (-1, int(text.split()[1]))


def storm(daemon: RunningDaemon, home: Path, seed: int) -> None:
    it = Storm(daemon, home, seed)
    try:
        for _ in KINDS:
            it.start_one()
        it.progress()
        for _ in range(STEPS):
            it.step()
        it.finish()
    finally:
        for recording in it.recordings:
            recording.kill()
    assert_everything_once(daemon, it.recordings)


@pytest.mark.parametrize("seed", range(2), ids=lambda seed: f"seed-{seed}")
def test_whoever_is_killed_what_was_kept_is_stored_once(daemon: RunningDaemon, home: Path, seed: int) -> None:
    storm(daemon, home, seed)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 100), ids=lambda seed: f"seed-{seed}")
def test_whoever_is_killed_what_was_kept_is_stored_once_many_times(
    daemon: RunningDaemon, home: Path, seed: int
) -> None:
    storm(daemon, home, seed)


def test_a_client_that_comes_to_its_end_while_the_daemon_is_away_has_a_session_that_ended(
    daemon: RunningDaemon, home: Path
) -> None:
    daemon.kill()
    recordings = [Recording(daemon, kind, home / kind, count=40) for kind in KINDS]
    assert [recording.process.wait(SECONDS_MAX) for recording in recordings] == [0, 0, 0]
    daemon.start()
    peer = daemon.peer()
    peer.call("hello", protocol=1, spool=str(home / "state" / "sessiond" / "spool"))

    assert_everything_once(daemon, recordings)
    for recording in recordings:
        ulid, *_, last = recording.lines()
        session = peer.call("get", session=ulid)["session"]
        assert (last, session["status"], session["event_count"]) == ("end", "completed", 40)
