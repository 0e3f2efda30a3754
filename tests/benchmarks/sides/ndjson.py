"""One NDJSON file a process, synced after each line, or after each batch where there are batches."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.events import KIND, line, now
from tests.benchmarks.sides.side import Side, require_count
from tests.benchmarks.work import POLL_SECONDS, Order, Producer

READ_BYTES = 64 * 1024


class FileProducer(Producer):
    """Appends to files that it alone writes. fdatasync, which is cheaper than fsync and does here."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, int] = {}
        self._next: dict[str, int] = {}

    def begin(self, order: Order) -> None:
        """Close the files of the last round, open those of this one."""
        self.close()
        self._files = {each: os.open(self._path(each), os.O_RDWR | os.O_APPEND) for each in order.sessions}
        self._next = dict.fromkeys(order.sessions, 0)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files = {}

    def _path(self, session: str) -> Path:
        return self._directory / f"{session}.ndjson"

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One write and one sync."""
        at = now().text
        first = self._next[session]
        data = b"".join([line(seq, at, text, kind) for seq, text in enumerate(texts, first)])
        descriptor = self._files[session]
        assert os.write(descriptor, data) == len(data)
        os.fdatasync(descriptor)
        self._next[session] = first + len(texts)

    def tail(self, session: str, count: int) -> int:
        """The last lines, as `tail -n` finds them."""
        descriptor = self._files[session]
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, READ_BYTES, max(0, size - READ_BYTES))
        return len(data.splitlines()[-count:])

    def follow(self, session: str, until: float) -> Iterator[Sequence[bytes]]:
        """The file is looked at every millisecond; a line may be seen before it is synced."""
        with self._path(session).open("rb") as file:
            rest = b""
            while time.monotonic() < until:
                data = file.read()
                if not data:
                    time.sleep(POLL_SECONDS)
                    continue
                *lines, rest = (rest + data).split(b"\n")
                if lines:
                    yield lines


class FileSide(Side):
    """A directory of files."""

    name = "ndjson"
    title = "NDJSON file, synced"
    writes_itself = True

    @staticmethod
    def producer(address: str) -> FileProducer:
        """Files of its own."""
        return FileProducer(Path(address))

    def start(self) -> None:
        """The directory is all there is."""
        self.address = str(self.directory)
        self._sessions = 0

    def version(self) -> str:
        """Of Python, whose `os` module does the work."""
        return f"Python {platform.python_version()}"

    def durability(self) -> str:
        """It is in the code of `append`."""
        return "fdatasync after each line or batch"

    def open_sessions(self, count: int) -> list[str]:
        """New empty files."""
        opened = [str(number) for number in range(self._sessions, self._sessions + count)]
        self._sessions += count
        for session in opened:
            self._path(session).touch()
        os.sync()
        return opened

    def _path(self, session: str) -> Path:
        return self.directory / f"{session}.ndjson"

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """Lines are counted."""
        for session, count in zip(sessions, counts, strict=True):
            require_count("the file has lines", self._path(session).read_bytes().count(b"\n"), count)
        os.sync()

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.directory)


SIDE = FileSide
