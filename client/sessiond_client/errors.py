"""What can go wrong for a caller of this library, told apart by what has happened and what to do next.

    SessiondError
    ├── DaemonUnavailable    nothing was sent: no daemon answers
    │   └── DaemonCannotStore    one answers, but cannot take over yet what waits in the spool
    ├── ConnectionLost       unknown: it was sent, the answer never came, and the retries gave up
    ├── NotSpooled           neither sent nor kept: no daemon answers, and the spool has no room
    ├── RequestFailed        refused by the daemon, nothing was stored; see `code`
    ├── ProtocolError        the daemon said something that this library does not understand
    └── RecordingIncomplete  a recorder was closed while some of its events were not acknowledged

`HostedSessions` tells two things apart only, `hosted.NotFound` and `hosted.Io`. The one rule: errors carry
fields and compose their own message, and no other exception leaves the library.
"""

from __future__ import annotations

from pathlib import Path

from sessiond_client.wire.messages import Error, ErrorCode


class SessiondError(Exception):
    """Anything this library raises."""


class DaemonUnavailable(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """No daemon answers at `path`; nothing was sent. `reason` says what was tried.

    `listening`: somebody accepts connections there, but does not answer.
    """

    def __init__(self, path: Path, reason: str, listening: bool = False) -> None:
        super().__init__(path, reason, listening)
        self.path = path
        self.reason = reason
        self.listening = listening

    def __str__(self) -> str:
        return f"no daemon answers at {self.path}: {self.reason}"


class DaemonCannotStore(DaemonUnavailable):
    """A daemon answers at `path`, but cannot store yet what waits in the spool; nothing overtakes that."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "it cannot take over the spool yet", listening=True)
        self.args = (path,)

    def __str__(self) -> str:
        return f"the daemon at {self.path} cannot store yet what waits in the spool"


class ConnectionLost(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """The connection went before the answer came, and `seconds` of reconnecting did not bring it back.

    Whether the request took effect is unknown.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(path, seconds)
        self.path = path
        self.seconds = seconds

    def __str__(self) -> str:
        return f"no answer from the daemon at {self.path} within {self.seconds:.0f} s; the outcome is unknown"


class NotSpooled(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """A request could not be kept in the spool at `path`; `reason` says why, and what to do.

    Its cause is why it was to be kept: `DaemonUnavailable` if it was not sent, `ConnectionLost` if whether it
    took effect is unknown.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        before = f"{self.__cause__}; and " if self.__cause__ else ""
        return f"{before}the request could not be kept: {self.reason}"


class RequestFailed(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """The daemon refused the request; nothing was stored. `reply` has the fields that belong to `code`."""

    def __init__(self, reply: Error) -> None:
        super().__init__(reply)
        self.reply = reply

    @property
    def code(self) -> ErrorCode:
        """Why, as one of the stable codes."""
        return self.reply.code

    def __str__(self) -> str:
        return f"{self.reply.message} ({self.reply.hint})" if self.reply.hint else self.reply.message


class ProtocolError(SessiondError):
    """The daemon's answer makes no sense to this library; most likely the two have different versions."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"the daemon's answer is not understood: {self.detail}"


class RecordingIncomplete(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """A recorder was closed before `undelivered` events of `session` were acknowledged.

    They are in the file `spill_path`, ready for `Client.take_over`; without one, their outcome is unknown.
    """

    def __init__(self, session: str, undelivered: int, spill_path: Path | None) -> None:
        super().__init__(session, undelivered, spill_path)
        self.session = session
        self.undelivered = undelivered
        self.spill_path = spill_path

    def __str__(self) -> str:
        one = self.undelivered == 1
        events, kept = ("event", "it is kept") if one else ("events", "they are kept")
        rest = f"{kept} in {self.spill_path}" if self.spill_path else "what became of that is unknown"
        not_acknowledged = f"{'was' if one else 'were'} not acknowledged"
        return f"{self.undelivered} {events} of session {self.session} {not_acknowledged}; {rest}"
