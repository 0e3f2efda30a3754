"""Bringing the file of an ended session to its place, and its header up to date.

The one rule: it is done from the database alone and may be done again at any time: whenever it is cut short,
either the old file is there or the new one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from typing import NamedTuple

import apsw

from sessiond.storage import encoding
from sessiond.storage.catalog import get_session
from sessiond.storage.database import rows
from sessiond.storage.file_reading import LineDamage, header_of
from sessiond.storage.files import SessionFiles, replace_file
from sessiond.storage.recovery.taking import is_called_as, names_said
from sessiond.storage.view import event_pages
from sessiond_client.wire.messages import Session

logger = logging.getLogger("sessiond.storage")


class CannotSettle(Exception):  # noqa: N818 - a finding, not a failure
    """The file is left as it is; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Settled(NamedTuple):
    """What was brought about: the header, the shelf and the size of the file in bytes."""

    header: str
    shelf: str
    size: int


class _Wanted(NamedTuple):
    row_id: int
    shelf: str
    header: str
    amend_bytes: int
    session: Session


def settle(connection: apsw.Connection, files: SessionFiles, ulid: str) -> Settled | None:
    """Do it for one session; None if there is nothing to do. Raises OSError or CannotSettle."""
    wanted = _wanted(connection, ulid)
    if wanted is None:
        return None
    _require_later_name(connection, wanted)
    path = files.place(ulid, trashed=wanted.shelf == "trashed")
    header = encoding.header_line(wanted.session).decode()
    if files.disk.file_size(path) is None:
        replace_file(files.disk, path, _parts(connection, wanted, header))
    elif header != wanted.header or wanted.amend_bytes:
        files.rewrite(path, _parts(connection, wanted, header))
    files.remove_backups(ulid)
    return Settled(header, wanted.shelf, files.disk.file_size(path) or 0)


def remove_settled_backups(connection: apsw.Connection, files: SessionFiles) -> int:
    """Remove the backups of files that follow the database: the power undid their removal. How many."""
    sql = "SELECT 1 FROM session WHERE ulid = ? AND sealed = 1 AND unsettled = 0"
    settled = [ulid for ulid in files.backed_up() if rows(connection, sql, (ulid,))]
    return sum(_remove_backups(files, ulid) for ulid in settled)


def _remove_backups(files: SessionFiles, ulid: str) -> int:
    try:
        return files.remove_backups(ulid)
    except OSError as error:
        logger.warning("backup stays", extra={"session": ulid, "reason": str(error)})
        return 0


def _wanted(connection: apsw.Connection, ulid: str) -> _Wanted | None:
    sql = (
        "SELECT id, shelf, header, amend_bytes FROM session"
        " WHERE ulid = ? AND unsettled = 1 AND sealed = 1 AND shelf IN ('kept', 'trashed')"
    )
    found = rows(connection, sql, (ulid,))
    session = get_session(connection, ulid)
    if not found or session is None:
        return None
    row_id, shelf, header, amend_bytes = found[0]
    return _Wanted(row_id, shelf, header, amend_bytes, session)


def _require_later_name(connection: apsw.Connection, wanted: _Wanted) -> None:
    """A name that did not come after those of the file came from nowhere: the file keeps its own."""
    sql = "SELECT position, CAST(line AS BLOB) FROM amend WHERE session_id = ?1 ORDER BY position"
    try:
        said = names_said(header_of(wanted.header.encode()), rows(connection, sql, (wanted.row_id,)))
    except LineDamage:
        return
    if not is_called_as(wanted.session, said, is_behind=True):
        raise CannotSettle("its name did not come after that of its header")


def _parts(connection: apsw.Connection, wanted: _Wanted, header: str) -> Iterator[bytes]:
    """The whole file, page by page, so that no read holds up a checkpoint."""
    yield header.encode() + b"\n"
    digest = hashlib.sha256()
    for page in event_pages(connection, wanted.row_id, wanted.session.next_seq):
        data = b"\n".join([*(row.line for row in page), b""])
        digest.update(data)
        yield data
    if digest.hexdigest() != wanted.session.digest:
        raise CannotSettle("the events in the database do not give the digest of the session")
    yield encoding.footer_line(wanted.session) + b"\n"
