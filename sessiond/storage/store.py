"""The commit: one batch of operations into the database, then into the files.

Owns the order of the two. The one rule: nothing reaches a file before its COMMIT returned, and nobody is
answered before that either; a file that cannot be written to lags behind and never undoes a commit.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import apsw

from sessiond.clock import Clock
from sessiond.errors import Refused, StorageFailed, internal, row_unreadable
from sessiond.storage.catalog import RowDamaged, last_position
from sessiond.storage.commit.names import Names
from sessiond.storage.commit.operations import Operation, Outcome
from sessiond.storage.commit.state import SessionState, States
from sessiond.storage.commit.transaction import Transaction
from sessiond.storage.database import Database, failing, rows
from sessiond.storage.files import FileLags, SessionFiles
from sessiond.storage.recovery.recovery import Recovery
from sessiond.storage.state_file import STATE_NAME, StateFile
from sessiond_client.wire.messages import ErrorCode, Status

_STATE_BYTES = "SELECT value FROM fact WHERE name = 'state_bytes'"

logger = logging.getLogger("sessiond.store")


class DirtyFile(NamedTuple):
    """A file written to and not synced since; the events below `seq` are in its first `size` bytes."""

    size: int
    seq: int
    sealed: bool


class Committed(NamedTuple):
    """What came of a batch: an outcome an operation, the sessions that got events or ended, the files that
    are to be synced, and all the sessions whose file is behind the database."""

    outcomes: list[Outcome]
    sessions: list[str]
    event_count: int
    dirty: dict[str, DirtyFile]
    lagging: frozenset[str]
    refusal: Refused | None = None
    """Set if the whole batch was refused."""


class Store:
    """Both stores of one data directory. Use it from one thread at a time. Raises StorageFailed."""

    def __init__(
        self,
        database: Database,
        session_files: SessionFiles,
        state_file: StateFile,
        clock: Clock,
        lagging: Iterable[str] = (),
    ) -> None:
        self._connection = database.connection
        self._files = session_files
        self._clock = clock
        self._states = States(self._connection)
        self._names = Names(self._connection)
        self._lagging = set(lagging)
        self._dirty: dict[str, DirtyFile] = {}
        self._state_file = state_file
        self.on_committed: Callable[[], None] = lambda: None
        """Called between a COMMIT and what follows from it; may raise StorageFailed."""
        with failing("reading where to go on"):
            self._next_position = 1 + last_position(self._connection)
            self._state_bytes = int(self._connection.execute(_STATE_BYTES).get)

    @property
    def lagging(self) -> frozenset[str]:
        """Sessions whose file is behind the database, by ULID; state.ndjson by its name."""
        return frozenset(self._lagging)

    def commit(self, batch: Sequence[Operation]) -> Committed:
        """Do a batch of operations, in order. Raises StorageFailed if the outcome is unknown.

        On a full disk, or while a foreign process holds the database, every operation is refused and nothing
        is stored.
        """
        transaction = Transaction(
            self._connection, self._states, self._names, self._clock, self._next_position
        )
        try:
            outcomes = self._transact(transaction, batch)
            self.on_committed()
        except Refused as refusal:
            self._roll_back(transaction)
            return Committed([refusal] * len(batch), [], 0, {}, self.lagging, refusal)
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001 - answered, and logged there
            # A fault in one operation must not cost the others anything: each is done on its own.
            self._roll_back(transaction)
            if len(batch) > 1:
                return _joined(self._commit_each(batch))
            return Committed([self._fault(error)], [], 0, {}, self.lagging)
        self._next_position = transaction.next_position
        self._dirty = {}
        changed = dict.fromkeys(
            state.ulid for state in transaction.touched.values() if self._bring_to_file(state)
        )
        if transaction.state_data:
            self._bring_to_state_file(transaction.state_data)
        self._states.trim()
        return Committed(
            outcomes, [*(changed | transaction.changed)], transaction.event_count, self._dirty, self.lagging
        )

    def _fault(self, error: Exception) -> Refused:
        """What to answer where an operation failed by a damaged row, or by a fault of ours."""
        if isinstance(error, RowDamaged | UnicodeDecodeError):
            session = getattr(error, "session", None)
            refusal = row_unreadable(Path(self._connection.filename), error, session)
            logger.error("a row cannot be read", extra={"session": session, "reason": refusal.message})
            return refusal
        logger.error("an operation failed", exc_info=error)
        return internal()

    def _commit_each(self, batch: Sequence[Operation]) -> list[Committed]:
        """Do each operation on its own; once the disk is full, what comes later overtakes nothing."""
        parts: list[Committed] = []
        for number, operation in enumerate(batch):
            parts.append(self.commit([operation]))
            if (refusal := parts[-1].refusal) is not None:
                rest: list[Outcome] = [refusal] * (len(batch) - number - 1)
                parts.append(Committed(rest, [], 0, {}, self.lagging, refusal))
                break
        return parts

    def _transact(self, transaction: Transaction, batch: Sequence[Operation]) -> list[Outcome]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [transaction.apply(operation) for operation in batch]
            transaction.write()
            self._connection.execute("COMMIT")
        except apsw.FullError:
            raise Refused(
                ErrorCode.DISK_FULL,
                "the disk is full; nothing was stored",
                "free some space and send it again",
            ) from None
        except (apsw.BusyError, apsw.LockedError):
            raise Refused(
                ErrorCode.BUSY,
                "another program holds the database; nothing was stored",
                "send it again; close the other program if it stays so",
            ) from None
        except (apsw.Error, OSError) as error:
            raise StorageFailed("committing", error) from error
        return outcomes

    def _roll_back(self, transaction: Transaction) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error as error:
                raise StorageFailed("rolling back", error) from error
        self._states.forget(transaction.touched, transaction.producers)
        self._names.forget()

    def _bring_to_file(self, state: SessionState) -> bool:
        """Write what a transaction added to a session into its file; whether it added anything."""
        if not state.pending and not state.amends and state.header is None and state.footer is None:
            return False
        lines = state.pending_data
        state.digest.feed(state.pending_from, state.next_seq - state.pending_from, lines)
        footer = b"" if state.footer is None else state.footer + b"\n"
        if state.ulid not in self._lagging:
            self._write(state, state.file_data(lines) + footer)
        state.written()
        return True

    def _bring_to_state_file(self, data: bytes) -> None:
        try:
            if STATE_NAME in self._lagging:
                self._renew_state_file()
            else:
                self._state_file.append(data, self._state_bytes)
                self._state_bytes += len(data)
        except (OSError, FileLags) as error:
            self._lagging.add(STATE_NAME)
            logger.error("labels and milestones lag", extra={"reason": str(error)})  # noqa: TRY400

    def _renew_state_file(self) -> None:
        with _lagging_while_full("noting the size of state.ndjson"):
            size = self._state_file.renew(self._connection, self._clock)
            self._connection.execute("UPDATE fact SET value = ? WHERE name = 'state_bytes'", (size,))
        self._state_bytes = size
        self._lagging.discard(STATE_NAME)

    def _write(self, state: SessionState, data: bytes) -> None:
        sealed = state.status is not Status.RECORDING
        try:
            if state.header is not None:
                data = state.header + b"\n" + data
                self._files.create(state.ulid, data)
            else:
                self._files.append(state.ulid, data, state.file_size)
        except (OSError, FileLags):
            self._lagging.add(state.ulid)
            with suppress(OSError):  # it is opened anew once it is mended
                self._files.close(state.ulid)
            return
        state.file_size += len(data)
        self._dirty[state.ulid] = DirtyFile(state.file_size, state.next_seq, sealed)
        if sealed:
            self._files.close(state.ulid)

    def mend(self, ulid: str, recovery: Recovery, *, anew: bool) -> None:
        """Repair a file that lags; `anew` writes it whole, for one whose sync failed.

        Raises OSError if the disk refuses it for now, StorageFailed if the outcome is unknown.

        A session that is being purged, or is gone, has no file any more, and must not get one again; one that
        is being brought in has none yet.
        """
        self._lagging.add(ulid)
        if ulid == STATE_NAME:
            self._renew_state_file()
            return
        self._states.forget([ulid], [])
        with _lagging_while_full("repairing a file"):
            sql = "SELECT 1 FROM session WHERE ulid = ? AND shelf IN ('kept', 'trashed')"
            if not rows(self._connection, sql, (ulid,)):
                pass
            elif anew:
                recovery.renew(ulid)
            else:
                recovery.mend(ulid)
            self._next_position = 1 + last_position(self._connection)
        self._lagging.discard(ulid)


def _joined(parts: Sequence[Committed]) -> Committed:
    """What came of several batches as one; if the disk is full, that is what the last one says."""
    last = parts[-1]
    return Committed(
        [outcome for part in parts for outcome in part.outcomes],
        list(dict.fromkeys(session for part in parts for session in part.sessions)),
        sum(part.event_count for part in parts),
        {ulid: dirty for part in parts for ulid, dirty in part.dirty.items()},
        last.lagging,
        last.refusal,
    )


@contextmanager
def _lagging_while_full(doing: str) -> Iterator[None]:
    """Note something of a file in the database: without room for that the file lags, and nothing failed."""
    try:
        yield
    except apsw.FullError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
    except apsw.Error as error:
        raise StorageFailed(doing, error) from error
