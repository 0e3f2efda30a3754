"""A clock that jumps: order is seq, nobody is cut off, and what was recorded at what time is what it said."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.checker import check, texts
from tests.running import Process, RunningDaemon, launch

HOUR, DAY = 3600, 86_400
JUMPS = [0, -HOUR, DAY, -10 * 365 * DAY, 50 * 365 * DAY, 0]
"""By how many seconds the clock is off, one after the other."""

PRODUCER = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
TOLERANCE = timedelta(minutes=10)


class SkewedDaemon(RunningDaemon):
    """A daemon whose clock can be set."""

    def set_clock(self, seconds: int) -> None:
        """Let its time of day be off by this, from now on."""
        temporary = self.home / "skew.new"
        temporary.write_text(str(seconds))
        temporary.rename(self.home / "skew")

    def spawn(self, environ: Mapping[str, str], log: BinaryIO) -> Process:
        """Start it through the launcher."""
        command = [sys.executable, "-m", "tests.crash.launching", "skewed", "serve"]
        return launch(command, {**environ, "SESSIOND_TEST_SKEW": str(self.home / "skew")}, log)


@pytest.fixture
def skewed(home: Path) -> Iterator[SkewedDaemon]:
    (home / "skew").write_text("0")
    daemon = SkewedDaemon(home)
    yield daemon
    daemon.close_peers()
    daemon.kill()


def test_order_is_kept_and_nobody_is_cut_off_when_the_clock_jumps(skewed: SkewedDaemon) -> None:
    peer, idle, halfway, follower = (skewed.peer() for _ in range(4))
    session = peer.start(owner_pid=0)
    peer.append(session, "first")
    halfway.call("ping")
    halfway.send_bytes(b'{"type":"pi')
    follower.call("follow", session=session)
    seen: list[int] = []

    for jump in JUMPS:
        skewed.set_clock(jump)
        reply = peer.append(session, f"off by {jump}")
        assert reply["type"] == "appended"
        while len(seen) < 1 or seen[-1] < reply["last"]:
            seen += [event["seq"] for event in follower.receive()["events"]]
    assert idle.call("ping")["type"] == "pong"
    halfway.send_bytes(b'ng"}\n')
    assert halfway.receive()["type"] == "pong"

    assert seen == list(range(1, len(JUMPS) + 1))
    events = peer.call("read", session=session, after=0)["events"]
    now = datetime.now(UTC)
    for event, jump in zip(events, JUMPS, strict=True):
        said = datetime.fromisoformat(event["at"])
        assert abs(said - timedelta(seconds=jump) - now) < TOLERANCE, (
            "`at` is the daemon's clock, as it was then"
        )
    assert peer.call("end", session=session)["type"] == "ended"


def test_a_restart_under_another_time_changes_nothing_of_what_is_stored(skewed: SkewedDaemon) -> None:
    peer = skewed.peer()
    recording = peer.start(owner_pid=0)
    owned = peer.start()
    events: list[dict[str, str]] = []
    for number, jump in enumerate(JUMPS):
        skewed.set_clock(jump)
        skewed.restart()
        peer = skewed.peer(producer=PRODUCER)
        if number:
            again = peer.call("append", session=recording, producer=PRODUCER, n=number, events=events)
            assert again["last"] == number - 1, "stored before the clock jumped, and not again"
        events = [{"type": "event", "kind": "note", "text": f"off by {jump}"}]
        appended = peer.call("append", session=recording, producer=PRODUCER, n=number + 1, events=events)
        assert appended["last"] == number
        assert peer.append(owned, f"off by {jump}")["type"] == "appended", "its owner, this process, lives"

    check(skewed.data_dir)
    assert texts(skewed.data_dir, recording) == [f"off by {jump}" for jump in JUMPS]
    assert texts(skewed.data_dir, owned) == [f"off by {jump}" for jump in JUMPS]
    listed = peer.call("list")["sessions"]
    assert {session["status"] for session in listed} == {"recording"}
