"""One batch of operations inside one database transaction: checks, seqs, lines, rows.

Owns seq allotment. The one rule: an operation either passes all its checks before it changes anything, or
is refused and changes nothing; so a batch commits whatever its refused members were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from sessiond.clock import Clock, time_text
from sessiond.errors import Refused, not_found
from sessiond.storage import encoding
from sessiond.storage.catalog import being_moved, get_session
from sessiond.storage.commit.amendments import Amendments
from sessiond.storage.commit.arrivals import Arrivals
from sessiond.storage.commit.event_rows import EventRows
from sessiond.storage.commit.names import Names
from sessiond.storage.commit.operations import (
    AbandonAdopted,
    AdoptEvents,
    Appended,
    AppendEvents,
    BeginAdoption,
    EndSession,
    KeepAdopted,
    MarkSynced,
    Nothing,
    Operation,
    Outcome,
    SaveSession,
    StartSession,
)
from sessiond.storage.commit.state import SessionState, States
from sessiond.storage.commit.tags import insert_tags
from sessiond.storage.database import rows
from sessiond_client.wire.lines import LabelLine, MilestoneLine
from sessiond_client.wire.messages import PRODUCER_WINDOW, EndReason, ErrorCode, NewEvent, Session, Status

RECEIPTS_SWEEP_EVERY = 256
"""Receipts that left a producer's window are deleted each time its `n` passes a multiple of this."""

INSERT_RECEIPT = """
    INSERT OR REPLACE INTO receipt (producer, n, session, first, last, at) VALUES (?, ?, ?, ?, ?, ?)
"""
INSERT_SESSION = """
    INSERT INTO session (ulid, name, source, status, started_at, cli_version, engine_base_url, parent_ulid,
                         parent_seq, shell, os, hostname, cwd, env, meta, header, producer, owner_pid,
                         owner_start, owner_boot)
    VALUES (?, ?, ?, 'recording', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE_COUNTS = """
    UPDATE session SET next_seq = ?, command_count = ?, byte_count = ?, last_event_at = ? WHERE id = ?
"""
UPDATE_END = """
    UPDATE session SET status = ?, end_reason = ?, ended_at = ?, exit_code = ?, digest = ?,
                       recovered = max(recovered, ?) WHERE id = ?
"""


class Transaction:
    """Collects what the operations of one batch change; `write` brings it to the database."""

    def __init__(
        self, connection: apsw.Connection, states: States, names: Names, clock: Clock, next_position: int
    ) -> None:
        self._connection = connection
        self._states = states
        self._names = names
        self._clock = clock
        self.next_position = next_position
        self.touched: dict[str, SessionState] = {}
        self.producers: set[str] = set()
        self._buried: set[str] = set()
        self._rows = EventRows()
        self._receipts: dict[tuple[str, int], tuple[Any, ...]] = {}
        self._amendments = Amendments(self, connection, names)
        self._arrivals = Arrivals(self, connection, names, clock)
        self.changed: dict[str, None] = {}
        """Sessions of which something other than their events changed."""
        self.state_data = b""
        """Lines for state.ndjson."""

    @property
    def event_count(self) -> int:
        """How many events the batch adds."""
        return self._rows.count

    def apply(self, operation: Operation) -> Outcome:
        """What comes of one operation; a refusal is returned, not raised."""
        try:
            match operation:
                case AppendEvents():
                    return self._append(operation)
                case StartSession():
                    return self.start(operation)
                case EndSession():
                    return self.end(operation)
                case MarkSynced():
                    self._mark_synced(operation)
                    return None
                case Nothing():
                    return None
                case SaveSession() | BeginAdoption() | AdoptEvents() | KeepAdopted() | AbandonAdopted():
                    return self._arrivals.apply(operation)
                case _:
                    return self._amendments.apply(operation)
        except Refused as refusal:
            return refusal

    def write(self) -> None:
        """Bring the collected rows to the database, all of one table together."""
        self._rows.write(self._connection)
        if self._receipts:
            self._connection.executemany(INSERT_RECEIPT, self._receipts.values())
            self._sweep_receipts()
        changed = [state for state in self.touched.values() if state.pending]
        self._connection.executemany(
            UPDATE_COUNTS,
            [
                (state.next_seq, state.command_count, state.byte_count, state.last_event_at, state.row_id)
                for state in changed
            ],
        )
        self._write_changes()

    def _write_changes(self) -> None:
        if self.state_data:
            sql = "UPDATE fact SET value = value + ? WHERE name = 'state_bytes'"
            self._connection.execute(sql, (len(self.state_data),))
        for ulid in self.changed:
            sql = "UPDATE session SET changed = 1 + (SELECT max(changed) FROM session) WHERE ulid = ?"
            self._connection.execute(sql, (ulid,))

    def note_change(self, ulid: str) -> None:
        """What a session is called, or where it is kept, has changed."""
        self.changed[ulid] = None

    def note_state(self, line: LabelLine | MilestoneLine) -> None:
        """A label or a milestone has changed."""
        self.state_data += encoding.encode(line) + b"\n"

    def forget(self, ulid: str) -> None:
        """What is remembered of a session is no longer true."""
        self._states.forget([ulid], [])

    def bury(self, ulid: str) -> None:
        """A session is to be purged: from here on nobody sees it."""
        self._buried.add(ulid)
        self.forget(ulid)

    def touch(self, ulid: str) -> SessionState:
        """The state of a session that this transaction may change; refused with `not_found` if it is gone."""
        if ulid in self._buried:
            raise not_found(ulid)
        state = self.touched.get(ulid)
        if state is None:
            state = self._states.session(ulid)
            state.pending_from = state.next_seq
            self.touched[ulid] = state
        return state

    # --- append ------------------------------------------------------------------------------------

    def _append(self, operation: AppendEvents) -> Appended:
        if (answered := self._receipt(operation)) is not None:
            return answered
        state = self.touch(operation.session)
        self._check_append(operation, state)
        first = state.next_seq
        self.add(state, self.encode(operation.events, first, state.command_count, operation.received_at))
        appended = Appended(first, state.next_seq - 1)
        self._keep_receipt(operation, appended)
        return appended

    def add(self, state: SessionState, encoded: encoding.EncodedEvents) -> None:
        """Add the next events of a session, to its rows and to its file."""
        lines = encoded.data.decode().split("\n")  # and an empty one
        self.add_rows(state.row_id, state.next_seq, encoded.kinds, encoded.times, lines)
        state.add(encoded)

    def add_rows(
        self, row_id: int, first: int, kinds: Sequence[str], times: Sequence[int], lines: Sequence[str]
    ) -> None:
        """Add consecutive events of a session to its rows alone."""
        self._rows.add(self.next_position, row_id, first, kinds, times, lines)
        self.next_position += len(kinds)

    def _check_append(self, operation: AppendEvents, state: SessionState) -> None:
        if state.status is not Status.RECORDING:
            raise Refused(
                ErrorCode.SESSION_ENDED,
                f"session {state.ulid} has ended ({state.status})",
                "start a new session",
            )
        if operation.expect is not None and operation.expect != state.next_seq:
            raise Refused(
                ErrorCode.CONFLICT,
                f"session {state.ulid} is at seq {state.next_seq}, not {operation.expect}",
                "read what was added meanwhile and decide anew",
                next_seq=state.next_seq,
            )

    @staticmethod
    def encode(events: Sequence[NewEvent], first: int, index: int, at: int) -> encoding.EncodedEvents:
        """Events as lines; see `encoding.encode_events`. Raises Refused."""
        try:
            return encoding.encode_events(events, first, index, at)
        except msgspec.MsgspecError as error:
            raise Refused(
                ErrorCode.INVALID,
                f"the data of a command event is not as documented: {error}",
                "see docs/protocol.md, kind `command`",
                field="events.data",
            ) from None

    # --- receipts ----------------------------------------------------------------------------------

    def _receipt(self, operation: AppendEvents) -> Appended | None:
        """The answer this append was given before, if it was."""
        producer, n = operation.producer, operation.n
        if producer is None or n is None or n > (highest := self._states.highest_n(producer)):
            return None
        known = self._receipts.get((producer, n))
        if known is None:
            sql = "SELECT producer, n, session, first, last FROM receipt WHERE producer = ? AND n = ?"
            known = next(iter(rows(self._connection, sql, (producer, n))), None)
        if known is None:
            if n <= highest - PRODUCER_WINDOW:
                raise Refused(
                    ErrorCode.INVALID,
                    f"n {n} is too far behind {highest}, the highest of this producer",
                    f"count n up by one an append, with at most {PRODUCER_WINDOW} unanswered",
                    field="n",
                )
            return None
        if known[2] != operation.session:
            raise Refused(
                ErrorCode.INVALID,
                f"n {n} of this producer was an append to session {known[2]}",
                "count n up by one an append",
                field="n",
            )
        return Appended(known[3], known[4])

    def _keep_receipt(self, operation: AppendEvents, appended: Appended) -> None:
        producer, n = operation.producer, operation.n
        if producer is None or n is None:
            return
        self._receipts[producer, n] = (producer, n, operation.session, *appended, operation.received_at)
        self._states.note_n(producer, n)
        self.producers.add(producer)

    def _sweep_receipts(self) -> None:
        for producer in self.producers:
            if any(n % RECEIPTS_SWEEP_EVERY == 0 for owner, n in self._receipts if owner == producer):
                oldest = self._states.highest_n(producer) - PRODUCER_WINDOW
                sql = "DELETE FROM receipt WHERE producer = ? AND n <= ?"
                self._connection.execute(sql, (producer, oldest))

    # --- start, end, synced ------------------------------------------------------------------------

    def start(self, operation: StartSession) -> Session:
        """Begin a session, unless its producer began it before."""
        existing = self._existing(operation)
        if existing is not None:
            return existing
        name = self._names.allot(operation.name or self._clock.local_name(operation.started_at))
        session = Session(
            ulid=operation.ulid,
            name=name,
            source=operation.source,
            status=Status.RECORDING,
            started_at=time_text(operation.started_at),
            cli_version=operation.cli_version,
            engine_base_url=operation.engine_base_url,
            parent_ulid=operation.parent_ulid,
            parent_seq=operation.parent_seq,
            shell=operation.shell,
            os=operation.os,
            hostname=operation.hostname,
            cwd=operation.cwd,
            env=operation.env,
            tags=operation.tags,
            meta=operation.meta,
        )
        header = encoding.header_line(session)
        row_id = self._insert_session(operation, name, header)
        state = SessionState(operation.ulid, row_id, header)
        self._states.add(state)
        self.touched[operation.ulid] = state
        self.note_change(operation.ulid)
        return session

    def _existing(self, operation: StartSession) -> Session | None:
        sql = "SELECT producer, shelf FROM session WHERE ulid = ?"
        found = rows(self._connection, sql, (operation.ulid,))
        if not found:
            return None
        producer, shelf = found[0]
        if shelf in ("incoming", "purged"):
            raise being_moved(operation.ulid, shelf)
        if operation.producer is None or producer != operation.producer:
            raise Refused(
                ErrorCode.EXISTS, f"session {operation.ulid} exists", "leave `ulid` out to get a new one"
            )
        return get_session(self._connection, operation.ulid)

    def _insert_session(self, operation: StartSession, name: str, header: bytes) -> int:
        owner = operation.owner or (None, None, None)
        self._connection.execute(
            INSERT_SESSION,
            (
                operation.ulid, name, operation.source.value, operation.started_at, operation.cli_version,
                operation.engine_base_url, operation.parent_ulid, operation.parent_seq, operation.shell,
                operation.os, operation.hostname, operation.cwd, encoding.encode(operation.env).decode(),
                encoding.encode(operation.meta).decode(), header.decode(), operation.producer, *owner,
            ),
        )  # fmt: skip
        row_id = self._connection.last_insert_rowid()
        insert_tags(self._connection, row_id, operation.tags)
        return row_id

    def end(self, operation: EndSession) -> Session:
        """End a session, unless it has ended."""
        state = self.touch(operation.session)
        if state.status is Status.RECORDING:
            state.status = operation.status
            digest = self._digest(state)
            values = (
                operation.status.value, EndReason(operation.end_reason).value, operation.ended_at,
                operation.exit_code, digest, operation.recovered, state.row_id,
            )  # fmt: skip
            self._connection.execute(UPDATE_END, values)
            session = self.session(state.ulid)
            state.footer = encoding.footer_line(session)
            if state.amend_bytes:
                self._connection.execute("UPDATE session SET unsettled = 1 WHERE id = ?", (state.row_id,))
            return session
        return self.session(state.ulid)

    def _digest(self, state: SessionState) -> str:
        digest = state.digest
        if digest.position < state.pending_from:
            sql = "SELECT line FROM event WHERE session_id = ? AND seq >= ? AND seq < ? ORDER BY seq"
            bindings = (state.row_id, digest.position, state.pending_from)
            digest.catch_up(row[0] for row in self._connection.execute(sql, bindings))
        return digest.hexdigest(state.pending_data)

    def session(self, ulid: str) -> Session:
        """The session as it will be once this transaction is written."""
        state = self.touch(ulid)
        stored = get_session(self._connection, state.ulid)
        assert stored is not None
        last = state.last_event_at
        return msgspec.structs.replace(
            stored,
            next_seq=state.next_seq,
            event_count=state.next_seq,
            command_count=state.command_count,
            byte_count=state.byte_count,
            last_event_at=None if last is None else time_text(last),
        )

    def _mark_synced(self, operation: MarkSynced) -> None:
        # A mark that had to wait may come after a repair, which knows more.
        self._connection.execute(
            "UPDATE session SET synced_bytes = ?1, synced_seq = ?2, sealed = ?3"
            " WHERE ulid = ?4 AND sealed = 0 AND synced_bytes <= ?1",
            (operation.size, operation.seq, operation.sealed, operation.session),
        )
