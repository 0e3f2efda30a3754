"""How a session began: what its header says once and for all, and the columns of its row say too.

The one rule: name, tags and former names are none of it, for they can be changed later.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw

from sessiond.clock import parse_time
from sessiond.storage.encoding import encode
from sessiond.storage.file_reading import LineDamage
from sessiond_client.wire.lines import HeaderLine
from sessiond_client.wire.messages import Session, Source


class Beginning(NamedTuple):
    """The columns of the table `session`, by their names; `started_at` in microseconds since 1970."""

    source: str
    started_at: int
    cli_version: str | None
    engine_base_url: str | None
    parent_ulid: str | None
    parent_seq: int | None
    shell: str | None
    os: str | None
    hostname: str | None
    cwd: str | None
    env: dict[str, str]
    meta: dict[str, Any]

    @classmethod
    def of(cls, said: HeaderLine | Session) -> Beginning:
        """What a header says, or a row. Raises LineDamage."""
        try:
            source, started_at = Source(said.source).value, parse_time(said.started_at)
        except (ValueError, OverflowError) as error:
            raise LineDamage(str(error)) from None
        return cls(source, started_at, *(getattr(said, name) for name in cls._fields[2:]))

    def differing(self, other: Beginning) -> list[str]:
        """The columns in which the two are not the same."""
        return [name for name in self._fields if getattr(self, name) != getattr(other, name)]


def take_beginning(connection: apsw.Connection, row_id: int, header: HeaderLine) -> None:
    """Have the row of a session say what a header says. Raises LineDamage and apsw.Error."""
    begun = Beginning.of(header)
    values = (*begun[:-2], encode(begun.env).decode(), encode(begun.meta).decode(), row_id)
    columns = ", ".join(f"{name} = ?" for name in Beginning._fields)
    connection.execute(f"UPDATE session SET {columns} WHERE id = ?", values)  # noqa: S608 - our own names
