"""From what came of an operation to the answer of whoever asked for it.

The one rule: a refusal goes back as it is, whatever was asked for; what was done has a reply of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sessiond.connection import Asker
from sessiond.errors import Refused
from sessiond.storage.commit.operations import Operation, Outcome
from sessiond.writer import Writer
from sessiond_client.wire.messages import AnyRequest


def submit(
    writer: Writer,
    asker: Asker,
    request: AnyRequest,
    size: int,
    operation: Operation,
    done: Callable[[Any], None],
) -> None:
    """Queue the operation of a request that was `size` bytes long; `done` gets its outcome and answers."""

    def answer(outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            asker.reply(outcome.reply(request.id), size)
        else:
            done(outcome)

    writer.submit(operation, asker, size, answer)
