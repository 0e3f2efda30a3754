"""Having a data directory to oneself, as a daemon has it.

The one rule: the lock decides; whoever finds it taken says who has it and does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sessiond import config
from sessiond.errors import EXIT_TAKEN, StartupRefused
from sessiond.publication import take_lock


def data_directory(given: Path | None) -> Path:
    """The directory that is meant. Raises StartupRefused if it is not there, or the settings are refused."""
    path = config.load(os.environ, given, None).data_dir
    if not path.is_dir():
        raise StartupRefused(f"there is no data in {path}", "give the directory with --data-dir")
    return path


@contextmanager
def possession(path: Path, purpose: str, *, writes: bool) -> Iterator[None]:
    """Keep daemons from starting on a directory meanwhile. Raises StartupRefused if one has it.

    One that cannot be written to, a copy on some medium, no daemon can have.
    """
    if not writes and not os.access(path, os.W_OK):
        yield
        return
    try:
        descriptor = take_lock(path / "lock", f"the data in {path}", f"`sessiond {purpose}` ({os.getpid()})")
    except StartupRefused as refusal:
        if "listens" not in refusal.hint:
            raise
        hint = "stop it first" if writes else "`sessionctl verify` checks it through the daemon"
        raise StartupRefused(f"a daemon has the data in {path}", hint, EXIT_TAKEN) from None
    try:
        yield
    finally:
        os.close(descriptor)
