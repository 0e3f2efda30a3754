"""How often the disk has failed of late: noted where a failing disk does not reach, in the runtime directory.

Owns the file beside the socket, one line a failure. The one rule: only failures of this data directory and of
the last minute count; a clock that jumps makes the daemon try the disk more often, never give it up sooner.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from sessiond.clock import Clock

FILE_NAME = "storage-failures"
FAILURES_MAX = 3
"""After so many ..."""

WINDOW_SECONDS = 60.0
"""... within this, the next start does not write."""

KEPT_MAX = 64
"""How many failures are kept, of whichever data."""

logger = logging.getLogger("sessiond.failures")


class Failure(msgspec.Struct, kw_only=True, frozen=True):
    """The disk failed: when, in microseconds since 1970, under which data, and what the system said."""

    at: int
    data_dir: str
    reason: str


class Failures:
    """The failures under one data directory, noted in the runtime directory."""

    def __init__(self, runtime_dir: Path, data_dir: Path, clock: Clock) -> None:
        self.path = runtime_dir / FILE_NAME
        self._data_dir = str(data_dir)
        self._clock = clock

    def note(self, reason: str) -> None:
        """The disk has failed just now. Where not even that can be written, only the log knows."""
        failure = Failure(at=self._clock.now(), data_dir=self._data_dir, reason=reason)
        try:
            self._write([*self._recent(), failure][-KEPT_MAX:])
        except OSError as error:
            logger.error("the failure is not noted", extra={"path": str(self.path), "reason": str(error)})  # noqa: TRY400

    def too_many(self) -> Failure | None:
        """The last failure, if there were so many that nothing should be written for now."""
        ours = [failure for failure in self._recent() if failure.data_dir == self._data_dir]
        return ours[-1] if len(ours) >= FAILURES_MAX else None

    def _write(self, failures: list[Failure]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{FILE_NAME}.tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.writelines(msgspec.json.encode(failure) + b"\n" for failure in failures)
        temporary.rename(self.path)

    def _recent(self) -> list[Failure]:
        """The failures of the last minute, in order; what cannot be read, or is not ours, counts for none."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                if os.fstat(descriptor).st_uid != os.geteuid():
                    return []
                found = [msgspec.json.decode(line, type=Failure) for line in file]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return []
        now = self._clock.now()
        return [failure for failure in found if abs(now - failure.at) <= WINDOW_SECONDS * 1_000_000]
