"""The benchmark of search runs, and its goals are met where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import search


def test_a_short_run_reports_every_question(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search.main(["--events", "500", "--rounds", "0", "--dir", str(home), "--json"])

    report = json.loads(capsys.readouterr().out)
    assert report["indexed per second"] > 0
    assert set(report["asked"]) == {question.title for question in search.questions(["a"], ["b"])}


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_the_goals_among_a_million_events_are_met(home: Path) -> None:
    report = search.run(home, 1_000_000, rounds=5)

    asked = {title: figures["p50_ms"] for title, figures in report["asked"].items()}
    assert all(time < 20 for title, time in asked.items() if title.startswith("words")), asked
    assert all(time < 300 for title, time in asked.items() if title.startswith("substring")), asked
    assert all(asked[title] < 5 for title in ("list of 50", "tail of 100", "find by prefix")), asked
    assert report["indexed per second"] >= 100_000
    assert all(figures["ratio"] >= 0.8 for figures in report["appends"].values()), report["appends"]
