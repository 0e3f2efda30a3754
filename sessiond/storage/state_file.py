"""state.ndjson: labels and milestones as lines, so that a database built anew has them again.

The one rule: as with session files, the database is written first and this file follows; the database knows
its size, so that a start can tell whether it has everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import apsw
import msgspec

from sessiond.clock import Clock, time_text
from sessiond.storage.database import rows
from sessiond.storage.disk import Disk
from sessiond.storage.encoding import encode
from sessiond.storage.files import FileLags, replace_file, write_whole
from sessiond_client.wire.lines import LabelLine, MilestoneLine

STATE_NAME = "state.ndjson"

LABELS = "SELECT label, ulid FROM label JOIN session ON session.id = session_id"
MILESTONES = "SELECT key, value FROM milestone ORDER BY key"

_decoder: msgspec.json.Decoder[LabelLine | MilestoneLine] = msgspec.json.Decoder(LabelLine | MilestoneLine)


class StateFile:
    """The file of one data directory. Use it from the writer's thread."""

    def __init__(self, data_dir: Path, disk: Disk) -> None:
        self.path = data_dir / STATE_NAME
        self._disk = disk

    def append(self, data: bytes, size: int) -> None:
        """Add whole lines to the file, which must have `size` bytes now, and sync it.

        Raises OSError or FileLags.
        """
        if size == 0 and self._disk.file_size(self.path) is None:
            descriptor = self._disk.create(self.path)
        else:
            descriptor = self._disk.open_append(self.path)
        try:
            if self._disk.size(descriptor) != size:
                raise FileLags(f"{self.path.name} does not have {size} bytes")
            try:
                write_whole(self._disk, descriptor, data)
            except OSError:
                self._disk.truncate(descriptor, size)
                raise
        finally:
            self._disk.close(descriptor)
        self._disk.sync(self.path)

    def renew(self, connection: apsw.Connection, clock: Clock) -> int:
        """Write the file anew from the database; returns its size. Raises OSError."""
        now = time_text(clock.now())
        labels = rows(connection, LABELS)
        milestones = rows(connection, MILESTONES)
        lines: list[LabelLine | MilestoneLine] = [
            *(LabelLine(at=now, label=label, session=ulid) for label, ulid in labels),
            *(MilestoneLine(at=now, key=key, value=value) for key, value in milestones),
        ]
        data = b"".join(encode(line) + b"\n" for line in lines)
        replace_file(self._disk, self.path, [data])
        return len(data)

    def reconcile(self, connection: apsw.Connection, clock: Clock) -> str | None:
        """Bring file and database back together at start-up; returns what was done, None if nothing was.

        What the file has beyond what the database knows is taken in: the database is an older one, or new.
        The size alone proves nothing: after a power cut a file may have it, and NUL bytes instead of lines.
        """
        expected = int(connection.execute("SELECT value FROM fact WHERE name = 'state_bytes'").get)
        data = b"" if self._disk.file_size(self.path) is None else self._disk.read(self.path)
        if len(data) == expected and _says(data, connection):
            if data:
                self._disk.sync_anew(self.path)
            return None
        done = "state_files_rewritten"
        if lines := _whole_lines(data[expected:]):
            _take_in(connection, lines)
            done = "state_lines_adopted"
        size = self.renew(connection, clock)
        connection.execute("UPDATE fact SET value = ? WHERE name = 'state_bytes'", (size,))
        return done


def _says(data: bytes, connection: apsw.Connection) -> bool:
    """Whether these are whole lines that lead to the labels and milestones which the database has."""
    stored = dict(rows(connection, LABELS)), dict(rows(connection, MILESTONES))
    return state_in(data) == (stored, None)


def state_in(data: bytes) -> tuple[tuple[dict[str, str], dict[str, str]], int | None]:
    """Labels (with their ULIDs) and milestones as these lines say, and where the first bad one begins."""
    labels: dict[str, str] = {}
    milestones: dict[str, str] = {}
    lines = _whole_lines(data)
    for line in lines:
        if isinstance(line, MilestoneLine):
            milestones[line.key] = line.value
        elif line.session is None:
            labels.pop(line.label, None)
        else:
            labels[line.label] = line.session
    whole = data.split(b"\n")
    bad = None if len(lines) == len(whole) - 1 and not whole[-1] else sum(map(len, whole[: len(lines)]))
    return (labels, milestones), bad if bad is None else bad + len(lines)


def _whole_lines(data: bytes) -> list[LabelLine | MilestoneLine]:
    lines = []
    for raw in data.split(b"\n")[:-1]:
        try:
            lines.append(_decoder.decode(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
    return lines


def _take_in(connection: apsw.Connection, lines: Iterable[LabelLine | MilestoneLine]) -> None:
    for line in lines:
        match line:
            case MilestoneLine():
                connection.execute(
                    "INSERT OR REPLACE INTO milestone (key, value) VALUES (?, ?)", (line.key, line.value)
                )
            case LabelLine(session=None):
                connection.execute("DELETE FROM label WHERE label = ?", (line.label,))
            case LabelLine():
                connection.execute(
                    "INSERT OR REPLACE INTO label (label, session_id)"
                    " SELECT ?, id FROM session WHERE ulid = ?",
                    (line.label, line.session),
                )
