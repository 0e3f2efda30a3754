"""What could not be sent, kept until a daemon takes it over: private files, each locked while it is written.

Owns the files of one client and how many requests wait in them. The one rule: what `keep` has returned from
is on disk, in the order of the calls; a request that does not fit leaves the file as it was. The daemon takes
over a file once nobody holds its lock, so letting go of one is all that delivering it takes; one that it
could not take over is gone on with.
"""

from __future__ import annotations

import errno
import os
import threading
from enum import Enum
from pathlib import Path
from typing import Any

from sessiond_client.errors import (
    ConnectionLost,
    DaemonUnavailable,
    NotSpooled,
    RequestFailed,
    SessiondError,
)
from sessiond_client.protocol import encode
from sessiond_client.requests import as_spooled, spooled_reply
from sessiond_client.spool_file import SpoolFile, open_private
from sessiond_client.wire.messages import Reply, Request, Welcome
from sessiond_client.wire.spool import FileName, parse_name

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger share of the disk",
    errno.EFBIG: "raise the limit of the file size (ulimit -f)",
    errno.EROFS: "it is mounted for reading only: mount it for writing",
    errno.EACCES: "see who owns it, and its mode",
    errno.EPERM: "see who owns it, and its mode",
    errno.EMFILE: "close some files: this process may open no more (ulimit -n)",
    errno.EBUSY: "try again",
    errno.ENFILE: "close some files: this machine may open no more",
}


class _Others(Enum):
    """Whether recorders of this process have left something, and a daemon was told of it."""

    NONE = 0
    UNTOLD = 1
    TOLD = 2


class Spool:
    """The requests of one client that wait. Any thread may call it.

    `away`: what comes next waits here, too, until all that waits is taken over, for nothing may overtake it.
    Nor may a small request overtake a larger one that found no room: it is refused until that would fit.
    """

    def __init__(self, directory: Path, producer: str, client: str) -> None:
        self.directory = directory
        self.away = False
        self._producer = producer
        self._client = client
        self._lock = threading.Lock()
        self._number = 0
        self._file: SpoolFile | None = None
        self._handed_over: SpoolFile | None = None
        """The last file, which a daemon was told of and has not answered for."""
        self._left: SpoolFile | None = None
        """The last file, once a daemon has answered that it could not take it over."""
        self._untold = 0
        self._told = 0
        self._others = _Others.NONE
        self._refused_bytes = 0
        self.takes_refused = False
        """Whether it also keeps what the daemon refuses for now, for one who cannot send it again."""
        self.failure: SessiondError | None = None
        """Why something had to be kept, the last time."""

    @property
    def waiting(self) -> int:
        """How many requests wait to be taken over."""
        return self._untold + self._told

    @property
    def is_settled(self) -> bool:
        """Whether nothing of ours waits, nor anything that a recorder of ours has left."""
        return not self.waiting and self._others is _Others.NONE

    @property
    def is_news(self) -> bool:
        """Whether something waits that no daemon was told of since."""
        return self._untold > 0 or self._others is _Others.UNTOLD

    def left_by_another(self) -> None:
        """A recorder left something behind: it goes before what comes next."""
        with self._lock:
            self.away = True
            self._others = _Others.UNTOLD

    def keep(
        self, request: Request[Any], failure: DaemonUnavailable | ConnectionLost | RequestFailed
    ) -> Reply:
        """Write down what could not be sent, or was not answered; returns what is known of its outcome.

        Raises `failure` for what cannot wait, `RequestFailed` for what the daemon would refuse for its form,
        and `NotSpooled` where there is no room.
        """
        filled_in = as_spooled(request)
        if filled_in is None:
            raise failure
        line = encode(filled_in)
        reply = spooled_reply(filled_in, line)
        with self._lock:
            self.away = True
            self.failure = failure
            try:
                self._write(line)
            except OSError as error:
                raise not_spooled(self.directory, error) from failure
            self._untold += 1
        return reply

    def hand_over(self) -> str | None:
        """Let go of what was written, for the daemon to take; returns where it looks, None: nothing waits.

        Whoever calls this says hello with it. What others have left there counts, too: it was before what
        comes now.
        """
        with self._lock:
            self._handed_over = self._file or self._left or self._handed_over
            self._close()
            self._told += self._untold
            self._untold = 0
            if self._others is _Others.UNTOLD:
                self._others = _Others.TOLD
            return str(self.directory) if not self.is_settled or _others_wait(self.directory) else None

    def let_go(self) -> None:
        """Let go of what was written without telling the daemon, which may find it; the next hello tells."""
        with self._lock:
            self._close()
            self._handed_over = None
            self.away |= self.waiting > 0

    def taken_over(self, welcome: Welcome) -> None:
        """The daemon has taken what was let go of before its hello, but for so many files as it says.

        If it says nothing, it did not look: nothing waited, or it would not have the directory.
        """
        with self._lock:
            if welcome.waiting:
                self._left, self._handed_over = self._left or self._handed_over, None
            elif welcome.waiting == 0:
                self._told = 0
                self._left = self._handed_over = None
                if self._others is _Others.TOLD:
                    self._others = _Others.NONE
            if not self._told:
                self._refused_bytes = 0

    def _close(self) -> None:
        self._left = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: bytes) -> None:
        file = self._file = self._file or self._file_to_write()
        start = None
        try:
            start = file.write(line, self._refused_bytes)
            file.sync()
            self._refused_bytes = 0
        except OSError:
            self._refused_bytes = max(self._refused_bytes, len(line))
            if start is not None:
                file.take_back(start)
            if not file.kept:
                self._file = None
            raise
        finally:
            self._number = file.name.number

    def _file_to_write(self) -> SpoolFile:
        """The one that the daemon could not take over, until it is told of it again; or a new one."""
        left, self._left = self._left, None
        if left is not None and left.take_again():
            return left
        return SpoolFile(self.directory, FileName(self._producer, self._number + 1), self._client)


def not_spooled(directory: Path, error: OSError) -> NotSpooled:
    """Why nothing can be kept in a spool, and what to do; our own errors say so themselves."""
    reason = error.strerror or str(error)
    if str(directory) not in reason:
        advice = _ADVICE.get(error.errno or 0, "see to the disk")
        reason = f"cannot write in the spool {directory}: {reason}; {advice}"
    return NotSpooled(directory, reason)


def leftovers(directory: Path) -> list[Path]:
    """The files that wait in a spool, in the order in which they are taken over."""
    try:
        names = [name for name in os.listdir(directory) if parse_name(name)]
    except OSError:
        return []
    return [directory / name for name in sorted(names)]


def _others_wait(directory: Path) -> bool:
    """Whether files wait in a spool that the daemon takes over: in one that is open to others it does not."""
    if not leftovers(directory):
        return False
    try:
        os.close(open_private(directory))
    except OSError:
        return False
    return True
