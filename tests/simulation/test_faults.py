"""The fast set: after every fault of a disk, a kernel or a kill nothing is lost, twice or different.

Each test takes a share of the seeds, so that the shares run side by side, and goes on until it has brought
about its share of the faults. The soak is the same with more seeds:
`python -m tests.simulation --factor 100`.
"""

from __future__ import annotations

import pytest

from tests.simulation.suites import FAULTS, share

SHARES = 4


def endure(suite: str, number: int) -> None:
    """Run one share, and see that it brought its faults about and found nothing."""
    tally = share(suite, number, SHARES)

    assert tally.found == []
    assert tally.faults >= FAULTS[suite] / SHARES
    assert tally.recoveries >= tally.faults


@pytest.mark.parametrize("number", range(SHARES))
def test_the_power_may_go_at_any_operation(number: int) -> None:
    endure("power-cuts", number)


@pytest.mark.parametrize("number", range(SHARES))
def test_any_operation_may_fail_once_or_for_good_and_a_full_disk_only_refuses(number: int) -> None:
    endure("errors", number)


@pytest.mark.parametrize("number", range(SHARES))
def test_a_failed_sync_may_lose_what_it_was_to_write(number: int) -> None:
    endure("failed-syncs", number)


@pytest.mark.parametrize("number", range(SHARES))
def test_what_was_answered_as_a_duplicate_after_a_kill_survives_the_power(number: int) -> None:
    endure("kills", number)


@pytest.mark.parametrize("number", range(SHARES))
def test_the_power_may_go_in_the_recovery_and_again_in_the_recovery_of_that(number: int) -> None:
    endure("recovery-crashes", number)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("suite", FAULTS)
def test_a_hundred_times_as_many(suite: str) -> None:
    tally = share(suite, 0, 1, factor=100)

    assert tally.found == []
    assert tally.faults >= FAULTS[suite] * 100
