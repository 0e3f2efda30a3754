"""The actor that alone writes: a queue, and one thread that commits what the queue holds.

Owns the order of all writes. The one rule: `Store.commit` is called from here only, one batch at a time;
what arrives while one commit runs is the next batch, so that one sync serves everybody who was waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import anyio

from sessiond.clock import Clock
from sessiond.commits import Commits, Wakeup
from sessiond.errors import Refused
from sessiond.storage.commit.operations import Operation, Outcome
from sessiond.storage.store import Committed, DirtyFile
from sessiond_client.wire.messages import ErrorCode

BATCH_OPERATIONS_MAX = 1024
BATCH_BYTES_MAX = 8 * 1024 * 1024
QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""With this much waiting, connections are read no further until half of it is committed."""

IN_PLACE_OPERATIONS_MAX = 4
IN_PLACE_BYTES_MAX = 64 * 1024
IN_PLACE_SECONDS_MAX = 0.001

COMMIT_TIMES_KEPT = 1024

T = TypeVar("T")

logger = logging.getLogger("sessiond.writer")


class Committing(Protocol):
    """What the writer needs of a store."""

    @property
    def lagging(self) -> frozenset[str]:
        """Sessions whose file is behind the database, by ULID."""

    def commit(self, batch: Sequence[Operation]) -> Committed:
        """Do a batch of operations, in order. Raises StorageFailed if the outcome is unknown."""


class Entry(NamedTuple):
    """An operation in the queue, its size on the wire, and who is told what came of it."""

    operation: Operation
    size: int
    answer: Callable[[Outcome], None]


class Writer:
    """The queue in front of a store. `run` commits until cancelled; `drain` waits for an empty queue."""

    def __init__(self, store: Committing, commits: Commits, clock: Clock) -> None:
        self._store = store
        self._commits = commits
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._lanes: OrderedDict[Hashable, deque[Entry]] = OrderedDict()
        self._arrived = Wakeup()
        self._idle = anyio.Event()
        self._idle.set()
        self._queued_bytes = 0
        self._jobs_in_thread = 0
        self.queue_length = 0
        self.events_committed = 0
        self.commit_count = 0
        self.commit_seconds: deque[float] = deque(maxlen=COMMIT_TIMES_KEPT)
        self.dirty: dict[str, DirtyFile] = {}
        """Files to sync; the syncer takes them."""
        self.lagging = store.lagging
        self.refusing: ErrorCode | None = None
        """Why the last batch was refused, if it was."""
        self.on_dirty: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read for now."""
        return self._queued_bytes >= QUEUE_BYTES_MAX

    def submit(
        self, operation: Operation, lane: Hashable, size: int, answer: Callable[[Outcome], None]
    ) -> None:
        """Queue an operation. Those of one lane keep their order; lanes take turns."""
        entries = self._lanes.get(lane)
        if entries is None:
            entries = self._lanes[lane] = deque()
        entries.append(Entry(operation, size, answer))
        self._queued_bytes += size
        self.queue_length += 1
        if self._idle.is_set():
            self._idle = anyio.Event()
        self._arrived.set()

    async def ask(self, operation: Operation, lane: Hashable, size: int = 0) -> Outcome:
        """Queue an operation of the daemon's own and wait for what comes of it."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def answer(outcome: Outcome) -> None:
            if not done.cancelled():
                done.set_result(outcome)

        self.submit(operation, lane, size, answer)
        return await done

    async def run(self) -> None:
        """Commit what is queued, for ever. Raises StorageFailed, after which nobody was answered."""
        while True:
            await self._arrived.wait()
            while self._lanes:
                await self._commit(self._take_batch())
            self._idle.set()

    async def drain(self) -> None:
        """Return once everything queued so far is committed and answered."""
        await self._idle.wait()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something with the stores; whatever is asked for meanwhile comes after it."""
        self._jobs_in_thread += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._jobs_in_thread -= 1

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=True)

    def _take_batch(self) -> list[Entry]:
        """The next batch, one operation of each lane in turn, so that a flood does not starve the others.

        In the batch those of a lane stand together: to the stores they are one run of events.
        """
        taken: dict[Hashable, list[Entry]] = {lane: [] for lane in self._lanes}
        count = size = 0
        while self._lanes and count < BATCH_OPERATIONS_MAX and size < BATCH_BYTES_MAX:
            lane, entries = self._lanes.popitem(last=False)
            entry = entries.popleft()
            taken[lane].append(entry)
            count += 1
            size += entry.size
            if entries:
                self._lanes[lane] = entries
        self._queued_bytes -= size
        self.queue_length -= count
        return [entry for entries in taken.values() for entry in entries]

    async def _commit(self, batch: list[Entry]) -> None:
        operations = [entry.operation for entry in batch]
        size = sum(entry.size for entry in batch)
        began = self._clock.monotonic()
        if self._is_quicker_in_place(len(batch), size):
            committed = self._store.commit(operations)
        else:
            committed = await self.in_thread(lambda: self._store.commit(operations))
        self.commit_seconds.append(self._clock.monotonic() - began)
        self.commit_count += 1
        self.events_committed += committed.event_count
        for entry, outcome in zip(batch, committed.outcomes, strict=True):
            entry.answer(outcome)
        self._note_refusal(committed.refusal)
        self._note_files(committed)
        self._commits.announce(committed.sessions)
        if self._queued_bytes < QUEUE_BYTES_MAX // 2:
            self.on_room()

    def _note_refusal(self, refusal: Refused | None) -> None:
        code = None if refusal is None else refusal.code
        if code != self.refusing:
            self.refusing = code
            if refusal is None:
                logger.info("storing again")
            else:
                logger.error("nothing can be stored", extra={"reason": refusal.message})
        if refusal is not None:
            self._refuse_waiting(refusal)

    def _refuse_waiting(self, refusal: Refused) -> None:
        """Refuse what is queued, too: none of it may overtake what its sender will send again."""
        waiting = [entry for entries in self._lanes.values() for entry in entries]
        self._lanes.clear()
        self._queued_bytes = 0
        self.queue_length = 0
        for entry in waiting:
            entry.answer(refusal)

    def _is_quicker_in_place(self, operations: int, size: int) -> bool:
        """Whether waking a thread would take a lone client longer than the commit itself.

        So it is where a sync is quick. Should the disk begin to stall, one commit holds up the loop, and the
        next go to the thread until it is quick again.
        """
        return (
            operations <= IN_PLACE_OPERATIONS_MAX
            and size <= IN_PLACE_BYTES_MAX
            and self._jobs_in_thread == 0
            and bool(self.commit_seconds)
            and self.commit_seconds[-1] <= IN_PLACE_SECONDS_MAX
        )

    def _note_files(self, committed: Committed) -> None:
        self.lagging = committed.lagging
        if committed.dirty or committed.lagging:
            self.dirty.update(committed.dirty)
            self.on_dirty()
