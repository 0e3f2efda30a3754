"""From a line to a request, or to the reason why it is none.

The one rule: whatever a line holds, it ends in a request or in a `Refused`, never in another exception.
"""

from __future__ import annotations

import msgspec

from sessiond.errors import Refused
from sessiond_client.wire.faults import explained
from sessiond_client.wire.messages import AnyRequest, ErrorCode, request_decoder


class _Envelope(msgspec.Struct):
    """As much of a broken message as is needed to answer it."""

    id: int = 0
    type: str | None = None


class _IdOnly(msgspec.Struct):
    id: int = 0


class BadMessage(Exception):  # noqa: N818 - it carries an answer
    """A line that is no request: the id it had, 0 if none could be found, and what is said of it."""

    def __init__(self, request_id: int, refusal: Refused) -> None:
        super().__init__(request_id, refusal)
        self.request_id = request_id
        self.refusal = refusal


def decode_request(line: bytes) -> AnyRequest:
    """The request that a line is. Raises BadMessage."""
    try:
        if not line.isascii():
            line.decode()  # a message may hold raw JSON that is not looked at again
        request = request_decoder.decode(line)
        if b"\r" in line:
            # In valid JSON this is white space; in a file it would pass for the end of a line.
            request = request_decoder.decode(line.replace(b"\r", b" "))
        return request
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise BadMessage(*_explain(line, error)) from None


def _explain(line: bytes, error: Exception) -> tuple[int, Refused]:
    """The id of a message that is no request of ours, and why it is none."""
    try:
        envelope = msgspec.json.decode(line, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _id_of(line), _invalid(error)
    if envelope.type is not None and "$.type" in str(error):
        return envelope.id, Refused(
            ErrorCode.UNKNOWN_TYPE,
            f"no request is called {envelope.type[:64]!r}",
            "docs/protocol.md lists the requests; or this daemon is older than its client",
        )
    return envelope.id, _invalid(error)


def _id_of(line: bytes) -> int:
    try:
        return msgspec.json.decode(line, type=_IdOnly).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def _invalid(error: Exception) -> Refused:
    if isinstance(error, msgspec.ValidationError):
        sentence, field = explained(error)
        return Refused(ErrorCode.INVALID, sentence, field=field)
    if isinstance(error, UnicodeDecodeError):
        return Refused(ErrorCode.INVALID, "the line is not valid UTF-8", "send text as UTF-8")
    if isinstance(error, RecursionError | MemoryError):
        return Refused(ErrorCode.INVALID, "the line is nested too deeply", "flatten it")
    return Refused(ErrorCode.INVALID, f"the line is not one JSON object: {error}", "send one object a line")
