"""Rows that belong to no session: their own one is gone. And receipts of events that are not there.

The one rule: a table is not read for it: of each session one row is looked up. Only receipts, which are few,
are gone through.
"""

from __future__ import annotations

import apsw

from sessiond.storage.database import rows

OWNED = {"event": "events", "tag": "tags", "label": "labels", "amend": "amend lines"}
"""The tables whose rows say by `session_id` whose they are, and what they hold."""

_ORPHANS = """
    WITH RECURSIVE owner(id) AS (
        SELECT min(session_id) FROM {table}
        UNION ALL
        SELECT (SELECT min(session_id) FROM {table} WHERE session_id > owner.id) FROM owner
        WHERE owner.id IS NOT NULL
    )
    SELECT id FROM owner WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM session) LIMIT 1
"""
_NEXT = """
    SELECT 1 FROM {table} WHERE session_id > (SELECT coalesce(max(id), 0) FROM session) LIMIT 1
"""
_WRONG = """
    SELECT receipt.producer, n FROM receipt JOIN session ON session.ulid = receipt.session
    WHERE first < 0 OR last >= next_seq OR typeof(first) != 'integer' OR typeof(last) != 'integer'
"""


def orphaned(connection: apsw.Connection) -> list[str]:
    """What there is of sessions that are gone. Raises apsw.Error."""
    return [what for table, what in OWNED.items() if rows(connection, _ORPHANS.format(table=table))]


def require_way_ahead(connection: apsw.Connection) -> None:
    """Raises apsw.CorruptError if what comes next would stumble: over rows that wait for a session
    that is yet to come, or over a number of the last change that is none."""
    for table, what in OWNED.items():
        if rows(connection, _NEXT.format(table=table)):
            raise apsw.CorruptError(f"it has {what} of a session that is gone")
    if (reason := wrong_change(connection)) is not None:
        raise apsw.CorruptError(reason)


def wrong_change(connection: apsw.Connection) -> str | None:
    """Why no change can be numbered after the last one, if none can: a word is above all numbers.

    Raises apsw.Error.
    """
    kind, last = rows(connection, "SELECT typeof(max(changed)), CAST(max(changed) AS BLOB) FROM session")[0]
    if kind in ("integer", "null"):
        return None
    return f"a session was last changed at {last.decode(errors='replace')!r}, which is no number"


def wrong_receipts(connection: apsw.Connection) -> list[tuple[str, int]]:
    """Receipts for events that their session has not come to: producer and `n`. Raises apsw.Error."""
    return rows(connection, _WRONG)
