"""The tags of a session: rows in the order in which they were given, none of them twice."""

from __future__ import annotations

import apsw


def insert_tags(connection: apsw.Connection, row_id: int, tags: list[str]) -> None:
    """Store the tags of a session that has none. Raises apsw.Error."""
    connection.executemany(
        "INSERT INTO tag (session_id, position, tag) VALUES (?, ?, ?)",
        [(row_id, position, tag) for position, tag in enumerate(dict.fromkeys(tags))],
    )


def replace_tags(connection: apsw.Connection, row_id: int, tags: list[str]) -> None:
    """Store these in the place of the ones there are. Raises apsw.Error."""
    connection.execute("DELETE FROM tag WHERE session_id = ?", (row_id,))
    insert_tags(connection, row_id, tags)
