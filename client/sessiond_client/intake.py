"""The bounded queue between the threads that record and the one thread that sends.

Owns the lock of a recorder, its queue and its counters. The one rule: an event that `put` has taken is
counted until it is settled; nothing leaves this queue except in the order it came.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

QUEUE_BYTES_MAX = 8 * 1024 * 1024
QUEUE_EVENTS_MAX = 64 * 1024
"""How much waits in memory to be sent; with more than that, `put` waits."""

SMALL_EVENTS = 256
SMALL_BYTES = 64 * 1024
"""While appends are on their way, a queue smaller than this may wait and grow."""


class Intake:
    """A queue of encoded events. `wake` is called when the sending thread has something to look at."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.recorded = 0
        self.settled = 0
        self.closing = False
        self.close_deadline = 0.0
        self.give_up_at = 0.0
        self.finished = False
        self.failure: BaseException | None = None
        self._wake = wake
        self._changed = threading.Condition()
        self._events: deque[bytes] = deque()
        self._bytes = 0
        self._taken = 0
        self._waiting = 0
        self._wake_wanted = False

    # --- the recording threads

    def put(self, event: bytes, seconds: float | None = None) -> bool:
        """Add an event; waits for room. False if there is none within `seconds` (None: for ever)."""
        with self._changed:
            self._check_open()
            if not self._has_room(event) and not self._wait_for_room(event, seconds):
                return False
            was_small = self.is_small
            self._events.append(event)
            self._bytes += len(event)
            self.recorded += 1
            wake = self._wake_wanted or (was_small and not self.is_small)
            self._wake_wanted = False
        if wake:
            self._wake()
        return True

    def wait_settled(self, deadline: float | None) -> bool:
        """Wait until everything recorded so far is acknowledged; False when `deadline` comes first."""
        with self._changed:
            target = self.recorded
            while self.settled < target and self.failure is None and not self.finished:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                self._changed.wait(remaining)
            return self.settled >= target

    def close(self, deadline: float, room_seconds: float = 0.0) -> None:
        """Take no more; the sending thread has until `deadline` for the rest, and may wait so much longer
        for room on the disk to leave it there. Called again, it only has less time."""
        with self._changed:
            if not self.closing:
                self.close_deadline, self.give_up_at = deadline, deadline + room_seconds
            self.closing = True
            self.close_deadline = min(self.close_deadline, deadline)
            self.give_up_at = min(self.give_up_at, deadline + room_seconds)
            self._changed.notify_all()
        self._wake()

    # --- the sending thread

    def take(self, events_max: int, bytes_max: int) -> tuple[int, list[bytes]]:
        """The oldest events, at least one if there is one, and the count of those taken before them."""
        with self._changed:
            first = self._taken
            events: list[bytes] = []
            size = 0
            while self._events and len(events) < events_max:
                size += len(self._events[0])
                if events and size > bytes_max:
                    break
                events.append(self._events.popleft())
                self._bytes -= len(events[-1])
            self._taken += len(events)
            if self._waiting:
                self._changed.notify_all()
            return first, events

    @property
    def taken(self) -> int:
        """How many events have left the queue so far."""
        return self._taken

    @property
    def is_small(self) -> bool:
        """Whether the queue makes a small append; once it does not, the sending thread is woken."""
        return len(self._events) < SMALL_EVENTS and self._bytes < SMALL_BYTES

    @property
    def starved(self) -> bool:
        """Whether a recording thread waits for room."""
        return self._waiting > 0

    def arm(self) -> bool:
        """Ask to be woken by the next event; False if there is one already."""
        with self._changed:
            self._wake_wanted = not self._events
            return self._wake_wanted

    def settle(self, upto: int) -> None:
        """Everything before the event number `upto` is acknowledged."""
        with self._changed:
            if upto > self.settled:
                self.settled = upto
                self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing more can be delivered; the first reason counts."""
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()

    def finish(self) -> None:
        """The sending thread is gone."""
        with self._changed:
            self.finished = True
            self._changed.notify_all()

    # --- inside the lock

    def _has_room(self, event: bytes) -> bool:
        """An event larger than the whole queue passes through when it is empty."""
        if not self._events:
            return True
        return self._bytes + len(event) <= QUEUE_BYTES_MAX and len(self._events) < QUEUE_EVENTS_MAX

    def _wait_for_room(self, event: bytes, seconds: float | None) -> bool:
        deadline = None if seconds is None else time.monotonic() + seconds
        self._waiting += 1
        try:
            while not self._has_room(event):
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                self._wake()
                self._changed.wait(remaining)
                self._check_open()
            return True
        finally:
            self._waiting -= 1

    def _check_open(self) -> None:
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self.closing or self.finished:
            raise ValueError("the recorder is closed")
