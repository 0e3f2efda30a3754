"""What can be changed of a session besides its events: name, tags, label, fork, trash; and milestones.

The one rule: the database says how things are; the file of a session that records gets an amend line, that of
an ended one is marked as unsettled and follows, and state.ndjson gets a line for each label and milestone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
from msgspec import Struct

from sessiond.checks import normal_tag
from sessiond.clock import time_text
from sessiond.errors import Refused, not_found
from sessiond.storage.catalog import get_session
from sessiond.storage.commit.names import Names
from sessiond.storage.commit.operations import (
    DeleteSession,
    EndSession,
    ForkSession,
    LabelSet,
    MarkSettled,
    MilestoneStored,
    Outcome,
    Purged,
    PurgeEvents,
    PurgeSession,
    RenameSession,
    RestoreSession,
    SetLabel,
    SetMilestone,
    StartSession,
    TagSession,
)
from sessiond.storage.commit.tags import replace_tags
from sessiond.storage.database import rows
from sessiond.storage.encoding import encode, header_line
from sessiond_client.wire.lines import AmendLine, LabelLine, MilestoneLine
from sessiond_client.wire.messages import ITEMS_MAX, LABELS_MAX, EndReason, ErrorCode, Session, Status

if TYPE_CHECKING:
    from sessiond.storage.commit.transaction import Transaction

PREVIOUS_NAMES_MAX = 100
"""So many names of a session are remembered; the oldest are dropped."""

SEEN = ("kept", "trashed")
PURGED = ("purged",)
"""On which shelves an operation looks for its session."""


class Shelf(NamedTuple):
    """Where a session is: its row, its shelf, and whether it still records."""

    row_id: int
    shelf: str
    status: Status


class Amendments:
    """Applies the operations above inside one transaction."""

    def __init__(self, transaction: Transaction, connection: apsw.Connection, names: Names) -> None:
        self._transaction = transaction
        self._connection = connection
        self._names = names
        self._verbs: dict[type, Callable[[Any], Outcome]] = {
            RenameSession: self._rename,
            TagSession: self._tag,
            SetLabel: self._label,
            SetMilestone: self._milestone,
            ForkSession: self._fork,
            DeleteSession: self._delete,
            RestoreSession: self._restore,
            MarkSettled: self._mark_settled,
            PurgeEvents: self._purge_events,
            PurgeSession: self._purge_session,
        }

    def apply(self, operation: Struct) -> Outcome:
        """What comes of one operation; raises Refused before anything is changed."""
        return self._verbs[type(operation)](operation)

    # --- name and tags -----------------------------------------------------------------------------------

    def _rename(self, operation: RenameSession) -> Session:
        session = self._kept(operation.session)
        if session.name == operation.name:
            return session
        if self._names.taken(operation.name):
            raise Refused(
                ErrorCode.EXISTS,
                f"another session is called {operation.name!r}",
                "choose another name, or rename that session first",
            )
        previous = [*session.previous_names, session.name][-PREVIOUS_NAMES_MAX:]
        self._names.forget()
        self._connection.execute(
            "UPDATE session SET name = ?, previous_names = ? WHERE ulid = ?",
            (operation.name, encode(previous).decode(), operation.session),
        )
        return self._amended(operation.session, AmendLine(at=time_text(operation.at), name=operation.name))

    def _tag(self, operation: TagSession) -> Session:
        session = self._kept(operation.session)
        # A file from elsewhere may have brought tags that are not in normal form; here they get it.
        kept = [tag for tag in map(normal_tag, session.tags) if tag not in operation.remove]
        tags = list(dict.fromkeys([*kept, *operation.add]))
        if tags == session.tags:
            return session
        if len(tags) > ITEMS_MAX:
            raise Refused(
                ErrorCode.TOO_LARGE, f"{len(tags)} tags; at most {ITEMS_MAX}", "remove some", field="add"
            )
        row_id = self._row_id(operation.session)
        replace_tags(self._connection, row_id, tags)
        return self._amended(operation.session, AmendLine(at=time_text(operation.at), tags=tags))

    def _amended(self, ulid: str, amend: AmendLine) -> Session:
        """Bring a change of name or tags to the file, now or later."""
        transaction = self._transaction
        state = transaction.touch(ulid)
        if state.status is Status.RECORDING:
            line = encode(amend) + b"\n"
            position = state.amend(line)
            self._connection.execute(
                "INSERT INTO amend (session_id, position, line) VALUES (?, ?, ?)",
                (state.row_id, position, line[:-1].decode()),
            )
            self._connection.execute(
                "UPDATE session SET amend_bytes = ? WHERE id = ?", (state.amend_bytes, state.row_id)
            )
        else:
            self._unsettle(ulid)
        transaction.note_change(ulid)
        return transaction.session(ulid)

    def _unsettle(self, ulid: str) -> None:
        self._connection.execute("UPDATE session SET unsettled = 1 WHERE ulid = ?", (ulid,))

    # --- labels and milestones ---------------------------------------------------------------------------

    def _label(self, operation: SetLabel) -> LabelSet:
        label, ulid = operation.label, operation.session
        row_id = None if ulid is None else self._row_id(self._kept(ulid).ulid)
        sql = "SELECT ulid FROM label JOIN session ON session.id = session_id WHERE label = ?"
        found = rows(self._connection, sql, (label,))
        previous = found[0][0] if found else None
        if previous == ulid:
            return LabelSet(previous)
        if row_id is None:
            self._connection.execute("DELETE FROM label WHERE label = ?", (label,))
        else:
            self._require_room_for_label(row_id)
            self._connection.execute(
                "INSERT OR REPLACE INTO label (label, session_id) VALUES (?, ?)", (label, row_id)
            )
        self._transaction.note_state(LabelLine(at=time_text(operation.at), label=label, session=ulid))
        for changed in (previous, ulid):
            if changed is not None:
                self._transaction.note_change(changed)
        return LabelSet(previous)

    def _require_room_for_label(self, row_id: int) -> None:
        count = self._connection.execute("SELECT count(*) FROM label WHERE session_id = ?", (row_id,)).get
        if count >= LABELS_MAX:
            raise Refused(
                ErrorCode.TOO_LARGE,
                f"{count} labels stand for this session; at most {LABELS_MAX}",
                "remove one: sessionctl label remove LABEL",
                field="label",
            )

    def _milestone(self, operation: SetMilestone) -> MilestoneStored:
        found = rows(self._connection, "SELECT value FROM milestone WHERE key = ?", (operation.key,))
        stored = found[0][0] if found else None
        if operation.if_absent and stored is not None:
            return MilestoneStored(stored, stored=False)
        if operation.expect is not None and operation.expect != stored:
            return MilestoneStored(stored, stored=False)
        if operation.value != stored:
            self._connection.execute(
                "INSERT OR REPLACE INTO milestone (key, value) VALUES (?, ?)",
                (operation.key, operation.value),
            )
            line = MilestoneLine(at=time_text(operation.at), key=operation.key, value=operation.value)
            self._transaction.note_state(line)
        return MilestoneStored(operation.value, stored=True)

    # --- fork --------------------------------------------------------------------------------------------

    def _fork(self, operation: ForkSession) -> Session:
        parent = self._kept(operation.session)
        parent = self._transaction.session(parent.ulid)
        seq = parent.next_seq - 1 if operation.seq is None else operation.seq
        if seq >= parent.next_seq:
            raise Refused(
                ErrorCode.INVALID,
                f"session {parent.ulid} has no event {seq}; its last is {parent.next_seq - 1}",
                "fork at an event that is there",
                field="at",
            )
        start = StartSession(
            ulid=operation.ulid,
            name=operation.name or parent.name,
            source=parent.source,
            started_at=operation.started_at,
            received_at=operation.started_at,
            producer=operation.producer,
            owner=operation.owner,
            cli_version=operation.cli_version,
            parent_ulid=parent.ulid,
            parent_seq=seq,
            shell=parent.shell,
            os=parent.os,
            hostname=parent.hostname,
            cwd=parent.cwd,
            env=parent.env,
            tags=parent.tags,
            meta=parent.meta,
        )
        return self._transaction.start(start)

    # --- the trash ---------------------------------------------------------------------------------------

    def _delete(self, operation: DeleteSession) -> None:
        ulid = operation.session
        # A purge that is asked for again waits for the one that is under way; to all others it is gone.
        found = self._shelf(ulid, SEEN + PURGED if operation.purge else SEEN)
        if found.status is Status.RECORDING:
            if not operation.force:
                raise Refused(
                    ErrorCode.SESSION_RECORDING,
                    f"session {ulid} is still recording",
                    "end it first, or use force",
                )
            self._transaction.end(
                EndSession(
                    session=ulid,
                    status=Status.INTERRUPTED,
                    end_reason=EndReason.STOPPED,
                    ended_at=operation.at,
                )
            )
        if operation.purge:
            self._connection.execute("UPDATE session SET shelf = 'purged' WHERE ulid = ?", (ulid,))
            self._drop_labels(found.row_id, operation.at)
            self._transaction.bury(ulid)
        elif found.shelf == "kept":
            self._connection.execute(
                "UPDATE session SET shelf = 'trashed', trashed_at = ?, unsettled = 1 WHERE ulid = ?",
                (operation.at, ulid),
            )
        self._names.forget()
        self._transaction.note_change(ulid)

    def _drop_labels(self, row_id: int, at: int) -> None:
        for (label,) in rows(self._connection, "SELECT label FROM label WHERE session_id = ?", (row_id,)):
            self._transaction.note_state(LabelLine(at=time_text(at), label=label, session=None))
        self._connection.execute("DELETE FROM label WHERE session_id = ?", (row_id,))

    def _restore(self, operation: RestoreSession) -> Session:
        ulid = operation.session
        found = self._shelf(ulid, SEEN)
        session = get_session(self._connection, ulid)
        if found.shelf == "trashed" and session is not None:
            name, previous = self._names.allot(session.name), session.previous_names
            if name != session.name:
                previous = [*previous, session.name][-PREVIOUS_NAMES_MAX:]
            self._connection.execute(
                "UPDATE session SET shelf = 'kept', trashed_at = NULL, name = ?, previous_names = ?,"
                " unsettled = 1 WHERE ulid = ?",
                (name, encode(previous).decode(), ulid),
            )
            self._transaction.note_change(ulid)
        return self._transaction.session(ulid)

    def _purge_events(self, operation: PurgeEvents) -> Purged:
        found = self._shelf(operation.session, PURGED)
        sql = "SELECT id FROM event WHERE session_id = ? ORDER BY seq DESC LIMIT ?"
        ids = rows(self._connection, sql, (found.row_id, operation.limit))
        if ids:
            self._connection.executemany("DELETE FROM event WHERE id = ?", ids)
            highest = max(row[0] for row in ids)
            sql = "UPDATE fact SET value = max(value, ?) WHERE name = 'position_floor'"
            self._connection.execute(sql, (highest,))
        return Purged(len(ids))

    def _purge_session(self, operation: PurgeSession) -> None:
        found = self._shelf(operation.session, PURGED)
        for sql in (
            "DELETE FROM tag WHERE session_id = ?",
            "DELETE FROM amend WHERE session_id = ?",
            "DELETE FROM session WHERE id = ?",
        ):
            self._connection.execute(sql, (found.row_id,))
        self._connection.execute("DELETE FROM receipt WHERE session = ?", (operation.session,))
        self._transaction.forget(operation.session)

    # --- settled -----------------------------------------------------------------------------------------

    def _mark_settled(self, operation: MarkSettled) -> None:
        ulid = operation.session
        self._connection.execute(
            "DELETE FROM amend WHERE session_id = (SELECT id FROM session WHERE ulid = ?)", (ulid,)
        )
        session = get_session(self._connection, ulid)
        current = session is not None and header_line(session).decode() == operation.header
        self._connection.execute(
            "UPDATE session SET header = ?1, synced_bytes = ?2, amend_bytes = 0,"
            " unsettled = NOT (?3 AND shelf = ?4) WHERE ulid = ?5",
            (operation.header, operation.size, current, operation.shelf, ulid),
        )
        self._transaction.forget(ulid)

    # --- what there is -----------------------------------------------------------------------------------

    def _kept(self, ulid: str) -> Session:
        session = get_session(self._connection, ulid)
        if session is None:
            raise not_found(ulid)
        if session.trashed_at is not None:
            raise Refused(
                ErrorCode.NOT_FOUND, f"session {ulid} is in the trash", f"sessionctl restore {ulid}"
            )
        return session

    def _shelf(self, ulid: str, shelves: tuple[str, ...]) -> Shelf:
        found = rows(self._connection, "SELECT id, shelf, status FROM session WHERE ulid = ?", (ulid,))
        if not found or found[0][1] not in shelves:
            raise not_found(ulid)
        row_id, shelf, status = found[0]
        return Shelf(row_id, shelf, Status(status))

    def _row_id(self, ulid: str) -> int:
        return int(self._connection.execute("SELECT id FROM session WHERE ulid = ?", (ulid,)).get)
