"""state.ndjson: labels and milestones as lines, so that a database built anew has them again.

The one rule: as with session files, the database is written first and this file follows; the database knows
its size, so that a start can tell whether it has everything. It is read line by line, however long it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from sessiond.clock import Clock, time_text
from sessiond.storage.database import rows
from sessiond.storage.disk import Disk
from sessiond.storage.encoding import encode
from sessiond.storage.file_reading import LineDamage, lines_of
from sessiond.storage.files import FileLags, replace_file, write_whole
from sessiond_client.wire.lines import LabelLine, MilestoneLine

STATE_NAME = "state.ndjson"

LABELS = "SELECT label, ulid FROM label JOIN session ON session.id = session_id"
MILESTONES = "SELECT key, value FROM milestone ORDER BY key"

State = tuple[dict[str, str], dict[str, str]]
"""Labels with their ULIDs, and milestones."""

_decoder: msgspec.json.Decoder[LabelLine | MilestoneLine] = msgspec.json.Decoder(LabelLine | MilestoneLine)


class Said(NamedTuple):
    """What a file leads to, how long it is, and where its first bad line begins."""

    state: State
    size: int
    damage: int | None


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
        return self.write(rows(connection, LABELS), rows(connection, MILESTONES), clock)

    def write(
        self, labels: Iterable[tuple[str, str]], milestones: Iterable[tuple[str, str]], clock: Clock
    ) -> int:
        """Write the file anew: labels with their ULIDs, milestones with their values; as `renew`."""
        now = time_text(clock.now())
        lines: list[LabelLine | MilestoneLine] = [
            *(LabelLine(at=now, label=label, session=ulid) for label, ulid in labels),
            *(MilestoneLine(at=now, key=key, value=value) for key, value in milestones),
        ]
        data = b"".join(encode(line) + b"\n" for line in lines)
        replace_file(self._disk, self.path, [data])
        return len(data)

    def reconcile(self, said: Said, connection: apsw.Connection, clock: Clock) -> str | None:
        """Bring file and database back together at start-up; returns what was done, None if nothing was.

        What the file has beyond what the database knows is taken in: the database is an older one, or new.
        The size alone proves nothing: after a power cut a file may have it, and NUL bytes instead of lines.
        """
        expected = int(connection.execute("SELECT value FROM fact WHERE name = 'state_bytes'").get)
        if said == Said(stored_state(connection), expected, None):
            if expected:
                self._disk.sync_anew(self.path)
            return None
        done = "state_files_rewritten"
        for _, line in self._lines(expected):
            _take_in(connection, line)
            done = "state_lines_adopted"
        size = self.renew(connection, clock)
        connection.execute("UPDATE fact SET value = ? WHERE name = 'state_bytes'", (size,))
        return done

    def said(self) -> Said:
        """Labels and milestones as the lines say. Raises OSError; a file that is not there says nothing."""
        labels: dict[str, str] = {}
        milestones: dict[str, str] = {}
        size = self._disk.file_size(self.path) or 0
        whole = 0
        for end, line in self._lines():
            whole = end
            if isinstance(line, MilestoneLine):
                milestones[line.key] = line.value
            elif line.session is None:
                labels.pop(line.label, None)
            else:
                labels[line.label] = line.session
        return Said((labels, milestones), max(size, whole), whole if whole < size else None)

    def _lines(self, offset: int = 0) -> Iterator[tuple[int, LabelLine | MilestoneLine]]:
        """The lines from `offset` on up to the first that is none, each after where it ends."""
        if self._disk.file_size(self.path) is None:
            return
        descriptor = self._disk.open_read(self.path)
        try:
            for begin, raw in lines_of(self._disk, descriptor, offset):
                yield begin + len(raw) + 1, _decoder.decode(raw)
        except (LineDamage, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        finally:
            self._disk.close(descriptor)


def stored_state(connection: apsw.Connection) -> State:
    """Labels and milestones as the database has them."""
    return dict(rows(connection, LABELS)), dict(rows(connection, MILESTONES))


def _take_in(connection: apsw.Connection, line: LabelLine | MilestoneLine) -> None:
    match line:
        case MilestoneLine():
            connection.execute(
                "INSERT OR REPLACE INTO milestone (key, value) VALUES (?, ?)", (line.key, line.value)
            )
        case LabelLine(session=None):
            connection.execute("DELETE FROM label WHERE label = ?", (line.label,))
        case LabelLine():
            connection.execute(
                "INSERT OR REPLACE INTO label (label, session_id) SELECT ?, id FROM session WHERE ulid = ?",
                (line.label, line.session),
            )
