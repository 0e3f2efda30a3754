"""The file of a session that is being brought in, under a temporary name until it is whole and on disk.

The one rule: it gets its name only if nobody else has it; until then a start removes what is there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sessiond.errors import Refused
from sessiond.storage.encoding import footer_line, header_line
from sessiond.storage.files import TEMPORARY_MARK, SessionFiles, write_whole
from sessiond_client.wire.messages import ErrorCode, Session

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
ROOM_FACTOR = 3
"""A session takes so many times the bytes of its event lines: file, database, write-ahead log."""


class IncomingFile:
    """Writes one file: header, events, footer. Raises Refused where the disk does."""

    def __init__(self, session_files: SessionFiles, ulid: str) -> None:
        self._disk = session_files.disk
        self._target = session_files.path(ulid)
        self._temporary = self._target.with_name(f"{self._target.name}{TEMPORARY_MARK}adopt")
        self._is_open = False
        self.size = 0

    def require_free(self, byte_count: int) -> None:
        """Raises Refused if a file that is not ours has the name, or so many bytes of events have no room.

        Even to clear away what was stored takes room, so it is better not begun.
        """
        with _translated():
            needed, free = ROOM_FACTOR * byte_count, self._disk.free_bytes(self._target.parent)
            if needed > free:
                raise Refused(
                    ErrorCode.DISK_FULL,
                    f"it needs about {needed} bytes, and the disk has {free}; nothing was stored",
                    "free some space and send it again",
                )
            if self._disk.file_size(self._target) is not None:
                raise Refused(
                    ErrorCode.EXISTS,
                    f"a file that the daemon does not know has the name {self._target}",
                    "restart the daemon to have it taken in, or move it away",
                    path=str(self._target),
                )

    def begin(self, session: Session) -> None:
        """Make the file, with its header."""
        with _translated():
            if self._disk.file_size(self._temporary) is not None:
                self._disk.unlink(self._temporary)
            self._descriptor = self._disk.create(self._temporary)
            self._is_open = True
        self.add(header_line(session) + b"\n")

    def add(self, data: bytes) -> None:
        """Write some lines."""
        with _translated():
            write_whole(self._disk, self._descriptor, data)
        self.size += len(data)

    def finish(self, session: Session) -> None:
        """Write the footer, bring the file to the disk, and give it its name."""
        self.add(footer_line(session) + b"\n")
        with _translated():
            self._close()
            self._disk.sync(self._temporary)
            self._disk.rename(self._temporary, self._target)
            self._disk.sync_directory(self._target.parent)

    def abandon(self) -> None:
        """Remove the temporary file, if it is there still; what the disk keeps, the next start removes."""
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._disk.unlink(self._temporary)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._disk.close(self._descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise Refused(
                ErrorCode.DISK_FULL,
                "the disk is full; nothing was stored",
                "free some space and send it again",
            ) from None
        raise Refused(
            ErrorCode.INTERNAL,
            f"the session's file cannot be written: {error.strerror}; nothing was stored",
            "check the disk of the data directory",
        ) from error
