"""The floor: the daemon's own two stores in a bare loop, without socket, queue or processes.

The one rule: it commits what the writer would find in its queue, namely one window of every producer. What
sessiond is slower than this is the cost of the wire, of the event loop and of sharing the processors.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from sessiond.clock import Clock
from sessiond.storage.commit.operations import AppendEvents, Operation, StartSession
from sessiond.storage.directory import DataDirectory
from sessiond.storage.store import Store
from sessiond.writer import BATCH_OPERATIONS_MAX
from sessiond_client.ulids import new_ulid
from sessiond_client.version import __version__
from sessiond_client.wire.messages import NewEvent, Source
from tests.benchmarks.events import KIND, texts
from tests.benchmarks.sides.side import Side, require_count
from tests.benchmarks.sides.sqlite_store import COUNT_SQL, require_rows
from tests.benchmarks.work import Done, Order, Producer, shares
from tests.benchmarks.workloads import Workload


class StoreProducer(Producer):
    """The one process that has the stores open; it stands for all producers at once."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self._clock = Clock()
        self._directory = DataDirectory.open(path, self._clock)
        parts = self._directory
        self._store = Store(parts.database, parts.files, parts.state_file, self._clock)
        self._producer = new_ulid()
        self._numbers = count(1)

    def begin(self, order: Order) -> None:
        """Start the sessions."""
        moment = self._clock.now()
        self._commit(
            [
                StartSession(ulid=each, name=None, source=Source.APP, started_at=moment, received_at=moment)
                for each in order.sessions
            ]
        )

    def close(self) -> None:
        """Close the stores."""
        self._directory.close()

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One commit."""
        self._commit([self._operation(session, texts, kind)])

    def _operation(self, session: str, texts: Sequence[str], kind: str = KIND) -> AppendEvents:
        events = [NewEvent(kind=kind, text=text) for text in texts]
        moment = self._clock.now()
        return AppendEvents(
            session=session, events=events, received_at=moment, producer=self._producer, n=next(self._numbers)
        )

    def _commit(self, batch: Sequence[Operation]) -> None:
        for outcome in self._store.commit(batch).outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def record(self, order: Order) -> Done:
        """One window of every producer a commit, and in it the sessions one after the other."""
        bodies = texts(order.batch, order.size)
        sessions = order.sessions
        operations = min(order.window, BATCH_OPERATIONS_MAX)
        times: list[float] = []
        sent = 0
        before = time.monotonic()
        while before < order.until or not times:
            turns = sorted(n % len(sessions) for n in range(sent, sent + operations))
            self._commit([self._operation(sessions[turn], bodies) for turn in turns])
            sent += operations
            after = time.monotonic()
            times.append(after - before)
            before = after
        return Done(shares(sent, order), time.monotonic(), statistics.median(times), min(times))


class FloorSide(Side):
    """A data directory without a daemon."""

    name = "floor"
    title = "floor: the stores, no socket"
    writes_itself = True

    @staticmethod
    def producer(address: str) -> StoreProducer:
        """The stores, opened."""
        return StoreProducer(Path(address))

    @classmethod
    def processes(cls, workload: Workload) -> int:  # noqa: ARG003 - it is one whatever is recorded
        """Only one may open the stores."""
        return 1

    @classmethod
    def unable(cls, workload: Workload) -> str | None:
        """There is nobody to read or to follow from."""
        return "nobody else can read from it" if workload.readers or workload.followers else None

    def start(self) -> None:
        """The process opens the stores."""
        self._data = self.directory / "data"
        self.address = str(self._data)

    def version(self) -> str:
        """Of sessiond."""
        return __version__

    def durability(self) -> str:
        """By construction: it is the same code."""
        return "as sessiond, but nobody syncs the files behind the commits"

    def open_sessions(self, count: int) -> list[str]:
        """The process starts them; here they only get their names."""
        return [new_ulid() for _ in range(count)]

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """Database rows and file lines must be what was committed."""
        import apsw

        database = apsw.Connection(str(self._data / "sessiond.db"), flags=apsw.SQLITE_OPEN_READONLY)
        for session, expected in zip(sessions, counts, strict=True):
            file = self._data / "sessions" / f"{session}.ndjson"
            require_count("the file has lines", file.read_bytes().count(b"\n") - 1, expected)
            sql = "SELECT id FROM session WHERE ulid = ?"
            require_rows(database.execute(COUNT_SQL, (int(database.execute(sql, (session,)).get),)), expected)
        database.close()
        os.sync()

    def close(self) -> None:
        """Remove the stores."""
        shutil.rmtree(self.directory)


SIDE = FloorSide
