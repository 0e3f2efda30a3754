"""Has the handlers do what waited in the spool, where no connection stands behind it.

The one rule: each request asked gets exactly one reply, as over a connection.
"""

from __future__ import annotations

import asyncio

import msgspec

from sessiond import processes
from sessiond.handlers import Handlers
from sessiond.storage.commit.operations import Owner
from sessiond_client.wire.messages import Reply
from sessiond_client.wire.spool import Spoolable


class Replay:
    """Stands where a connection would, for the lines of one chunk; replies are told apart by their ids."""

    def __init__(self, handlers: Handlers) -> None:
        self.producer: str | None = None
        self._handlers = handlers
        self._written_at = 0.0
        self._replies: dict[int, asyncio.Future[Reply]] = {}

    def ask(
        self, request: Spoolable, size: int, producer: str | None, written_at: float
    ) -> asyncio.Future[Reply]:
        """Have a request done as one of this producer, written at this Unix time or before."""
        self.producer = producer
        self._written_at = written_at
        number = len(self._replies) + 1
        answered = self._replies[number] = asyncio.get_running_loop().create_future()
        self._handlers.store(self, msgspec.structs.replace(request, id=number), size)
        return answered

    def reply(self, reply: Reply, size: int) -> None:  # noqa: ARG002 - as a connection has it
        """Answer a request."""
        answered = self._replies[reply.id]
        if not answered.cancelled():
            answered.set_result(reply)

    def owner_of(self, pid: int | None) -> Owner | None:
        """Whose end ends the session: the process of this number that was there when the line was written."""
        return processes.identify_before(pid, self._written_at) if pid else None
