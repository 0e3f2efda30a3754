"""What the writer remembers of the sessions it writes to, so that an append reads nothing.

The one rule: the database is the truth; a state that a failed transaction touched is forgotten and read
again. Memory stays bounded: the states used longest ago are forgotten first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

import apsw

from sessiond.errors import not_found
from sessiond.storage.database import rows
from sessiond.storage.encoding import EncodedEvents
from sessiond_client.wire.messages import Status

STATES_MAX = 4096
PRODUCERS_MAX = 4096


class Digest:
    """The running SHA-256 over a session's event lines, newlines included.

    `position` is the seq of the next line to feed. One that was not fed from the start catches up from the
    database when the digest is asked for.
    """

    __slots__ = ("_hash", "position")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.position = 0

    def feed(self, first: int, count: int, data: bytes) -> None:
        """Add `count` lines that begin with seq `first`; ignored if it is behind and must catch up first."""
        if first == self.position:
            self._hash.update(data)
            self.position += count

    def catch_up(self, lines: Iterable[str]) -> None:
        """Feed the lines from `position` on."""
        for line in lines:
            self._hash.update(line.encode() + b"\n")
            self.position += 1

    def hexdigest(self, more: bytes) -> str:
        """The digest as if `more` had been fed too."""
        copy = self._hash.copy()
        copy.update(more)
        return copy.hexdigest()


class SessionState:
    """A session as the writer needs it for the next append."""

    __slots__ = (
        "amend_bytes", "amends", "byte_count", "command_count", "digest", "file_size", "footer", "header",
        "header_size", "last_event_at", "next_seq", "pending", "pending_from", "row_id", "status", "ulid",
    )  # fmt: skip

    def __init__(self, ulid: str, row_id: int, header: bytes) -> None:
        self.ulid = ulid
        self.row_id = row_id
        self.header: bytes | None = header
        """Set while the file has not been created."""
        self.header_size = len(header)
        self.status = Status.RECORDING
        self.next_seq = 0
        self.command_count = 0
        self.byte_count = 0
        self.last_event_at: int | None = None
        self.digest = Digest()
        self.file_size = 0
        self.pending: list[bytes] = []
        """Lines of this transaction, on their way to the file; one piece an append."""
        self.pending_from = 0
        self.amends: list[tuple[int, bytes]] = []
        """Amend lines of this transaction, each with how many pieces of `pending` come before it."""
        self.amend_bytes = 0
        self.footer: bytes | None = None

    @property
    def pending_data(self) -> bytes:
        """The pending event lines, as they go into the digest."""
        return b"".join(self.pending)

    def file_data(self, events: bytes) -> bytes:
        """The pending lines as they go into the file; `events` is `pending_data`."""
        if not self.amends:
            return events
        pieces = list(self.pending)
        for number, (index, line) in enumerate(self.amends):
            pieces.insert(index + number, line)
        return b"".join(pieces)

    def amend(self, line: bytes) -> int:
        """Count an amend line in, its newline included; returns where in the file it begins, in bytes."""
        position = self.header_size + 1 + self.byte_count + self.amend_bytes
        self.amends.append((len(self.pending), line))
        self.amend_bytes += len(line)
        return position

    def written(self) -> None:
        """What was pending is in the file, or will be brought there from the database."""
        self.header = None
        self.footer = None
        self.pending = []
        self.amends = []

    def add(self, encoded: EncodedEvents) -> None:
        """Count the events of an append in."""
        self.pending.append(encoded.data)
        self.next_seq += len(encoded.kinds)
        self.command_count += encoded.commands
        self.byte_count += len(encoded.data)
        if encoded.times:
            self.last_event_at = encoded.times[-1]


class States:
    """The states in use, read from the database when they are first needed."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._sessions: OrderedDict[str, SessionState] = OrderedDict()
        self._producers: OrderedDict[str, int] = OrderedDict()

    def session(self, ulid: str) -> SessionState:
        """The state of a session; refused with `not_found` if there is none."""
        state = self._sessions.get(ulid)
        if state is None:
            state = self._load(ulid)
            self.add(state)
        else:
            self._sessions.move_to_end(ulid)
        return state

    def add(self, state: SessionState) -> None:
        """Remember the state of a session."""
        self._sessions[state.ulid] = state

    def trim(self) -> None:
        """Forget the states that were not used for longest. Not while a transaction runs."""
        while len(self._sessions) > STATES_MAX:
            self._sessions.popitem(last=False)
        while len(self._producers) > PRODUCERS_MAX:
            self._producers.popitem(last=False)

    def _load(self, ulid: str) -> SessionState:
        found = rows(
            self._connection,
            "SELECT id, status, next_seq, command_count, byte_count, last_event_at, amend_bytes,"
            " length(CAST(header AS BLOB)) FROM session WHERE ulid = ? AND shelf = 'kept'",
            (ulid,),
        )
        if not found:
            raise not_found(ulid)
        row_id, status, next_seq, command_count, byte_count, last_event_at, amend_bytes, header_size = found[
            0
        ]
        state = SessionState(ulid, row_id, b"")
        state.header = None
        state.status = Status(status)
        state.next_seq = next_seq
        state.command_count = command_count
        state.byte_count = byte_count
        state.last_event_at = last_event_at
        state.amend_bytes = amend_bytes
        state.header_size = header_size
        state.file_size = header_size + 1 + byte_count + amend_bytes
        return state

    def highest_n(self, producer: str) -> int:
        """The highest `n` a producer has a receipt for, 0 if none."""
        known = self._producers.get(producer)
        if known is None:
            sql = "SELECT coalesce(max(n), 0) FROM receipt WHERE producer = ?"
            known = self._producers[producer] = int(self._connection.execute(sql, (producer,)).get)
        else:
            self._producers.move_to_end(producer)
        return known

    def note_n(self, producer: str, n: int) -> None:
        """A producer has a receipt for `n` now."""
        self._producers[producer] = max(n, self._producers.get(producer, 0))

    def forget(self, sessions: Iterable[str], producers: Iterable[str]) -> None:
        """Drop what a failed transaction may have changed."""
        for ulid in sessions:
            self._sessions.pop(ulid, None)
        for producer in producers:
            self._producers.pop(producer, None)
