"""Many events in a row, without waiting for each: `record(kind, text)` puts one into a bounded queue.

Owns the queue and the thread that empties it over a connection of its own. The one rule: `record` never waits
for the disk or the daemon while there is room; what it took is delivered once and in order, or reported.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sessiond_client.autostart import Connector
from sessiond_client.errors import RecordingIncomplete, SessiondError
from sessiond_client.events import encode_event, event
from sessiond_client.intake import Intake
from sessiond_client.protocol import Protocol, encode
from sessiond_client.requests import as_spooled
from sessiond_client.sender import Sender
from sessiond_client.spool import Spool, leftovers, not_spooled
from sessiond_client.spool_file import SpoolFile, open_private
from sessiond_client.ulids import new_ulid
from sessiond_client.version import CLIENT_NAME
from sessiond_client.wire.framing import EVENT_BYTES_MAX
from sessiond_client.wire.messages import DATA_DEPTH_MAX, KIND_PATTERN, TEXT_BYTES_MAX, End
from sessiond_client.wire.spool import FileName

CLOSE_SECONDS = 30.0
"""How long `close` tries to deliver, unless told otherwise."""

_kind = re.compile(KIND_PATTERN)
_structure = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}]')


class Recorder:
    """Records into one session; any thread may call it. Close it, or use it as a context manager.

    Where the queue is full, `record` waits for the daemon (back-pressure). With `spill_dir`, it does so only
    while the daemon keeps up: when that is away, the queue is moved to a private file there, and sent from
    it when the daemon is back; what is left when the recorder is closed, the daemon takes over once a
    recorder with this `spill_dir` connects, or `Client.take_over` is called. Of a `spool`, it does so by
    itself. Refusals (`session_ended` and the like) are raised by the next call.
    """

    def __init__(
        self,
        path: Path | None,
        session: str,
        *,
        spill_dir: Path | None = None,
        autostart: bool | None = None,
        name: str = CLIENT_NAME,
        spool: Spool | None = None,
    ) -> None:
        protocol = Protocol(new_ulid(), name)
        if spool is not None:
            spool.let_go()  # the session may have begun there: the daemon has to hear of it first
        directory = spill_dir or (None if spool is None else spool.directory)
        if directory is not None and leftovers(Path(directory)):
            protocol.spool = str(Path(directory).absolute())
        if directory is not None and (spill_dir is not None or (spool is not None and not spool.is_settled)):
            _require_private(Path(directory))
        spill = None if directory is None else _spill_file(Path(directory), protocol)
        self.session = session
        self._spill = spill
        self._spool = spool if spill_dir is None else None
        self._owner = os.getpid()
        self._released = False
        self._intake = Intake(self._wake)
        self._sender = Sender(session, self._intake, protocol, Connector(path, autostart), spill)
        self._thread = threading.Thread(target=self._sender.run, name="sessiond-recorder", daemon=True)
        self._thread.start()
        atexit.register(self._close_at_exit)

    # --- recording

    def record(
        self,
        kind: str,
        text: str | None = None,
        data: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Add an event, as of now unless `at` is given.

        Raises `ValueError` for what the daemon would refuse (a kind with other letters, text of more than
        1 MiB or that is no Unicode), and what an earlier event was refused with.
        """
        self._check_process()
        self._intake.put(_encode(kind, text, data, at))

    __call__ = record

    def offer(
        self,
        kind: str,
        text: str | None = None,
        data: Mapping[str, Any] | None = None,
        at: datetime | None = None,
        *,
        timeout: float = 0.0,
    ) -> bool:
        """Like `record`, but where there is no room within `timeout`, take nothing and return False."""
        self._check_process()
        return self._intake.put(_encode(kind, text, data, at), timeout)

    def flush(self, *, timeout: float | None = None) -> None:
        """Return when everything recorded so far is acknowledged.

        Raises `RecordingIncomplete` after `timeout` seconds (None: never), or what was refused.
        """
        self._check_process()
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._intake.wait_settled(deadline):
            self._raise_incomplete()

    def close(
        self, *, timeout: float = CLOSE_SECONDS, room_seconds: float = 0.0, end: End | None = None
    ) -> None:
        """Deliver the rest and stop; closing again does nothing.

        What cannot be delivered within `timeout` seconds is left in the spool, if there is one, from where
        the daemon takes it over, and `end` behind it; `end_left` tells. For room on the disk it waits for
        `room_seconds` more. Otherwise `RecordingIncomplete` is raised, also where it is left in a
        `spill_dir`. In a forked child this does nothing.
        """
        if self._owner != os.getpid() or self._released:
            return
        if end is not None and (waiting := as_spooled(end)) is not None:
            self._sender.end_line = encode(waiting)
        self._intake.close(time.monotonic() + timeout, room_seconds)
        self._thread.join()
        self._released = True
        self._sender.release()
        atexit.unregister(self._close_at_exit)
        if self._is_kept_in_spool():
            return
        if self.undelivered or self._intake.failure is not None:
            self._raise_incomplete()

    def _is_kept_in_spool(self) -> bool:
        """Whether the rest is where the daemon finds it; what comes next must not overtake it."""
        if self._spool is None or self._intake.failure is not None or self.spill_path is None:
            return False
        self._spool.left_by_another()
        return True

    # --- how it goes

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._intake.closing

    @property
    def recorded(self) -> int:
        """How many events were taken."""
        return self._intake.recorded

    @property
    def undelivered(self) -> int:
        """How many of them are not acknowledged (counted from the first that is not)."""
        return self._intake.recorded - self._intake.settled

    @property
    def lost(self) -> int:
        """How many of them are nowhere but in memory; after `close`, those that are gone."""
        return self._sender.lost

    @property
    def refused(self) -> bool:
        """Whether a daemon answers, and cannot store for now: its disk is full, or it only reads."""
        return self._sender.is_put_off

    @property
    def end_left(self) -> bool:
        """Whether the `end` given to `close` is in the spill file, behind the events that are left there."""
        return self._sender.end_left

    @property
    def spilled(self) -> int:
        """How many of them went through the spill file."""
        return self._sender.spilled

    @property
    def reconnects(self) -> int:
        """How often the connection was lost."""
        return self._sender.reconnects

    @property
    def spill_path(self) -> Path | None:
        """The spill file, while there is one; after `close`, the one left behind."""
        if self._spill is None or not self._spill.kept:
            return None
        return self._spill.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as failure:  # noqa: BLE001 - told along with the caller's own, which matters more
            error.add_note(f"and the recording: {failure}")

    def _raise_incomplete(self) -> None:
        failure = self._intake.failure
        if isinstance(failure, SessiondError):
            raise failure.with_traceback(None)
        raise RecordingIncomplete(self.session, self.undelivered, self.spill_path) from failure

    def _check_process(self) -> None:
        """A forked child has the queue but not the thread: what it recorded would never leave it."""
        if self._owner != os.getpid():
            raise RuntimeError(f"this recorder belongs to process {self._owner}; make one in this process")

    def _wake(self) -> None:
        self._sender.wake()

    def _close_at_exit(self) -> None:
        """A program that forgot to close still gets its events delivered."""
        self.close()


def _require_private(directory: Path) -> None:
    """Raises `NotSpooled` for a directory that is there and cannot be used, where it has to be."""
    if directory.exists():
        try:
            os.close(open_private(directory))
        except OSError as error:
            raise not_spooled(directory, error) from error


def _spill_file(directory: Path, protocol: Protocol) -> SpoolFile:
    return SpoolFile(directory.absolute(), FileName(protocol.producer, 1), protocol.name)


def _encode(kind: str, text: str | None, data: Mapping[str, Any] | None, at: datetime | None) -> bytes:
    """One event as bytes; refuses alone what would have its neighbours refused with it."""
    if _kind.match(kind) is None:
        raise ValueError(f"kind: {kind!r} does not match {KIND_PATTERN}")
    if text is None and kind == "command":
        raise ValueError("text: a command event needs its command line")
    new = event(kind, text, data, datetime.now(UTC) if at is None else at)
    encoded = encode_event(new)
    if text is not None and len(text) > TEXT_BYTES_MAX // 4:
        _check_text(text)
    if data:
        _check_depth(bytes(new.data))
    if len(encoded) > EVENT_BYTES_MAX:
        raise ValueError(f"data: an event of {len(encoded)} bytes, the limit is {EVENT_BYTES_MAX}")
    return encoded


def _check_text(text: str) -> None:
    size = len(text.encode())
    if size > TEXT_BYTES_MAX:
        raise ValueError(f"text: {size} bytes, the limit is {TEXT_BYTES_MAX}; record it in pieces")


def _check_depth(data: bytes) -> None:
    """Refuse data nested deeper than the wire allows; few have as many brackets as that takes."""
    if data.count(b"{") + data.count(b"[") <= DATA_DEPTH_MAX:
        return
    depth = 0
    for token in _structure.finditer(data):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token.group(), 0)
        if depth > DATA_DEPTH_MAX:
            raise ValueError(f"data: nested deeper than {DATA_DEPTH_MAX} levels")
