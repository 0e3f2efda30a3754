"""What a comparison needs of a side.

The one rule: after each round every event that was counted is looked for in the side's store; a side whose
counts do not agree has no figure.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.benchmarks.slow_sync import SlowSync
from tests.benchmarks.work import Producer
from tests.benchmarks.workloads import Workload


class Missing(Exception):  # noqa: N818 - it is a reason
    """A side cannot be had on this machine; `install` is the command that brings it."""

    def __init__(self, reason: str, install: str) -> None:
        super().__init__(f"{reason}; install it with: {install}")
        self.install = install


class CountsDiffer(Exception):  # noqa: N818 - it is a finding
    """A store does not hold what was acknowledged."""


class NotDurable(Exception):  # noqa: N818 - it is a finding
    """A side acknowledges what is not on disk."""


class Side(ABC):
    """A store below a directory of its own; its processes reach it by `address`."""

    name: ClassVar[str]
    title: ClassVar[str]
    writes_itself: ClassVar[bool] = False
    """Whether the recording processes write to the disk themselves, instead of a server."""

    address: str

    def __init__(self, directory: Path, slow_sync: SlowSync) -> None:
        directory.mkdir(mode=0o711)
        self.directory = directory
        self.slow_sync = slow_sync
        self.start()

    @staticmethod
    @abstractmethod
    def producer(address: str) -> Producer:
        """The connection of one process."""

    @classmethod  # noqa: B027 - most sides need nothing
    def require(cls) -> None:
        """Raises Missing if its server is not installed."""

    @classmethod
    def unable(cls, workload: Workload) -> str | None:  # noqa: ARG003 - for those that cannot do all
        """Why it cannot do a workload; None: it can."""
        return None

    @classmethod
    def processes(cls, workload: Workload) -> int:
        """How many processes record."""
        return workload.producers

    @abstractmethod
    def start(self) -> None:
        """Make the store, start the server. Raises Missing or ServerFailed."""

    @abstractmethod
    def version(self) -> str:
        """Of the program that writes to the disk."""

    @abstractmethod
    def durability(self) -> str:
        """The settings that make it durable, as the running program tells them. Raises NotDurable."""

    @abstractmethod
    def open_sessions(self, count: int) -> list[str]:
        """New sessions for a round."""

    @abstractmethod
    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """After a round: check the counts, leave no work behind. Raises CountsDiffer."""

    @abstractmethod
    def close(self) -> None:
        """Stop it and remove its files."""


def require_count(what: str, found: int, expected: int) -> None:
    """Raises CountsDiffer."""
    if found != expected:
        raise CountsDiffer(f"{what} {found}, acknowledged were {expected}")


def private_directory(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A directory for stores, through which a server without rights can pass to its own."""
    made = tempfile.TemporaryDirectory(prefix="bench-", dir=parent, ignore_cleanup_errors=True)
    Path(made.name).chmod(0o711)
    return made
