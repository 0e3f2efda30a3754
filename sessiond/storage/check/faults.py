"""What can be wrong with the stores, and what mends it.

Owns the codes and the words. The one rule: every fault says what mends it, and `mending` or the next start
does just that. docs/recovery.md lists the codes.
"""

from __future__ import annotations

import os
import shlex
from enum import StrEnum
from pathlib import Path

import msgspec

from sessiond_client.wire.messages import Fault


class FaultCode(StrEnum):
    """What is wrong. Of the file: what begins with `file`, `header`, `line` and `footer`."""

    DATABASE_MISSING = "database_missing"
    DATABASE_DAMAGED = "database_damaged"
    EVENTS_MISSING = "events_missing"
    EVENTS_SURPLUS = "events_surplus"
    ROWS_ORPHANED = "rows_orphaned"
    RECEIPTS_DIFFER = "receipts_differ"
    ROW_DIFFERS = "row_differs"
    COUNTS_DIFFER = "counts_differ"
    DIGEST_DIFFERS = "digest_differs"
    NAME_DIFFERS = "name_differs"
    BEGINNING_DIFFERS = "beginning_differs"
    AMENDS_DIFFER = "amends_differ"
    FILE_MISSING = "file_missing"
    FILE_UNREADABLE = "file_unreadable"
    FILE_MISPLACED = "file_misplaced"
    FILE_TWICE = "file_twice"
    FILE_UNKNOWN = "file_unknown"
    FILE_SHORT = "file_short"
    FILE_LONG = "file_long"
    HEADER_DIFFERS = "header_differs"
    LINE_DIFFERS = "line_differs"
    LINE_INVALID = "line_invalid"
    FOOTER_DIFFERS = "footer_differs"
    STATE_DIFFERS = "state_differs"


class Cure(StrEnum):
    """What mends a fault."""

    START = "start"
    """The next start does."""

    FILE = "file"
    """The database is right: the file is set aside and written anew."""

    ROWS = "rows"
    """The file is right: the rows of the session are brought in line with it."""

    PLACE = "place"
    """The session, or its file, goes to the trash, where the other one is."""

    RECEIPTS = "receipts"
    """The receipts are dropped."""

    STATE = "state"
    """state.ndjson is set aside and written anew."""

    DATABASE = "database"
    """The whole database is built anew from the files."""

    BEFORE = "before"
    """There is only the file: what stands before the fault is taken in, the rest is kept aside."""

    BOTH = "both"
    """Neither copy is whole; perhaps the two together are."""


_COMMAND = "`sessiond rebuild"
_REPAIRS = {
    Cure.START: "the next start of the daemon mends it, and so does `sessiond rebuild --mend`",
    Cure.FILE: "`sessiond rebuild --session {}` writes the file anew from the database, and keeps this one in"
    " the quarantine",
    Cure.ROWS: "`sessiond rebuild --session {}` brings the rows of the session in line with its file",
    Cure.PLACE: "`sessiond rebuild --session {}` puts both into the trash, from which `sessionctl restore`"
    " takes them",
    Cure.STATE: "`sessiond rebuild --mend` writes the file anew from the database, and keeps this one in the"
    " quarantine",
    Cure.RECEIPTS: "`sessiond rebuild --mend` drops them, so that what is sent again is stored",
    Cure.DATABASE: "`sessiond rebuild` sets the database aside and builds it anew from the files",
    Cure.BEFORE: "the next start of the daemon takes what stands before this into a new database, and keeps"
    " the rest in the quarantine",
    Cure.BOTH: "neither copy is whole: `sessiond rebuild --session {}` puts them together if they have every"
    " event between them, and else leaves both as they are; then take the session from a backup",
}


def fault(
    code: FaultCode,
    path: Path,
    message: str,
    cure: Cure,
    *,
    session: str | None = None,
    offset: int | None = None,
) -> Fault:
    """A fault in the words that its cure has."""
    repair = _REPAIRS[cure]
    if code is FaultCode.FILE_MISSING and cure is Cure.FILE:
        repair = "`sessiond rebuild --session {}` writes the file anew from the database"
    return Fault(
        code=code.value,
        session=session,
        path=path_text(path),
        offset=offset,
        message=message,
        repair=repair.format(session),
    )


def at_once(found: Fault) -> str | None:
    """The command that mends all faults of this sort; None if a start does. The shorter one does more."""
    if found.repair.startswith(f"{_COMMAND}`"):
        return f"{_COMMAND}`"
    return f"{_COMMAND} --mend`" if found.repair.startswith(_COMMAND) else None


def for_a_copy(repair: str, directory: Path) -> str:
    """What mends a directory that is not the usual one: its commands say which it is."""
    return repair.replace(_COMMAND, f"{_COMMAND} --data-dir {shlex.quote(path_text(directory))}")


def beside_a_daemon(found: Fault) -> Fault:
    """The fault of a directory that a daemon has: that is to let go of it before."""
    if not found.repair.startswith(_COMMAND):
        return found
    return msgspec.structs.replace(found, repair=f"stop the daemon, then {found.repair}")


def path_text(path: Path) -> str:
    """A path as text that is UTF-8, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
