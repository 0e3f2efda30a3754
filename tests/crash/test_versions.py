"""A later version in mid-session, an earlier one after it: recording goes on, nothing is rewritten."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.checker import check, texts
from tests.running import ROOT, NotReady, Process, RunningDaemon, launch

CLIENTS = 3
COUNT = 1_000_000
"""More than any of them gets done: they record until they are killed."""


class ReplacedDaemon(RunningDaemon):
    """A daemon of the present version, or of a later one."""

    is_later = False

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> Process:
        """Start the version that is wanted."""
        if not self.is_later:
            return super().spawn(environ, log)
        return launch([sys.executable, "-m", "tests.crash.launching", "later", "serve"], environ, log)

    def follow_events(self, count: int) -> None:
        """Wait until each of the clients has recorded so many more."""
        with self.peer() as watcher:
            watcher.call("follow")
            seen: Counter[str] = Counter()
            while len(seen) < CLIENTS or min(seen.values()) < count:
                seen.update(event["text"].split()[0] for event in watcher.receive()["events"])

    def contents(self) -> dict[str, str]:
        """A hash of every file that holds what was recorded."""
        paths = [self.data_dir / "sessiond.db", *(self.data_dir / "sessions").iterdir()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def replaced(home: Path) -> Iterator[ReplacedDaemon]:
    daemon = ReplacedDaemon(home)
    yield daemon
    daemon.close_peers()
    daemon.kill()


def test_clients_record_on_through_an_upgrade_and_a_refused_downgrade(
    replaced: ReplacedDaemon, home: Path
) -> None:
    outputs = [home / f"output-{number}" for number in range(CLIENTS)]
    clients = []
    for output in outputs:
        command = [sys.executable, "-m", "tests.crash.recording", str(COUNT)]
        with output.open("wb") as stdout:
            clients.append(subprocess.Popen(command, env=replaced.environ, stdout=stdout, cwd=ROOT))
    replaced.follow_events(20)

    assert replaced.stop() == 0
    replaced.is_later = True
    replaced.start()
    replaced.follow_events(20)

    assert replaced.stop() == 0
    before = replaced.contents()
    replaced.is_later = False
    with pytest.raises(NotReady):
        replaced.start()
    assert replaced.process.wait(30) == 78
    last = replaced.log_text().splitlines()[-1]
    assert last.startswith("sessiond: ")
    assert "has schema" in last
    assert "install the version of sessiond that wrote it, or a later one" in last
    assert replaced.contents() == before

    replaced.is_later = True
    replaced.start()
    replaced.follow_events(20)
    for client in clients:
        assert client.poll() is None, "it has noticed nothing"
        client.kill()
        client.wait()
    assert replaced.stop() == 0
    check(replaced.data_dir)
    for output in outputs:
        session, *lines = output.read_text().split("\n")[:-1]  # it was killed in the middle of the last one
        acknowledged = [line.split(" ", 1) for line in lines]
        stored = texts(replaced.data_dir, session)
        assert [int(seq) for seq, _ in acknowledged] == list(range(len(lines)))
        assert stored[: len(lines)] == [text for _, text in acknowledged]
        assert [int(text.split()[1]) for text in stored] == list(range(len(stored)))
    assert list(replaced.data_dir.glob("sessiond.db.before-schema-*"))
