"""Sessions that come in whole: saved in one request, or brought in from a file slice by slice.

Owns the rows on the shelf `incoming`, which nobody sees. The one rule: a session is seen with all its events
or not at all, and one that is here already is left as it is.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import apsw
from msgspec import structs

from sessiond.clock import Clock, optional_time_text, parse_time
from sessiond.errors import Refused
from sessiond.storage.catalog import being_moved, get_session
from sessiond.storage.commit.names import Names
from sessiond.storage.commit.operations import (
    AbandonAdopted,
    Abandoned,
    AdoptEvents,
    Arrival,
    BeginAdoption,
    KeepAdopted,
    SaveSession,
    Stored,
)
from sessiond.storage.commit.state import SessionState
from sessiond.storage.commit.tags import insert_tags
from sessiond.storage.database import rows
from sessiond.storage.encoding import EncodedEvents, encode, footer_line, header_line
from sessiond.storage.identity import derived_ulid
from sessiond_client.wire.messages import ErrorCode, Session

if TYPE_CHECKING:
    from sessiond.storage.commit.transaction import Transaction

INSERT_WHOLE = """
    INSERT INTO session (ulid, name, source, status, started_at, ended_at, end_reason, exit_code, recovered,
                         cli_version, engine_base_url, parent_ulid, parent_seq, shell, os, hostname, cwd, env,
                         meta, next_seq, command_count, byte_count, digest, last_event_at, previous_names,
                         header, shelf, sealed)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Arrivals:
    """Does the operations that store whole sessions, inside one transaction."""

    def __init__(
        self, transaction: Transaction, connection: apsw.Connection, names: Names, clock: Clock
    ) -> None:
        self._transaction = transaction
        self._connection = connection
        self._names = names
        self._clock = clock

    def apply(self, operation: Arrival) -> Stored | Abandoned | None:
        """What comes of one operation. Raises Refused before anything is changed."""
        match operation:
            case SaveSession():
                return self._save(operation)
            case BeginAdoption():
                return self._begin(operation.session)
            case AdoptEvents():
                row_id = self._incoming(operation.session)
                assert row_id is not None
                self._transaction.add_rows(
                    row_id, operation.first, operation.kinds, operation.times, operation.lines
                )
                return None
            case KeepAdopted():
                return self._keep(operation)
            case AbandonAdopted():
                return self._abandon(operation.session)

    # --- save ----------------------------------------------------------------------------------------------

    def _save(self, operation: SaveSession) -> Stored:
        # An event without a time gets that of its session, so that saving it again makes the same bytes.
        started_at = parse_time(operation.session.started_at)
        encoded = self._transaction.encode(operation.events, 0, 0, started_at)
        session = self._completed(operation.session, encoded)
        if (stored := self._stored(session)) is not None:
            return stored
        session = self._named(session)
        header = header_line(session)
        state = SessionState(session.ulid, self._insert(session, header, "kept"), header)
        state.status = session.status
        state.footer = footer_line(session)
        self._transaction.touched[session.ulid] = state
        self._transaction.add(state, encoded)
        self._transaction.note_change(session.ulid)
        return Stored(session, existed=False)

    @staticmethod
    def _completed(session: Session, encoded: EncodedEvents) -> Session:
        """The session with all that its events say of it."""
        started_at = parse_time(session.started_at)
        last_event_at = optional_time_text(encoded.times[-1] if encoded.times else None)
        return structs.replace(
            session,
            ulid=session.ulid or derived_ulid(started_at, encoded.data + session.name.encode()),
            ended_at=session.ended_at or last_event_at or session.started_at,
            digest=hashlib.sha256(encoded.data).hexdigest(),
            next_seq=len(encoded.kinds),
            event_count=len(encoded.kinds),
            command_count=encoded.commands,
            byte_count=len(encoded.data),
            last_event_at=last_event_at,
        )

    # --- adopt ---------------------------------------------------------------------------------------------

    def _begin(self, session: Session) -> Stored:
        if (stored := self._stored(session)) is not None:
            return stored
        session = self._named(session)
        self._insert(session, header_line(session), "incoming")
        return Stored(session, existed=False)

    def _incoming(self, ulid: str) -> int | None:
        sql = "SELECT id FROM session WHERE ulid = ? AND shelf = 'incoming'"
        found = rows(self._connection, sql, (ulid,))
        return int(found[0][0]) if found else None

    def _keep(self, operation: KeepAdopted) -> Stored:
        ulid = operation.session
        assert self._incoming(ulid) is not None
        self._connection.execute(
            "UPDATE session SET shelf = 'kept', synced_bytes = ?, synced_seq = next_seq WHERE ulid = ?",
            (operation.size, ulid),
        )
        self._transaction.note_change(ulid)
        session = get_session(self._connection, ulid)
        assert session is not None
        return Stored(session, existed=False)

    def _abandon(self, ulid: str) -> Abandoned:
        if self._incoming(ulid) is None:
            return Abandoned(purged=False)
        self._connection.execute("UPDATE session SET shelf = 'purged' WHERE ulid = ?", (ulid,))
        self._names.forget()
        return Abandoned(purged=True)

    # --- both ----------------------------------------------------------------------------------------------

    def _named(self, session: Session) -> Session:
        wanted = session.name or self._clock.local_name(parse_time(session.started_at))
        return structs.replace(session, name=self._names.allot(wanted))

    def _stored(self, session: Session) -> Stored | None:
        """The same session, if it is here. Raises Refused if its ULID stands for another one."""
        sql = "SELECT shelf, digest, started_at FROM session WHERE ulid = ?"
        found = rows(self._connection, sql, (session.ulid,))
        if not found:
            return None
        shelf, digest, started_at = found[0]
        if shelf in ("incoming", "purged"):
            raise being_moved(session.ulid, shelf)
        if shelf == "trashed":
            raise Refused(
                ErrorCode.EXISTS,
                f"session {session.ulid} is in the trash",
                f"take it out: sessionctl restore {session.ulid}",
            )
        if (digest, started_at) != (session.digest, parse_time(session.started_at)):
            raise Refused(
                ErrorCode.EXISTS,
                f"another session has the id {session.ulid}: its start or its events differ",
                "give this one another id, or delete the other with --purge",
            )
        stored = get_session(self._connection, session.ulid)
        assert stored is not None
        return Stored(stored, existed=True)

    def _insert(self, session: Session, header: bytes, shelf: str) -> int:
        """Store the row and the tags of a session that has ended; returns the id of its row."""
        assert session.ended_at is not None
        assert session.end_reason is not None
        last_event_at = session.last_event_at
        self._connection.execute(
            INSERT_WHOLE,
            (
                session.ulid, session.name, session.source.value, session.status.value,
                parse_time(session.started_at), parse_time(session.ended_at), session.end_reason.value,
                session.exit_code, session.recovered, session.cli_version, session.engine_base_url,
                session.parent_ulid, session.parent_seq, session.shell, session.os, session.hostname,
                session.cwd, encode(session.env).decode(), encode(session.meta).decode(), session.next_seq,
                session.command_count, session.byte_count, session.digest,
                None if last_event_at is None else parse_time(last_event_at),
                encode(session.previous_names).decode(), header.decode(), shelf,
                shelf == "incoming",  # so that recovery leaves it alone
            ),
        )  # fmt: skip
        row_id = self._connection.last_insert_rowid()
        insert_tags(self._connection, row_id, session.tags)
        return row_id
