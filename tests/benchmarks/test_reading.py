"""The benchmark of reading and resting runs, and its goals are met where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import measured, reading, whole_processes
from tests.benchmarks.measured import Measured
from tests.running import RunningDaemon


def test_a_short_run_measures_everything(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--connections", "10", "--record-mb", "1", "--idle-seconds", "0.1", "--runs", "1"]

    reading.main(["--events", "500", *tiny, "--dir", str(home), "--json"])

    figures = {each["title"]: each for each in json.loads(capsys.readouterr().out)["figures"]}
    assert figures["paging through all sessions"]["value"] > 0
    assert figures["memory with 10 connections"]["value"] > figures["wake-ups when idle"]["value"]
    assert figures["recording 1 MB under a pseudo-terminal"]["value"] > 0
    with_goals = [title for title, each in figures.items() if each["goal"]]
    assert {"list of 50, p50", "sessionctl list, p50", "clean start, p50", "memory when idle"} < {*with_goals}


def test_a_recording_that_is_not_whole_has_no_figure(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_processes, "COMMAND", 'yes "$0" | head -c "$(($1 - 1))"')

    with pytest.raises(whole_processes.NotWhole):
        whole_processes.recorded(daemon, 1)


def test_a_figure_says_whether_its_goal_is_met() -> None:
    figures = [
        Measured("a", 2.0, "ms", most=2.0),
        Measured("b", 0.7, "times", least=0.8),
        Measured("c", 1, "s"),
    ]

    assert [each.met for each in figures] == [True, False, None]
    assert "at most 2 ms: met" in measured.table({}, figures)
    assert "| b | 0.7 times | at least 0.8 times | missed |" in measured.markdown({}, figures)


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_the_goals_of_reading_and_resting_are_met(home: Path) -> None:
    found = reading.run(home, 1_000_000, connections=1000, record_mb=200, idle_seconds=10, runs=15)

    assert [each for each in found if each.met is False] == []
