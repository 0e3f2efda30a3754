"""How often the disk has failed of late: noted where a failing disk does not reach, in the runtime directory.

Owns the file beside the socket, one line a failure. The one rule: only failures of this data directory and of
the last minute count, and only those that speak of the disk; a clock that jumps makes the daemon try the disk
more often, never give it up sooner.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

import apsw
import msgspec

from sessiond.clock import Clock

FILE_NAME = "storage-failures"
FAILURES_MAX = 3
"""After so many ..."""

WINDOW_SECONDS = 60.0
"""... within this, the next start does not write."""

KEPT_MAX = 64
"""How many failures are kept, of whichever data."""

NOTES_BYTES_MAX = 4 * 1024 * 1024
"""More than what is kept of them has; a longer file is none of ours."""

REASON_LENGTH_MAX = 1000

_OF_THE_DISK = {errno.EIO, errno.EUCLEAN, errno.EROFS, errno.ENODEV, errno.ENXIO}

logger = logging.getLogger("sessiond.failures")


class Failure(msgspec.Struct, kw_only=True, frozen=True):
    """The disk failed: when, in microseconds since 1970, under which data, and what the system said."""

    at: int
    data_dir: str
    reason: str


def speaks_of_the_disk(error: BaseException | None) -> bool:
    """Whether it is the disk that does not do what it should: one that is full does."""
    if isinstance(error, OSError):
        return error.errno in _OF_THE_DISK
    return isinstance(error, apsw.IOError)


class Failures:
    """The failures under one data directory, noted in the runtime directory."""

    def __init__(self, runtime_dir: Path, data_dir: Path, clock: Clock) -> None:
        self.path = runtime_dir / FILE_NAME
        self._data_dir = str(data_dir)
        self._clock = clock

    def note(self, reason: str) -> None:
        """The disk has failed just now. Where not even that can be written, only the log knows."""
        failure = Failure(at=self._clock.now(), data_dir=self._data_dir, reason=reason[:REASON_LENGTH_MAX])
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
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(self.path, flags), "rb") as file:
                about = os.fstat(file.fileno())
                is_ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
                if not is_ours or about.st_size > NOTES_BYTES_MAX:
                    return []
                lines = file.read(NOTES_BYTES_MAX).splitlines()
            found = [msgspec.json.decode(line, type=Failure) for line in lines]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return []
        now = self._clock.now()
        return [failure for failure in found if abs(now - failure.at) <= WINDOW_SECONDS * 1_000_000]
