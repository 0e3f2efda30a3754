"""What the processes of a side do in a round: record, read the newest events, or follow.

The one rule: an event counts once it is durable; a round ends when its last event is.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import cycle
from typing import NamedTuple

from tests.benchmarks.events import EVENT_LINE_BYTES, KIND, LAST_KIND, LAST_MARK, texts

TAIL = 100
"""Events that a reader asks for at once."""

READ_SECONDS = 0.01
"""Between two reads of a reader, so that every side has as much to read beside recording."""

FOLLOW_SECONDS_MAX = 60.0
"""After the end of a round: a follower that has not seen the last event by then has failed."""

POLL_SECONDS = 0.001
"""How often a follower looks where nothing tells it that there is something new."""


class Role(Enum):
    """What a process does in a round."""

    RECORD = "record"
    READ = "read"
    FOLLOW = "follow"


class Order(NamedTuple):
    """What to do in a round: from `begin` until `until` of the monotonic clock, with `sessions`.

    `marked`: the last event of each session says that it is the last, for those who follow.
    """

    sessions: Sequence[str]
    begin: float
    until: float
    batch: int = 1
    window: int = 1
    size: int = EVENT_LINE_BYTES
    role: Role = Role.RECORD
    marked: bool = False


class Done(NamedTuple):
    """What was done: `counts` events of each session, all durable at `ended`, or reads, or events followed.

    `p50` and `least` are times of one batch, in seconds; 0 where batches were not waited for one by one.
    """

    counts: list[int]
    ended: float
    p50: float = 0.0
    least: float = 0.0


class NotFollowed(Exception):  # noqa: N818 - it is a finding
    """A follower did not get to see the last event."""


class Producer(ABC):
    """One process's connection to its side."""

    @abstractmethod
    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """Record one batch; it is durable on return."""

    def close(self) -> None:  # noqa: B027 - not every side has something to let go of
        """Let go of the side."""

    def begin(self, order: Order) -> None:  # noqa: B027 - not every side has something to get ready
        """What has to be ready before the clock starts."""

    def tail(self, session: str, count: int) -> int:
        """Read the newest events of a session; how many there were."""
        raise NotImplementedError

    def follow(self, session: str, until: float) -> Iterable[Sequence[bytes]]:
        """The lines of a session from its first on, as they come; ends at `until` of the clock."""
        raise NotImplementedError

    def run(self, order: Order) -> Done:
        """One round."""
        self.begin(order)
        time.sleep(max(0.0, order.begin - time.monotonic()))
        if order.role is Role.READ:
            return self._read(order)
        if order.role is Role.FOLLOW:
            return self._follow(order)
        return self.record(order)

    def record(self, order: Order) -> Done:
        """Append and wait, again and again; once also if this process was woken too late for the round."""
        bodies = texts(order.batch, order.size)
        sessions = cycle(order.sessions)
        times: list[float] = []
        before = time.monotonic()
        while before < order.until or not times:
            self.append(next(sessions), bodies)
            after = time.monotonic()
            times.append(after - before)
            before = after
        counts = shares(len(times), order)
        if order.marked:
            counts = self._mark(order, counts)
        return Done(counts, time.monotonic(), statistics.median(times), min(times))

    def _mark(self, order: Order, counts: list[int]) -> list[int]:
        for session in order.sessions:
            self.append(session, texts(1, order.size), LAST_KIND)
        return [count + 1 for count in counts]

    def _read(self, order: Order) -> Done:
        sessions = cycle(order.sessions)
        reads = 0
        due = order.begin
        while due < order.until:
            time.sleep(max(0.0, due - time.monotonic()))
            self.tail(next(sessions), TAIL)
            reads += 1
            due = max(due + READ_SECONDS, time.monotonic())
        return Done([reads], time.monotonic())

    def _follow(self, order: Order) -> Done:
        (session,) = order.sessions
        seen = 0
        for lines in self.follow(session, order.until + FOLLOW_SECONDS_MAX):
            seen += len(lines)
            if lines and LAST_MARK in lines[-1]:
                return Done([seen], time.monotonic())
        raise NotFollowed(f"only {seen} events of session {session} were seen")


class Pipeliner(Producer):
    """A producer that can leave batches unanswered."""

    @abstractmethod
    def send(self, session: str, texts: Sequence[str]) -> None:
        """Put one batch on its way."""

    @abstractmethod
    def collect(self) -> int:
        """Send what is left in buffers and wait; how many batches are durable that were not before."""

    def record(self, order: Order) -> Done:
        """Keep `window` batches on their way."""
        if order.window == 1:
            return super().record(order)
        bodies = texts(order.batch, order.size)
        sessions = cycle(order.sessions)
        sent = answered = 0
        while time.monotonic() < order.until or not sent:
            while sent - answered < order.window:
                self.send(next(sessions), bodies)
                sent += 1
            answered += self.collect()
        while answered < sent:
            answered += self.collect()
        return Done(shares(answered, order), time.monotonic())


def shares(batches: int, order: Order) -> list[int]:
    """How many events each session has got of so many batches, dealt out in turn."""
    each, more = divmod(batches, len(order.sessions))
    return [(each + (number < more)) * order.batch for number in range(len(order.sessions))]
