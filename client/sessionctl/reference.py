"""How a user names a session, and which session that is.

Owns `@last`, `@N` and `.`; all other names are the daemon's to find. The one rule: a name means one session
or fails, it is never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from sessionctl.exits import ExitCode, Failure, describe
from sessionctl.listing import listed
from sessionctl.output import counted
from sessiond_client.client import Client
from sessiond_client.errors import DaemonUnavailable, RequestFailed
from sessiond_client.wire.messages import ULID_PATTERN, ErrorCode, Session

SESSION_VARIABLE = "SESSIOND_SESSION"

_NTH = re.compile(r"@(\d{1,9})")

ID_PART_MIN = 4
"""So much of an id, from its beginning or its end, is enough for the daemon to look for."""

EMPTY = "no sessions yet; record one with: sessionctl record -- COMMAND"
TRASH_EMPTY = "the trash is empty"


def resolve(
    client: Client, reference: str, environ: Mapping[str, str] = os.environ, *, trashed: bool = False
) -> Session:
    """The session that `reference` names; `trashed`: of those in the trash.

    Raises `Failure`, or what `Client.find` raises.
    """
    if reference == ".":
        return _this_session(client, environ, trashed)
    if reference == "@last":
        return _newest(client, 0, trashed)
    if nth := _NTH.fullmatch(reference):
        return _newest(client, int(nth[1]), trashed)
    if reference.startswith("@"):
        raise Failure(
            ExitCode.USAGE, f"{reference}: write @last, or @0 for the newest, @1 for the one before"
        )
    if not reference:
        raise Failure(ExitCode.USAGE, "the session's id is empty; see: sessionctl list")
    return _find(client, reference, trashed)


def resolve_to_write(client: Client, reference: str, environ: Mapping[str, str] = os.environ) -> str:
    """The ULID of the session that `reference` names; without a daemon, it has to be that itself.

    Raises what `resolve` raises.
    """
    try:
        return resolve(client, reference, environ).ulid
    except DaemonUnavailable as error:
        ulid = environ.get(SESSION_VARIABLE, "") if reference == "." else reference
        if re.match(ULID_PATTERN, ulid):
            return ulid
        message = f"{error}; without it a session is known only by its id, not as {reference}"
        raise Failure(ExitCode.UNREACHABLE, message) from error


def _find(client: Client, needle: str, trashed: bool) -> Session:
    try:
        return client.find(needle, trashed=trashed)
    except RequestFailed as refusal:
        if refusal.code is not ErrorCode.NOT_FOUND:
            raise
        where = _elsewhere(client, needle, trashed)
        if where is None and len(needle) >= ID_PART_MIN:
            raise
        where = where or f"{describe(refusal)[1]}; of an id, at least {ID_PART_MIN} characters are needed"
    raise Failure(ExitCode.NOT_FOUND, where)


def _elsewhere(client: Client, needle: str, trashed: bool) -> str | None:
    """What a user is told who looked on the wrong side of the trash's lid."""
    try:
        there = client.find(needle, trashed=not trashed)
    except RequestFailed:
        return f"{needle} is not in the trash; see: sessionctl list --trash" if trashed else None
    if trashed:
        return f"{needle} is not in the trash; {there.name} ({there.ulid}) is where it always was"
    return f"{needle} is in the trash; take it out with: sessionctl restore {there.ulid}"


def _this_session(client: Client, environ: Mapping[str, str], trashed: bool) -> Session:
    ulid = environ.get(SESSION_VARIABLE)
    if not ulid:
        message = f"no session is being recorded here (${SESSION_VARIABLE} is not set)"
        raise Failure(ExitCode.NOT_FOUND, message)
    try:
        return _find(client, ulid, trashed)
    except RequestFailed as refusal:
        if refusal.code is not ErrorCode.NOT_FOUND:
            raise
    raise Failure(ExitCode.NOT_FOUND, "this shell has recorded nothing yet")


def _newest(client: Client, skip: int, trashed: bool) -> Session:
    """The newest session but `skip`."""
    seen = 0
    for session in listed(client, {"trashed": trashed}, skip + 1):
        if seen == skip:
            return session
        seen += 1
    if not seen:
        raise Failure(ExitCode.NOT_FOUND, TRASH_EMPTY if trashed else EMPTY)
    only = "is" if seen == 1 else "are"
    raise Failure(
        ExitCode.NOT_FOUND,
        f"@{skip}: there {only} only {counted(seen, 'session')}; the oldest is @{seen - 1}",
    )
