"""No room for what eight clients append: refused without loss, read as before, and on again by itself."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.checker import check, texts
from tests.crash.mounts import loop_disk, memory_disk
from tests.peer import Peer
from tests.running import RunningDaemon

CLIENTS = 8
MEMORY_BYTES = 6 * 1024 * 1024
LOOP_BYTES = 16 * 1024 * 1024
BALLAST_BYTES = 2 * 1024 * 1024
LIMIT_BYTES = 256 * 1024
TRIES_MAX = 1000
PRODUCERS = [f"01KAJ{number:021}" for number in range(CLIENTS)]


@pytest.fixture(params=["tmpfs", "ext4"])
def ballast(home: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system where the data go, and a file on it that can be removed to make room."""
    if request.param == "tmpfs":
        with memory_disk(home, MEMORY_BYTES) as path:
            (path / "ballast").write_bytes(b"\1" * BALLAST_BYTES)
            yield path / "ballast"
    else:
        with loop_disk(home, "ext4", size=LOOP_BYTES) as disk:
            (disk.mountpoint / "ballast").write_bytes(b"\1" * BALLAST_BYTES)
            yield disk.mountpoint / "ballast"


class Appender:
    """One client: what it has stored, and what it sends next, or once more."""

    def __init__(self, daemon: RunningDaemon, producer: str) -> None:
        self._peer = daemon.peer()
        self._producer = producer
        self.session = self._peer.start(owner_pid=0)
        self.stored: list[str] = []

    @property
    def text(self) -> str:
        """The next event's."""
        return f"{len(self.stored)} " + "x" * 2000

    def send(self) -> None:
        """Send the next event, or once more the one that was refused."""
        self._send(self.text, 1 + len(self.stored))

    def send_last_again(self) -> None:
        """Send the event that was stored last."""
        self._send(self.stored[-1], len(self.stored))

    def _send(self, text: str, n: int) -> None:
        events = [{"kind": "prompt", "text": text}]
        self._peer.send("append", session=self.session, events=events, producer=self._producer, n=n)

    def receive(self) -> dict[str, Any]:
        """The answer; an event that was stored is noted."""
        reply = self._peer.receive()
        if reply["type"] == "appended" and reply["first"] == len(self.stored):
            self.stored.append(self.text)
        return reply


def fill(appenders: list[Appender]) -> None:
    """Append, all at once, until each was refused."""
    left = list(appenders)
    while left:
        for appender in left:
            appender.send()
        replies = [(appender, appender.receive()) for appender in left]
        refused = [appender for appender, reply in replies if reply["type"] == "error"]
        assert {reply["code"] for _, reply in replies if reply["type"] == "error"} <= {"disk_full"}
        left = [appender for appender in left if appender not in refused]


def store(appender: Appender) -> None:
    """Send what was refused until it is stored, then once more: it is stored once."""
    seq = len(appender.stored)
    for _ in range(TRIES_MAX):
        appender.send()
        if (reply := appender.receive())["type"] == "appended":
            break
    assert (reply["first"], reply["last"]) == (seq, seq)
    appender.send_last_again()
    assert appender.receive()["first"] == seq


def test_nothing_is_lost_on_a_full_disk_and_the_same_requests_succeed_once_there_is_room(
    ballast: Path, home: Path
) -> None:
    daemon = RunningDaemon(home)
    try:
        appenders = [Appender(daemon, producer) for producer in PRODUCERS]
        fill(appenders)
        reader = daemon.peer()
        # A note of the daemon's own, that a file was synced, may still have found room since.
        while reader.call("status")["refusing"] != "disk_full":
            fill(appenders[:1])
        for appender in appenders:
            page = reader.call("read", session=appender.session, limit=1000)
            assert [event["text"] for event in page["events"]] == appender.stored[:1000]

        ballast.unlink()

        for appender in appenders:
            store(appender)
        while reader.call("status")["lagging_files"]:
            pass
        check(daemon.data_dir)
        for appender in appenders:
            assert texts(daemon.data_dir, appender.session) == appender.stored
        assert daemon.stop() == 0
    finally:
        daemon.close_peers()
        daemon.kill()


def test_a_limit_of_the_file_size_is_a_failed_disk_after_which_everything_acknowledged_is_there(
    daemon: RunningDaemon,
) -> None:
    appender = Appender(daemon, PRODUCERS[0])
    size = (daemon.data_dir / "sessiond.db-wal").stat().st_size + LIMIT_BYTES
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with suppress(EOFError, ConnectionError):
        while True:
            appender.send()
            assert appender.receive()["type"] == "appended"
    assert daemon.process.wait(30) == 70

    daemon.start()
    with Peer(daemon.socket) as peer:
        while peer.call("status")["lagging_files"]:
            pass
    check(daemon.data_dir)
    stored = texts(daemon.data_dir, appender.session)
    assert stored[: len(appender.stored)] == appender.stored
    assert len(stored) <= len(appender.stored) + 1
