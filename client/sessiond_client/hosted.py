"""Sessions for a host program that must never fail, nor wait for long, because it is recorded.

Owns a client and the recorder of the current session. The one rule: `begin`, `record`, `end` and `close`
never raise; they say whether it worked, and `trouble` says what did not. The other verbs raise `NotFound` or
`Io` and nothing else, each with one line for the user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sessiond_client.client import Client
from sessiond_client.errors import RequestFailed, SessiondError
from sessiond_client.recorder import Recorder
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import ErrorCode, Session, Source

BUDGET_SECONDS = 2.0
"""How long the host waits for each answer of the daemon, unless told otherwise."""

SESSIONS_DEFAULT = 50
EVENTS_DEFAULT = 1000
"""How much is listed and read unless told otherwise."""


class NotFound(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """No session is meant, or more than one; `candidates` are those, or come near."""

    def __init__(self, reason: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(reason, candidates)
        self.reason = reason
        self.candidates = tuple(candidates)

    def __str__(self) -> str:
        return self.reason


class Io(SessiondError):  # noqa: N818 - says what is, not what went wrong
    """Anything else that went wrong; the host goes on without. The cause is chained."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class HostedSessions:
    """The sessions of a host, one of which is current. Any thread may call it; close it at the end.

    Nothing is connected before it is needed. Where the daemon is away while the host records, events wait in
    memory, and with `spill_dir` in a private file there; without one, those beyond a full queue are dropped.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        spill_dir: Path | None = None,
        autostart: bool | None = None,
        budget: float = BUDGET_SECONDS,
    ) -> None:
        self.trouble: str | None = None
        """What went wrong last, as one line for the user; None: nothing yet."""
        self._path = path
        self._spill_dir = spill_dir
        self._autostart = autostart
        self._budget = budget
        self._connected: Client | None = None
        self._recorder: Recorder | None = None
        self._changing = threading.RLock()
        self._switching = threading.Lock()

    @property
    def current_ulid(self) -> str | None:
        """The session that is recorded into; None: nothing is recorded."""
        recorder = self._recorder
        return None if recorder is None else recorder.session

    # --- never raise

    def begin(
        self,
        name: str | None = None,
        *,
        source: Source | str = Source.APP,
        cli_version: str | None = None,
        engine_base_url: str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> bool:
        """Begin a session and make it the current one; one that was current is ended.

        False: it did not work, and nothing is recorded until it does.
        """

        def work() -> None:
            self._attempt(self._finish_current)
            session = self._client().start(
                name,
                source=source,
                cli_version=cli_version,
                engine_base_url=engine_base_url,
                tags=tags,
                meta=meta,
            )
            self._switch(self._recorder_of(session.ulid))

        return self._attempt(work)

    def record(
        self,
        kind: str,
        text: str | None = None,
        data: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Add an event to the current session, without waiting. False: it was not taken."""
        try:
            with self._switching:
                if self._recorder is None:
                    return False
                if self._recorder.offer(kind, text, data, at):
                    return True
                self.trouble = "the daemon does not keep up, and the queue is full"
        except Exception as error:  # noqa: BLE001 - the rule of this module
            self.trouble = _line(error)
        return False

    def end(self) -> bool:
        """End the current session, once what was recorded is delivered. False: it did not work.

        Nothing is recorded afterwards in either case.
        """
        return self._attempt(self._finish_current)

    def close(self) -> bool:
        """End the current session and hang up."""
        worked = self.end()
        return self._attempt(self._hang_up) and worked

    # --- raise `NotFound` or `Io`

    def list(self, limit: int = SESSIONS_DEFAULT) -> Sequence[Session]:
        """The newest sessions, the newest first."""
        with self._translated():
            return [*islice(self._client().sessions(), limit)]

    def find(self, needle: str) -> Session:
        """The session meant by a ULID, a label, a unique prefix or suffix of 4 letters or more, or a name."""
        with self._translated():
            return self._client().find(needle)

    def list_events(self, ulid: str, limit: int = EVENTS_DEFAULT) -> Sequence[Event]:
        """The last events of a session, oldest first; of a fork, only its own."""
        with self._translated():
            return self._client().read(ulid, tail=limit).events

    def save_label(self, ulid: str, label: str) -> None:
        """Let a label stand for a session, whatever it stood for before."""
        with self._translated():
            if not label.strip():
                raise Io("empty label")
            self._client().label(label, ulid)

    def fork_from_current(self) -> str | None:
        """Go on in a child of the current session, and end that. Returns the child's ULID, None without one.

        If it does not work the current session stays current.
        """
        with self._translated(), self._changing:
            parent = self._recorder
            if parent is None:
                return None
            parent.flush(timeout=self._budget)
            child = self._client().fork(parent.session)
            self._switch(self._recorder_of(child.ulid))
            self._attempt(lambda: self._finish(parent))
            return child.ulid

    # --- parts

    def _client(self) -> Client:
        with self._changing:
            if self._connected is None:
                self._connected = Client.connect(
                    self._path, autostart=self._autostart, timeout=self._budget, spool=None
                )
            return self._connected

    def _hang_up(self) -> None:
        if self._connected is not None:
            self._connected.close()

    def _recorder_of(self, ulid: str) -> Recorder:
        return Recorder(self._path, ulid, spill_dir=self._spill_dir, autostart=self._autostart)

    def _switch(self, recorder: Recorder | None) -> None:
        """From here on `record` uses this one; nobody is inside the old one any more."""
        with self._switching:
            self._recorder = recorder

    def _finish_current(self) -> None:
        recorder = self._recorder
        if recorder is not None:
            self._switch(None)
            self._finish(recorder)

    def _finish(self, recorder: Recorder) -> None:
        recorder.close(timeout=self._budget)
        self._client().end(recorder.session)

    def _attempt(self, work: Callable[[], None]) -> bool:
        try:
            with self._changing:
                work()
        except Exception as error:  # noqa: BLE001 - the rule of this module
            self.trouble = _line(error)
            return False
        return True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (NotFound, Io):
            raise
        except RequestFailed as refused:
            reply = refused.reply
            if reply.code not in {ErrorCode.NOT_FOUND, ErrorCode.AMBIGUOUS}:
                raise Io(str(refused)) from refused
            raise NotFound(str(refused), reply.candidates or reply.suggestions or ()) from refused
        except Exception as error:
            raise Io(_line(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(error: Exception) -> str:
    return str(error) or type(error).__name__
