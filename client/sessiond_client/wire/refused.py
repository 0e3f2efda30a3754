"""One request is refused, nothing of it was stored: the same wherever that is found out."""

from __future__ import annotations

from typing import Any

from sessiond_client.wire.replies import Error
from sessiond_client.wire.words import ErrorCode


class Refused(Exception):  # noqa: N818 - it is an answer more than an error
    """A request that is answered with an error reply. `fields` are those of `Error` besides code and text."""

    def __init__(self, code: ErrorCode, message: str, hint: str | None = None, **fields: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def reply(self, request_id: int) -> Error:
        """The error reply to the request with this id."""
        return Error(id=request_id, code=self.code, message=self.message, hint=self.hint, **self.fields)
