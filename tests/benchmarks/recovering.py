"""How long it takes until a killed daemon answers again, and to check, verify and rebuild a large store.

    python -m tests.benchmarks.recovering [--events 1000000] [--open 1000] [--dir DIR] [--json | --markdown]

The one rule: a time counts only if every event is there afterwards, as a check of its own says.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests import checker
from tests.benchmarks import machine, measured
from tests.benchmarks.library import fill
from tests.benchmarks.measured import Measured
from tests.peer import Peer
from tests.running import RunningDaemon

EVENTS_PER_APPEND = 100
ANSWER_SECONDS = 2.0
REBUILD_SECONDS = 60.0


def run(directory: Path, events: int, sessions: int) -> list[Measured]:
    """Everything, on stores below a directory; `sessions` are open at the kill and share the events."""
    (whole := directory / "w").mkdir(mode=0o700)
    (killed := directory / "k").mkdir(mode=0o700)
    return [*_large_store(RunningDaemon(whole), events), *_kills(RunningDaemon(killed), events, sessions)]


def _large_store(daemon: RunningDaemon, events: int) -> list[Measured]:
    fill(daemon, events)
    with daemon.peer() as peer:
        peer.call("label", label="kept", session=peer.call("list", limit=1)["sessions"][0]["ulid"])
        began = time.monotonic()
        after, seen = None, 0
        while True:
            page = peer.call("verify", after=after)
            assert page["faults"] == [], page
            seen += page["events"]
            if (after := page["next"]) is None:
                break
        verified = time.monotonic() - began
    assert seen == events, seen
    daemon.stop()
    checked = _timed(daemon, events, "check")
    rebuilt = _timed(daemon, events, "rebuild", "--yes")
    checker.check(daemon.data_dir)
    return [
        Measured("verify through the daemon", round(verified, 2), "s"),
        Measured("check", round(checked, 2), "s"),
        Measured(f"rebuild from {events // 50} files", round(rebuilt, 2), "s", REBUILD_SECONDS),
    ]


def _timed(daemon: RunningDaemon, events: int, *arguments: str) -> float:
    """Seconds of a whole `sessiond` process that must find all events, and nothing wrong."""
    command = [sys.executable, "-P", "-m", "sessiond", *arguments, "--json"]
    began = time.monotonic()
    done = subprocess.run(command, env=daemon.environ, capture_output=True, cwd="/")
    taken = time.monotonic() - began
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["events"] == events, done
    return taken


def _kills(daemon: RunningDaemon, events: int, sessions: int) -> list[Measured]:
    ulids = _record_and_leave_open(daemon, events, sessions)
    found = []
    for title, is_synced in (("as they were", True), ("if none was synced", False)):
        daemon.kill()
        if not is_synced:
            with closing(sqlite3.connect(daemon.data_dir / "sessiond.db")) as database:
                database.execute("UPDATE session SET synced_bytes = 0, synced_seq = 0")
                database.commit()
        began = time.monotonic()
        daemon.start()
        with Peer(daemon.socket) as peer:
            peer.call("ping")
            taken = time.monotonic() - began
            assert peer.append(ulids[0], "on")["type"] == "appended"
        found.append(Measured(f"first answer after a kill, {title}", round(taken, 2), "s", ANSWER_SECONDS))
    daemon.stop()
    assert sum(map(len, checker.lines_in_database(daemon.data_dir).values())) == events + len(found)
    checker.check(daemon.data_dir)
    return found


def _record_and_leave_open(daemon: RunningDaemon, events: int, sessions: int) -> list[str]:
    """Sessions without an owner, all of them with as many events."""
    with daemon.peer() as peer:
        ulids = [peer.start(owner_pid=0) for _ in range(sessions)]
        left = events // sessions
        while left:
            size = min(left, EVENTS_PER_APPEND)
            texts = [f"{number} {'x' * 60}" for number in range(size)]
            for ulid in ulids:
                assert peer.append(ulid, *texts, kind="output")["type"] == "appended"
            left -= size
    return ulids


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.recovering", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="in each store (default 1000000)")
    parser.add_argument("--open", type=int, default=1000, help="sessions open at the kill (default 1000)")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on which disk")
    measured.add_shapes(parser)
    chosen = parser.parse_args(arguments)
    facts: dict[str, Any] = machine.facts(chosen.dir) | {"events": chosen.events}
    with tempfile.TemporaryDirectory(dir=chosen.dir) as place:
        found = run(Path(place), chosen.events, chosen.open)
    facts["load after"] = machine.load()
    sys.stdout.write(measured.shown(chosen, facts, found) + "\n")


if __name__ == "__main__":
    main()
