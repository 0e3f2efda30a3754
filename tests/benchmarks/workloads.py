"""What is recorded in a round: how many processes, how many events at once, and who else looks on.

The one rule: a workload says nothing about sides; what a side cannot do, the side says.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks.events import EVENT_LINE_BYTES

WINDOW = 32
"""Batches that a producer which pipelines leaves unanswered."""

LARGE_BYTES = 64 * 1024


class Workload(NamedTuple):
    """`producers` processes with `sessions` each, in turn; `batch` events at once.

    Up to `window` batches are left unanswered; a side that knows no such thing commits each before the next.
    `latency`: the figure is the median time of one append instead of events per second.
    """

    name: str
    title: str
    producers: int
    batch: int
    window: int = 1
    sessions: int = 1
    size: int = EVENT_LINE_BYTES
    latency: bool = False
    readers: int = 0
    followers: int = 0

    @property
    def unit(self) -> str:
        """Of the figure."""
        return "us" if self.latency else "events/s"

    @property
    def session_count(self) -> int:
        """All sessions of a round."""
        return self.producers * self.sessions


_ALL = [
    Workload("waiting-1", "1 client, each event waited for, p50", 1, 1, latency=True),
    Workload("waiting-16", "16 clients, each event waited for", 16, 1),
    Workload("batches-1", "1 producer, batches of 64", 1, 64, WINDOW),
    Workload("batches-8", "8 producers, batches of 64", 8, 64, WINDOW),
    Workload("batches-8-waiting", "8 producers, batches of 64, each waited for", 8, 64),
    Workload("pipelined-1", "1 producer, no batches, up to 256 unanswered", 1, 1, 256),
    Workload("interleaved-64", "64 sessions of 8 producers in turn, batches of 8", 8, 8, WINDOW, sessions=8),
    Workload("large-4", "4 clients, events of 64 KiB, each waited for", 4, 1, size=LARGE_BYTES),
    Workload(
        "mixed", "4 producers, batches of 8; 2 read 100 tails/s, 2 follow", 4, 8, readers=2, followers=2
    ),
]

WORKLOADS = {workload.name: workload for workload in _ALL}
