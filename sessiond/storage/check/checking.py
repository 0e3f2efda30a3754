"""Checking a whole data directory: each session, what belongs to none, and the database itself.

The one rule: looking changes nothing, not even a file of SQLite beside the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw

from sessiond.errors import StartupRefused, not_found
from sessiond.storage.check.comparison import Compared, Comparer, CutShort
from sessiond.storage.check.faults import Cure, FaultCode, fault, path_text
from sessiond.storage.check.orphans import orphaned, wrong_change, wrong_receipts
from sessiond.storage.database import (
    DAMAGE,
    SchemaIsNewer,
    lacking,
    migrations,
    opened_at_rest,
    require_file,
    require_version,
    rows,
)
from sessiond.storage.directory import DATABASE_NAME
from sessiond.storage.file_reading import FileReading
from sessiond.storage.files import SUFFIX, SessionFiles
from sessiond.storage.state_file import State, StateFile, stored_state
from sessiond_client.wire.messages import Fault

FINDINGS_MAX = 20
"""So many findings of SQLite's own check are told."""

ULIDS_PER_QUESTION = 500
STATE_LOOKS_MAX = 3

_PROPER = "typeof(ulid) = 'text' AND length(ulid) = 26 AND ulid NOT GLOB '*[^0-9A-Z]*'"
_SHELVES = "('kept', 'trashed', 'incoming', 'purged')"
_NEXT = f"""
    SELECT ulid FROM session WHERE ulid > ? AND shelf IN ('kept', 'trashed') AND {_PROPER}
    ORDER BY ulid LIMIT ?
"""  # noqa: S608 - our own words
_LOST = f"""
    SELECT id FROM session WHERE NOT ({_PROPER}) OR coalesce(shelf, '') NOT IN {_SHELVES} LIMIT {FINDINGS_MAX}
"""  # noqa: S608 - our own words


Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it."""


class Totals:
    """What was compared so far."""

    def __init__(self) -> None:
        self.sessions = 0
        self.events = 0
        self.size = 0

    def add(self, compared: Compared) -> None:
        """Count one session in."""
        self.sessions += 1
        self.events += compared.events
        self.size += compared.size


class Checking:
    """Checks one data directory over a connection that only reads."""

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection,
        files: SessionFiles,
        *,
        is_live: bool,
        cut: Callable[[], bool] = lambda: False,
    ) -> None:
        self._path = path
        self._database_path = path / DATABASE_NAME
        self._connection = connection
        self._files = files
        self._is_live = is_live
        self._cut = cut
        self._comparer = Comparer(connection, self._database_path, files, is_live=is_live, cut=cut)

    def compare(self, ulid: str) -> Compared | None:
        """One session; None if there is none to see."""
        return self._comparer.compare(ulid)

    def sessions(self, after: str = "") -> Iterator[tuple[str, Compared]]:
        """Every session behind `after`, in the order of ULIDs. Raises CutShort."""
        while ulids := [row[0] for row in rows(self._connection, _NEXT, (after, ULIDS_PER_QUESTION))]:
            for after in ulids:
                if self._cut():
                    raise CutShort
                compared = self._comparer.compare(after)
                if compared is not None:
                    yield after, compared

    def total_size(self) -> int:
        """Bytes of all event lines, as the sessions say."""
        sql = "SELECT coalesce(sum(byte_count), 0) FROM session WHERE shelf IN ('kept', 'trashed')"
        return int(self._connection.execute(sql).get)

    # --- the database --------------------------------------------------------------------------------------

    def database_faults(self) -> Iterator[Fault]:
        """What SQLite finds when it reads the whole database."""
        try:
            findings = [row[0] for row in rows(self._connection, f"PRAGMA integrity_check({FINDINGS_MAX})")]
            findings += [f"it lacks {what}" for what in lacking(self._connection, migrations())]
        except (*DAMAGE, UnicodeDecodeError) as error:
            findings = [str(error)]
        for finding in findings:
            if finding != "ok":
                yield _damaged(self._database_path, finding)

    # --- what belongs to no session ------------------------------------------------------------------------

    def directory_faults(self) -> Iterator[Fault]:
        """Rows that are no session's, files of sessions that the database does not know, and state.ndjson."""
        for (row_id,) in rows(self._connection, _LOST):
            yield self._unreadable(f"row {row_id} does not say of which session it is, or where that is kept")
        if orphans := orphaned(self._connection):
            message = f"there are {', '.join(orphans)} of sessions that are gone"
            yield fault(FaultCode.ROWS_ORPHANED, self._database_path, message, Cure.DATABASE)
        if (reason := wrong_change(self._connection)) is not None:
            yield fault(FaultCode.ROW_DIFFERS, self._database_path, reason, Cure.DATABASE)
        if receipts := wrong_receipts(self._connection):
            message = f"there are receipts, {len(receipts)} in all, for events that are not there"
            yield fault(FaultCode.RECEIPTS_DIFFER, self._database_path, message, Cure.RECEIPTS)
        yield from self._unknown_files()
        for _ in range(STATE_LOOKS_MAX if self._is_live else 1):
            found = self._state_fault()
            if found is None:
                return
        if found is not None:
            yield found

    def _unknown_files(self) -> Iterator[Fault]:
        for directory in (self._files.directory, self._files.trash_directory):
            # The names first: a file is never there before its session, nor after it.
            names = [name for name in _names(self._files, directory) if name.endswith(SUFFIX)]
            for start in range(0, len(names), ULIDS_PER_QUESTION):
                some = names[start : start + ULIDS_PER_QUESTION]
                known = self._known([name.removesuffix(SUFFIX) for name in some if name.isascii()])
                for name in some:
                    path = directory / name
                    if name.removesuffix(SUFFIX) in known or self._files.disk.file_size(path) is None:
                        continue
                    message = "the database knows no such session; it is taken in, or set aside if it is none"
                    yield fault(FaultCode.FILE_UNKNOWN, path, message, Cure.START)

    def _known(self, ulids: list[str]) -> set[str]:
        marks = ", ".join("?" * len(ulids))
        sql = f"SELECT ulid FROM session WHERE ulid IN ({marks})"  # noqa: S608 - only marks
        return {row[0] for row in rows(self._connection, sql, tuple(ulids))}

    def _state_fault(self) -> Fault | None:
        state_file = StateFile(self._path, self._files.disk)
        try:
            said = state_file.said()
        except OSError as error:
            message = f"the file cannot be read: {error.strerror}"
            return fault(FaultCode.STATE_DIFFERS, state_file.path, message, Cure.START)
        try:
            expected, stored = self._stored_state()
        except (ValueError, TypeError) as error:
            return self._unreadable(f"what it says of labels and milestones cannot be read: {error}")
        if said.size != expected:
            if self._is_live and said.size < expected:
                return None
            message = f"it has {said.size} bytes instead of {expected}"
            return fault(FaultCode.STATE_DIFFERS, state_file.path, message, Cure.START)
        if said.damage is not None or said.state != stored:
            message = "it does not say what the database says of labels and milestones"
            return fault(FaultCode.STATE_DIFFERS, state_file.path, message, Cure.STATE, offset=said.damage)
        return None

    def _stored_state(self) -> tuple[int, State]:
        """How large state.ndjson is by the database, and what it has to say."""
        with self._connection:
            size = int(self._connection.execute("SELECT value FROM fact WHERE name = 'state_bytes'").get)
            stored = stored_state(self._connection)
        return size, stored

    def _unreadable(self, message: str) -> Fault:
        return fault(FaultCode.ROW_DIFFERS, self._database_path, message, Cure.DATABASE)


class AtRest:
    """The check of a directory that no daemon has, from whatever is left of its database."""

    def __init__(self, path: Path, files: SessionFiles, progress: Progress = lambda *_: None) -> None:
        self.totals = Totals()
        self._path = path
        self._database_path = path / DATABASE_NAME
        self._files = files
        self._progress = progress

    def faults(self, session: str | None = None) -> Iterator[Fault]:
        """Every fault, as it is found. Raises Refused, StartupRefused, apsw.Error and OSError."""
        try:
            connection = open_at_rest(self._database_path, self._files)
            if connection is not None:
                with closing(connection):
                    yield from self._compared(connection, session)
                return
            yield from _missing(self._database_path, self._files)
        except DAMAGE as error:
            yield _damaged(self._database_path, error)
        except _NotSound as unsound:
            # Where a page is lost, any row may be: the files by themselves are what there is.
            yield from unsound.found
        yield from self._files_alone()

    def _compared(self, connection: apsw.Connection, session: str | None) -> Iterator[Fault]:
        check = Checking(self._path, connection, self._files, is_live=False)
        if session is not None:
            compared = check.compare(session)
            if compared is None:
                raise not_found(session)
            self.totals.add(compared)
            yield from compared.faults
            return
        self._progress("checking the database", 0, 0)
        if found := list(check.database_faults()):
            raise _NotSound(found)
        total = check.total_size()
        for _, compared in check.sessions():
            self.totals.add(compared)
            self._progress("comparing", self.totals.size, total)
            yield from compared.faults
        yield from check.directory_faults()

    def _files_alone(self) -> Iterator[Fault]:
        for directory in (self._files.directory, self._files.trash_directory):
            for name in _names(self._files, directory):
                if name.endswith(SUFFIX):
                    compared = _file_alone(self._files, directory / name)
                    self.totals.add(compared)
                    self._progress("reading the files", 0, 0)
                    yield from compared.faults


class _NotSound(Exception):  # noqa: N818 - a finding, not a failure
    def __init__(self, found: list[Fault]) -> None:
        super().__init__(found)
        self.found = found


def _damaged(database: Path, finding: object) -> Fault:
    """The database is none, or not whole."""
    return fault(FaultCode.DATABASE_DAMAGED, database, f"SQLite finds: {finding}", Cure.DATABASE)


def _missing(database: Path, files: SessionFiles) -> Iterator[Fault]:
    """Where there is no database, there must be no file either."""
    directories = (files.directory, files.trash_directory)
    if any(name.endswith(SUFFIX) for directory in directories for name in _names(files, directory)):
        is_there = files.disk.file_size(database) is not None
        message = (
            "there are files, and nothing in the database" if is_there else "there are files, and no database"
        )
        yield fault(FaultCode.DATABASE_MISSING, database, message, Cure.START)


def leftovers(path: Path, files: SessionFiles) -> list[str]:
    """What lies about: temporary files, backups, the quarantine; nothing is wrong with that."""
    found = []
    for directory in (files.directory, files.trash_directory):
        found += [directory / name for name in _names(files, directory) if not name.endswith(SUFFIX)]
    found += [files.quarantine_directory / name for name in _names(files, files.quarantine_directory)]
    found += [path / name for name in files.disk.names(path) if ".tmp-" in name or ".before-schema-" in name]
    return sorted(map(path_text, found))


def _file_alone(files: SessionFiles, path: Path) -> Compared:
    try:
        reading = FileReading(files.disk, path)
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        found = fault(FaultCode.FILE_UNREADABLE, path, message, Cure.BEFORE)
        return Compared(0, 0, [found], {Cure.BEFORE}, lags=False)
    faults = []
    if reading.damage is not None:
        offset, reason = reading.damage
        message = f"the line that begins here does not hold: {reason}"
        faults.append(fault(FaultCode.LINE_INVALID, path, message, Cure.BEFORE, offset=offset))
    sequence = reading.sequence
    cures = {Cure.BEFORE} if faults else set()
    return Compared(sequence.next_seq, sequence.byte_count, faults, cures, lags=False)


def _has_schema(path: Path, connection: apsw.Connection) -> bool:
    """Whether the database has ours. Raises StartupRefused for another one, and apsw.CorruptError."""
    found = int(connection.execute("PRAGMA user_version").get)
    known = len(migrations())
    if found > known:
        raise SchemaIsNewer(path, found, known)
    if found < known:
        require_version(connection, found)
    if found == 0:
        return False
    if found < known:
        raise StartupRefused(
            f"{path} has schema {found}, which is that of an older version",
            "start the daemon once: it brings the database up to date",
        )
    return True


def _names(files: SessionFiles, directory: Path) -> list[str]:
    try:
        return sorted(files.disk.names(directory))
    except FileNotFoundError:
        return []


def open_at_rest(path: Path, files: SessionFiles) -> apsw.Connection | None:
    """A connection to the database of a directory without a daemon, which leaves no trace.

    None if there is no database, or nothing in it. Raises StartupRefused for another schema, and apsw.Error.
    """
    if files.disk.file_size(path) is None:
        return None
    require_file(path, files.disk)
    connection = opened_at_rest(path, files.disk)
    try:
        connection.execute("PRAGMA query_only = ON")
        if _has_schema(path, connection):
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None
