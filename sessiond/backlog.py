"""What waits in the spool, read in the order in which it is to be done.

Owns a round: which files it goes through, and which it leaves out. The one rule: the lines of a producer are
done in their order, so one that cannot be done yet holds up what that producer wrote after it, and nobody
else; everything here blocks and runs in the collector's thread.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from sessiond.errors import Refused
from sessiond.spooled import (
    LeftOut,
    NoSpoolFile,
    NotOurs,
    Part,
    SpooledFile,
    files_in,
    open_spooled,
    part_of,
)
from sessiond_client.wire.spool import FileName

CHUNK_LINES_MAX = 256
"""Well below the window in which an append is recognised: what is dealt with is marked before the next."""

CHUNK_BYTES_MAX = 4 * 1024 * 1024
OPEN_PRODUCERS_MAX = 256
"""The files of so many producers are merged at a time; those of the others come after."""


class Item(NamedTuple):
    """One line of a file, and where it stands."""

    file: SpooledFile
    start: int
    line: bytes


class Round:
    """The files that are gone through, once for each part, and what is found out about the others."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.damaged: list[NoSpoolFile] = []
        """Files found to be none, still locked; they are the collector's to set aside."""
        self.passed_over: dict[Path, str] = {}
        """What is not taken over although no writer has it, and why."""
        self.is_blocked = False
        """Whether nothing can be stored just now, whoever it is from."""
        self.will_go_on = False
        """Whether that passes by itself: there is no room, or another program holds what is needed."""
        self._directories = directories
        self._producers: dict[str, list[Path]] = {}
        self._known: set[Path] = set()
        self._locked: set[Path] = set()
        self._unread: set[Path] = set()
        self._held: set[Path] = set()

    def look(self) -> None:
        """See what is there."""
        for name, path in sorted(self._present()):
            self._producers.setdefault(name.producer, []).append(path)
            self._known.add(path)

    def begin(self, part: Part) -> Backlog:
        """What waits of this part."""
        read = {
            producer: list(takewhile(lambda path: path not in self._unread, paths))
            for producer, paths in self._producers.items()
        }
        return Backlog(self, part, read)

    def open(self, path: Path) -> SpooledFile | None:
        """A file to go through; None for one that is of no account. Raises LeftOut and OSError."""
        try:
            return open_spooled(path)
        except NotOurs as finding:
            self.passed_over[path] = str(finding)
        except NoSpoolFile as finding:
            self.damaged.append(finding)
        return None

    def leave_unread(self, path: Path, reason: str | None) -> None:
        """This file may hold anything; `reason` is None for a living writer's."""
        self._unread.add(path)
        if reason is None:
            self._locked.add(path)
        else:
            self.passed_over[path] = reason

    def hold(self, path: Path) -> None:
        """A line of this file cannot be done yet."""
        self._held.add(path)

    def holds(self, path: Path) -> bool:
        """Whether a line of this file cannot be done yet."""
        return path in self._held

    def is_all(self) -> bool:
        """Whether nothing waits anywhere that this round does not go through to its end."""
        if self._unread or self._held:
            return False
        return all(path in self._known or path in self.passed_over for _, path in self._present())

    def remaining(self, producer: str) -> int:
        """How many files of a producer are there yet, and no writer's."""
        paths = self._producers.get(producer, [])
        return sum(path not in self._locked and path.exists() for path in paths)

    def close(self) -> None:
        """Let go of what was not set aside."""
        for finding in self.damaged:
            finding.file.close()

    def _present(self) -> Iterator[tuple[FileName, Path]]:
        """What is there, once, whatever the names of its directory."""
        seen: set[tuple[int, int]] = set()
        for directory in self._directories:
            try:
                about = directory.lstat()
                if (about.st_dev, about.st_ino) not in seen:
                    seen.add((about.st_dev, about.st_ino))
                    yield from files_in(directory)
            except FileNotFoundError:
                pass  # no client has left anything there yet
            except (OSError, Refused) as error:
                self.passed_over[directory] = str(error)


class Backlog:
    """What waits of one part: `take` gives it in chunks, each to be finished before the next."""

    def __init__(self, round_: Round, part: Part, producers: dict[str, list[Path]]) -> None:
        self.round = round_
        self.part = part
        self.ended: list[SpooledFile] = []
        """Files of which every line was taken; they are to be removed once those are dealt with."""
        self.passed: list[SpooledFile] = []
        """Files in which something stays; they are to be closed once what was taken of them is dealt with."""
        self._producers = iter(sorted(producers.items()))
        self._streams: dict[str, _Stream] = {}
        self._heap: list[tuple[int, str]] = []
        self._more = True

    def take(self) -> list[Item]:
        """The next lines, in the order of their writing; none at the end. Raises OSError."""
        chunk: list[Item] = []
        size = 0
        while len(chunk) < CHUNK_LINES_MAX and size < CHUNK_BYTES_MAX:
            self._refill()
            if not self._heap:
                break
            _, producer = self._heap[0]
            stream = self._streams[producer]
            item = stream.take()
            chunk.append(item)
            size += len(item.line)
            if stream.advance(self):
                heapq.heapreplace(self._heap, (stream.key, producer))
            else:
                heapq.heappop(self._heap)
                del self._streams[producer]
        return chunk

    def hold(self, file: SpooledFile) -> None:
        """A line of this file cannot be done yet: nothing more is taken of its producer."""
        self.round.hold(file.path)
        if file in self.ended:
            self.ended.remove(file)
            self.passed.append(file)
        producer = file.name.producer
        if (stream := self._streams.pop(producer, None)) is not None:
            stream.stop(self)
            self._heap = [entry for entry in self._heap if entry[1] != producer]
            heapq.heapify(self._heap)

    def close(self) -> None:
        """Let go of every file."""
        for stream in self._streams.values():
            stream.stop(self)
        for file in [*self.ended, *self.passed]:
            file.close()
        self._streams.clear()
        self._heap.clear()
        self._more = False

    def _refill(self) -> None:
        while self._more and len(self._heap) < OPEN_PRODUCERS_MAX:
            following = next(self._producers, None)
            if following is None:
                self._more = False
                return
            producer, paths = following
            stream = _Stream(paths)
            if stream.advance(self):
                self._streams[producer] = stream
                heapq.heappush(self._heap, (stream.key, producer))


class _Stream:
    """The files of one producer, one after the other. `key` is when the next line was written."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.key = 0
        self._paths = iter(paths)
        self._file: SpooledFile | None = None
        self._next: Item | None = None
        self._leaves_some = False

    def take(self) -> Item:
        assert self._next is not None
        return self._next

    def advance(self, backlog: Backlog) -> bool:
        """Go to the next line; False if there is none. Raises OSError where nothing can be opened."""
        while self._file is not None or self._open_next(backlog):
            file = self._file
            assert file is not None
            try:
                found = file.next()
            except OSError as error:
                backlog.round.leave_unread(file.path, error.strerror)
                self.stop(backlog)
                return False
            if found is None:
                self._leave_file(backlog)
                continue
            part, stamp = part_of(found[1])
            if part < backlog.part:  # it could not be done, and holds up what follows
                self.stop(backlog)
                return False
            if part == backlog.part:
                self._next = Item(file, *found)
                self.key = max(self.key, stamp)
                return True
            self._leaves_some = True
        return False

    def stop(self, backlog: Backlog) -> None:
        """Take nothing more."""
        self._paths = iter(())
        if self._file is not None:
            backlog.passed.append(self._file)
            self._file = None

    def _open_next(self, backlog: Backlog) -> bool:
        """Raises OSError. Of one producer only the last file can be one that is still written."""
        for path in self._paths:
            try:
                self._file = backlog.round.open(path)
            except LeftOut as finding:
                backlog.round.leave_unread(path, finding.reason)
                return False
            self._leaves_some = False
            if self._file is not None:
                return True
        return False

    def _leave_file(self, backlog: Backlog) -> None:
        assert self._file is not None
        (backlog.passed if self._leaves_some else backlog.ended).append(self._file)
        self._file = None


def waiting(directories: Sequence[Path]) -> int:
    """How many files of the spool there are, whoever holds them."""
    found = 0
    for directory in directories:
        with suppress(OSError, Refused):  # it is only counted: who takes over says what is wrong with it
            found += sum(1 for _ in files_in(directory))
    return found
