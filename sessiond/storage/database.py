"""The SQLite database: opening it, its schema, and what must hold before anybody is answered.

Owns the one writing connection, and opens read-only ones for readers. The one rule: nothing else opens the
database file or its `-shm` in this process, for closing such a descriptor would drop SQLite's locks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw

from sessiond.errors import (
    EXIT_STORAGE,
    StartupRefused,
    StorageFailed,
    database_closed,
    database_damaged,
    database_held,
    database_missing,
    database_of_other_version,
    database_unreadable,
    row_unreadable,
)
from sessiond.storage.disk import Disk

BUSY_TIMEOUT_MS = 5000
"""How long to wait for a foreign process that holds the database's write lock."""

BARRIER_TIMEOUT_MS = 250
"""How long the start waits for a foreign reader before it makes the log durable the other way."""

PAGE_CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 4000
"""The write-ahead log goes back into the database once it has so many pages of 4 KiB."""

READER_CACHE_KIB = 2 * 1024

SQLITE_FIXED = (3, 51, 3)
SQLITE_BACKPORTS = {(3, 44): 6, (3, 50): 7}
SQLITE_WITHDRAWN = {(3, 52, 0)}

_DENIED = (apsw.CantOpenError, apsw.PermissionsError, apsw.ReadOnlyError)

CORRUPTION = (apsw.CorruptError, apsw.NotADBError)
DAMAGE = (*CORRUPTION, apsw.SQLError)
"""What reading comes to where the database is not whole; the last: a table or a column is not there."""
HELD = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)

_NO_ROOM = {
    *(apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE),
    *(apsw.SQLITE_IOERR_SHMOPEN, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMMAP),
}
"""What SQLite says, besides FULL, where a full disk may be behind it: the system's reason is not in it."""

ROOM_BYTES_MIN = 64 * 1024
"""A disk with less than this is full: the index of the log alone takes half of it."""

UNREADABLE = (apsw.IOError, apsw.FullError, apsw.NoMemError, apsw.PermissionsError, apsw.ReadOnlyError)


_NAMES = "SELECT CAST(type || ' ' || name AS BLOB) FROM sqlite_schema"
_COLUMNS = """
    SELECT CAST('column ' || made.name || '.' || has.name AS BLOB)
    FROM sqlite_schema AS made, pragma_table_xinfo(made.name) AS has WHERE made.type = 'table'
"""
_FACTS = """
    SELECT CAST('fact ' || name || CASE typeof(value) WHEN 'integer' THEN ' (a number)' ELSE '' END AS BLOB)
    FROM fact
"""


class DiskFull(StartupRefused):
    """There is no room in which the data could be opened for writing."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the disk of {path} is full", "free some space", EXIT_STORAGE)


class SchemaIsNewer(StartupRefused):
    """The database was written by a later version."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} has schema {found}, this version knows {known}",
            "install the version of sessiond that wrote it, or a later one",
        )


def version_is_safe(version: str) -> bool:
    """Whether this SQLite is free of the WAL-reset bug of 3.7.0 to 3.51.2 (see sqlite.org/wal.html)."""
    major, minor, patch = (int(part) for part in f"{version}.0.0".split(".")[:3])
    if (major, minor, patch) in SQLITE_WITHDRAWN:
        return False
    backport = SQLITE_BACKPORTS.get((major, minor))
    return (major, minor, patch) >= SQLITE_FIXED or (backport is not None and patch >= backport)


def require_file(path: Path, disk: Disk) -> None:
    """Raises StartupRefused if what has the name of the database is a directory, or a link, or the like."""
    if disk.file_size(path) is not None and not disk.is_file(path):
        raise StartupRefused(
            f"{path} is no file",
            "move it away; the next start builds the database anew from the files of the sessions",
        )


def not_opened(doing: str, path: Path, error: Exception) -> StartupRefused | StorageFailed:
    """What SQLite or the system says of a data directory, with what to do where that is known."""
    number = error.errno if isinstance(error, OSError) else None
    if lacks_room(path, error):
        return DiskFull(path)
    denied = isinstance(error, (PermissionError, *_DENIED))
    if number == errno.EROFS or (denied and _only_reads(path)):
        advice = "mount it for writing, or only look: `sessiond check`"
        return StartupRefused(f"{path} is mounted for reading only", advice, EXIT_STORAGE)
    if denied:
        what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else f"{path}: {error}"
        return StartupRefused(f"cannot open {what}", "see who owns it, and its mode")
    return StorageFailed(f"{doing} {path}", error)


def lacks_room(path: Path, error: Exception) -> bool:
    """Whether it is for want of room that something under this path failed."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, apsw.FullError):
        return True
    if getattr(error, "extendedresult", None) not in _NO_ROOM:
        return False
    with suppress(OSError):
        return Disk().free_bytes(path) < ROOM_BYTES_MIN
    return False


def _only_reads(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def check_library(version: str | None = None) -> None:
    """Refuse to run on an SQLite that can corrupt its write-ahead log."""
    version = version or apsw.sqlite_lib_version()
    if not version_is_safe(version):
        raise StartupRefused(
            f"SQLite {version} can corrupt its write-ahead log",
            "install apsw 3.51.3.0 or later, which brings a fixed SQLite with it",
        )


@cache  # read once at the start: later there may be no descriptor to read them with
def migrations() -> list[str]:
    """The schema as ordered scripts; the script at index i leads to schema i + 1."""
    folder = files("sessiond.storage") / "schema"
    scripts = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name
    )
    return [script.read_text(encoding="utf-8") for script in scripts]


def _made_by(scripts: list[str]) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    for script in scripts:
        connection.execute(script)
    return connection


def lacking(connection: apsw.Connection, scripts: list[str]) -> list[str]:
    """What a database has after these scripts and this one has not: tables, indexes, columns, single facts.

    Raises apsw.Error.
    """
    with closing(_made_by(scripts)) as pattern:
        questions = [_NAMES, _COLUMNS]
        if rows(pattern, "SELECT 1 FROM sqlite_schema WHERE name = 'fact'"):
            questions.append(_FACTS)
        for sql in questions:
            if lacks := set(rows(pattern, sql)) - set(rows(connection, sql)):
                return sorted(name.decode() for (name,) in lacks)
    return []


def require_version(connection: apsw.Connection, found: int) -> None:
    """Raises apsw.CorruptError for a database that is not of the schema that it says it is: `found`."""
    scripts = migrations()
    if found == 0 and rows(connection, "SELECT 1 FROM sqlite_schema LIMIT 1"):
        raise apsw.CorruptError("it has tables, and no schema")
    if found < 0 or (0 < found < len(scripts) and _is_later(connection, scripts[: found + 1])):
        raise apsw.CorruptError(f"it says that it has schema {found}, and has another")
    if lacks := lacking(connection, scripts[:found]):
        raise apsw.CorruptError(f"it lacks {', '.join(lacks)}")


def _is_later(connection: apsw.Connection, scripts: list[str]) -> bool:
    """Whether a database has all that the last of these scripts adds, which it is still to be brought."""
    with closing(_made_by(scripts[:-1])) as before:
        return bool(lacking(before, scripts)) and not lacking(connection, scripts)


def schema_version() -> int:
    """The schema that this version reads and writes."""
    return len(migrations())


class Database:
    """The writing connection. Use it from one thread at a time; the umask must be 077 before."""

    def __init__(self, path: Path, disk: Disk, vfs: str | None = None) -> None:
        self.path = path
        self._disk = disk
        self._vfs = vfs
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self.connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
        try:
            self._configure()
        except BaseException:
            self.connection.close()
            raise

    def _configure(self) -> None:
        connection = self.connection
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        if self._vfs is not None:
            # A simulated disk has no shared memory; with the file held exclusively none is needed.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        mode = connection.execute("PRAGMA journal_mode = WAL").get
        if mode != "wal":
            raise StartupRefused(
                f"{self.path} cannot use a write-ahead log (journal mode is {mode})",
                "put the data directory on a local disk",
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        connection.execute("PRAGMA secure_delete = ON")

    def migrate(self) -> None:
        """Bring the schema up to date, one transaction a step, after a copy beside the database.

        A new database gets all of it in one: half made, it would be taken for that of an older version.
        Raises apsw.CorruptError if the database is not of the schema that it says it is.
        """
        scripts = migrations()
        found: int = self.connection.execute("PRAGMA user_version").get
        if found > len(scripts):
            raise SchemaIsNewer(self.path, found, len(scripts))
        require_version(self.connection, found)
        if 0 < found < len(scripts):
            self._copy(self.path.with_name(f"{self.path.name}.before-schema-{len(scripts)}"))
        if found == 0:
            self._bring_to(len(scripts), scripts)
        else:
            for number, script in enumerate(scripts[found:], found + 1):
                self._bring_to(number, [script])

    def _bring_to(self, version: int, scripts: list[str]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for script in scripts:
                self.connection.execute(script)
            self.connection.execute(f"PRAGMA user_version = {version}")
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def _copy(self, target: Path) -> None:
        if self._disk.file_size(target) is not None:
            self._disk.unlink(target)
        copy = apsw.Connection(str(target), vfs=self._vfs)
        try:
            with copy.backup("main", self.connection, "main") as backup:
                backup.step()
        finally:
            copy.close()

    def barrier(self) -> None:
        """Make everything that can be read durable, before the first answer depends on it.

        After a crash or a failed fsync the page cache may show what the disk does not have. A truncating
        checkpoint writes it all anew. While a reader of another process blocks that, the write-ahead log is
        written over itself and synced instead, which makes its pages dirty again.
        """
        try:
            self.connection.set_busy_timeout(BARRIER_TIMEOUT_MS)
            busy = self._checkpoint()
            self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            if busy:
                self._redirty_log()
        except (*CORRUPTION, *_DENIED, apsw.FullError):
            raise
        except (apsw.Error, OSError) as error:
            raise StorageFailed("making the database durable at start-up", error) from error

    def _checkpoint(self) -> bool:
        """Bring the whole log back into the database; whether a reader kept us from it."""
        return bool(self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").get[0])

    def _redirty_log(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self._disk.sync_anew(self.path.with_name(f"{self.path.name}-wal"))
        finally:
            self.connection.execute("ROLLBACK")

    def require_sound(self) -> None:
        """Raises apsw.CorruptError if SQLite's quick check, which reads the whole database, finds damage."""
        finding = self.connection.execute("PRAGMA quick_check(1)").get
        if finding != "ok":
            raise apsw.CorruptError(f"the quick check says: {finding}")

    def close(self) -> None:
        """Close the connection; SQLite brings the write-ahead log back into the database if there is room."""
        with suppress(apsw.FullError):  # the log stays, and has everything
            self.connection.close()


def opened_at_rest(path: Path, disk: Disk) -> apsw.Connection:
    """A read-only connection to a database that nobody writes to, which leaves no trace beside it either.

    Without a log the file is all there is. With one, its index is made in memory, and not in a `-shm`; that
    takes exclusive locks, which cannot be had on a file that is only read, and are not needed here.
    """
    if disk.file_size(path) is not None and not disk.is_file(path):
        raise apsw.CantOpenError("it is no file")  # SQLite would wait for a pipe
    has_log = bool(disk.file_size(path.with_name(f"{path.name}-wal")))
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    uri = path.absolute().as_uri() + ("" if has_log else "?immutable=1")
    connection = apsw.Connection(uri, flags=flags, vfs="unix-none")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def open_reader(path: Path, *, is_at_rest: bool = False) -> apsw.Connection:
    """A read-only connection; it never checkpoints. Raises Refused for a database that is to be migrated.

    With `is_at_rest` nobody writes to the database, and SQLite writes nothing beside it in order to read.
    """
    connection = (
        opened_at_rest(path, Disk())
        if is_at_rest
        else apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    )
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        connection.execute("PRAGMA query_only = ON")
        _require_schema(path, int(connection.execute("PRAGMA user_version").get))
    except BaseException:
        connection.close()
        raise
    return connection


def _require_schema(path: Path, found: int) -> None:
    if found == 0:  # made, and killed before anything was in it
        raise database_missing(path)
    if found != schema_version():
        raise database_of_other_version(path, found, schema_version())


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """What SQLite says while it reads from the database at `path`, as a refusal. Raises Refused."""
    try:
        yield
    except CORRUPTION as error:
        raise database_damaged(path, error) from None
    except HELD:
        raise database_held() from None
    except UNREADABLE as error:
        raise database_unreadable(path, error) from None
    except apsw.CantOpenError as error:
        raise database_closed(error) if path.exists() else database_missing(path) from None
    except UnicodeDecodeError as error:
        raise row_unreadable(path, error) from None


@contextmanager
def failing(doing: str) -> Iterator[None]:
    """What SQLite or the system say of the stores, as a failure of the disk. Raises StorageFailed."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise StorageFailed(doing, error) from error


def open_unchanged(path: Path, disk: Disk, vfs: str | None = None) -> apsw.Connection:
    """A connection to a database that nobody else has, which leaves no trace. Raises apsw.Error."""
    # Without a log the file is all there is. With one, its index is made in memory; that takes exclusive
    # locks, which cannot be had on a file that is only read, and are not needed where nobody else is.
    has_log = bool(disk.file_size(path.with_name(f"{path.name}-wal")))
    if vfs is None:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        uri = path.absolute().as_uri() + ("" if has_log else "?immutable=1")
        connection = apsw.Connection(uri, flags=flags, vfs="unix-none")
    else:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def rows(connection: apsw.Connection, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> list[Any]:
    """All rows of a query."""
    return list(connection.execute(sql, bindings))
