"""One session's file held against what the database says of it, line by line.

The one rule: nothing is changed, and no more than a page is in memory. Beside a running daemon the file is
looked at before the database: it is written after the commit, so it can only be behind, and what it has must
be there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw

from sessiond.clock import optional_time_text
from sessiond.storage.check.faults import Cure, FaultCode, fault
from sessiond.storage.database import DAMAGE
from sessiond.storage.file_lines import common_bytes
from sessiond.storage.file_reading import (
    FileReading,
    LineDamage,
    Sequence,
    called_in,
    event_facts,
    header_of,
)
from sessiond.storage.files import SessionFiles
from sessiond.storage.recovery.beginning import Beginning
from sessiond.storage.recovery.taking import is_called_as, is_newer, names_said
from sessiond.storage.view import EventRow, FileOrder, View, event_pages, take_view
from sessiond_client.wire.messages import Fault

LOOKS_MAX = 3
"""Beside a running daemon a fault counts if it is there so often in a row, each time in a view of its own."""


class CutShort(Exception):  # noqa: N818 - it is a state more than an error
    """Whoever asked does not want to know any more."""


class Compared(NamedTuple):
    """What came of it. `size` counts the bytes of the event lines; `lags`: the file is only behind."""

    events: int
    size: int
    faults: list[Fault]
    cures: set[Cure]
    lags: bool


class Comparer:
    """Compares sessions. `is_live`: beside a daemon that writes; `cut` is asked now and then."""

    def __init__(
        self,
        connection: apsw.Connection,
        database_path: Path,
        files: SessionFiles,
        *,
        is_live: bool,
        cut: Callable[[], bool] = lambda: False,
    ) -> None:
        self.connection = connection
        self.database_path = database_path
        self.files = files
        self.is_live = is_live
        self.cut = cut

    def compare(self, ulid: str) -> Compared | None:
        """One session; None if there is none to see. Raises apsw.Error, OSError and CutShort."""
        compared = self._look(ulid)
        for _ in range(1, LOOKS_MAX if self.is_live else 1):
            if compared is None or not compared.faults:
                break
            compared = self._look(ulid)
        return compared

    def _look(self, ulid: str) -> Compared | None:
        try:
            return _Comparison(self, ulid).run()
        except FileNotFoundError:
            if not self.is_live:
                raise
            # It is on its way to the trash, or back: it is looked for again.
            found = fault(
                FaultCode.FILE_MISSING, self.files.path(ulid), "the file is missing", Cure.FILE, session=ulid
            )
            return Compared(0, 0, [found], {Cure.FILE}, lags=False)
        except DAMAGE as error:
            if not self.is_live:
                raise
            message = f"SQLite finds: {error}"
            found = fault(
                FaultCode.DATABASE_DAMAGED, self.database_path, message, Cure.DATABASE, session=ulid
            )
            return Compared(0, 0, [found], {Cure.DATABASE}, lags=False)


class _Comparison:
    """One look at one session."""

    def __init__(self, comparer: Comparer, ulid: str) -> None:
        self._comparer = comparer
        self._files = comparer.files
        self._disk = comparer.files.disk
        self._ulid = ulid
        self._file_faults: list[tuple[FaultCode, str, int | None]] = []
        self._row_faults: dict[FaultCode, str] = {}
        self._descriptor: int | None = None
        self._path = comparer.files.path(ulid)
        self._size = 0
        self._offset = 0
        self._missing = 0
        self._lags = False
        self._sequence = Sequence()
        self._last_at: int | None = None
        self._digest = hashlib.sha256()

    def run(self) -> Compared | None:
        self._open()
        try:
            view = take_view(self._comparer.connection, self._ulid)
            if view is None:
                return None
            return self._compare(view)
        except ValueError as error:
            # Also what is no UTF-8, and what is no JSON: the row itself does not say what a session is.
            self._row_faults[FaultCode.ROW_DIFFERS] = f"the row of the session cannot be read: {error}"
            return self._unreadable()
        finally:
            if self._descriptor is not None:
                self._disk.close(self._descriptor)

    def _open(self) -> None:
        """Open the file wherever it is, before the database is asked."""
        for path in (self._files.path(self._ulid), self._files.trash_path(self._ulid)):
            if self._disk.file_size(path) is None:
                continue
            self._path = path
            try:
                self._descriptor = self._disk.open_read(path)
                self._size = self._disk.size(self._descriptor)
            except FileNotFoundError:
                continue  # it was moved at this very moment
            except OSError as error:
                self._note(FaultCode.FILE_UNREADABLE, f"the file cannot be read: {error.strerror}")
            return

    def _compare(self, view: View) -> Compared:
        self._check_place(view)
        self._check_beginning(view)
        view = self._form(view)
        order = FileOrder(view)
        self._expect(view.begin, FaultCode.HEADER_DIFFERS)
        for page in event_pages(self._comparer.connection, view.row_id, view.session.next_seq):
            if self._comparer.cut():
                raise CutShort
            self._check_rows(page)
            self._expect(order.piece(page), FaultCode.LINE_DIFFERS)
        self._expect(order.rest(), FaultCode.LINE_DIFFERS)
        self._expect(view.end, FaultCode.FOOTER_DIFFERS)
        self._judge_end(view)
        self._check_facts(view)
        return self._compared(view)

    def _form(self, view: View) -> View:
        """An ended session that is called otherwise now has a file of before or, already, of after."""
        if not (view.unsettled and view.has_ended) or self._descriptor is None:
            return view
        settled = view.settled()
        begin = self._disk.read_at(self._descriptor, 0, max(len(view.begin), len(settled.begin)))
        if view.header == settled.header:
            return settled if self._size == settled.size else view
        return settled if begin.startswith(settled.begin) else view

    # --- the file ----------------------------------------------------------------------------------------

    def _note(self, code: FaultCode, message: str, offset: int | None = None) -> None:
        self._file_faults.append((code, message, offset))

    def _check_place(self, view: View) -> None:
        proper = self._files.trash_path if view.shelf == "trashed" else self._files.path
        other = self._files.path if view.shelf == "trashed" else self._files.trash_path
        if self._descriptor is None:
            begins = self._comparer.is_live and not view.sealed and view.synced_bytes == 0
            self._lags = begins and not self._file_faults
            if not self._lags and not self._file_faults:
                self._path = proper(self._ulid)
                self._note(FaultCode.FILE_MISSING, "the file is missing")
            return
        if view.unsettled or (not view.sealed and view.shelf == "trashed"):
            return  # it is on its way
        if self._path != proper(self._ulid):
            where = "in the trash" if view.shelf == "trashed" else "not in the trash"
            self._note(FaultCode.FILE_MISPLACED, f"the session is {where}, its file is elsewhere")
        elif self._disk.file_size(other(self._ulid)) is not None:
            self._note(FaultCode.FILE_TWICE, f"there is another file of it at {other(self._ulid)}")

    def _expect(self, piece: bytes, code: FaultCode) -> None:
        """The file goes on with `piece`; only its first difference is noted."""
        if self._missing:
            self._missing += len(piece)
        if self._descriptor is None or not piece or self._missing or self._differs:
            return
        left = max(self._size - self._offset, 0)
        try:
            found = self._disk.read_at(self._descriptor, self._offset, min(len(piece), left))
        except OSError as error:
            self._note(FaultCode.FILE_UNREADABLE, f"it cannot be read: {error.strerror}", self._offset)
            return
        if found == piece:
            self._offset += len(piece)
            return
        same = common_bytes(found, piece)
        if same == len(found):
            self._offset += same
            self._missing = len(piece) - same
            return
        begin = piece.rfind(b"\n", 0, same) + 1
        self._note(code, f"from here on it is not as the database has it (byte {self._offset + same})",
                   self._offset + begin)  # fmt: skip

    @property
    def _differs(self) -> bool:
        codes = (
            FaultCode.FILE_UNREADABLE,
            FaultCode.HEADER_DIFFERS,
            FaultCode.LINE_DIFFERS,
            FaultCode.FOOTER_DIFFERS,
        )
        return any(code in codes for code, _, _ in self._file_faults)

    def _judge_end(self, view: View) -> None:
        """Note what is wrong with the end of the file, unless it is only behind."""
        if self._descriptor is None or self._differs:
            return
        if self._missing:
            if self._comparer.is_live and self._was_written_meanwhile(view):
                return
            lacks = f"the file ends here, and lacks {self._missing} bytes"
            self._note(FaultCode.FILE_SHORT, lacks, self._offset)
        elif self._size > self._offset:
            more = f"the file goes on for {self._size - self._offset} bytes beyond what the database has"
            self._note(FaultCode.FILE_LONG, more, self._offset)

    def _was_written_meanwhile(self, view: View) -> bool:
        """Whether the file has grown since it was opened, or is only behind."""
        assert self._descriptor is not None
        size = self._disk.size(self._descriptor)
        if size >= self._size + self._missing:
            return True
        self._lags = not view.sealed and size >= view.synced_bytes
        return self._lags

    # --- the rows ----------------------------------------------------------------------------------------

    def _check_rows(self, page: list[EventRow]) -> None:
        for row in page:
            expected = self._sequence.next_seq
            if row.seq != expected:
                missing = f"events {expected} to {row.seq - 1} are missing"
                self._row_faults.setdefault(FaultCode.EVENTS_MISSING, missing)
                self._sequence.next_seq = row.seq
            try:
                facts = event_facts(row.line)
                beside = self._sequence.take(facts, row.line)
            except LineDamage as damage:
                reason = f"the line of event {row.seq} does not hold: {damage}"
                self._row_faults.setdefault(FaultCode.ROW_DIFFERS, reason)
                self._sequence.next_seq = row.seq + 1
                continue
            self._last_at = beside[1]
            if (beside[0].encode(), beside[1]) != (row.kind, row.at):
                reason = f"the line of event {row.seq} has another kind or time than its row"
                self._row_faults.setdefault(FaultCode.ROW_DIFFERS, reason)
        self._digest.update(b"\n".join([*(row.line for row in page), b""]))

    def _check_facts(self, view: View) -> None:
        session, sequence = view.session, self._sequence
        found = (sequence.next_seq, sequence.commands, sequence.byte_count)
        stored = (session.next_seq, session.command_count, session.byte_count)
        if not self._row_faults and sequence.next_seq < session.next_seq:
            self._row_faults[FaultCode.EVENTS_MISSING] = (
                f"events {sequence.next_seq} to {session.next_seq - 1} are missing"
            )
        elif not self._row_faults and found != stored:
            self._row_faults[FaultCode.COUNTS_DIFFER] = (
                f"events, commands and bytes are {found}, the row of the session says {stored}"
            )
        elif not self._row_faults and optional_time_text(self._last_at) != session.last_event_at:
            message = "the last event is not of the time that the row of the session says"
            self._row_faults[FaultCode.COUNTS_DIFFER] = message
        if view.has_surplus:
            surplus = "there are events with a seq that the session has not come to"
            self._row_faults[FaultCode.EVENTS_SURPLUS] = surplus
        if view.has_ended and self._digest.hexdigest() != session.digest:
            self._row_faults[FaultCode.DIGEST_DIFFERS] = "the events do not give the digest of the session"
        self._check_name(view)
        if sum(len(line) + 1 for _, line in view.amends) != view.amend_bytes:
            self._row_faults[FaultCode.AMENDS_DIFFER] = "the amend lines are not as long as the session says"

    def _check_beginning(self, view: View) -> None:
        try:
            said = Beginning.of(header_of(view.header.encode()))
        except LineDamage as damage:
            self._row_faults[FaultCode.ROW_DIFFERS] = f"the stored header does not hold: {damage}"
            return
        if differing := said.differing(Beginning.of(view.session)):
            message = f"the row of the session differs from its header in {', '.join(differing)}"
            self._row_faults[FaultCode.BEGINNING_DIFFERS] = message

    def _check_name(self, view: View) -> None:
        try:
            header = header_of(view.header.encode())
            called = called_in(header.name, header.tags, view.amends)
            said = names_said(header, view.amends)
        except LineDamage as damage:
            self._row_faults[FaultCode.ROW_DIFFERS] = f"the stored header does not hold: {damage}"
            return
        if header.id != self._ulid:
            self._row_faults[FaultCode.ROW_DIFFERS] = "the stored header is that of another session"
        behind = view.unsettled and view.has_ended
        is_called_so = behind or called == (view.session.name, view.session.tags)
        if not is_called_so or not is_called_as(view.session, said, is_behind=behind):
            message = "names or tags are not those of header and amend lines"
            self._row_faults[FaultCode.NAME_DIFFERS] = message

    # --- the verdict -------------------------------------------------------------------------------------

    def _compared(self, view: View) -> Compared:
        faults: list[Fault] = []
        cures: set[Cure] = set()

        def add(code: FaultCode, path: Path, message: str, cure: Cure, offset: int | None = None) -> None:
            cures.add(cure)
            faults.append(fault(code, path, message, cure, session=self._ulid, offset=offset))

        cure = Cure.FILE
        if self._row_faults:
            cure = Cure.ROWS if self._file_is_right(view) else Cure.BOTH
        for code, message in self._row_faults.items():
            add(code, self._comparer.database_path, message, cure)
        for code, message, offset in self._file_faults:
            if not self._row_faults or cure is Cure.BOTH:
                add(code, self._path, message, self._file_cure(code, offset, view, cure), offset)
        return Compared(self._sequence.next_seq, self._sequence.byte_count, faults, cures, self._lags)

    def _file_cure(self, code: FaultCode, offset: int | None, view: View, cure: Cure) -> Cure:
        if cure is Cure.BOTH:
            return cure
        if code is FaultCode.FILE_MISPLACED:
            return Cure.PLACE if view.sealed else Cure.START
        if code is FaultCode.FILE_TWICE and not view.sealed:
            return Cure.FILE
        if view.sealed and self._file_is_newer(view):
            return Cure.ROWS
        looked_at = offset is None or offset >= view.synced_bytes or self._size < view.synced_bytes
        return Cure.START if not view.sealed and (looked_at or self._file_is_newer(view)) else Cure.FILE

    def _file_is_newer(self, view: View) -> bool:
        """Whether the rows are an older state of what the file has."""
        if self._descriptor is None:
            return False
        return is_newer(self._disk, self._path, view, lambda _: self._digest.hexdigest())

    def _file_is_right(self, view: View) -> bool:
        """Whether the file holds together by itself, and is of this session, while the rows do not."""
        if self._descriptor is None:
            return False
        try:
            reading = FileReading(self._disk, self._path)
        except OSError:
            return False  # as is noted already
        if reading.damage is not None or reading.header is None or reading.header.id != self._ulid:
            return False
        try:
            Beginning.of(reading.header)
        except LineDamage:
            return False
        if view.has_ended:
            return reading.footer is not None
        counted = (reading.sequence.next_seq, reading.sequence.byte_count)
        return not self._file_faults or counted == (view.session.next_seq, view.session.byte_count)

    def _unreadable(self) -> Compared:
        """The row cannot be read at all: only the whole database can be built anew."""
        message = self._row_faults[FaultCode.ROW_DIFFERS]
        path = self._comparer.database_path
        found = fault(FaultCode.ROW_DIFFERS, path, message, Cure.DATABASE, session=self._ulid)
        return Compared(0, 0, [found], {Cure.DATABASE}, lags=False)
