"""Bringing the files and the database back together: at start-up, and for a file that lags behind.

The one rule: nothing is thrown away. The database wins where it has an event, the file where it has more;
what fits neither is kept in the quarantine with its reason in its name. Work is bounded by what was open or
unsynced, plus the files the database does not know. docs/storage.md lists the cases.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from sessiond.clock import Clock, parse_time
from sessiond.storage import encoding
from sessiond.storage.catalog import get_session, last_position
from sessiond.storage.database import rows
from sessiond.storage.file_lines import BadFile, common_lines, in_file_order, is_torn, parse_lines
from sessiond.storage.files import SessionFiles
from sessiond.storage.settling import remove_settled_backups
from sessiond.storage.state_file import StateFile
from sessiond.storage.taking import is_newer, take_rows
from sessiond.storage.transaction import INSERT_EVENT
from sessiond.storage.view import take_view
from sessiond_client.wire.lines import (
    FORMAT_VERSION,
    AmendLine,
    CommandLine,
    EventText,
    FooterLine,
    HeaderLine,
)
from sessiond_client.wire.messages import EndReason, Source, Status

RECEIPT_DAYS_MAX = 30
"""A receipt that nobody asked for in so many days is dropped at start-up."""

INSERT_BATCH = 2000
LINES_PER_PART = 1000

Progress = Callable[[int, int], None]
"""Told how many of how many unknown files were taken in."""

logger = logging.getLogger("sessiond.recovery")

_header_decoder = msgspec.json.Decoder(HeaderLine)

UNFORESEEN = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    apsw.ConstraintError,
    apsw.TooBigError,
)
"""What a file may make us stumble over that nobody thought of: it is set aside like any other bad file."""


class Counters(dict[str, int]):
    """How often each kind of repair was made."""

    def add(self, what: str, number: int = 1) -> None:
        """Count a repair."""
        self[what] = self.get(what, 0) + number


class Unsealed(NamedTuple):
    """What the database says of a session whose file is not known to be whole."""

    row_id: int
    ulid: str
    shelf: str
    status: str
    header: str
    next_seq: int
    synced_bytes: int
    synced_seq: int


class Recovery:
    """Repairs the files of one data directory against its database. Use it from the writer's thread."""

    def __init__(
        self,
        connection: apsw.Connection,
        session_files: SessionFiles,
        state_file: StateFile,
        clock: Clock,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self._connection = connection
        self._files = session_files
        self._state_file = state_file
        self._disk = session_files.disk
        self._clock = clock
        self.counters = Counters()
        self.lagging: set[str] = set()
        """Sessions whose file could not be mended at start-up."""

    def run(self) -> Counters:
        """All that start-up needs: sweep, mend what was open, take in unknown files, drop old receipts.

        One transaction for all of it: should it be cut short, it is simply done again.
        """
        if swept := self._files.sweep():
            self.counters.add("temporary_files_swept", swept)
        with self._connection:
            self._reconcile()
            # Before it is noted that a file is on the disk, its name has to be.
            self._disk.sync_directory(self._files.directory)
        return self.counters

    def _reconcile(self) -> None:
        # What was being brought in when the daemon went is brought in again, or not; this half is no use.
        self._connection.execute(
            "UPDATE session SET shelf = 'purged' WHERE shelf != 'kept' AND shelf = 'incoming'"
        )
        unsealed = "SELECT ulid FROM session WHERE sealed = 0 AND shelf IN ('kept', 'trashed')"
        for (ulid,) in rows(self._connection, unsealed):
            self._mend_or_leave(ulid)
        known = {row[0] for row in self._connection.execute("SELECT ulid FROM session")}
        unknown = [(ulid, self._take_in_or_set_aside) for ulid in self._files.ulids() if ulid not in known]
        known.update(ulid for ulid, _ in unknown)
        unknown += [
            (ulid, self._take_in_trashed) for ulid in self._files.trashed_ulids() if ulid not in known
        ]
        for number, (ulid, take_in) in enumerate(unknown, 1):
            take_in(ulid)
            if self._progress is not None:
                self._progress(number, len(unknown))
        if removed := remove_settled_backups(self._connection, self._files):
            self.counters.add("backups_removed", removed)
        if done := self._state_file.reconcile(self._connection, self._clock):
            self.counters.add(done)
        oldest = self._clock.now() - RECEIPT_DAYS_MAX * 86_400_000_000
        self._connection.execute("DELETE FROM receipt WHERE at < ?", (oldest,))

    def _mend_or_leave(self, ulid: str) -> None:
        """Mend a file; one that the disk refuses to mend now must not keep the others from starting."""
        try:
            with self._connection:
                self._bring_together(ulid)
        except UNFORESEEN:
            logger.exception("file cannot be understood", extra={"session": ulid})
            self._set_aside(ulid, "unforeseen")
            self._bring_together(ulid)
        except OSError as error:
            self.lagging.add(ulid)
            self.counters.add("files_left_lagging")
            logger.error("file cannot be mended yet", extra={"session": ulid, "reason": str(error)})  # noqa: TRY400

    def renew(self, ulid: str) -> None:
        """Write the file of one session anew: its sync failed, so what can be read is not what is on disk."""
        session = self._unsealed(ulid)
        self._fetch(session)
        self._rebuild(session, "files_rebuilt")
        self._mark_synced(ulid)

    def mend(self, ulid: str) -> None:
        """Make one file say what the database says, and the database what the file says beyond that."""
        with self._connection:
            self._bring_together(ulid)
            self._disk.sync_directory(self._files.directory)

    def _bring_together(self, ulid: str) -> None:
        session = self._unsealed(ulid)
        self._fetch(session)
        size = self._disk.file_size(self._files.path(ulid))
        if size is None and self._disk.file_size(self._files.trash_path(ulid)) is not None:
            # Only a database older than the file does not know that it is in the trash.
            self._files.place(ulid, trashed=False)
            self._mark_trashed(ulid)
            size = self._disk.file_size(self._files.path(ulid))
        if size is None:
            self._rebuild(session, "files_recreated")
        elif not self._disk.is_file(self._files.path(ulid)):
            self._set_aside(ulid, "no-file")
            self._rebuild(session, "files_rebuilt")
        elif size < session.synced_bytes and not self._take_newer(session):
            self._set_aside(ulid, "shortened")
            self._rebuild(session, "files_rebuilt")
        else:
            if size >= session.synced_bytes:
                self._compare(session)
            # What can be read is perhaps not on the disk, if the daemon died of a failed sync.
            self._disk.sync_anew(self._files.path(ulid), min(size, session.synced_bytes))
        self._mark_synced(ulid)

    def _unsealed(self, ulid: str) -> Unsealed:
        sql = (
            "SELECT id, ulid, shelf, status, header, next_seq, synced_bytes, synced_seq"
            " FROM session WHERE ulid = ?"
        )
        return Unsealed(*rows(self._connection, sql, (ulid,))[0])

    def _fetch(self, session: Unsealed) -> None:
        """A file that is mended is mended in its usual place; the settler brings it back into the trash."""
        if session.shelf == "trashed":
            self._files.place(session.ulid, trashed=False)

    def _expected(self, session: Unsealed, offset: int, seq: int) -> Iterator[bytes]:
        """The file from `offset` on, where event `seq` begins, as the database has it, part by part."""
        if offset == 0:
            yield session.header.encode() + b"\n"
        sql = "SELECT line FROM event WHERE session_id = ? AND seq >= ? ORDER BY seq"
        events = (row[0] for row in self._connection.execute(sql, (session.row_id, seq)))
        sql = "SELECT position, line FROM amend WHERE session_id = ? AND position >= ? ORDER BY position"
        amends = rows(self._connection, sql, (session.row_id, offset))
        lines = in_file_order(events, amends, offset or len(session.header.encode()) + 1)
        while part := list(islice(lines, LINES_PER_PART)):
            yield "\n".join([*part, ""]).encode()
        if session.status != Status.RECORDING:
            whole = get_session(self._connection, session.ulid)
            assert whole is not None
            yield encoding.footer_line(whole) + b"\n"

    def _rebuild(self, session: Unsealed, what: str) -> None:
        self._files.replace(session.ulid, self._expected(session, 0, 0))
        self.counters.add(what)
        logger.warning(what, extra={"session": session.ulid})

    def _set_aside(self, ulid: str, reason: str) -> None:
        target = self._files.set_aside(self._files.path(ulid), reason, self._clock.now())
        self.counters.add("files_quarantined")
        logger.error("file set aside", extra={"session": ulid, "reason": reason, "path": str(target)})

    def _compare(self, session: Unsealed) -> None:
        offset = session.synced_bytes
        actual = self._disk.read(self._files.path(session.ulid), offset)
        expected = b"".join(self._expected(session, offset, session.synced_seq))
        if actual == expected or self._take_newer(session):
            return
        if actual.startswith(expected):
            self._take_extra(session, offset + len(expected), actual[len(expected) :])
            return
        same = common_lines(actual, expected)
        rest = actual[same:]
        if is_torn(rest):
            self._keep_orphan(session.ulid, rest, expected[same:])
            self._rewrite_from(session.ulid, offset + same, expected[same:])
            if rest:
                self.counters.add("torn_tails_rewritten")
            else:
                self.counters.add("tails_completed")
            logger.warning("tail rewritten", extra={"session": session.ulid, "offset": offset + same})
        else:
            self._set_aside(session.ulid, "conflict")
            self._rebuild(session, "conflicts_rebuilt")

    def _take_newer(self, session: Unsealed) -> bool:
        """Take over a whole file of which the database has an older state, as a copy put back does."""
        path = self._files.path(session.ulid)
        view = take_view(self._connection, session.ulid)
        if view is None or view.has_ended or not is_newer(self._disk, path, view, self._digest):
            return False
        taken = take_rows(self._connection, self._disk, path, view)
        self.counters.add("events_adopted", taken - session.next_seq)
        self.counters.add("files_adopted")
        logger.warning("the file was ahead of the database", extra={"session": session.ulid})
        return True

    def _keep_orphan(self, ulid: str, rest: bytes, expected: bytes) -> None:
        """Keep bytes that are about to be cut off, unless they are only a part of what is written anew."""
        content = rest.rstrip(b"\0")
        if expected.startswith(content):
            return
        self._files.keep(f"{ulid}.orphan-{self._clock.now()}", rest)
        self.counters.add("orphans_kept")

    def _rewrite_from(self, ulid: str, offset: int, data: bytes) -> None:
        self._files.close(ulid)
        descriptor = self._disk.open_append(self._files.path(ulid))
        try:
            self._disk.truncate(descriptor, offset)
        finally:
            self._disk.close(descriptor)
        if data:
            self._files.append(ulid, data, offset)

    def _mark_synced(self, ulid: str) -> None:
        path = self._files.path(ulid)
        self._connection.execute(
            "UPDATE session SET synced_bytes = ?, synced_seq = next_seq, sealed = (status != 'recording'),"
            " unsettled = max(unsettled, shelf = 'trashed', status != 'recording' AND amend_bytes > 0)"
            " WHERE ulid = ?",
            (self._disk.file_size(path), ulid),
        )
        self._files.close(ulid)

    # --- the file says more than the database -------------------------------------------------------

    def _take_extra(self, session: Unsealed, offset: int, extra: bytes) -> None:
        """Take events into the database that only the file has: they were committed once, see docs."""
        taken = 0
        if session.status == Status.RECORDING:
            taken = self._adopt(session.row_id, session.next_seq, extra, offset)
        rest = extra[taken:]
        if rest:
            self._keep_orphan(session.ulid, rest, b"")
            self._rewrite_from(session.ulid, offset + taken, b"")
            self.counters.add("torn_tails_rewritten")
        if taken:
            self.counters.add("files_adopted")
            logger.warning("the file was ahead of the database", extra={"session": session.ulid})

    def _adopt(self, row_id: int, next_seq: int, data: bytes, offset: int) -> int:
        """Insert consecutive event lines, and the end if a true footer follows; returns the bytes taken.

        `data` begins at `offset` in the file.
        """
        taken = 0
        batch: list[tuple[int, int, int, str, int, str]] = []
        amends: list[tuple[int, bytes, AmendLine]] = []
        position = last_position(self._connection)
        commands = size = 0
        last_at: int | None = None
        footer: FooterLine | None = None
        for raw, line in parse_lines(data):
            if isinstance(line, FooterLine):
                footer = line
                break
            if isinstance(line, EventText | CommandLine):
                if line.seq != next_seq:
                    break
                kind = line.kind if isinstance(line, EventText) else "command"
                try:
                    last_at = parse_time(line.at)
                except ValueError:
                    break
                commands += kind == "command"
                position += 1
                batch.append((position, row_id, next_seq, kind, last_at, raw.decode()))
                next_seq += 1
                size += len(raw) + 1
            else:
                amends.append((offset + taken, raw, line))
            taken += len(raw) + 1
        with self._connection:
            for start in range(0, len(batch), INSERT_BATCH):
                self._connection.executemany(INSERT_EVENT, batch[start : start + INSERT_BATCH])
            self._connection.execute(
                "UPDATE session SET next_seq = ?, command_count = command_count + ?, recovered = 1,"
                " byte_count = byte_count + ?, last_event_at = coalesce(?, last_event_at) WHERE id = ?",
                (next_seq, commands, size, last_at, row_id),
            )
            self._apply_amends(row_id, amends)
            if footer is not None and self._end_as(row_id, footer):
                taken += data[taken:].index(b"\n") + 1
        if batch:
            self.counters.add("events_adopted", len(batch))
        return taken

    def _apply_amends(self, row_id: int, amends: list[tuple[int, bytes, AmendLine]]) -> None:
        for offset, raw, line in amends:
            self._connection.execute(
                "INSERT OR REPLACE INTO amend (session_id, position, line) VALUES (?, ?, ?)",
                (row_id, offset, raw.decode()),
            )
            self._connection.execute(
                "UPDATE session SET amend_bytes = amend_bytes + ? WHERE id = ?", (len(raw) + 1, row_id)
            )
            if line.name is not None:
                self._connection.execute(
                    "UPDATE session SET previous_names = json_insert(previous_names, '$[#]', name), name = ?"
                    " WHERE id = ?",
                    (line.name, row_id),
                )
            if line.tags is not None:
                self._connection.execute("DELETE FROM tag WHERE session_id = ?", (row_id,))
                self._insert_tags(row_id, line.tags)

    def _insert_tags(self, row_id: int, tags: list[str]) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO tag (session_id, position, tag) VALUES (?, ?, ?)",
            [(row_id, position, tag) for position, tag in enumerate(tags)],
        )

    def _end_as(self, row_id: int, footer: FooterLine) -> bool:
        """End a session as its footer says, if the footer's digest is that of the events."""
        try:
            ended_at = parse_time(footer.ended_at)
        except ValueError:
            return False
        if footer.digest != self._digest(row_id) or footer.status not in set(Status):
            return False
        self._connection.execute(
            "UPDATE session SET status = ?, end_reason = ?, ended_at = ?, exit_code = ?, digest = ?"
            " WHERE id = ?",
            (
                footer.status,
                footer.end_reason,
                ended_at,
                footer.exit_code,
                footer.digest,
                row_id,
            ),
        )
        return True

    def _digest(self, row_id: int) -> str:
        digest = hashlib.sha256()
        sql = "SELECT line FROM event WHERE session_id = ? ORDER BY seq"
        for (line,) in self._connection.execute(sql, (row_id,)):
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()

    # --- files that the database does not know ------------------------------------------------------

    def _take_in(self, ulid: str) -> None:
        """Bring a whole file into the database: it was lost, rebuilt, or restored from an older copy."""
        path = self._files.path(ulid)
        try:
            header, data = self._read_foreign(ulid, path)
        except BadFile as finding:
            self._set_aside(ulid, finding.reason)
            return
        first, _, rest = data.partition(b"\n")
        with self._connection:
            row_id = self._insert_from_header(header, first)
            self._adopt(row_id, 0, rest, len(first) + 1)
            self._interrupt(row_id)
        self._bring_together(ulid)
        self.counters.add("sessions_taken_in")

    def _take_in_or_set_aside(self, ulid: str) -> None:
        try:
            with self._connection:
                self._take_in(ulid)
        except UNFORESEEN:
            logger.exception("file cannot be understood", extra={"session": ulid})
            self._set_aside(ulid, "unforeseen")

    def _take_in_trashed(self, ulid: str) -> None:
        """A file in the trash that the database does not know belongs to a session in the trash."""
        self._files.place(ulid, trashed=False)
        self._take_in_or_set_aside(ulid)
        self._mark_trashed(ulid)

    def _mark_trashed(self, ulid: str) -> None:
        """The session is in the trash; its file follows."""
        self._connection.execute(
            "UPDATE session SET shelf = 'trashed', trashed_at = ?, unsettled = 1 WHERE ulid = ?",
            (self._clock.now(), ulid),
        )

    def _read_foreign(self, ulid: str, path: Path) -> tuple[HeaderLine, bytes]:
        try:
            data = self._disk.read(path)
        except OSError as error:
            raise BadFile(f"unreadable-{type(error).__name__.lower()}") from None
        first, newline, _ = data.partition(b"\n")
        try:
            header = _header_decoder.decode(first) if newline else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            header = None
        if header is None:
            raise BadFile("no-header")
        if header.version != FORMAT_VERSION or header.id != ulid or header.source not in set(Source):
            raise BadFile("foreign-header")
        try:
            first.decode()
            parse_time(header.started_at)
        except ValueError:
            raise BadFile("foreign-header") from None
        return header, data

    def _insert_from_header(self, header: HeaderLine, raw: bytes) -> int:
        self._connection.execute(
            "INSERT INTO session (ulid, name, source, status, started_at, cli_version, engine_base_url,"
            " parent_ulid, parent_seq, shell, os, hostname, cwd, env, meta, previous_names, header,"
            " recovered, changed)"
            " VALUES (?, ?, ?, 'recording', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1,"
            "  1 + (SELECT coalesce(max(changed), 0) FROM session))",
            (
                header.id, header.name, header.source, parse_time(header.started_at), header.cli_version,
                header.engine_base_url, header.parent_ulid, header.parent_seq, header.shell, header.os,
                header.hostname, header.cwd, encoding.encode(header.env).decode(),
                encoding.encode(header.meta).decode(), encoding.encode(header.previous_names or []).decode(),
                raw.decode(),
            ),
        )  # fmt: skip
        row_id = self._connection.last_insert_rowid()
        self._insert_tags(row_id, header.tags)
        return row_id

    def _interrupt(self, row_id: int) -> None:
        """A file without a footer tells no owner who could go on: the session is over."""
        self._connection.execute(
            "UPDATE session SET status = ?, end_reason = ?, ended_at = coalesce(last_event_at, started_at),"
            " digest = ? WHERE id = ? AND status = 'recording'",
            (Status.INTERRUPTED.value, EndReason.DAEMON_LOST.value, self._digest(row_id), row_id),
        )
