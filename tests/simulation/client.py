"""A client of the processes on a simulated disk: sends batches, and keeps what it was promised.

The one rule: a batch that was not answered is sent again, the same, until it is; and what was promised when
is known for every entry of the disk's journal.
"""

from __future__ import annotations

from bisect import bisect_right
from random import Random
from typing import NamedTuple

from sessiond.errors import Refused
from sessiond.storage.commit.operations import Appended, AppendEvents, DeleteSession, Operation, Outcome
from sessiond_client.wire.messages import ErrorCode
from tests.simulation.machine import Machine
from tests.simulation.model import Model
from tests.simulation.workload import Workload

TEMPORARY = (ErrorCode.DISK_FULL, ErrorCode.BUSY)


class Violation(Exception):  # noqa: N818 - a finding
    """A promise was broken; `found` says how."""

    def __init__(self, *found: str) -> None:
        super().__init__(*found)
        self.found = list(found)


class Promise(NamedTuple):
    """What must be there from an entry of the journal on; of `batch` all may be there too, or nothing."""

    position: int
    model: Model
    batch: list[Operation]


class Client:
    """`model` is what was answered, `batch` what was sent and not answered yet."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._workload = Workload(random)
        self.model = Model()
        self.batch: list[Operation] = []
        self.last: list[Operation] = []
        """The batch that was answered last."""
        self.promises = [Promise(0, self.model, [])]
        self._is_unsure = False
        """Whether the batch may have been stored already: it was sent, and nobody answered."""

    def step(self, machine: Machine) -> None:
        """One thing that happens in the daemon. Raises StorageFailed or Violation."""
        draw = self._random.random()
        if draw < 0.6:
            self.send(machine)
        elif draw < 0.75:
            machine.sync()
        elif draw < 0.85:
            machine.mark()
        elif draw < 0.92:
            machine.settle()
        elif draw < 0.96:
            machine.mend()
        else:
            machine.purge()

    def send(self, machine: Machine) -> bool:
        """Send the batch that waits, or a new one; whether it was stored. Raises as `step` does."""
        if not self.batch:
            self.batch = self._workload.batch(self.model)
        commit = machine.commit_with_marks if self._random.random() < 0.3 else machine.commit
        self._note(machine)
        is_first, self._is_unsure = not self._is_unsure, True
        outcomes = commit(self.batch)
        if is_refused(outcomes):
            self._is_unsure = not is_first
            return False
        self._is_unsure = False
        self._answered(outcomes, is_first=is_first)
        self._note(machine)
        return True

    def send_last_again(self, machine: Machine) -> None:
        """Send what was answered already, as one does who did not get the answer."""
        if not self.batch:
            check_answers(self.model, self.last, machine.commit(self.last), is_first=False)

    def _answered(self, outcomes: list[Outcome], *, is_first: bool) -> None:
        model = self.model.after(self.batch)
        check_answers(model, self.batch, outcomes, is_first=is_first)
        self.model, self.last, self.batch = model, self.batch, []

    def _note(self, machine: Machine) -> None:
        self.promises.append(Promise(len(machine.disk.journal), self.model, self.batch))

    def promise_at(self, position: int) -> Promise:
        """What was promised once so many entries of the journal were made."""
        index = bisect_right(self.promises, position, key=lambda promise: promise.position)
        return self.promises[index - 1]


def is_refused(outcomes: list[Outcome]) -> bool:
    """Whether the whole batch was refused for a while."""
    return all(isinstance(outcome, Refused) and outcome.code in TEMPORARY for outcome in outcomes)


def check_answers(
    model: Model, batch: list[Operation], outcomes: list[Outcome], *, is_first: bool = True
) -> None:
    """Raises Violation unless a batch was answered as the model after it says, the first time or again."""
    behind = {ulid: len(session.texts) for ulid, session in model.sessions.items()}
    for operation, outcome in reversed(list(zip(batch, outcomes, strict=True))):
        if isinstance(operation, AppendEvents):
            last = behind[operation.session] - 1
            behind[operation.session] -= len(operation.events)
            if outcome != Appended(behind[operation.session], last):
                raise Violation(f"mismatch: an append was answered {outcome}, its last event is {last}")
        elif isinstance(outcome, Refused) and (is_first or not isinstance(operation, DeleteSession)):
            raise Violation(f"mismatch: {type(operation).__name__} was refused: {outcome}")
