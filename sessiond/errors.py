"""What can go wrong inside the daemon, and what it means for whoever asked.

    Refused            one request is refused, nothing of it was stored; goes back to the client as an error
    StartupRefused     the daemon will not start: exits with `exit_code` and one clear line
    StorageFailed      the disk failed with an unknown outcome: nobody is answered, the daemon exits with 70
    DataGone           the same, for data that were removed or replaced under the daemon

The one rule: errors of SQLite and of the operating system are translated into these where they enter.
"""

from __future__ import annotations

from pathlib import Path

from sessiond_client.wire import refused
from sessiond_client.wire.messages import ErrorCode

EXIT_STORAGE = 70
EXIT_TAKEN = 75
EXIT_CONFIGURATION = 78


Refused = refused.Refused
"""Of the wire, for a client refuses what it writes into the spool by the same rules."""


class RowUnreadable(Refused):
    """The refusal of a question about a session whose row is damaged; asking again changes nothing."""


class StartupRefused(Exception):  # noqa: N818 - as above
    """The daemon must not start here. `what` is wrong, `hint` says what to do."""

    def __init__(self, what: str, hint: str, exit_code: int = EXIT_CONFIGURATION) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}"


class StorageFailed(Exception):  # noqa: N818 - as above
    """A write whose outcome is unknown: `doing` is what was being done, `cause` what the system said."""

    def __init__(self, doing: str, cause: Exception) -> None:
        super().__init__(doing, cause)
        self.doing = doing
        self.cause = cause

    def __str__(self) -> str:
        return f"storage failed while {self.doing}: {type(self.cause).__name__}: {self.cause}"


class DataGone(StorageFailed):
    """`path` was removed or replaced under the daemon: what is stored now, nobody would find again."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"looking for {path}", FileNotFoundError(str(path)))
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} was removed or replaced while the daemon was running"


def not_found(needle: str, suggestions: list[str] | None = None) -> Refused:
    """No such session."""
    return Refused(
        ErrorCode.NOT_FOUND,
        f"no session matches {needle!r}",
        "`sessionctl list` shows what there is",
        suggestions=suggestions or None,
    )


def database_damaged(path: Path, error: Exception) -> Refused:
    """What SQLite read from the database is no database."""
    return Refused(
        ErrorCode.CORRUPT,
        f"the database is damaged: {error}",
        "restart the daemon: it sets the database aside and builds it anew from the files",
        path=str(path),
    )


def row_unreadable(path: Path, error: Exception, session: str | None = None) -> RowUnreadable:
    """SQLite reads the database, and what it finds there says nothing; `session` is of which, if known."""
    whose = "this" if session is None else f"session {session}"
    return RowUnreadable(
        ErrorCode.CORRUPT,
        f"what the database has of {whose} cannot be read: {error}",
        "`sessionctl verify` says where, and what mends it: `sessiond rebuild`, of one session or of all",
        path=str(path),
    )


def database_closed(error: Exception) -> Refused:
    """There is a database, but for now it cannot be opened."""
    return Refused(
        ErrorCode.BUSY,
        f"the database cannot be opened: {error}",
        "ask again; if it stays so, see to the disk and to how many files may be open (`ulimit -n`)",
    )


def files_closed(error: OSError) -> Refused:
    """What is there of files cannot be told for now."""
    return Refused(
        ErrorCode.BUSY,
        f"the files cannot be looked at: {error}",
        "ask again; if it stays so, see to the disk and to how many files may be open (`ulimit -n`)",
    )


def database_missing(path: Path) -> Refused:
    """There is nothing to read from, and whoever reads makes nothing."""
    return Refused(
        ErrorCode.READ_ONLY,
        f"there is no database {path}",
        "the next start that may write makes one, from the files there are; `sessionctl status` says more",
    )


def database_of_other_version(path: Path, found: int, known: int) -> Refused:
    """It is to be migrated first, and whoever reads migrates nothing."""
    older = "the next start that may write brings it up to date; `sessionctl status` says more"
    newer = "install the version of sessiond that wrote it, or a later one"
    return Refused(
        ErrorCode.READ_ONLY,
        f"{path} has schema {found}, and this version reads schema {known} only",
        older if found < known else newer,
    )


def database_unreadable(path: Path, error: Exception) -> Refused:
    """The disk does not give what it should have."""
    return Refused(
        ErrorCode.CORRUPT, f"the database cannot be read: {error}", "see to the disk", path=str(path)
    )


def database_held() -> Refused:
    """A foreign process keeps us from reading."""
    return Refused(ErrorCode.BUSY, "another program holds the database", "ask again")


def internal() -> Refused:
    """A fault of ours; what it was stands in the log."""
    return Refused(
        ErrorCode.INTERNAL,
        "the daemon failed on this request",
        "its log says why; please report it",
    )
