"""The experiments on the simulated disk. Each takes a seed, and counts the faults it brought about.

The one rule: after each fault the stores are opened by the code that the daemon uses, brought to rest, and
shown to the judge; whatever it finds is told with the seed and the operation.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import ENOSPC
from functools import lru_cache
from itertools import count, islice
from random import Random

import apsw

from sessiond.errors import StartupRefused, StorageFailed
from tests.simulation.client import Client, Promise, Violation, check_answers
from tests.simulation.disk import EVERYTHING, Fault, Kind, SimulatedDisk, states
from tests.simulation.judge import violations
from tests.simulation.machine import Machine

STEPS = 24
STEPS_WITH_ERRORS = 10
STEPS_AFTER_RESTART = 4
FROM_NOTHING_EVERY = 8
"""Every so many seeds begin with an empty disk, so that the making of the database is cut, too."""

READS_FAIL_EVERY = 6
"""With every so many seeds reads fail, too."""

CHECKPOINTS = (None, 6, 40)
CUTS_AFTER_FAILED_SYNC = 2

ESCAPED = (apsw.Error, OSError, AssertionError, LookupError, TypeError, ValueError)
"""What the storage code must have turned into errors of its own."""


@dataclass
class Tally:
    """How many faults there were, and what came of them."""

    faults: int = 0
    recoveries: int = 0
    found: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.faults + other.faults, self.recoveries + other.recoveries, self.found + other.found)

    @contextmanager
    def watched(self, suite: str, seed: int, operation: int) -> Iterator[None]:
        """Note what is violated inside, with what is needed to see it again."""
        try:
            yield
        except Violation as violation:
            again = f"python -m tests.simulation {suite} --seed {seed} --operation {operation}"
            self.found += [f"{what}   [{again}]" for what in violation.found]


@contextmanager
def quietly() -> Iterator[None]:
    """Without what recovery has to say, and what apsw says of connections that a dead process left open."""
    before = logging.root.manager.disable, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    gc.disable()
    gc.freeze()  # what there was before is not looked at again with every seed
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
        logging.disable(before[0])
        sys.unraisablehook = before[1]


def empty_disk() -> SimulatedDisk:
    """With a place for the data that is not on the platter yet, and nothing in it."""
    disk = SimulatedDisk()
    disk.make_directory("/data")
    return disk


@lru_cache(maxsize=1)
def _opened_disk() -> SimulatedDisk:
    disk = empty_disk()
    Machine(disk).close()
    return disk


def fresh_disk(seed: int) -> SimulatedDisk:
    """With an empty database on it, most of the time."""
    disk = empty_disk() if seed % FROM_NOTHING_EVERY == 0 else _opened_disk().copy()
    disk.random = Random(seed)
    disk.journal.clear()
    disk.operations = 0
    return disk


def started(disk: SimulatedDisk, checkpoint_pages: int | None = None) -> Machine:
    """A process on a disk that does not fail any more. Raises Violation if it does not start."""
    try:
        return Machine(disk, checkpoint_pages)
    except (StorageFailed, StartupRefused, *ESCAPED) as error:
        raise Violation(f"mismatch: it does not start: {error!r}") from error


def verify(disk: SimulatedDisk, promise: Promise, *, send_again: bool = False) -> None:
    """Start on what is left of a disk, perhaps send again what was not answered, and let it be judged."""
    machine = started(disk)
    finish(machine, promise, send_again=send_again)


def finish(machine: Machine, promise: Promise, *, send_again: bool = False) -> None:
    """Bring a process to rest, stop it, and let what it leaves be judged. Raises Violation."""
    after = promise.model.after(promise.batch)
    try:
        if send_again and promise.batch:
            check_answers(after, promise.batch, machine.commit(promise.batch), is_first=False)
        machine.calm_down()
        quiet = machine.is_quiet()
        machine.close()
    except (StorageFailed, *ESCAPED) as error:
        raise Violation(f"mismatch: {error!r} without a fault") from error
    allowed = [after.plain()] if send_again or not promise.batch else [promise.model.plain(), after.plain()]
    found = violations(machine.disk.content(), allowed)
    if not quiet:
        found.append("mismatch: it does not come to rest")
    if found:
        raise Violation(*found)


def recorded(seed: int, steps: int = STEPS) -> tuple[SimulatedDisk, SimulatedDisk, Client]:
    """Let a process work undisturbed; the disk before, the disk with its journal, and who sent what."""
    random = Random(f"work {seed}")
    base = fresh_disk(seed)
    disk = base.copy()
    client = Client(random)
    machine = started(disk, random.choice(CHECKPOINTS))
    for _ in range(steps):
        client.step(machine)
        if random.random() < 0.04:
            machine.close()
            machine = started(disk, random.choice(CHECKPOINTS))
    machine.close()
    return base, disk, client


# --- the experiments ---------------------------------------------------------------------------------------


def power_cuts(seed: int, only: int | None = None) -> Tally:
    """The power goes at every single operation, and what is left is recovered."""
    tally = Tally()
    base, disk, client = recorded(seed)
    for position, state in states(base, disk.journal):
        if only not in (None, position):
            continue
        random = Random(f"cut {seed} {position}")
        image = state.after_power_cut(random)
        tally.faults += 1
        tally.recoveries += 1
        with tally.watched("power-cuts", seed, position):
            verify(image, client.promise_at(position), send_again=random.random() < 0.5)
    return tally


def kills(seed: int, only: int | None = None) -> Tally:
    """Killed at every operation, started again, asked again, answered; and then the power goes."""
    tally = Tally()
    base, disk, client = recorded(seed)
    for position, state in states(base, disk.journal):
        promise = client.promise_at(position)
        if only not in (None, position) or not promise.batch:
            continue
        random = Random(f"kill {seed} {position}")
        tally.faults += 1
        tally.recoveries += 3
        with tally.watched("kills", seed, position):
            killed = state.after_kill(random)
            machine = started(killed.copy())
            after = promise.model.after(promise.batch)
            check_answers(after, promise.batch, machine.commit(promise.batch), is_first=False)
            answered = Promise(len(machine.disk.journal), after, [])
            verify(machine.disk.after_power_cut(random), answered)
            machine.calm_down()
            machine.kill()
            cut = random.randrange(len(machine.disk.journal) + 1)
            _, image = next(islice(states(killed, machine.disk.journal), cut, None))
            verify(image.after_power_cut(random), answered if cut >= answered.position else promise)
    return tally


def recovery_crashes(seed: int, only: int | None = None) -> Tally:
    """The power goes, goes again at every operation of the recovery, and again in the recovery of that."""
    tally = Tally()
    base, disk, client = recorded(seed)
    random = Random(f"recovery {seed}")
    chosen = set(random.sample(range(len(disk.journal)), 3))
    operation = 0
    for position, state in states(base, disk.journal):
        if position not in chosen:
            continue
        promise = client.promise_at(position)
        first = state.after_power_cut(random)
        for image in _crashed(first, random):
            operation += 1
            again = random.choice(list(_crashed(image, random)))
            send_again = random.random() < 0.5
            tally.faults += 1
            tally.recoveries += 3
            if only in (None, operation):
                with tally.watched("recovery-crashes", seed, operation):
                    verify(again, promise, send_again=send_again)
    return tally


def _crashed(base: SimulatedDisk, random: Random) -> Iterator[SimulatedDisk]:
    """What is left after a cut at each operation of a recovery."""
    disk = base.copy()
    machine = started(disk)
    machine.calm_down()
    machine.kill()
    for _, state in states(base, disk.journal):
        yield state.after_power_cut(random)


class Ordeal:
    """A client whose process meets faults, is started again after each, and goes on."""

    def __init__(self, seed: int, name: str) -> None:
        self.random = Random(f"{name} {seed}")
        self.client = Client(Random(f"work {seed}"))
        self.disk = fresh_disk(seed or 1)
        self._pages = self.random.choice(CHECKPOINTS)
        self.machine: Machine | None = None

    def start(self) -> Machine | None:
        """A process, if it can be started now."""
        try:
            self.machine = Machine(self.disk, self._pages)
        except (StorageFailed, StartupRefused):
            self.machine = None
            self._killed()
        except ESCAPED as error:
            raise Violation(f"mismatch: {error!r} escaped from the start") from error
        return self.machine

    def _killed(self) -> None:
        disk = self.disk.after_kill(self.random)
        disk.go_on_as(self.disk)
        self.disk = disk

    def kill(self) -> None:
        """The process is gone."""
        if self.machine is not None:
            self.machine.kill()
            self.machine = None
        self._killed()

    def work(self, steps: int) -> None:
        """So many steps, with a new process whenever one fails."""
        for _ in range(steps):
            machine = self.machine or self.start()
            if machine is None:
                continue
            try:
                self.client.step(machine)
                if self.random.random() < 0.05:
                    machine.close()
                    self.machine = None
            except StorageFailed as failure:
                if is_full(failure.cause):
                    raise Violation(f"mismatch: a full disk ended the process: {failure}") from failure
                machine.fail()
                self.machine = None
                self._killed()
            except ESCAPED as error:
                raise Violation(f"mismatch: {error!r} escaped") from error

    def heal(self) -> None:
        """Nothing fails any more, and whoever waits is answered."""
        self.disk.fault = None
        machine = self.machine or started(self.disk, self._pages)
        self.machine = machine
        try:
            if self.client.batch and not self.client.send(machine):
                raise Violation("mismatch: refused although there is room")
        except (StorageFailed, *ESCAPED) as error:
            raise Violation(f"mismatch: {error!r} after the fault was gone") from error

    def end(self) -> None:
        """Let it be judged, after an orderly stop or after a power cut."""
        promise = Promise(0, self.client.model, self.client.batch)
        machine = self.machine
        if machine is None or self.random.random() < 0.5:
            self.kill()
            verify(self.disk.after_power_cut(self.random), promise)
        else:
            finish(machine, promise)


def is_full(error: Exception) -> bool:
    """Whether there was only no room."""
    return isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno == ENOSPC)


def errors(seed: int, only: int | None = None) -> Tally:
    """Every operation fails, once or for good, with an I/O error, a full disk, or a write cut short."""
    tally = Tally()
    kinds = [(kind, persists) for kind in Kind for persists in (False, True)]
    for operation in count(1) if only is None else [only]:
        kind, persists = kinds[(seed + operation) % len(kinds)]
        ordeal = Ordeal(seed, "errors")
        if seed % READS_FAIL_EVERY == 0:
            ordeal.disk.counted = EVERYTHING
        ordeal.disk.fault = Fault(operation, kind, persists)
        with tally.watched("errors", seed, operation):
            ordeal.work(STEPS_WITH_ERRORS)
            if ordeal.disk.operations < operation:
                break
            tally.faults += ordeal.disk.faults_met > 0
            tally.recoveries += 1
            ordeal.heal()
            ordeal.work(STEPS_AFTER_RESTART)
            ordeal.end()
    return tally


def failed_syncs(seed: int, only: int | None = None) -> Tally:
    """Every sync fails once and loses what it was to write; started again, written to again, and cut."""
    tally = Tally()
    for operation in count(1) if only is None else [only]:
        ordeal = Ordeal(seed, "syncs")
        ordeal.disk.counted = frozenset({"sync"})
        ordeal.disk.fault = Fault(operation, Kind.ERROR)
        with tally.watched("failed-syncs", seed, operation):
            ordeal.work(STEPS_WITH_ERRORS)
            if not ordeal.disk.faults_met:
                break
            tally.faults += 1
            ordeal.kill()
            ordeal.heal()
            ordeal.work(STEPS_AFTER_RESTART)
            ordeal.kill()
            promise = Promise(0, ordeal.client.model, ordeal.client.batch)
            for _ in range(CUTS_AFTER_FAILED_SYNC):
                tally.recoveries += 1
                verify(ordeal.disk.after_power_cut(ordeal.random), promise)
    return tally


SUITES: dict[str, Callable[[int, int | None], Tally]] = {
    "power-cuts": power_cuts,
    "errors": errors,
    "failed-syncs": failed_syncs,
    "kills": kills,
    "recovery-crashes": recovery_crashes,
}
FAULTS = {"power-cuts": 3000, "errors": 2500, "failed-syncs": 800, "kills": 700, "recovery-crashes": 1500}
"""How many faults the fast set brings about, at least."""


def run(suite: str, seeds: Iterable[int], only: int | None = None, *, faults: int | None = None) -> Tally:
    """An experiment with some seeds, or with as many of them as it takes for so many faults."""
    tally = Tally()
    with quietly():
        for seed in seeds:
            tally += SUITES[suite](seed, only)
            gc.collect()  # dead processes are rings of objects: in a long run they would fill the memory
            if faults is not None and tally.faults >= faults:
                break
    return tally


def share(suite: str, number: int, shares: int, factor: int = 1) -> Tally:
    """One of several equal parts of an experiment; a factor of one is the fast set."""
    return run(suite, count(number, shares), faults=-(-FAULTS[suite] * factor // shares))
