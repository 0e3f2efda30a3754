"""A session's file (format version 3), written here and handed to the daemon.

Owns the files on their way: below the state directory, private, and gone when they are no longer needed, also
those of a process that was killed. The one rule: what is handed over is whole, its footer has the digest of
exactly the lines in it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec

from sessiond_client import paths
from sessiond_client.wire.lines import CommandLine, EventLine, FooterLine, HeaderLine
from sessiond_client.wire.messages import EndReason, Status

BUFFER_BYTES = 1024 * 1024
COMMAND_BEGINNING = b'{"type":"command"'

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encoder = msgspec.json.Encoder()


def time_text(microseconds: int) -> str:
    """A time as lines have it: RFC 3339 in UTC."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def private_folder(name: str) -> Path:
    """A directory below the state directory, both for this user alone."""
    state = paths.state_dir()
    state.parent.mkdir(parents=True, exist_ok=True)
    for folder in (state, state / name):
        folder.mkdir(mode=0o700, exist_ok=True)
    return state / name


@contextmanager
def scratch(directory: str, name: str) -> Iterator[tuple[Path, BinaryIO]]:
    """A new private file below the state directory, open for writing; removed at the end."""
    folder = private_folder(directory)
    _sweep(folder)
    path = folder / f"{os.getpid()}.{name}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=BUFFER_BYTES) as file:
            yield path, file
    except OSError as error:
        # A full disk should say where.
        error.filename = error.filename or str(path)
        raise
    finally:
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what processes that are gone have left behind."""
    for path in folder.iterdir():
        pid = path.name.partition(".")[0]
        if pid.isdecimal() and not _lives(int(pid)):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # somebody else's, or no number of ours: it is left alone
    return True


class SessionFile:
    """Writes one session, line by line; whoever calls writes the header first and the footer last."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.events = 0
        self.commands = 0
        self._file = file
        self._digest = hashlib.sha256()

    def header(self, header: HeaderLine) -> None:
        """The first line."""
        self._write(_encoder.encode(header))

    def event(self, event: EventLine) -> None:
        """The next event, of any kind but `command`; its `seq` is allotted here."""
        self._add(_encoder.encode(msgspec.structs.replace(event, seq=self.events)))

    def command(self, command: CommandLine) -> None:
        """The next event, a command; its `seq` and `index` are allotted here."""
        numbered = msgspec.structs.replace(command, seq=self.events, index=self.commands)
        self.commands += 1
        self._add(_encoder.encode(numbered))

    def line(self, line: bytes) -> None:
        """The next event as the line that it is already; its numbers must be the next ones."""
        self.commands += line.startswith(COMMAND_BEGINNING)
        self._add(line)

    def footer(
        self,
        ended_at: str,
        status: Status = Status.COMPLETED,
        end_reason: EndReason = EndReason.IMPORTED,
        exit_code: int | None = None,
    ) -> None:
        """The last line; the file is complete then."""
        self._write(
            _encoder.encode(
                FooterLine(
                    ended_at=ended_at,
                    status=status,
                    end_reason=end_reason,
                    exit_code=exit_code,
                    command_count=self.commands,
                    event_count=self.events,
                    digest=self._digest.hexdigest(),
                )
            )
        )
        self._file.flush()

    def _add(self, line: bytes) -> None:
        self.events += 1
        self._digest.update(line + b"\n")
        self._write(line)

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")


@contextmanager
def session_file(ulid: str) -> Iterator[SessionFile]:
    """A file for this session, removed at the end."""
    with scratch("import", f"{ulid}.ndjson") as (path, file):
        yield SessionFile(path, file)
