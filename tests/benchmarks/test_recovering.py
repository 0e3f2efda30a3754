"""The benchmark of recovery runs, and its goals are met where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import recovering


def test_a_short_run_recovers_checks_and_rebuilds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recovering.main(["--events", "500", "--open", "5", "--dir", str(home), "--json"])

    figures = {each["title"]: each for each in json.loads(capsys.readouterr().out)["figures"]}
    assert figures["check"]["value"] > 0
    assert [title for title, each in figures.items() if each["goal"]] == [
        "rebuild from 10 files",
        "first answer after a kill, as they were",
        "first answer after a kill, if none was synced",
    ]


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_goals_of_recovery_are_met(home: Path) -> None:
    found = recovering.run(home, 1_000_000, 1000)

    assert [each for each in found if each.met is False] == []
