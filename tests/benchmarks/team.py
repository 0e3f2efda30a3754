"""The processes of one side, kept over all workloads so that starting them costs nothing in a round.

The one rule: they only do what they are ordered to, and what goes wrong in one is raised here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from tests.benchmarks import sides
from tests.benchmarks.work import Done, Order, Producer, Role
from tests.benchmarks.workloads import Workload

LEAD_SECONDS = 0.05
"""Between giving the orders of a round and its beginning, so that all processes begin together."""

CLOSE_SECONDS_MAX = 20.0
"""What a process gets to finish its round and hang up; then it is killed."""

_spawn = multiprocessing.get_context("spawn")


class WorkFailed(Exception):  # noqa: N818 - it says whose
    """A process of a side could not do its part; `report` is its traceback."""

    def __init__(self, side: str, report: str) -> None:
        super().__init__(f"{side}: {report.strip().splitlines()[-1]}")
        self.report = report


class Team:
    """So many processes of a side."""

    def __init__(self, side: str, size: int, environ: Mapping[str, str] | None = None) -> None:
        self._side = side
        self._pipes: list[Connection] = []
        self._processes = []
        with _added(environ or {}):
            for _ in range(size):
                ours, theirs = _spawn.Pipe()
                process = _spawn.Process(target=work, args=(side, theirs), daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
        self._answers(self._pipes)

    def connect(self, address: str) -> None:
        """Let every process connect to its side."""
        for pipe in self._pipes:
            pipe.send(address)
        self._answers(self._pipes)

    def run(
        self, workload: Workload, sessions: Sequence[str], processes: int, seconds: float
    ) -> tuple[list[Done], float]:
        """One round; the sessions are dealt out. What each process did, and when the round began."""
        begin = time.monotonic() + LEAD_SECONDS
        until = begin + seconds
        share = len(sessions) // processes
        window = workload.window * workload.producers // processes
        batch, size = workload.batch, workload.size
        orders = [
            Order(sessions[n * share : (n + 1) * share], begin, until, batch, window, size)._replace(
                marked=bool(workload.followers)
            )
            for n in range(processes)
        ]
        orders += [Order(sessions, begin, until, role=Role.READ) for _ in range(workload.readers)]
        orders += [
            Order([sessions[n % len(sessions)]], begin, until, role=Role.FOLLOW, marked=True)
            for n in range(workload.followers)
        ]
        pipes = self._pipes[: len(orders)]
        for pipe, order in zip(pipes, orders, strict=True):
            pipe.send(order)
        return self._answers(pipes), begin

    def _answers(self, pipes: Sequence[Connection]) -> list[Done]:
        answers = [pipe.recv() for pipe in pipes]
        for answer in answers:
            if isinstance(answer, str):
                raise WorkFailed(self._side, answer)
        return answers

    def close(self) -> None:
        """Let the processes end."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with suppress(BrokenPipeError):
                pipe.send(None)
            process.join(CLOSE_SECONDS_MAX)
            if process.is_alive():  # its side is gone, and it waits for an answer
                process.kill()
                process.join()
            pipe.close()


@contextmanager
def _added(environ: Mapping[str, str]) -> Iterator[None]:
    """An environment for processes started meanwhile; multiprocessing knows no other way."""
    before = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def work(side: str, orders: Connection) -> None:
    """The main function of a process: an address to connect to, rounds as they are ordered, None ends it."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gives the orders ends us in order
    producer: Producer | None = None
    answer: Done | str | None = None
    while True:
        orders.send(answer)
        order: str | Order | None = orders.recv()
        try:
            if producer is not None and not isinstance(order, Order):
                producer.close()
            if isinstance(order, str):
                producer = sides.load(side).producer(order)
                answer = None
            elif order is None:
                return
            else:
                assert producer is not None
                answer = producer.run(order)
        except Exception:  # noqa: BLE001 - whatever it is, it is raised where the round is ordered
            answer = traceback.format_exc()
