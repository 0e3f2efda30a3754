"""The way from a command to the daemon. The one rule: every command connects through here."""

from __future__ import annotations

from sessionctl import __version__
from sessionctl.exits import complain
from sessiond_client.client import Client
from sessiond_client.errors import DaemonCannotStore, RequestFailed
from sessiond_client.wire.messages import ErrorCode

NAME = f"sessionctl/{__version__}"

WHEN_IT_COMES = "when it comes"
ONCE_IT_CAN = "once it can store again"
"""When a daemon takes over what waits in the spool: one that is away, and one that is full or only reads."""


def connect(*, autostart: bool | None = None, spool: bool | None = False) -> Client:
    """A client of the user's daemon, which is started if need be and allowed.

    With `spool`, what can wait does so where no daemon answers. What waits there already is stored first,
    and so read; but for None, of one who only asks how the daemon is.
    """
    return Client.connect(autostart=autostart, name=NAME, spool=spool)


_CANNOT_STORE = {
    ErrorCode.DISK_FULL: "the disk is full",
    ErrorCode.BUSY: "another program holds the database",
    ErrorCode.READ_ONLY: "the daemon only reads",
}


def cannot_store(client: Client) -> str:
    """Why the daemon did not store what waits in the spool of this client."""
    failure = None if client.spool is None else client.spool.failure
    if isinstance(failure, RequestFailed):
        return _CANNOT_STORE.get(failure.code, failure.reply.message)
    if isinstance(failure, DaemonCannotStore):
        return "the daemon cannot store it yet"
    return "no daemon answers" if failure is None else str(failure)


def remark_spooled(client: Client) -> bool:
    """Tell the user if what was asked for waits in the spool; whether it does."""
    if not client.spooled:
        return False
    why, when = "no daemon answers", WHEN_IT_COMES
    if client.spool is not None and isinstance(client.spool.failure, (DaemonCannotStore, RequestFailed)):
        why, when = cannot_store(client), ONCE_IT_CAN
    complain(f"{why}; it waits in {client.spool_dir}, and the daemon takes it over {when}")
    return True
