"""The benchmark of growth runs, its verdict sees what grows, and its goals are met where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import growth, soak
from tests.benchmarks.soak import Sample


def _verdicts(samples: list[Sample]) -> dict[str, bool | None]:
    return {each.title: each.met for each in soak.verdict(samples)}


def test_a_short_run_measures_every_part(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--rounds", "1", "--seconds", "0.03", "--sessions", "1,9", "--stores", "0"]

    growth.main([*tiny, "--soak-events", "1", "--dir", str(home), "--json"])

    figures = {each["title"]: each["value"] for each in json.loads(capsys.readouterr().out)["figures"]}
    assert figures["throughput with 9 sessions"] > 0
    assert figures["throughput into a store of 0"] > 0
    assert figures["soak: events stored and counted"] > 0


def test_a_soak_whose_memory_or_log_grows_to_the_end_is_told_from_a_flat_one() -> None:
    flat = [Sample(n, 1000.0, 60.0 if n < 8 else 90.0, 16.0) for n in range(32)]
    growing = [Sample(n, 1000.0, 60.0 + 3 * n, 16.0 * 1.1**n) for n in range(32)]

    for samples, met in ((flat, True), (growing, False)):
        found = _verdicts(samples)
        assert found["soak: memory, last quarter to the one before"] is met
        assert found["soak: log, last quarter to the one before"] is met


def test_a_size_is_written_with_its_unit() -> None:
    assert [growth.size(text) for text in ("0", "500MB", "5GB")] == [0, 500_000_000, 5_000_000_000]
    with pytest.raises(ValueError, match="no size"):
        growth.size("5G")


def test_a_disk_that_is_too_small_is_refused_before_anything_is_recorded(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        growth.main(["--only", "stores", "--stores", "0,900000GB", "--dir", str(home)])

    assert "has no room for" in capsys.readouterr().err


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", growth.PARTS)
def test_the_goals_of_growth_are_met(part: str, home: Path) -> None:
    chosen = growth.parse(["--only", part, "--dir", str(home)])

    found = growth.run(home, chosen, lambda _: None)

    assert [each for each in found if each.met is False] == []
