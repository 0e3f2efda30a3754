"""Each rule of the storage code broken by hand: the experiments must notice, or they prove nothing.

The one rule: a control breaks one rule and nothing else, and is found within the seeds it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sessiond.storage.commit.operations import Operation, Outcome
from sessiond.storage.commit.transaction import Transaction
from sessiond.storage.database import Database
from sessiond.storage.recovery.recovery import Recovery
from sessiond.storage.recovery.unsealed import Unsealed, expected
from sessiond.storage.store import Store
from tests.simulation.client import Client, Promise
from tests.simulation.database import FilesOnDisk
from tests.simulation.machine import Machine
from tests.simulation.suites import Tally, run

SEEDS_MAX = 12


def until_found(suite: str, what: str) -> list[str]:
    """What is found of a sort, seed after seed until there is some."""
    tally = Tally()
    for seed in range(SEEDS_MAX):
        tally += run(suite, [seed])
        if found := [one for one in tally.found if one.startswith(what)]:
            return found
    raise AssertionError(f"{tally.faults} faults, and this was not noticed")


def test_commits_that_are_not_synced_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    configure = Database._configure

    def less_careful(self: Database) -> None:
        configure(self)
        self.connection.execute("PRAGMA synchronous = NORMAL")

    monkeypatch.setattr(Database, "_configure", less_careful)

    assert until_found("power-cuts", "lost")


def test_a_start_without_the_barrier_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "barrier", lambda _: None)

    assert until_found("failed-syncs", "lost")


def test_a_reply_before_the_commit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Client.send

    def hasty(self: Client, machine: Machine) -> bool:
        if not self.batch:
            self.batch = self._workload.batch(self.model)
        early = Promise(len(machine.disk.journal), self.model.after(self.batch), [])
        waiting = len(self.promises)
        stored = send(self, machine)
        self.promises[waiting] = early
        return stored

    monkeypatch.setattr(Client, "send", hasty)

    assert until_found("power-cuts", "lost")


class HastyStore(Store):
    """Writes the files while the transaction is open."""

    def _transact(self, transaction: Transaction, batch: Sequence[Operation]) -> list[Outcome]:
        self._dirty = {}
        write = transaction.write

        def write_both() -> None:
            write()
            for state in transaction.touched.values():
                self._bring_to_file(state)

        transaction.write = write_both  # type: ignore[method-assign]
        return super()._transact(transaction, batch)


@pytest.mark.parametrize("suite", ["power-cuts", "errors"])
def test_a_file_that_is_written_before_the_commit_is_noticed(
    monkeypatch: pytest.MonkeyPatch, suite: str
) -> None:
    monkeypatch.setattr(Machine, "store_class", HastyStore)

    assert until_found(suite, "mismatch")


def test_missing_receipts_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transaction, "_keep_receipt", lambda *_: None)

    assert until_found("power-cuts", "mismatch: an append was answered")


def test_a_recovery_that_trusts_the_length_of_a_file_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = Recovery._compare

    def trusting(self: Recovery, session: Unsealed) -> None:
        parts = expected(self._connection, session, session.synced_bytes, session.synced_seq)
        size = self._disk.file_size(self._files.path(session.ulid))
        if size != session.synced_bytes + sum(map(len, parts)):
            compare(self, session)

    monkeypatch.setattr(Recovery, "_compare", trusting)

    assert until_found("power-cuts", "mismatch")


def test_a_file_that_is_only_synced_again_after_a_failed_sync_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FilesOnDisk, "sync_anew", lambda self, path, *_: self.sync(path))

    assert until_found("failed-syncs", "mismatch")
