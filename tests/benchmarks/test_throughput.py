"""The benchmark measures what it says: each side's events are counted in its stores."""

from __future__ import annotations

import json
import time
from pathlib import Path

import apsw
import pytest

from tests.benchmarks import machine, throughput
from tests.benchmarks.producers import EVENT_LINE_BYTES, Order, SqliteProducer, texts
from tests.benchmarks.sides import CountsDiffer, DaemonSide, Side, SqliteSide
from tests.benchmarks.throughput import CASES, Case, Pair

TINY_SECONDS = 0.05

volatile = pytest.mark.skipif(
    machine.file_system(Path("/tmp")) in machine.VOLATILE, reason="nothing is durable on this /tmp"
)


def _soon() -> float:
    return time.monotonic() + TINY_SECONDS


@volatile
@pytest.mark.parametrize("name", ["batches-1", "waiting-1"])
def test_a_short_run_reports_both_sides(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rounds", "1", "--seconds", str(TINY_SECONDS), "--case", name, "--dir", str(home)]

    throughput.main([*arguments, "--json"])

    figures = json.loads(capsys.readouterr().out)["cases"][name]
    assert figures["rounds"] == 1
    assert figures["sessiond"] > 0
    assert figures["sqlite"] > 0


@pytest.mark.parametrize("kind", [DaemonSide, SqliteSide])
def test_a_side_that_lost_an_event_has_no_figure(kind: type[DaemonSide | SqliteSide], home: Path) -> None:
    side: Side = kind(home / "h")

    with pytest.raises(CountsDiffer):
        side.settle(side.open_sessions(1), [1])

    side.close()


def test_a_direct_writer_commits_whole_batches(home: Path) -> None:
    side = SqliteSide(home / "h")
    (session,) = side.open_sessions(1)

    done = SqliteProducer(side.path).run(Order(session, 64, 1, 0.0, _soon()))

    side.settle([session], [done.events])
    assert done.events % 64 == 0
    side.close()


def test_an_event_of_the_benchmark_is_about_as_long_as_promised(home: Path) -> None:
    side = SqliteSide(home / "h")
    (session,) = side.open_sessions(1)

    SqliteProducer(side.path).run(Order(session, 64, 1, 0.0, _soon()))

    database = apsw.Connection(str(side.path))
    lengths = {length for (length,) in database.execute("SELECT length(CAST(line AS BLOB)) FROM event")}
    database.close()
    side.close()
    assert all(abs(length + 1 - EVENT_LINE_BYTES) <= 6 for length in lengths)
    assert len(set(texts(64))) == 64


def test_the_ratio_is_that_of_rounds_side_by_side() -> None:
    pairs = [Pair(200.0, 100.0), Pair(900.0, 300.0), Pair(100.0, 100.0)]

    assert throughput.summary(pairs) == {
        "sessiond": 200.0,
        "sqlite": 100.0,
        "ratio": 2.0,
        "ratio_min": 1.0,
        "ratio_max": 3.0,
        "rounds": 3,
    }


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "least"), [("batches-8", 2.0), ("waiting-16", 1.5)], ids=["batches-8", "waiting-16"]
)
def test_the_goals_against_sqlite_written_directly_are_met(name: str, least: float, home: Path) -> None:
    case: Case = CASES[name]

    figures = throughput.summary(throughput.measure(case, home, rounds=7, seconds=1.0))

    assert figures["ratio"] >= least, figures
