"""The comparison measures what it says: each side's events are counted, and none is acknowledged too soon."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import machine, report, sides
from tests.benchmarks.events import EVENT_LINE_BYTES, line, now, texts
from tests.benchmarks.goals import verdicts
from tests.benchmarks.rounds import examine, faster, figure, spread
from tests.benchmarks.sides.side import CountsDiffer, Missing, NotDurable, Side
from tests.benchmarks.slow_sync import NoSlowSync, SlowSync, microseconds
from tests.benchmarks.work import Done, Order, shares
from tests.benchmarks.workloads import WORKLOADS

TINY_SECONDS = 0.05
PROBE_MICROSECONDS = 10_000

volatile = pytest.mark.skipif(
    machine.file_system(Path("/tmp")) in machine.VOLATILE, reason="nothing is durable on this /tmp"
)


def _side(name: str, home: Path) -> Side:
    home.chmod(0o711)
    try:
        kind = sides.load(name)
        kind.require()
        return kind(home / "s", SlowSync())
    except Missing as missing:
        pytest.skip(str(missing))


def _probe(home: Path) -> SlowSync:
    home.chmod(0o711)
    try:
        return SlowSync.build(home, PROBE_MICROSECONDS)
    except NoSlowSync as reason:
        pytest.skip(str(reason))


@volatile
def test_a_short_run_reports_every_side(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rounds", "1", "--seconds", str(TINY_SECONDS), "--only", "mixed", "--dir", str(home)]

    command.main([*arguments, "--sides", "ndjson,floor", "--sync-delay", "0", "--json"])

    found = json.loads(capsys.readouterr().out)
    (measured,) = [found["passes"][0]["workloads"]["mixed"]]
    assert measured["sides"]["sessiond"]["figure"] > 0
    assert measured["sides"]["ndjson"]["ratio"] > 0
    assert measured["left out"] == {"floor": "nobody else can read from it"}
    assert "sessiond" in report.table(found)
    assert "| `ndjson` |" in report.markdown(found)


@pytest.mark.parametrize("name", sides.NAMES)
def test_a_side_has_what_it_acknowledged_and_is_found_out_otherwise(name: str, home: Path) -> None:
    side = _side(name, home)
    try:
        producer = side.producer(side.address)
        sessions = side.open_sessions(2)
        done = producer.run(Order(sessions, 0.0, time.monotonic() + TINY_SECONDS, batch=8, window=2))

        with pytest.raises(CountsDiffer):
            side.settle(sessions, [count + 1 for count in done.counts])
        side.settle(sessions, done.counts)

        assert all(count % 8 == 0 for count in done.counts)
        assert side.durability()
        producer.close()
    finally:
        side.close()


@pytest.mark.parametrize("name", ["sessiond", "floor", "sqlite", "ndjson", "redis"])
def test_a_side_acknowledges_nothing_sooner_than_a_sync_takes(name: str, home: Path) -> None:
    probe = _probe(home)
    try:
        found = examine(name, home, probe)
    except Missing as missing:
        pytest.skip(str(missing))

    assert "where a sync takes 10 ms" in found["probe"]


def test_a_side_whose_syncs_are_not_held_up_is_not_called_durable(home: Path) -> None:
    pretended = SlowSync(300_000)

    with pytest.raises(NotDurable):
        examine("ndjson", home, pretended)


def test_a_module_that_is_missing_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError("no", name="redis")

    monkeypatch.setattr(sides, "import_module", absent)

    with pytest.raises(Missing, match=r"redis is not installed.*pip install"):
        sides.load("redis")


def test_an_event_of_the_benchmark_is_as_long_as_promised() -> None:
    lengths = {len(line(100_000, now().text, text)) for text in texts(64)}

    assert lengths == {EVENT_LINE_BYTES}
    assert len(set(texts(64))) == 64
    assert len(line(100_000, now().text, texts(1, 64 * 1024)[0])) == 64 * 1024


def test_batches_are_dealt_out_to_sessions_in_turn() -> None:
    assert shares(7, Order(["a", "b", "c"], 0, 0, batch=8)) == [24, 16, 16]


def test_a_round_lasts_until_its_last_event_is_durable() -> None:
    done = [Done([600], 13.0), Done([300, 300], 16.0)]

    assert figure(WORKLOADS["batches-8"], done, 10.0) == 200.0
    assert figure(WORKLOADS["waiting-1"], [Done([5], 11.0, p50=0.002)], 10.0) == 2000.0


def test_a_process_that_is_woken_after_the_round_records_all_the_same(home: Path) -> None:
    side = _side("sqlite", home)
    producer = side.producer(side.address)
    sessions = side.open_sessions(1)

    done = producer.run(Order(sessions, 0.0, 0.0, batch=8))

    side.settle(sessions, [8])
    assert done.counts == [8]
    assert done.least > 0
    producer.close()
    side.close()


def test_a_ratio_says_how_many_times_as_fast_sessiond_is() -> None:
    assert faster(200.0, 100.0, WORKLOADS["waiting-16"]) == 2.0
    assert faster(200.0, 100.0, WORKLOADS["waiting-1"]) == 0.5
    assert spread([2.0, 3.0, 1.0]) == {"ratio": 2.0, "ratio_min": 1.0, "ratio_max": 3.0}


def test_a_goal_is_met_missed_or_not_measured() -> None:
    found = verdicts(
        "batches-8", 0, {"sqlite": {"ratio": 2.1}, "redis": {"ratio": 0.9}, "nats": {"ratio": 9.0}}
    )

    assert {each["against"]: each["met"] for each in found} == {
        "sqlite": True,
        "redis": False,
        "postgresql": None,
        "nats": True,
    }
    assert verdicts("batches-8", 1000, {}) == []


def test_a_delay_is_written_with_its_unit() -> None:
    assert [microseconds(text) for text in ("0", "500us", "1ms", "0.5ms", "2s")] == [
        0,
        500,
        1000,
        500,
        2_000_000,
    ]
    with pytest.raises(ValueError, match="no duration"):
        microseconds("1")


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("delay", command.DELAYS)
@pytest.mark.parametrize("name", ["batches-8", "waiting-16", "waiting-1"])
def test_the_goals_of_recording_are_met(name: str, delay: int, home: Path) -> None:
    found = command.run(home, [*sides.NAMES], [WORKLOADS[name]], [delay], rounds=7, seconds=1.0)

    (measured,) = found["passes"]
    goals = measured["workloads"][name]["goals"]
    assert [goal for goal in goals if goal["met"] is False] == [], found
