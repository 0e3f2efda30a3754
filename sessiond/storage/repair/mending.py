"""Doing what a check promised: a file from the rows, the rows from the file, a file to its place.

The one rule: what is replaced in a file is in the quarantine before, and rows are only changed to what a file
says that holds together by itself. Nobody else may have the directory meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from sessiond.clock import Clock
from sessiond.errors import not_found
from sessiond.storage.check.checking import Checking
from sessiond.storage.check.comparison import Compared
from sessiond.storage.check.faults import Cure, FaultCode
from sessiond.storage.check.orphans import wrong_receipts
from sessiond.storage.directory import DataDirectory
from sessiond.storage.file_lines import in_parts
from sessiond.storage.file_reading import FileReading
from sessiond.storage.files import replace_file
from sessiond.storage.recovery.taking import mark_whole, take_rows
from sessiond.storage.repair.joint import Joint
from sessiond.storage.repair.old_database import OldDatabase
from sessiond.storage.view import View, take_view, whole_file
from sessiond_client.wire.messages import Fault

logger = logging.getLogger("sessiond.mending")


class Mending:
    """Mends what a check finds in one directory that was opened, and so recovered, before."""

    def __init__(self, directory: DataDirectory, clock: Clock) -> None:
        self._files = directory.files
        self._disk = directory.files.disk
        self._connection = directory.database.connection
        self._state_file = directory.state_file
        self._clock = clock
        self.checking = Checking(directory.path, self._connection, directory.files, is_live=False)

    def sessions(self, ulids: Sequence[str] = ()) -> Iterator[tuple[str, Compared]]:
        """Mend every session that has a fault, or only these; yields each session as it was found.

        Raises Refused for one that is not there.
        """
        for ulid, compared in self._named(ulids) if ulids else self.checking.sessions():
            self._apply(ulid, compared)
            yield ulid, compared

    def _named(self, ulids: Sequence[str]) -> Iterator[tuple[str, Compared]]:
        for ulid in ulids:
            compared = self.checking.compare(ulid)
            if compared is None:
                raise not_found(ulid)
            yield ulid, compared

    def rest(self) -> list[Fault]:
        """Write state.ndjson anew if it does not say what the database says, and drop receipts of events that
        are not there; returns what was wrong."""
        codes = (FaultCode.RECEIPTS_DIFFER, FaultCode.STATE_DIFFERS)
        found = [it for it in self.checking.directory_faults() if it.code in codes]
        self._connection.executemany(
            "DELETE FROM receipt WHERE producer = ? AND n = ?", wrong_receipts(self._connection)
        )
        if any(it.code == FaultCode.STATE_DIFFERS for it in found):
            if self._disk.file_size(self._state_file.path) is not None:
                self._keep_old(self._state_file.path)
            size = self._state_file.renew(self._connection, self._clock)
            self._connection.execute("UPDATE fact SET value = ? WHERE name = 'state_bytes'", (size,))
        return found

    def _apply(self, ulid: str, compared: Compared) -> None:
        """Do what the faults of a session say mends them. Raises apsw.Error and OSError."""
        # A row of which only the whole database can be rid has no view to mend by.
        view = take_view(self._connection, ulid) if compared.cures - {Cure.DATABASE} else None
        if view is None:
            return
        if Cure.PLACE in compared.cures:
            self._bring_to_place(ulid, view)
        if Cure.FILE in compared.cures:
            self._write_file(ulid, view)
        if Cure.BOTH in compared.cures and not self._join(ulid, view):
            return
        if not compared.cures - {Cure.START}:
            return
        if Cure.ROWS in compared.cures:
            take_rows(self._connection, self._disk, self._path(ulid), view)
        logger.warning(
            "session mended", extra={"session": ulid, "cures": sorted(cure.value for cure in compared.cures)}
        )

    def _path(self, ulid: str) -> Path:
        """Where the file of a session is."""
        path = self._files.path(ulid)
        return path if self._disk.file_size(path) is not None else self._files.trash_path(ulid)

    def _bring_to_place(self, ulid: str, view: View) -> None:
        """What either copy has in the trash is in the trash: the other one is older, or was moved by hand."""
        if self._disk.file_size(self._files.path(ulid)) is not None:
            self._files.place(ulid, trashed=True)
            return
        sql = "UPDATE session SET shelf = 'trashed', trashed_at = ? WHERE id = ?"
        self._connection.execute(sql, (self._clock.now(), view.row_id))

    # --- both from both ---------------------------------------------------------------------------------

    def _join(self, ulid: str, view: View) -> bool:
        """Put a session of which neither copy is whole together from both; whether they had all of it."""
        path = self._path(ulid)
        if self._disk.file_size(path) is None or not self._disk.is_file(path):
            return False
        reading = FileReading(self._disk, path)
        if reading.header is not None and reading.header.id != ulid:
            return False
        old = OldDatabase(self._connection)
        joint = Joint(self._disk, old, path, reading, old.remains(view.row_id, ulid))
        if joint.header is None or not joint.is_complete():
            return False
        self._keep_old(path)
        replace_file(self._disk, path, in_parts(joint.lines(joint.header)))
        take_rows(self._connection, self._disk, path, view)
        return True

    # --- the file from the rows ----------------------------------------------------------------------------

    def _write_file(self, ulid: str, view: View) -> None:
        target, other = self._files.path(ulid), self._files.trash_path(ulid)
        if view.shelf == "trashed":
            target, other = other, target
        for path in (target, other):
            if self._disk.file_size(path) is not None:
                self._keep_old(path)
        replace_file(self._disk, target, whole_file(self._connection, view))
        if self._disk.file_size(other) is not None:
            self._disk.unlink(other)
            self._disk.sync_directory(other.parent)
        mark_whole(self._connection, view.row_id, self._disk.file_size(target) or 0)

    def _keep_old(self, path: Path) -> None:
        self._files.keep_old(path, "damaged", self._clock.now())
