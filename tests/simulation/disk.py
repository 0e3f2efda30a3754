"""A disk in memory that can lose power, fail and lie about it, as disks and kernels really do.

It has two layers. What programs read and write is the *page cache*; what survives is the *platter*. Every
change is first made in the cache and noted as pending; a sync of the file, or of the directory for names,
brings it to the platter. The rules, and where each was seen:

- After a power cut each write that was not synced is there, or not, or in parts: a disk writes sectors of 512
  bytes, in any order. Where the file was to grow it may have its new size and NUL bytes where the data were
  not written (ext4 does so in half of all cases). Bytes beside those written are never touched.
- A name belongs to its directory and not to its file: creating, linking, renaming and removing are pending
  until the directory is synced, and each of them may be kept or undone alone, in any order (as the ALICE
  study of 2014 found for journaling file systems). One rename is never half done, and a sync of either
  directory brings it to the platter.
- A file whose name was never synced is gone; one whose data were never synced is empty, or NUL.
- A sync that fails writes some of what was pending and forgets the rest: the pages count as clean, so that
  the next sync succeeds and writes nothing, while the cache still shows the data ("fsyncgate", 2018; the
  same for ext4, XFS and Btrfs). Only writing to such a page again makes the whole page dirty. The kernel may
  also drop a clean page and read the old one from the platter. A failed sync of a directory leaves the names
  pending.
- A killed process changes nothing: what is in the cache stays there for the next process.

All changes go through `SimulatedDisk.journal`, one entry each, and a disk is nothing but what its journal
makes of an empty one. So an experiment runs once and is then cut off at every entry: see `states`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from random import Random
from typing import NamedTuple

SECTOR_BYTES = 512
PAGE_BYTES = 4096
FREE_BYTES = 1 << 40

DIRECTORY = 0
"""What stands in the place of a file's number for a name that is a directory."""


class Kind(StrEnum):
    """How an operation fails."""

    ERROR = "EIO"
    FULL = "ENOSPC"
    SHORT = "short write"
    """A part of a write is taken; the next write finds the disk full."""


WRITING = frozenset({"write", "truncate", "sync", "sync_directory", "entries", "create"})
EVERYTHING = WRITING | {"read"}
GROWING = frozenset({"write", "entries", "create"})
"""What a full disk refuses; unlinking and syncing go on."""


class Fault(NamedTuple):
    """Operation number `at` fails; with `persists` every later one too, until the fault is taken away."""

    at: int
    kind: Kind
    persists: bool = False

    def strikes(self, number: int, what: str) -> bool:
        """Whether this operation is to fail."""
        if number < self.at or (number > self.at and not self.persists):
            return False
        return self.kind is Kind.ERROR or what in GROWING


class Write(NamedTuple):
    """Bytes written to a file."""

    file: int
    offset: int
    data: bytes


class Truncation(NamedTuple):
    """A file cut to a size."""

    file: int
    size: int


class Creation(NamedTuple):
    """A new file under a new name."""

    path: str
    file: int


class Entries(NamedTuple):
    """Names that stand for other files now, or (None) for none; all of them at once."""

    files: dict[str, int | None]


class Sync(NamedTuple):
    """A file's data were brought to the platter."""

    file: int


class FailedSync(NamedTuple):
    """Some of a file's data were, the rest is forgotten; `seed` says which."""

    file: int
    seed: int


class DirectorySync(NamedTuple):
    """The names in a directory were brought to the platter."""

    path: str


Change = Write | Truncation | Creation | Entries | Sync | FailedSync | DirectorySync


class File:
    """The bytes of one file in the cache and on the platter, and what is pending between the two."""

    __slots__ = ("cache", "is_doubtful", "pending", "platter")

    def __init__(self, content: bytes = b"") -> None:
        self.cache = bytearray(content)
        self.platter = bytearray(content)
        self.pending: list[Write | Truncation] = []
        self.is_doubtful = False
        """A sync failed: the cache may show clean pages that the platter does not have."""

    def copy(self) -> File:
        """Another file of the same state."""
        other = File.__new__(File)
        other.cache = self.cache[:]
        other.platter = self.platter[:]
        other.pending = self.pending[:]
        other.is_doubtful = self.is_doubtful
        return other

    def write(self, change: Write) -> None:
        """Into the cache; pages that are written to become dirty, whole."""
        put(self.cache, change.offset, change.data)
        if self.is_doubtful:
            start = change.offset // PAGE_BYTES * PAGE_BYTES
            end = -(-(change.offset + len(change.data)) // PAGE_BYTES) * PAGE_BYTES
            change = Write(change.file, start, bytes(self.cache[start:end]))
        self.pending.append(change)

    def truncate(self, change: Truncation) -> None:
        """In the cache."""
        resize(self.cache, change.size)
        self.pending.append(change)

    def sync(self, is_written: Callable[[], bool] = lambda: True) -> None:
        """Bring what is pending to the platter, as far as `is_written` says of each."""
        for change in self.pending:
            if is_written():
                apply(self.platter, change)
        self.pending = []

    def evict(self) -> None:
        """Forget the clean pages, and read them again."""
        size = len(self.cache)
        self.cache = self.platter[:]
        resize(self.cache, size)
        for change in self.pending:
            apply(self.cache, change)
        resize(self.cache, size)

    def survivor(self, random: Random, keep: float) -> bytes:
        """What may be left after a power cut; each pending write is kept with the probability `keep`."""
        content = self.platter[:]
        for change in self.pending:
            if random.random() < keep:
                apply(content, change)
            elif isinstance(change, Write) and random.random() < keep:
                _tear(content, change, random)
        return bytes(content)


def put(content: bytearray, offset: int, data: bytes) -> None:
    """Write at an offset; a hole before it is filled with NUL bytes."""
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def resize(content: bytearray, size: int) -> None:
    """Cut, or fill up with NUL bytes."""
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def apply(content: bytearray, change: Write | Truncation) -> None:
    """Make one pending change."""
    if isinstance(change, Write):
        put(content, change.offset, change.data)
    else:
        resize(content, change.size)


def _tear(content: bytearray, write: Write, random: Random) -> None:
    """Write some of the sectors; at times the size is new even where the data are not."""
    end = write.offset + len(write.data)
    if end > len(content) and random.random() < 0.5:
        resize(content, end)
    start = write.offset
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if random.random() < 0.5:
            put(content, start, write.data[start - write.offset : stop - write.offset])
        start = stop


class SimulatedDisk:
    """Files, names, and everything that may happen to them. All paths are absolute text."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.files: dict[int, File] = {}
        self.names: dict[str, int] = {"/": DIRECTORY}
        self._platter_names = dict(self.names)
        self._pending_names: list[Entries] = []
        self._next_file = 1
        self.journal: list[Change] = []
        self.operations = 0
        """How many operations were asked for, failed ones included."""
        self.fault: Fault | None = None
        self.faults_met = 0
        self.counted = WRITING
        """The sorts of operations that `operations` counts, and so that can fail."""

    # --- operations, each of which may fail ----------------------------------------------------------------

    def create(self, path: str) -> int:
        """A new empty file. Raises OSError, FileExistsError if the name is taken."""
        self._begin("create")
        if path in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._require_directory(parent(path))
        self._change(Creation(path, self._next_file))
        return self._next_file - 1

    def make_directory(self, path: str) -> None:
        """A new directory, unless it is there."""
        self._begin("create")
        if self.names.get(path) != DIRECTORY:
            self._require_directory(parent(path))
            self._change(Entries({path: DIRECTORY}))

    def file(self, path: str) -> int:
        """The number of the file with this name. Raises FileNotFoundError."""
        found = self.names.get(path)
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def read(self, file: int, offset: int, size: int) -> bytes:
        """At most so many bytes."""
        self._begin("read")
        return bytes(self.files[file].cache[offset : offset + size])

    def write(self, file: int, offset: int, data: bytes) -> int:
        """Write, perhaps not all of it; returns how much."""
        taken = self._begin("write", len(data))
        self._change(Write(file, offset, bytes(data[:taken])))
        return taken

    def truncate(self, file: int, size: int) -> None:
        """Cut a file, or lengthen it."""
        self._begin("truncate")
        self._change(Truncation(file, size))

    def size(self, file: int) -> int:
        """In bytes."""
        return len(self.files[file].cache)

    def sync(self, file: int) -> None:
        """Bring a file's data to the platter. If it fails, see the rules above."""
        try:
            self._begin("sync")
        except OSError:
            self._change(FailedSync(file, self.random.getrandbits(32)))
            raise
        self._change(Sync(file))

    def sync_directory(self, path: str) -> None:
        """Bring the names in a directory to the platter."""
        self._begin("sync_directory")
        self._require_directory(path)
        self._change(DirectorySync(path))

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing what has it."""
        self._begin("entries")
        file = self.file(old)
        self._require_directory(parent(new))
        self._change(Entries({old: None, new: file}))

    def link(self, old: str, new: str) -> None:
        """Give a file a second name. Raises FileExistsError."""
        self._begin("entries")
        if new in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self._change(Entries({new: self.file(old)}))

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._begin("truncate")  # it needs no room
        self.file(path)
        self._change(Entries({path: None}))

    def listing(self, path: str) -> list[str]:
        """The names in a directory."""
        self._require_directory(path)
        return [name.rpartition("/")[2] for name in self.names if name != "/" and parent(name) == path]

    def _require_directory(self, path: str) -> None:
        if self.names.get(path) != DIRECTORY:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _begin(self, what: str, size: int = 0) -> int:
        """Count an operation and fail it if it is its turn; returns how much of a write is taken."""
        if what not in self.counted:
            return size
        self.operations += 1
        fault = self.fault
        if fault is None or not fault.strikes(self.operations, what):
            return size
        self.faults_met += 1
        if fault.kind is Kind.SHORT and what == "write" and size > 1 and self.operations == fault.at:
            self.fault = fault._replace(kind=Kind.FULL, at=fault.at + 1)
            return self.random.randrange(1, size)
        number = errno.EIO if fault.kind is Kind.ERROR else errno.ENOSPC
        raise OSError(number, os.strerror(number))

    # --- changes -------------------------------------------------------------------------------------------

    def _change(self, change: Change) -> None:
        self.journal.append(change)
        self.make(change)

    def make(self, change: Change) -> None:
        """Make a change that a journal tells of."""
        match change:
            case Write():
                self.files[change.file].write(change)
            case Truncation():
                self.files[change.file].truncate(change)
            case Sync():
                self.files[change.file].sync()
            case FailedSync():
                random = Random(change.seed)
                self.files[change.file].sync(lambda: random.random() < 0.3)
                self.files[change.file].is_doubtful = True
            case Creation():
                self.files[change.file] = File()
                self._next_file = change.file + 1
                self._enter(Entries({change.path: change.file}))
            case Entries():
                self._enter(change)
            case DirectorySync():
                self._sync_names(change.path)

    def _enter(self, change: Entries) -> None:
        _enter(self.names, change)
        self._pending_names.append(change)

    def _sync_names(self, directory: str) -> None:
        """Bring the changes of a directory to the platter, with the earlier ones of the same names."""
        wanted: set[str] = set()
        synced: list[Entries] = []
        pending: list[Entries] = []
        for change in reversed(self._pending_names):
            names = change.files.keys()
            if not names.isdisjoint(wanted) or any(parent(name) == directory for name in names):
                wanted |= names
                synced.append(change)
            else:
                pending.append(change)
        for change in reversed(synced):
            _enter(self._platter_names, change)
        self._pending_names = pending[::-1]

    # --- what may happen to all of it ----------------------------------------------------------------------

    def copy(self) -> SimulatedDisk:
        """Another disk of the same state, with an empty journal and no faults."""
        other = SimulatedDisk()
        other.files = {number: file.copy() for number, file in self.files.items()}
        other.names = dict(self.names)
        other._platter_names = dict(self._platter_names)
        other._pending_names = self._pending_names[:]
        other._next_file = self._next_file
        return other

    def go_on_as(self, other: SimulatedDisk) -> None:
        """Count and fail as another disk did."""
        self.random, self.counted = other.random, other.counted
        self.fault, self.operations, self.faults_met = other.fault, other.operations, other.faults_met

    def after_kill(self, random: Random) -> SimulatedDisk:
        """As the next process finds it: everything in the cache is there, except what the kernel forgot."""
        disk = self.copy()
        for file in disk.files.values():
            if file.is_doubtful and random.random() < 0.5:
                file.evict()
        return disk

    def after_power_cut(self, random: Random) -> SimulatedDisk:
        """One of the disks that may be found once the power is back."""
        keep = random.choice((0.0, 0.3, 0.5, 0.8, 1.0))
        names = dict(self._platter_names)
        for change in self._pending_names:
            if random.random() < keep:
                _enter(names, change)
        disk = SimulatedDisk()
        disk.names = {name: file for name, file in names.items() if _is_reachable(names, name)}
        for number in set(disk.names.values()) - {DIRECTORY}:
            disk.files[number] = File(self.files[number].survivor(random, keep))
        disk._platter_names = dict(disk.names)
        disk._next_file = self._next_file
        return disk

    def content(self) -> dict[str, bytes]:
        """Every file by its path, as the cache has it."""
        return {path: bytes(self.files[file].cache) for path, file in self.names.items() if file}


def _enter(names: dict[str, int], change: Entries) -> None:
    for path, file in change.files.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def parent(path: str) -> str:
    """The directory a name is in."""
    return path.rpartition("/")[0] or "/"


def _is_reachable(names: dict[str, int], path: str) -> bool:
    """Whether all the directories above a name are there."""
    while path != "/":
        path = parent(path)
        if names.get(path) != DIRECTORY:
            return False
    return True


def states(base: SimulatedDisk, journal: list[Change]) -> Iterator[tuple[int, SimulatedDisk]]:
    """The disk after none, one, two, … changes of a journal that began at `base`.

    It is the same object each time: cut its power, or copy it, before asking for the next.
    """
    disk = base.copy()
    yield 0, disk
    for number, change in enumerate(journal, 1):
        disk.make(change)
        yield number, disk
