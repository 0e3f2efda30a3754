"""The end of a recording: everything delivered, or left where it can be delivered from later.

Owns the waiting, and the words about it. The one rule: it waits as long as the daemon takes events, and gives
up when it takes none; then they are left in the spool with the end of the session behind them. Only where
there is no room for that either, and none comes, is anything lost, and the user is told how much.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from sessionctl.connection import ONCE_IT_CAN, WHEN_IT_COMES
from sessionctl.exits import complain
from sessionctl.output import counted
from sessiond_client.errors import RecordingIncomplete, SessiondError
from sessiond_client.recorder import Recorder
from sessiond_client.wire.messages import End

PATIENCE_SECONDS = 5.0
"""How long the daemon may take no event at all."""

PATIENCE_AWAY_SECONDS = 1.0
"""The same, where no daemon has taken anything since the beginning."""

ROOM_SECONDS = 60.0
"""How long to wait for room on the disk, where what is left has to go."""

WARN_SECONDS = 2.0
"""Whoever is kept waiting for that is told after this."""

NO_ROOM = (
    "the disk is full: what is recorded cannot be stored, nor kept in the spool; free some space"
    f" (this is waited for {ROOM_SECONDS:.0f} s; Ctrl-C gives it up)"
)

TURN_SECONDS = 0.25
PROGRESS_AFTER_SECONDS = 1.0
BAR_WIDTH = 24


class Delivery:
    """Delivers what a recorder still has, or leaves it with `end` behind; `failure`: why it did neither."""

    def __init__(self, recorder: Recorder, end: End, patience: float = PATIENCE_SECONDS) -> None:
        self.failure: SessiondError | None = None
        self._recorder = recorder
        self._end = end
        self._patience = patience
        self._total = recorder.undelivered
        self._drawn = False

    def finish(self) -> None:
        """Wait for the daemon, then close the recorder. Ctrl-C ends the waiting; what fits is still left."""
        try:
            self._wait()
            self._close()
        except KeyboardInterrupt:
            self._close_now()
        except SessiondError as error:
            self.failure = error
            self._close_now()
        finally:
            self._erase()

    def _wait(self) -> None:
        began = progressed = time.monotonic()
        left = self._recorder.undelivered
        while True:
            try:
                self._recorder.flush(timeout=TURN_SECONDS)
            except RecordingIncomplete:
                now = time.monotonic()
            else:
                return
            if self._recorder.undelivered < left:
                left, progressed = self._recorder.undelivered, now
            if now - progressed >= self._patience:
                return
            if now - began >= PROGRESS_AFTER_SECONDS:
                self._draw(left)

    def _close(self) -> None:
        self._erase()
        warning = threading.Timer(WARN_SECONDS, complain, [NO_ROOM])
        warning.daemon = True
        warning.start()
        try:
            seconds = 0 if self._recorder.undelivered else TURN_SECONDS
            self._recorder.close(timeout=seconds, room_seconds=ROOM_SECONDS, end=self._end)
        finally:
            warning.cancel()

    def _close_now(self) -> None:
        try:
            self._recorder.close(timeout=0, end=self._end)
        except SessiondError as error:
            self.failure = self.failure or error

    def _draw(self, left: int) -> None:
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or not self._total:
            return
        done = self._total - left
        bar = "#" * (done * BAR_WIDTH // self._total)
        sys.stderr.write(f"\rsessionctl: storing [{bar:<{BAR_WIDTH}}] {done}/{self._total} events\x1b[K")
        sys.stderr.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            self._drawn = False


def remarks(recorder: Recorder, failure: SessiondError | None) -> list[str]:
    """What the user has to know about how the recording went; nothing if it simply went well."""
    if recorder.lost:
        are = "event is" if recorder.lost == 1 else f"{recorder.lost} events are"
        return [f"the last {are} lost: they could be neither stored nor kept in the spool{_cause(failure)}"]
    if failure is not None and not isinstance(failure, RecordingIncomplete):
        rest = f"; {_where(recorder)}" if recorder.undelivered else ""
        return [f"the recording stopped: {failure}{rest}"]
    if recorder.undelivered:
        last = "event" if recorder.undelivered == 1 else f"{recorder.undelivered} events"
        return [f"the daemon did not take the last {last}; {_where(recorder)}"]
    if recorder.reconnects:
        return [f"the daemon was away {_times(recorder.reconnects)}; nothing was lost"]
    return []


def _cause(failure: SessiondError | None) -> str:
    cause = None if failure is None else failure.__cause__ or failure
    if isinstance(cause, OSError):
        return f" ({cause.strerror})"
    return "" if cause is None or isinstance(cause, RecordingIncomplete) else f" ({cause})"


def _where(recorder: Recorder) -> str:
    path: Path | None = recorder.spill_path
    if path is None:
        are = "is" if recorder.undelivered == 1 else "are"
        return f"{counted(recorder.undelivered, 'event')} {are} not known to be stored"
    they, them = ("it is", "it") if recorder.undelivered == 1 else ("they are", "them")
    when = ONCE_IT_CAN if recorder.refused else WHEN_IT_COMES
    return f"{they} in {path}, and the daemon takes {them} over {when}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
