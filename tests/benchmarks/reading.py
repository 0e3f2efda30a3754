"""Reading, following, starting and resting on a large store, and the commands as a user starts them.

    python -m tests.benchmarks.reading [--events 1000000] [--connections 1000] [--record-mb 200]
                                       [--idle-seconds 10] [--runs 15] [--dir DIR] [--json | --markdown]

The store is recorded through the socket: sessions of 50 events, and one long session. Times are taken at the
socket, from sending a request to having decoded its reply.
"""

from __future__ import annotations

import argparse
import select
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, measured, resting, whole_processes
from tests.benchmarks.library import fill, vocabulary
from tests.benchmarks.measured import Measured, times
from tests.benchmarks.search import ask, questions
from tests.peer import Peer
from tests.running import RunningDaemon

LIST_MS_MAX = 2.0
FOLLOW_MS_MAX = 1.0
WORDS_MS_MAX = 20.0
SUBSTRING_MS_MAX = 300.0
FOLLOWED = 500
LONG_SESSION_MAX = 100_000
PAGE = 1000
BATCH = 1000
GOALS = {"list of 50": LIST_MS_MAX, "words": WORDS_MS_MAX, "substring": SUBSTRING_MS_MAX}


def asked(peer: Peer) -> list[Measured]:
    """Everything the benchmark of search asks, `list`, `tail` and `find` included."""
    sessions = [each["ulid"] for each in peer.call("list", limit=1000)["sessions"]]
    while peer.call("search", query="a", limit=1)["type"] == "error":
        pass  # the index is not there yet: it has waited for as long as it does, and says so
    found = []
    for question in questions(vocabulary(), sessions):
        figures = ask(peer, question)
        goal = GOALS.get(question.title.partition(":")[0])
        found += [
            Measured(f"{question.title}, p50", figures["p50_ms"], "ms", goal),
            Measured(f"{question.title}, p95", figures["p95_ms"], "ms"),
        ]
    return found


def long_session(peer: Peer, events: int) -> str:
    """A session of so many events."""
    session = peer.start(name="long", owner_pid=0)
    for first in range(0, events, BATCH):
        peer.append(
            session, *[f"event {number:08d} of a long session" for number in range(first, first + BATCH)]
        )
    return session


def paged(peer: Peer, session: str) -> list[Measured]:
    """All events of a session, and all sessions, page after page."""
    began = time.perf_counter()
    seen, after = 0, -1
    while True:
        reply = peer.call("read", session=session, after=after, limit=PAGE)
        seen += len(reply["events"])
        if reply["next"] is None:
            break
        after = reply["next"]
    assert seen == peer.call("count", session=session)["events"]
    events_rate = seen / (time.perf_counter() - began)
    began = time.perf_counter()
    listed, before = 0, None
    while True:
        reply = peer.call("list", limit=PAGE, **({} if before is None else {"before": before}))
        listed += len(reply["sessions"])
        before = reply["next"]
        if before is None:
            break
    assert listed == peer.call("stats")["sessions"]
    sessions_rate = listed / (time.perf_counter() - began)
    return [
        Measured("paging through a long session", round(events_rate), "events/s"),
        Measured("paging through all sessions", round(sessions_rate), "per s"),
    ]


def followed(daemon: RunningDaemon) -> list[Measured]:
    """From the reply to an append, whose event is durable by then, to the follower's notice of it.

    One process looks at both sockets, so both moments are of one clock; a notice that comes before the reply
    counts as 0. The second pair has the commit in it: from sending the append to the notice.
    """
    with Peer(daemon.socket) as writer, Peer(daemon.socket) as follower:
        session = writer.start(owner_pid=0)
        assert follower.call("follow", session=session)["type"] == "following"
        after_reply, after_sending = [], []
        for number in range(FOLLOWED + 1):
            event = {"kind": "output", "text": f"event {number}"}
            sent = time.perf_counter()
            writer.send("append", session=session, events=[event])
            arrived = _arrivals(writer, follower)
            after_reply.append(max(0.0, arrived[follower] - arrived[writer]))
            after_sending.append(arrived[follower] - sent)
    return [
        *times("follow, from the reply to the notice", after_reply[1:], FOLLOW_MS_MAX),
        *times("follow, from sending the append to the notice", after_sending[1:]),
    ]


def _arrivals(*peers: Peer) -> dict[Peer, float]:
    arrived: dict[Peer, float] = {}
    while len(arrived) < len(peers):
        waiting = [peer for peer in peers if peer not in arrived]
        for peer in waiting:
            if select.select([peer.socket], [], [], 0)[0]:
                peer.line()
                arrived[peer] = time.perf_counter()
        still = [peer.socket for peer in peers if peer not in arrived]
        if still:
            select.select(still, [], [])
    return arrived


def run(
    directory: Path, events: int, connections: int, record_mb: int, idle_seconds: float, runs: int
) -> list[Measured]:
    """Everything, on a store below a directory."""
    (home := directory / "h").mkdir(mode=0o700)
    daemon = RunningDaemon(home)
    try:
        found = [Measured("recorded meanwhile", round(fill(daemon, events)), "events/s")]
        with Peer(daemon.socket) as peer:
            found += asked(peer)
        found += resting.sizes(daemon, events)
        found += resting.starts(daemon, runs)
        found += resting.idle(daemon, idle_seconds)
        found += resting.connected(daemon, connections)
        found += followed(daemon)
        with Peer(daemon.socket) as peer:
            found += paged(peer, long_session(peer, min(events, LONG_SESSION_MAX)))
        found += whole_processes.commands(daemon, runs)
        found += whole_processes.recorded(daemon, record_mb)
        found.append(Measured("memory after all of it", resting.megabytes(daemon), "MB"))
    finally:
        daemon.kill()
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.reading", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="in the store (default 1000000)")
    parser.add_argument("--connections", type=int, default=1000, help="at the same time (default 1000)")
    parser.add_argument("--record-mb", type=int, default=200, help="under a pseudo-terminal (default 200)")
    parser.add_argument("--idle-seconds", type=float, default=10.0, help="before and while idle (default 10)")
    parser.add_argument("--runs", type=int, default=15, help="of each command and start (default 15)")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on which disk")
    measured.add_shapes(parser)
    chosen = parser.parse_args(arguments)
    facts: dict[str, Any] = machine.facts(chosen.dir) | {"events": chosen.events}
    with tempfile.TemporaryDirectory(dir=chosen.dir) as place:
        sizes = chosen.events, chosen.connections, chosen.record_mb
        found = run(Path(place), *sizes, chosen.idle_seconds, chosen.runs)
    facts["load after"] = machine.load()
    sys.stdout.write(measured.shown(chosen, facts, found) + "\n")


if __name__ == "__main__":
    main()
