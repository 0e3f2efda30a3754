"""Searching in a large store, how soon the index catches up, and what indexing costs who appends meanwhile.

    python -m tests.benchmarks.search [--events 1000000] [--rounds 7] [--dir DIR] [--json]

The store is recorded through the socket, 50 events of about 75 bytes to a session. Times are taken at the
socket, from sending a request to having decoded its reply. For the cost of indexing, rounds on a daemon
that has the whole store yet to index alternate with rounds on one that cannot index at all, on a copy.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sessiond.storage.directory import INDEX_NAME
from sessiond_client import Client
from tests.benchmarks import machine
from tests.benchmarks.library import copy, fill, vocabulary
from tests.benchmarks.rounds import figure
from tests.benchmarks.team import Team
from tests.benchmarks.workloads import WORKLOADS, Workload
from tests.peer import Peer
from tests.running import RunningDaemon

QUESTIONS = 200
APPENDS = ("batches-8", "waiting-16", "waiting-1")


class Question(NamedTuple):
    """A kind of request, asked many times: what it is called, how often, and its fields each time."""

    title: str
    times: int
    kind: str
    fields: Callable[[random.Random], dict[str, Any]]


def questions(words: list[str], sessions: list[str]) -> list[Question]:
    """Everything that is timed; common and rare words are drawn as they are in the texts."""

    def word(dice: random.Random) -> str:
        return words[int(len(words) * dice.random() ** 4)]

    def rare(dice: random.Random) -> str:
        return words[dice.randrange(len(words) // 2, len(words))]

    def search(query: Callable[[random.Random], str], mode: str) -> Callable[[random.Random], dict[str, Any]]:
        return lambda dice: {"query": query(dice), "mode": mode}

    def one(dice: random.Random) -> str:
        return dice.choice(sessions)

    return [
        Question("words: one word", QUESTIONS, "search", search(word, "words")),
        Question("words: a rare word", QUESTIONS, "search", search(rare, "words")),
        Question("words: two words", QUESTIONS, "search", search(lambda d: f"{word(d)} {word(d)}", "words")),
        Question("words: a phrase", QUESTIONS, "search", search(lambda d: f'"{word(d)} {word(d)}"', "words")),
        Question("words: a prefix", QUESTIONS, "search", search(lambda d: f"{word(d)[:3]}*", "words")),
        Question("substring: common", 40, "search", search(lambda d: word(d)[1:], "substring")),
        Question("substring: rare", 40, "search", search(lambda d: f"{rare(d)} {word(d)}", "substring")),
        Question("substring: nowhere", 20, "search", search(lambda d: f"{rare(d)}qqq", "substring")),
        Question("regex: rare", 40, "search", search(lambda d: rf"\b{rare(d)}\s+{word(d)}", "regex")),
        Question("regex: nowhere", 20, "search", search(lambda d: rf"^{word(d)}.*\d{{3}}$", "regex")),
        Question("list of 50", QUESTIONS, "list", lambda _: {"limit": 50}),
        Question("tail of 100", QUESTIONS, "read", lambda d: {"session": one(d), "tail": 100}),
        Question("find by prefix", QUESTIONS, "find", lambda d: {"needle": one(d)[:20]}),
    ]


def ask(peer: Peer, question: Question) -> dict[str, float]:
    """p50 and p95 in milliseconds, after one that warms up."""
    dice = random.Random(question.title)
    times = []
    for _ in range(question.times + 1):
        fields = question.fields(dice)
        began = time.perf_counter()
        peer.call(question.kind, **fields)
        times.append((time.perf_counter() - began) * 1000)
    times = sorted(times[1:])
    return {"p50_ms": round(statistics.median(times), 2), "p95_ms": round(times[int(len(times) * 0.95)], 2)}


def delete_index(daemon: RunningDaemon) -> None:
    """Stop the daemon and leave it without an index."""
    daemon.stop()
    for path in daemon.data_dir.glob(f"{INDEX_NAME}*"):
        path.unlink()


def catch_up(daemon: RunningDaemon, events: int) -> float:
    """Events a second, from the start of a daemon without an index to the answer of a search."""
    delete_index(daemon)
    daemon.start()
    began = time.monotonic()
    with Peer(daemon.socket) as peer:
        while peer.call("search", query="a", limit=1)["type"] == "error":
            pass  # it has waited for as long as it does, and says so
    return events / (time.monotonic() - began)


def sizes(daemon: RunningDaemon) -> dict[str, int]:
    """MiB of the database and of the index."""
    daemon.stop()
    found = {name: (daemon.data_dir / name).stat().st_size >> 20 for name in ("sessiond.db", INDEX_NAME)}
    daemon.start()
    return found


@contextmanager
def producers(daemon: RunningDaemon, workload: Workload) -> Iterator[Team]:
    """The processes of a workload."""
    team = Team("sessiond", workload.producers)
    try:
        team.connect(str(daemon.socket))
        yield team
    finally:
        team.close()


def append_round(daemon: RunningDaemon, workload: Workload, seconds: float) -> float:
    """Events per second of one round, or the median time of an append."""
    with Client.connect(daemon.socket, autostart=False) as client, producers(daemon, workload) as team:
        sessions = [client.start().ulid for _ in range(workload.producers)]
        done, begin = team.run(workload, sessions, workload.producers, seconds)
        for session in sessions:
            client.end(session)
    return figure(workload, done, begin)


def append_cost(daemon: RunningDaemon, other: Path, workload: Workload, rounds: int) -> dict[str, float]:
    """The rate with an index to build against that without one; above 1 is faster with it."""
    quiet = RunningDaemon(other)
    delete_index(quiet)
    (quiet.data_dir / INDEX_NAME).mkdir()
    quiet.start()
    ratios, rates, backlogs = [], [], []
    for number in range(rounds):
        figures = {}
        for side in (daemon, quiet) if number % 2 else (quiet, daemon):
            if side is daemon:
                delete_index(daemon)
            else:
                quiet.stop()  # so that both begin with nothing in their caches
            side.start()
            figures[side] = append_round(side, workload, 1.0)
            if side is daemon:
                backlogs.append(unindexed(daemon))
        ratio = figures[daemon] / figures[quiet]
        ratios.append(1 / ratio if workload.latency else ratio)
        rates.append(figures[daemon])
    quiet.stop()
    (quiet.data_dir / INDEX_NAME).rmdir()
    return {
        "while indexing": round(statistics.median(rates), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "left to index, least": min(backlogs),
    }


def unindexed(daemon: RunningDaemon) -> int:
    """How many events the index has yet to take up."""
    import sqlite3

    def number(name: str, sql: str) -> int:
        with sqlite3.connect(f"file:{daemon.data_dir / name}?mode=ro", uri=True) as database:
            found: int = database.execute(sql).fetchone()[0]
        database.close()
        return found

    last = number("sessiond.db", "SELECT max(id) FROM event")
    return last - number(INDEX_NAME, "SELECT value FROM fact WHERE name = 'position'")


def run(directory: Path, events: int, rounds: int) -> dict[str, Any]:
    """Everything, on stores below a directory."""
    (home := directory / "h").mkdir(mode=0o700)
    (other := directory / "q").mkdir(mode=0o700)
    daemon = RunningDaemon(home)
    report: dict[str, Any] = {"machine": machine.facts(directory), "events": events}
    report["recorded per second"] = round(fill(daemon, events))
    report["indexed per second"] = round(catch_up(daemon, events))
    report["MiB"] = sizes(daemon)
    with Peer(daemon.socket) as peer:
        sessions = [each["ulid"] for each in peer.call("list", limit=1000)["sessions"]]
        report["asked"] = {each.title: ask(peer, each) for each in questions(vocabulary(), sessions)}
    report["daemon MiB"] = round(daemon.memory_mib(), 1)
    daemon.stop()
    copy(home, other)
    daemon.start()
    report["appends"] = {
        name: append_cost(daemon, other, WORKLOADS[name], rounds) for name in APPENDS if rounds
    }
    daemon.stop()
    return report


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.search", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="in the store (default 1000000)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="pairs of rounds of appends a workload (default 7)"
    )
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on which disk")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.dir) as place:
        report = run(Path(place), chosen.events, chosen.rounds)
    sys.stdout.write(json.dumps(report, indent=None if chosen.json else 2) + "\n")


if __name__ == "__main__":
    main()
