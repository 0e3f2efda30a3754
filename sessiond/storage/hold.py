"""What the daemon has on disk and the next start must find: is it still there, and still the same?

Owns a descriptor each of the database and its log that only says how many names they have; closing one drops
none of SQLite's locks. The one rule: what was removed or replaced takes everything stored since with it, so
`require_linked` comes between each commit and its answers, and is cheap enough for that.
"""

from __future__ import annotations

import os
from pathlib import Path

from sessiond.errors import DataGone, StorageFailed
from sessiond.storage.directory import DATABASE_NAME
from sessiond.storage.files import SessionFiles

_BY_NAME = getattr(os, "O_PATH", 0)
"""Opens a name and not its file; 0 where the system cannot."""


class Hold:
    """The names in one data directory that must stay what they are while a daemon writes there.

    Raises DataGone if they are not even there, and StorageFailed if they cannot be opened.
    """

    def __init__(self, data_dir: Path, session_files: SessionFiles) -> None:
        self.data_dir = data_dir
        database = data_dir / DATABASE_NAME
        stores = (database, database.with_name(f"{DATABASE_NAME}-wal"))
        names = (data_dir, data_dir / "lock", session_files.directory, *stores)
        self._identities = {path: _identity(path) for path in names}
        self._stores: list[tuple[int, Path]] = []
        self.require_in_place()
        if _BY_NAME:
            try:
                for path in stores:
                    descriptor = os.open(path, _BY_NAME | os.O_CLOEXEC | os.O_NOFOLLOW)
                    self._stores.append((descriptor, path))
            except OSError as error:
                self.close()
                raise StorageFailed("taking hold of the data", error) from error

    def require_linked(self) -> None:
        """Raises DataGone if the database or its log has no name any more: two calls of the system."""
        for descriptor, path in self._stores:
            if not os.fstat(descriptor).st_nlink:
                raise DataGone(path)

    def require_in_place(self) -> None:
        """Raises DataGone if anything was removed, or something else has its name."""
        for path, identity in self._identities.items():
            if identity is None or _identity(path) != identity:
                raise DataGone(path)

    def close(self) -> None:
        """Let go of the descriptors."""
        for descriptor, _ in self._stores:
            os.close(descriptor)
        self._stores.clear()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
