"""Many processes at once, and kill -9 for the daemon and for them: nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.checker import check, lines_in_database, texts
from tests.running import ROOT, RunningDaemon

PROCESSES = 32
EVENTS = 500
KILLS = 60


class Result(NamedTuple):
    session: str
    acknowledged: list[tuple[int, str]]


def record(
    daemon: RunningDaemon, count: int, output: Path, session: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a recording process whose acknowledgements go to a file."""
    with output.open("wb") as stdout:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.recording", str(count), *([session] if session else [])],
            env=daemon.environ,
            stdout=stdout,
            cwd=ROOT,
        )


def result_of(output: Path) -> Result:
    """What a recording process said; a last line that it was killed in the middle of does not count."""
    first, *lines = output.read_text().split("\n")[:-1]
    pairs = [line.split(" ", 1) for line in lines]
    return Result(first, [(int(seq), text) for seq, text in pairs])


def start_all(
    daemon: RunningDaemon, home: Path, shared: str | None
) -> tuple[list[subprocess.Popen[bytes]], list[Path]]:
    outputs = [home / f"output-{number}" for number in range(PROCESSES)]
    processes = [
        record(daemon, EVENTS, output, shared if number % 2 else None)
        for number, output in enumerate(outputs)
    ]
    return processes, outputs


def assert_everything_once(daemon: RunningDaemon, outputs: list[Path], shared: str) -> None:
    """Every acknowledged event stands at its seq, and no event stands twice."""
    check(daemon.data_dir)
    results = [result_of(output) for output in outputs]
    for result in results:
        assert len(result.acknowledged) == EVENTS
        stored = texts(daemon.data_dir, result.session)
        for seq, text in result.acknowledged:
            assert stored[seq] == text
    sessions = {result.session for result in results}
    everything = Counter(text for session in sessions for text in texts(daemon.data_dir, session))
    assert set(everything.values()) == {1}
    assert everything.total() == PROCESSES * EVENTS
    assert len(texts(daemon.data_dir, shared)) == PROCESSES // 2 * EVENTS


def test_thirty_two_processes_record_at_once_into_their_own_and_a_shared_session(
    daemon: RunningDaemon, home: Path
) -> None:
    shared = daemon.peer().start(owner_pid=0)

    processes, outputs = start_all(daemon, home, shared)

    assert [process.wait(120) for process in processes] == [0] * PROCESSES
    assert_everything_once(daemon, outputs, shared)


def storm(kills: int, seed: int) -> dict[str, Any]:
    """Run a storm; what came of it."""
    command = [sys.executable, "-m", "tests.crash.storm", str(kills), str(seed)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'client'}:{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["violations"] == []
    assert done.stderr == ""
    return report


@pytest.mark.timeout(300)
def test_a_storm_of_sixty_kills_loses_and_doubles_nothing() -> None:
    report = storm(KILLS, seed=1)

    assert (report["kills"], report["contests"]) == (60, 12)
    assert report["stored"] >= report["acknowledged"] > KILLS


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_storm_of_two_thousand_kills_loses_and_doubles_nothing() -> None:
    assert storm(2000, seed=2)["stored"] > 2000


def test_killed_clients_leave_interrupted_sessions_with_all_that_was_acknowledged(
    daemon: RunningDaemon, home: Path
) -> None:
    outputs = [home / f"output-{number}" for number in range(8)]
    processes = [record(daemon, 1_000_000, output) for output in outputs]
    watcher = daemon.peer()
    watcher.call("follow")
    seen: Counter[str] = Counter()
    while len(seen) < len(processes) or min(seen.values()) < 20:
        seen.update(event["session"] for event in watcher.receive()["events"])

    for process in processes:
        process.kill()
        process.wait()

    peer = daemon.peer()
    for output in outputs:
        result = result_of(output)
        reply = peer.call("follow", session=result.session, id=1)
        while reply["type"] != "ended":
            reply = peer.receive()
        assert (reply["session"]["status"], reply["session"]["end_reason"]) == ("interrupted", "client_lost")
        stored = lines_in_database(daemon.data_dir)[result.session]
        assert len(stored) >= len(result.acknowledged)
    check(daemon.data_dir)
