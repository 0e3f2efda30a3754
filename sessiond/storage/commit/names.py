"""Session names: the default one, and the suffix that keeps them apart.

The one rule: names are allotted inside the writer's transaction, so that two sessions never race for one.
"""

from __future__ import annotations

from collections import OrderedDict

import apsw

from sessiond.storage.database import rows
from sessiond_client.wire.messages import NAME_LENGTH_MAX

HINTS_MAX = 1024
FIRST_SUFFIX = 2


class Names:
    """Finds the lowest free `-N` for a name that is taken."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._next: OrderedDict[str, int] = OrderedDict()
        """Below this N every suffix of the name is taken; without it a name used n times costs n look-ups."""

    def allot(self, wanted: str) -> str:
        """`wanted` if no session has it, else the first free of `wanted-2`, `wanted-3`, …"""
        if not self.taken(wanted):
            return wanted
        number = self._next.pop(wanted, FIRST_SUFFIX)
        while self.taken(name := self._suffixed(wanted, number)):
            number += 1
        self._next[wanted] = number
        if len(self._next) > HINTS_MAX:
            self._next.popitem(last=False)
        return name

    def forget(self) -> None:
        """Names may have become free: look from the start again."""
        self._next.clear()

    def taken(self, name: str) -> bool:
        """Whether a session has this name, or will have it; those in the trash do not count."""
        sql = "SELECT 1 FROM session WHERE name = ? AND shelf IN ('kept', 'incoming') LIMIT 1"
        return bool(rows(self._connection, sql, (name,)))

    @staticmethod
    def _suffixed(name: str, number: int) -> str:
        suffix = f"-{number}"
        return name[: NAME_LENGTH_MAX - len(suffix)] + suffix
