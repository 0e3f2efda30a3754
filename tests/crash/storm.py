"""A storm of kill -9 over daemon and clients: `python -m tests.crash.storm KILLS SEED`.

Six processes record with the client library, half of them into one session. The daemon is killed again and
again in the middle of it, every fifth time three are started in its place, and clients are killed, too. The
one rule: whatever a client wrote down as acknowledged stands at its seq, once; and of what it sent nothing is
missing before its last event, for an append that got no answer is sent again. Ends with one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tests.checker import lines_in_database, mismatches
from tests.crash.forked import ForkedDaemon, ForkedProcess, import_daemon
from tests.running import ROOT

CLIENTS = 6
EVENTS_BETWEEN_KILLS_MAX = 60
CONTEST_EVERY = 5
CONTENDERS = 3
CLIENT_KILL_EVERY = 4
EXIT_TAKEN = 75
CONTEST_SECONDS_MAX = 30
ENDLESS = 10_000_000
SETTLE_ROUNDS_MAX = 10_000


class Recording(NamedTuple):
    """A client in a process of its own, and the file in which it writes down what was acknowledged."""

    process: subprocess.Popen[bytes]
    output: Path


class ContestedDaemon(ForkedDaemon):
    """Of three that are started at once, the one that serves."""

    def __init__(self, home: Path) -> None:
        self.contenders = 1
        super().__init__(home)

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> ForkedProcess:
        """Start as many as are to contend; all but one must give way with 75."""
        processes = [ForkedProcess(["serve"], environ, log) for _ in range(self.contenders)]
        for process in processes:
            process.begin()
        end = time.monotonic() + CONTEST_SECONDS_MAX
        while len(processes) > 1:
            assert time.monotonic() < end, f"{len(processes)} daemons at once"
            for process in processes:
                if (code := process.poll()) is not None:
                    assert code == EXIT_TAKEN, f"a daemon that came too late exited with {code}"
                    processes.remove(process)
                    break
        return processes[0]


class Storm:
    """The daemon, its clients, and what became of them."""

    def __init__(self, home: Path, seed: int) -> None:
        self._home = home
        self._random = random.Random(seed)
        self._daemon = ContestedDaemon(home)
        with self._daemon.peer() as peer:
            self._shared = peer.start(owner_pid=0)
        self._recordings: list[Recording] = []
        self._running = [self._record(bool(number % 2)) for number in range(CLIENTS)]
        self.restarts: list[float] = []
        self.client_kills = 0

    def _record(self, shared: bool) -> Recording:
        output = self._home / f"output-{len(self._recordings)}"
        command = [sys.executable, "-m", "tests.crash.recording", str(ENDLESS)]
        with output.open("wb") as stdout:
            process = subprocess.Popen(
                [*command, *([self._shared] if shared else [])],
                env=self._daemon.environ,
                stdout=stdout,
                cwd=ROOT,
            )
        recording = Recording(process, output)
        self._recordings.append(recording)
        return recording

    def rage(self, kills: int) -> None:
        """Kill the daemon so often, and clients in between."""
        for number in range(1, kills + 1):
            self._await_events(self._random.randint(1, EVENTS_BETWEEN_KILLS_MAX))
            self._daemon.kill()
            fallen = self._random.randrange(CLIENTS) if number % CLIENT_KILL_EVERY == 0 else None
            if fallen is not None:
                self._running[fallen].process.kill()
                self._running[fallen].process.wait()
            self._daemon.contenders = 1 if number % CONTEST_EVERY else CONTENDERS
            began = time.monotonic()
            self._daemon.start()
            self.restarts.append(time.monotonic() - began)
            if fallen is not None:
                self._running[fallen] = self._record(bool(fallen % 2))
                self.client_kills += 1
        self._await_events(EVENTS_BETWEEN_KILLS_MAX * CLIENTS)

    def _await_events(self, count: int) -> None:
        """In the middle of it, whatever the speed of the machine; each client is connected by then."""
        with self._daemon.peer() as watcher:
            watcher.call("follow")
            seen = 0
            while seen < count or not all(recording.output.stat().st_size for recording in self._running):
                seen += len(watcher.receive()["events"])

    def calm(self) -> tuple[int, int, list[str]]:
        """Let the clients go; how many events are acknowledged, how many stored, and what is violated."""
        for recording in self._running:
            recording.process.kill()
        found: list[str] = []
        with self._daemon.peer() as peer:
            for _ in range(SETTLE_ROUNDS_MAX):
                status = peer.call("status")
                found = [] if status["lagging_files"] else list(mismatches(self._daemon.data_dir))
                # The sessions of the clients that were killed end by themselves.
                if not status["lagging_files"] and status["sessions_recording"] == 1 and not found:
                    break
            else:
                found = found or [f"does not come to rest: {status}"]
        assert self._daemon.stop() == 0
        acknowledged, stored, violations = self._compare()
        return acknowledged, stored, found + violations

    def end(self) -> None:
        """Leave no process behind."""
        self._daemon.kill()
        for recording in self._running:
            recording.process.kill()
            recording.process.wait()

    def _compare(self) -> tuple[int, int, list[str]]:
        violations = []
        stored = {
            ulid: [json.loads(line)["text"] for line in lines]
            for ulid, lines in lines_in_database(self._daemon.data_dir).items()
        }
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for texts in stored.values():
            for text in texts:
                pid, number = text.split()
                numbers[pid].append(int(number))
        for pid, found in numbers.items():
            if found != list(range(len(found))):
                violations.append(f"client {pid} has lost, doubled or reordered events")
        acknowledged = 0
        for recording in self._recordings:
            first, *lines = recording.output.read_text().split("\n")[:-1] or [""]
            acknowledged += len(lines)
            for line in lines:
                seq, text = line.split(" ", 1)
                if stored[first][int(seq) : int(seq) + 1] != [text]:
                    violations.append(f"{first}: {text} was acknowledged as {seq} and is not there")
        return acknowledged, sum(map(len, stored.values())), violations


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.storm", description=__doc__)
    parser.add_argument("kills", metavar="KILLS", type=int)
    parser.add_argument("seed", metavar="SEED", type=int)
    options = parser.parse_args()
    kills = options.kills
    import_daemon()
    with tempfile.TemporaryDirectory(prefix="sessiond-", ignore_cleanup_errors=True) as directory:
        storm = Storm(Path(directory), options.seed)
        try:
            storm.rage(kills)
            acknowledged, stored, violations = storm.calm()
        finally:
            storm.end()
    restarts = sorted(storm.restarts)
    report = {
        "kills": kills,
        "client_kills": storm.client_kills,
        "contests": kills // CONTEST_EVERY,
        "acknowledged": acknowledged,
        "stored": stored,
        "restart_ms_median": round(restarts[len(restarts) // 2] * 1000),
        "restart_ms_max": round(restarts[-1] * 1000),
        "violations": violations,
    }
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
