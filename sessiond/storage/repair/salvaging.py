"""Before a database is replaced: bringing into the files what it has and they have not.

The one rule: no file loses anything by it. A file that is whole stays as it is, unless the old database
knows a later name, or its rows are right and say something else; one that is damaged or missing is written
from what the two copies have between them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sessiond.clock import Clock
from sessiond.storage.encoding import encode, footer_line
from sessiond.storage.file_lines import in_parts
from sessiond.storage.file_reading import FileReading, called_in
from sessiond.storage.files import SessionFiles, replace_file
from sessiond.storage.recovery.beginning import Beginning
from sessiond.storage.recovery.taking import is_called_later, names_in, names_of
from sessiond.storage.repair.joining import examine, lines_that_hold
from sessiond.storage.repair.joint import Joint
from sessiond.storage.repair.old_database import OldDatabase, Remains
from sessiond.storage.state_file import Said, StateFile
from sessiond_client.wire.lines import HeaderLine
from sessiond_client.wire.messages import Session

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it."""

logger = logging.getLogger("sessiond.salvaging")


class Incomplete(NamedTuple):
    """A session of which neither copy is whole, nor the two together. `events` are stored, from seq 0 on;
    `rest` more are only in the quarantine; `lost` are known to have been there; `name` may be unknown."""

    session: str
    name: str | None
    events: int
    rest: int
    lost: int


class Salvaged(NamedTuple):
    """What came of it: files that were written anew, whether nothing in an old database could be read, and
    what could not be had whole."""

    mended: int
    unread: bool
    incomplete: list[Incomplete]


class Salvage:
    """Goes through one data directory that nobody else has, session by session. Raises OSError."""

    def __init__(
        self,
        old: OldDatabase,
        files: SessionFiles,
        state_file: StateFile,
        clock: Clock,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._old = old
        self._files = files
        self._disk = files.disk
        self._state_file = state_file
        self._clock = clock
        self._progress = progress
        self._mended = 0
        self._incomplete: list[Incomplete] = []

    def run(self) -> Salvaged:
        """All sessions, and then labels and milestones."""
        remains = self._old.sessions()
        ulids = sorted({*remains, *self._files.ulids(), *self._files.trashed_ulids()})
        for number, ulid in enumerate(ulids, 1):
            self._session(ulid, remains.get(ulid))
            self._progress("comparing with the old database", number, len(ulids))
        self._state()
        return Salvaged(self._mended, self._old.says_nothing, self._incomplete)

    def _session(self, ulid: str, remains: Remains | None) -> None:
        if remains is not None and remains.shelf == "purged":
            self._files.remove(ulid)
            return
        if remains is not None and remains.shelf == "incoming" and self._path(ulid) is None:
            return
        self._leave_one(ulid)
        path = self._path(ulid)
        reading = None if path is None else self._read(path)
        if path is None or reading is None or not _is_whole(reading, ulid) or _is_behind(reading, remains):
            self._join(ulid, path, reading, remains)
        elif remains is not None and self._differs(path, reading, remains):
            self._join(ulid, path, reading, remains, is_wrong=True)
        elif remains is not None and _is_called_otherwise(reading, remains):
            assert remains.header is not None
            self._rename(path, reading, remains.header)
        self._place(ulid, remains)

    # --- where the file is ---------------------------------------------------------------------------------

    def _path(self, ulid: str) -> Path | None:
        """Where the file of a session is; what is no file goes aside."""
        for path in (self._files.path(ulid), self._files.trash_path(ulid)):
            if self._disk.file_size(path) is None:
                continue
            if self._disk.is_file(path):
                return path
            self._files.set_aside(path, "no-file", self._clock.now())
        return None

    def _leave_one(self, ulid: str) -> None:
        """Of two files of one session the better one stays, the other goes aside."""
        paths = (self._files.path(ulid), self._files.trash_path(ulid))
        if any(self._disk.file_size(path) is None or not self._disk.is_file(path) for path in paths):
            return
        worse = min(reversed(paths), key=lambda path: _worth(self._read(path), ulid))
        self._files.set_aside(worse, "twice", self._clock.now())

    def _place(self, ulid: str, remains: Remains | None) -> None:
        """Where it is to be. What was deleted by either copy is, unless it is just being restored."""
        if remains is not None and remains.shelf == "trashed":
            self._files.place(ulid, trashed=True)
        elif remains is not None and remains.shelf == "kept" and remains.unsettled:
            self._files.place(ulid, trashed=False)

    def _read(self, path: Path) -> FileReading | None:
        try:
            return FileReading(self._disk, path)
        except OSError as error:
            logger.error("file cannot be read", extra={"path": str(path), "reason": str(error)})  # noqa: TRY400
            return None

    # --- what is in it -------------------------------------------------------------------------------------

    def _differs(self, path: Path, reading: FileReading, remains: Remains) -> bool:
        """Whether a whole file says what the rows do not, where these are right and not the older copy."""
        session, header = remains.session, remains.header
        if session is None or header is None or (reading.footer is not None and not remains.has_ended):
            return False
        return (
            _began_otherwise(reading, header)
            or _is_called_neither_way(reading, session)
            or self._goes_otherwise(path, reading, session, remains)
        ) and examine(self._old.events(remains)).gives(session)

    def _goes_otherwise(self, path: Path, reading: FileReading, session: Session, remains: Remains) -> bool:
        if reading.footer is not None:
            return encode(reading.footer) != footer_line(session)
        both = zip(self._old.events(remains), lines_that_hold(self._disk, path), strict=False)
        return any(of_rows != of_file for of_rows, of_file in both)

    def _join(
        self,
        ulid: str,
        path: Path | None,
        reading: FileReading | None,
        remains: Remains | None,
        *,
        is_wrong: bool = False,
    ) -> None:
        """Write the file from both copies, if it is wrong, or if that gives more than it has."""
        is_foreign = reading is not None and reading.header is not None and reading.header.id != ulid
        source = None if reading is None or is_foreign else path
        joint = Joint(self._disk, self._old, source, None if is_foreign else reading, remains)
        if joint.header is not None and (is_wrong or joint.gives_more()):
            if path is not None:
                self._files.keep_old(path, "damaged", self._clock.now())
            replace_file(self._disk, path or self._files.path(ulid), in_parts(joint.lines(joint.header)))
            self._mended += 1
            logger.warning("file written from both copies", extra={"session": ulid})
        if is_foreign and joint.header is None and not joint.examined.end:
            return  # whose file it is it says itself, and nothing else tells of a session of this name
        if not joint.is_complete() and (path is not None or joint.examined.end or joint.header is not None):
            self._tell(ulid, joint)

    def _rename(self, path: Path, reading: FileReading, header: HeaderLine) -> None:
        """What it is called now only the database knows as yet."""
        lines = (line for _, line in lines_that_hold(self._disk, path))
        footer = [] if reading.footer is None else [encode(reading.footer)]
        self._files.rewrite(path, in_parts(chain([encode(header)], lines, footer)))

    def _tell(self, ulid: str, joint: Joint) -> None:
        """Keep what stands behind the gap where it can be looked at, and say what is missing."""
        name = None if joint.header is None else joint.header.name
        count, rest = joint.examined.number, joint.examined.rest
        if joint.header is None:
            count, rest = 0, count + rest
        if rest:
            self._files.keep(f"{ulid}.rest-{self._clock.now()}", in_parts(joint.rest()))
        told = Incomplete(ulid, name, count, rest, joint.lost)
        self._incomplete.append(told)
        fields = {"session": ulid, "events": count, "rest": rest, "lost": joint.lost}
        logger.error("neither copy is whole", extra=fields)

    # --- labels and milestones -----------------------------------------------------------------------------

    def _state(self) -> None:
        """Write state.ndjson from the old database where it is damaged, or says other things."""
        labels, milestones = self._old.labels(), self._old.milestones()
        if labels is None or milestones is None:
            return
        path = self._state_file.path
        is_there = self._disk.file_size(path) is not None
        try:
            said = self._state_file.said()
        except OSError as error:
            logger.error("file cannot be read", extra={"path": str(path), "reason": str(error)})  # noqa: TRY400
            said = Said(({}, {}), 0, 0)
        expected = self._old.state_bytes()
        says_as_much = all(
            known.items() <= told.items()
            for known, told in zip((labels, milestones), said.state, strict=True)
        )
        goes_on = is_there and (expected is None or said.size > expected)
        if said.damage is None and (says_as_much or goes_on):
            return
        if is_there:
            self._files.keep_old(path, "damaged", self._clock.now())
        self._state_file.write(labels.items(), milestones.items(), self._clock)
        self._mended += 1


def _is_ours(reading: FileReading, ulid: str) -> bool:
    return reading.header is not None and reading.header.id == ulid


def _is_whole(reading: FileReading, ulid: str) -> bool:
    return reading.damage is None and _is_ours(reading, ulid)


def _worth(reading: FileReading | None, ulid: str) -> tuple[bool, bool, int]:
    if reading is None:
        return False, False, 0
    whole = _is_whole(reading, ulid)
    return whole, whole and reading.footer is not None, reading.sequence.next_seq


def _is_behind(reading: FileReading, remains: Remains | None) -> bool:
    """Whether the old database may have more than a file that is whole so far."""
    if reading.footer is not None or remains is None:
        return False
    session = remains.session
    if session is None or remains.has_ended:
        return True
    counted = reading.sequence
    return session.next_seq > counted.next_seq or session.byte_count > counted.byte_count


def _began_otherwise(reading: FileReading, header: HeaderLine) -> bool:
    return reading.header is not None and bool(Beginning.of(reading.header).differing(Beginning.of(header)))


def _is_called_neither_way(reading: FileReading, session: Session) -> bool:
    """Whether file and row give it other names, and neither can have come of the other."""
    names, others = names_of(session), names_in(reading)
    return names != others and not is_called_later(names, others) and not is_called_later(others, names)


def _is_called_otherwise(reading: FileReading, remains: Remains) -> bool:
    """Whether the row has a later name than the file, or tags that the file has not followed yet."""
    if remains.session is None or reading.header is None:
        return False
    names, others = names_of(remains.session), names_in(reading)
    _, tags = called_in(reading.header.name, reading.header.tags, reading.amends)
    return is_called_later(names, others) or (
        remains.unsettled and names == others and tags != remains.session.tags
    )
