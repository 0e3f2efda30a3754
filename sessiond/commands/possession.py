"""Having a data directory to oneself, as a daemon has it.

The one rule: the lock decides; whoever finds it taken says who has it and does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from sessiond import config
from sessiond.errors import EXIT_TAKEN, StartupRefused
from sessiond.publication import require_no_links, share_lock, take_lock
from sessiond.storage.database import not_opened
from sessiond.storage.directory import DATABASE_NAME
from sessiond.storage.disk import Disk
from sessiond.storage.files import SUFFIX, SessionFiles
from sessiond.storage.state_file import STATE_NAME

DIRECTORY = click.Path(readable=False, path_type=Path)
"""What `--data-dir` takes; one that cannot be read is refused with what to do about it."""


def data_directory(given: Path | None) -> Path:
    """The directory that is meant.

    Raises StartupRefused if it is not there, holds no data of ours or links, or the settings are refused.
    """
    path = config.load(os.environ, given, None).data_dir
    if not path.is_dir():
        raise StartupRefused(f"there is no data in {path}", "give the directory with --data-dir")
    if not _holds_data(path):
        raise StartupRefused(f"there is no data of sessiond in {path}", "give the directory with --data-dir")
    require_no_links(path)
    return path


def _holds_data(path: Path) -> bool:
    """Whether there is a database, or a file of a session."""
    files = SessionFiles(path, Disk())
    try:
        if not {DATABASE_NAME, f"{DATABASE_NAME}-wal", STATE_NAME}.isdisjoint(files.disk.names(path)):
            return True
        for directory in (files.directory, files.trash_directory):
            with suppress(FileNotFoundError, NotADirectoryError):
                if any(name.endswith(SUFFIX) for name in files.disk.names(directory)):
                    return True
    except OSError as error:
        raise not_opened("reading", path, error) from error
    return False


@contextmanager
def possession(path: Path, purpose: str, *, writes: bool) -> Iterator[None]:
    """Keep daemons from starting on a directory meanwhile. Raises StartupRefused if one has it.

    Who only looks writes nothing: where no daemon has ever been, as in a copy, there may be no lock to take.
    """
    lock, data = path / "lock", f"the data in {path}"
    try:
        if writes:
            descriptor: int | None = take_lock(lock, data, f"`sessiond {purpose}` ({os.getpid()})")
        else:
            descriptor = share_lock(lock, data)
    except StartupRefused as refusal:
        if "listens" not in refusal.hint:
            raise
        hint = "stop it first" if writes else "`sessionctl verify` checks it through the daemon"
        raise StartupRefused(f"a daemon has the data in {path}", hint, EXIT_TAKEN) from None
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
