"""Bringing the files and the database back together: at start-up, and for a file that lags behind.

The one rule: nothing is thrown away. The database wins where it has an event, the file where it has more;
what fits neither is kept in the quarantine with its reason in its name. Work is bounded by what was open or
unsynced, plus the files the database does not know; memory by a part of a file and a line, however long the
file is. docs/storage.md lists the cases.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import apsw

from sessiond.clock import Clock
from sessiond.storage.database import rows
from sessiond.storage.file_lines import BadFile
from sessiond.storage.files import SessionFiles
from sessiond.storage.recovery.surplus import digest_of, take_surplus
from sessiond.storage.recovery.tail import Alike, Tail
from sessiond.storage.recovery.taking import footer_at_end, is_newer, take_rows
from sessiond.storage.recovery.unknown import take_unknown
from sessiond.storage.recovery.unsealed import Unsealed, expected, missing, unsealed
from sessiond.storage.settling import remove_settled_backups
from sessiond.storage.state_file import StateFile
from sessiond.storage.view import take_view
from sessiond_client.wire.messages import Status

RECEIPT_DAYS_MAX = 30
"""A receipt of so many days is dropped at start-up, once its session has ended."""

# A clock that jumps makes every receipt old in no time: where something can still be stored, it is kept.
_DROP_RECEIPTS = """
    DELETE FROM receipt WHERE at < ? AND session NOT IN (SELECT ulid FROM session WHERE status = ?)
"""

Progress = Callable[[int, int], None]
"""Told how many of how many unknown files were taken in."""

logger = logging.getLogger("sessiond.recovery")

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
        """All that start-up needs: sweep, take in unknown files, mend what was open, drop old receipts.

        Two transactions: should either be cut short, it is simply done again. What only the trash tells is
        stored by the first, for the second may move files out of it.
        """
        if swept := self._files.sweep():
            self.counters.add("temporary_files_swept", swept)
        known = {row[0] for row in self._connection.execute("SELECT ulid FROM session")}
        unknown = [ulid for ulid in self._files.ulids() if ulid not in known]
        known.update(unknown)
        trashed = [ulid for ulid in self._files.trashed_ulids() if ulid not in known]
        done = self._counted(len(trashed) + len(unknown))
        for path in self._files.foreign():
            self._set_aside_or_leave(path, "foreign-name")
        with self._connection:
            self._look_into_trash()
            for ulid in trashed:
                self._take_in(ulid, self._files.trash_path(ulid), self._mark_trashed)
                next(done)
        with self._connection:
            self._mend_unsealed()
            for ulid in unknown:
                self._take_in(ulid, self._files.path(ulid), self._bring_together)
                next(done)
            self._tidy()
            # Before it is noted that a file is on the disk, its name has to be.
            self._disk.sync_directory(self._files.directory)
        return self.counters

    def _counted(self, total: int) -> Iterator[None]:
        for number in range(1, total + 1):
            if self._progress is not None:
                self._progress(number, total)
            yield

    def _look_into_trash(self) -> None:
        """Only a database older than the files does not know that one is in the trash.

        A file without a footer never goes there: it was moved by hand, and is fetched when it is mended.
        """
        # A session that was restored is unsettled: its file is still on the way out.
        sql = "SELECT ulid FROM session WHERE sealed = 0 AND unsettled = 0 AND shelf = 'kept'"
        for (ulid,) in rows(self._connection, sql):
            if self._is_in_trash(ulid) and self._has_footer(self._files.trash_path(ulid)):
                self._mark_trashed(ulid)

    def _is_in_trash(self, ulid: str) -> bool:
        size = self._disk.file_size
        return size(self._files.path(ulid)) is None and size(self._files.trash_path(ulid)) is not None

    def _has_footer(self, path: Path) -> bool:
        try:
            return footer_at_end(self._disk, path) is not None
        except OSError as error:  # it says so again, and counts, when it is mended
            logger.error("file cannot be read", extra={"path": str(path), "reason": str(error)})  # noqa: TRY400
            return False

    def _mark_trashed(self, ulid: str) -> None:
        """The session is in the trash; its file follows."""
        self._connection.execute(
            "UPDATE session SET shelf = 'trashed', trashed_at = ?, unsettled = 1 WHERE ulid = ?",
            (self._clock.now(), ulid),
        )

    def _mend_unsealed(self) -> None:
        # What was being brought in when the daemon went is brought in again, or not; this half is no use.
        self._connection.execute(
            "UPDATE session SET shelf = 'purged' WHERE shelf != 'kept' AND shelf = 'incoming'"
        )
        sql = "SELECT ulid FROM session WHERE sealed = 0 AND shelf IN ('kept', 'trashed')"
        for (ulid,) in rows(self._connection, sql):
            self._mend_or_leave(ulid)

    def _tidy(self) -> None:
        if removed := remove_settled_backups(self._connection, self._files):
            self.counters.add("backups_removed", removed)
        if done := self._reconcile_state():
            self.counters.add(done)
        oldest = self._clock.now() - RECEIPT_DAYS_MAX * 86_400_000_000
        self._connection.execute(_DROP_RECEIPTS, (oldest, Status.RECORDING.value))

    def _reconcile_state(self) -> str | None:
        """Labels and milestones; a file of them that cannot be read is set aside, the database has them."""
        try:
            said = self._state_file.said()
        except OSError as error:
            self._set_aside(self._state_file.path, f"unreadable-{type(error).__name__.lower()}")
            said = self._state_file.said()
        return self._state_file.reconcile(said, self._connection, self._clock)

    def _take_in(self, ulid: str, path: Path, follow: Callable[[str], None]) -> None:
        """Store the session of a file that the database does not know, and do what follows from that."""
        try:
            with self._connection:
                events = take_unknown(self._connection, self._disk, path, ulid)
                follow(ulid)
        except BadFile as finding:
            self._set_aside_or_leave(path, finding.reason)
        except UNFORESEEN:
            logger.exception("file cannot be understood", extra={"session": ulid})
            self._set_aside_or_leave(path, "unforeseen")
        except OSError as error:
            self._pass_over(path, error)
        else:
            if events:
                self.counters.add("events_adopted", events)
            self.counters.add("sessions_taken_in")

    def _mend_or_leave(self, ulid: str) -> None:
        """Mend a file; one that the disk refuses to mend now must not keep the others from starting."""
        try:
            self._mend_or_set_aside(ulid)
        except OSError as error:
            self.lagging.add(ulid)
            self.counters.add("files_left_lagging")
            logger.error("file cannot be mended yet", extra={"session": ulid, "reason": str(error)})  # noqa: TRY400

    def _mend_or_set_aside(self, ulid: str) -> None:
        try:
            with self._connection:
                self._bring_together(ulid)
        except UNFORESEEN as error:
            if not self._row_is_sound(ulid):
                raise apsw.CorruptError(f"the row of session {ulid} cannot be read: {error}") from error
            logger.exception("file cannot be understood", extra={"session": ulid})
            self._set_aside(self._files.path(ulid), "unforeseen")
            with self._connection:
                self._bring_together(ulid)

    def _row_is_sound(self, ulid: str) -> bool:
        """Whether a session can be read from the database: else no file is to blame."""
        try:
            unsealed(self._connection, ulid)
            return take_view(self._connection, ulid) is not None
        except UNFORESEEN:
            return False

    def renew(self, ulid: str) -> None:
        """Write the file of one session anew: its sync failed, so what can be read is not what is on disk."""
        session = unsealed(self._connection, ulid)
        self._fetch(session)
        self._rebuild(session, "files_rebuilt")
        self._mark_synced(ulid)

    def mend(self, ulid: str) -> None:
        """Make one file say what the database says, and the database what the file says beyond that."""
        with self._connection:
            self._bring_together(ulid)
            self._disk.sync_directory(self._files.directory)

    def _bring_together(self, ulid: str) -> None:
        session = unsealed(self._connection, ulid)
        if session.sealed:
            return  # it was brought to its end by another way
        self._fetch(session)
        path = self._files.path(ulid)
        size = self._disk.file_size(path)
        if size is None:
            self._rebuild(session, "files_recreated")
        elif not self._disk.is_file(path):
            self._set_aside(path, "no-file")
            self._rebuild(session, "files_rebuilt")
        elif size < session.synced_bytes and not self._take_newer(session):
            self._set_aside(path, "shortened")
            self._rebuild(session, "files_rebuilt")
        else:
            if size >= session.synced_bytes:
                self._compare(session)
            # What can be read is perhaps not on the disk, if the daemon died of a failed sync.
            self._disk.sync_anew(path, min(size, session.synced_bytes))
        self._mark_synced(ulid)

    def _fetch(self, session: Unsealed) -> None:
        """A file that is mended is mended in its usual place; the settler brings it back into the trash."""
        if session.shelf == "trashed" or self._is_in_trash(session.ulid):
            self._files.place(session.ulid, trashed=False)

    def _mark_synced(self, ulid: str) -> None:
        path = self._files.path(ulid)
        self._connection.execute(
            "UPDATE session SET synced_bytes = ?, synced_seq = next_seq, sealed = (status != 'recording'),"
            " unsettled = max(unsettled, shelf = 'trashed', status != 'recording' AND amend_bytes > 0)"
            " WHERE ulid = ?",
            (self._disk.file_size(path), ulid),
        )
        self._files.close(ulid)

    def _rebuild(self, session: Unsealed, what: str) -> None:
        self._files.replace(session.ulid, expected(self._connection, session, 0, 0))
        self.counters.add(what)
        logger.warning(what, extra={"session": session.ulid})

    def _compare(self, session: Unsealed) -> None:
        offset = session.synced_bytes
        path = self._files.path(session.ulid)
        with Tail(self._disk, path, offset) as tail:
            alike = tail.compare(expected(self._connection, session, offset, session.synced_seq))
            if (alike.is_whole and alike.end == tail.size) or self._take_newer(session):
                return
            if alike.is_whole:
                self._take_surplus(session, tail, alike.end)
            elif tail.is_blank(alike.end) or tail.is_torn(alike.lines):
                self._complete(session, tail, alike)
            else:
                self._set_aside(path, "conflict")
                self._rebuild(session, "conflicts_rebuilt")

    def _take_newer(self, session: Unsealed) -> bool:
        """Take over a whole file of which the database has an older state, as a copy put back does."""
        if session.status != Status.RECORDING:
            return False
        path = self._files.path(session.ulid)
        view = take_view(self._connection, session.ulid)
        digest = partial(digest_of, self._connection)
        if view is None or not is_newer(self._disk, path, view, digest):
            return False
        taken = take_rows(self._connection, self._disk, path, view)
        self.counters.add("events_adopted", taken - session.next_seq)
        self.counters.add("files_adopted")
        logger.warning("the file was ahead of the database", extra={"session": session.ulid})
        return True

    def _take_surplus(self, session: Unsealed, tail: Tail, offset: int) -> None:
        """Take events into the database that only the file has: they were committed once, see docs."""
        end = offset
        if session.status == Status.RECORDING:
            lines = tail.lines(offset)
            taken = take_surplus(self._connection, session.row_id, session.next_seq, lines, offset)
            end = taken.end
            if taken.events:
                self.counters.add("events_adopted", taken.events)
        if end < tail.size:
            if not tail.is_blank(end):
                self._keep_orphan(session.ulid, tail, end)
            self._rewrite_from(session.ulid, end, [])
            self.counters.add("torn_tails_rewritten")
        if end > offset:
            self.counters.add("files_adopted")
            logger.warning("the file was ahead of the database", extra={"session": session.ulid})

    def _complete(self, session: Unsealed, tail: Tail, alike: Alike) -> None:
        """Write anew what is torn, or not there at all."""
        offset = alike.lines
        if not tail.is_blank(alike.end):  # else it is only a part of what is written anew
            self._keep_orphan(session.ulid, tail, offset)
        self._rewrite_from(session.ulid, offset, missing(self._connection, session, offset))
        self.counters.add("torn_tails_rewritten" if offset < tail.size else "tails_completed")
        logger.warning("tail rewritten", extra={"session": session.ulid, "offset": offset})

    def _keep_orphan(self, ulid: str, tail: Tail, offset: int) -> None:
        """Keep bytes that are about to be cut off."""
        self._files.keep(f"{ulid}.orphan-{self._clock.now()}", tail.parts(offset))
        self.counters.add("orphans_kept")

    def _rewrite_from(self, ulid: str, offset: int, parts: Iterable[bytes]) -> None:
        self._files.close(ulid)
        descriptor = self._disk.open_append(self._files.path(ulid))
        try:
            self._disk.truncate(descriptor, offset)
        finally:
            self._disk.close(descriptor)
        for part in parts:
            self._files.append(ulid, part, offset)
            offset += len(part)

    def _set_aside(self, path: Path, reason: str) -> None:
        target = self._files.set_aside(path, reason, self._clock.now())
        self.counters.add("files_quarantined")
        logger.error("file set aside", extra={"reason": reason, "path": str(target)})

    def _set_aside_or_leave(self, path: Path, reason: str) -> None:
        """Of a session that nobody knows; one file must not keep the others from starting."""
        try:
            self._set_aside(path, reason)
        except OSError as error:
            self._pass_over(path, error)

    def _pass_over(self, path: Path, error: OSError) -> None:
        self.counters.add("files_passed_over")
        logger.error("file is left for another start", extra={"path": str(path), "reason": str(error)})
