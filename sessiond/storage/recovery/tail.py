"""The end of a session file, from the first byte on that is not known to be on disk.

The one rule: it is read part by part, so that no more of it is in memory than a part and a line, however
long it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sessiond.storage.disk import Disk
from sessiond.storage.file_lines import common_bytes, well_formed
from sessiond.storage.file_reading import BLOCK_BYTES, lines_of


class Alike(NamedTuple):
    """How far a file says what was expected. `end`: where the bytes cease to be the same; `lines`: where the
    whole lines do; `is_whole`: everything that was expected is there."""

    end: int
    lines: int
    is_whole: bool


class Tail:
    """A file from `offset` on, where a line begins, open for reading. Raises OSError."""

    def __init__(self, disk: Disk, path: Path, offset: int = 0) -> None:
        self._disk = disk
        self._offset = offset
        self._descriptor = disk.open_read(path)
        self.size = disk.size(self._descriptor)
        """Of the whole file, when it was opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disk.close(self._descriptor)

    def compare(self, expected: Iterable[bytes]) -> Alike:
        """Hold it against what is expected of it, in parts of whole lines."""
        offset = self._offset
        for part in expected:
            found = self._disk.read_at(self._descriptor, offset, len(part))
            if found != part:
                same = common_bytes(found, part)
                return Alike(offset + same, offset + part.rfind(b"\n", 0, same) + 1, is_whole=False)
            offset += len(part)
        return Alike(offset, offset, is_whole=True)

    def lines(self, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """Each line from `offset` on and where it begins, newlines left out. Raises LineDamage."""
        return lines_of(self._disk, self._descriptor, offset)

    def is_torn(self, offset: int) -> bool:
        """Whether a cut write left what is there: no whole line, or one that is no line of ours."""
        return next(well_formed(self.lines(offset)), None) is None

    def is_blank(self, offset: int) -> bool:
        """Whether there is nothing from here on but NUL bytes."""
        return not any(part.strip(b"\0") for part in self.parts(offset))

    def parts(self, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on."""
        while part := self._disk.read_at(self._descriptor, offset, BLOCK_BYTES):
            yield part
            offset += len(part)
