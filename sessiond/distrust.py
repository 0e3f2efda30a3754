"""Serving from a disk that has failed too often, or has no room to start in: what reads is answered.

Owns the words in which the rest is refused. The one rule: in this mode nothing of ours writes to the data
directory, and nothing is called stored, not even what was stored before: no barrier has made it durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sessiond.clock import Clock, time_text
from sessiond.errors import Refused
from sessiond.failures import FAILURES_MAX, WINDOW_SECONDS, Failure
from sessiond.storage.commit.operations import Operation
from sessiond.storage.database import DiskFull
from sessiond.storage.store import Committed
from sessiond_client.wire.messages import ErrorCode

READ_ONLY_SECONDS = 60.0
"""After so long the daemon ends, to be started again and to try the disk anew."""


class Distrust(NamedTuple):
    """Why and since when nothing is written; both are told to whoever asks for the daemon's status."""

    reason: str
    since: str
    remedy: str

    @classmethod
    def of(cls, failure: Failure, noted_in: Path, clock: Clock) -> Distrust:
        """What follows from one failure too many."""
        return cls(
            reason=f"{failure.reason} ({FAILURES_MAX} failures within {WINDOW_SECONDS:.0f} s)",
            since=time_text(clock.now()),
            remedy=(
                f"see to the disk; the daemon tries it again every {READ_ONLY_SECONDS:.0f} s,"
                f" or at once if you delete {noted_in} and restart it"
            ),
        )

    @classmethod
    def of_full_disk(cls, full: DiskFull, clock: Clock) -> Distrust:
        """There is no room to start in for more than reading."""
        again = f"the daemon tries it again every {READ_ONLY_SECONDS:.0f} s, or at once if you restart it"
        return cls(reason=full.what, since=time_text(clock.now()), remedy=f"{full.hint}; {again}")

    def refusal(self) -> Refused:
        """The answer to everything that writes."""
        return Refused(
            ErrorCode.READ_ONLY,
            f"the daemon only reads since {self.since}: {self.reason}; nothing was stored",
            self.remedy,
        )


class DistrustedStore:
    """In the place of a store: it refuses every operation."""

    def __init__(self, distrust: Distrust) -> None:
        self._distrust = distrust

    @property
    def lagging(self) -> frozenset[str]:
        """Nobody has looked which files lag."""
        return frozenset()

    def commit(self, batch: Sequence[Operation]) -> Committed:
        """Refuse a batch as a whole."""
        refusal = self._distrust.refusal()
        return Committed([refusal] * len(batch), [], 0, {}, self.lagging, refusal)
