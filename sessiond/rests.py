"""The sessions for what came after an end: children of the one that had ended when the daemon got it.

Owns those that were begun in this round. The one rule: their ids follow from the file and the session that
had ended, so that whatever cuts a round short, the next one finds the same again and stores nothing twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path
from typing import TypeGuard

import msgspec

from sessiond.backlog import Item, Round
from sessiond.errors import Refused, RowUnreadable, internal
from sessiond.handlers import Handlers
from sessiond.reader import Reader
from sessiond.replay import Replay
from sessiond.storage.catalog import get_session
from sessiond_client.wire.messages import (
    NAME_LENGTH_MAX,
    Append,
    End,
    Error,
    ErrorCode,
    Reply,
    Session,
    Start,
    Status,
)
from sessiond_client.wire.spool import FileName

PASSING = {ErrorCode.BUSY, ErrorCode.CORRUPT, ErrorCode.DISK_FULL, ErrorCode.READ_ONLY}
"""Refusals that pass: what they concern waits, and all that comes after it."""

SUFFIX = "-rest"
RESTS_MAX = 8
"""So many sessions are begun for what one file has of a session that ended; each ends with its round."""

_ULID_TIME_LETTERS = 10
_ULID_RANDOM_LETTERS = 16

logger = logging.getLogger("sessiond.spool")


class Rests:
    """`store` stores what came too late, `end` ends what was begun for it."""

    def __init__(self, handlers: Handlers, reader: Reader) -> None:
        self._handlers = handlers
        self._reader = reader
        self._begun: dict[str, Path] = {}
        """By ULID, and the file that it came from."""

    async def store(self, item: Item, request: Append, reply: Error) -> Reply:
        """Events of a session that has ended meanwhile go into one of their own, its child.

        That may have ended, too, if something of the file was put off, or the file was put back: then into
        another one.
        """
        try:
            ended = await self._session(request.session)
            if ended is None or ended.status is Status.RECORDING:
                return reply
            for number in range(RESTS_MAX):
                rest = _rest_of(ended, item.file.name, number)
                if reply.code is not ErrorCode.SESSION_ENDED and await self._session(rest.ulid) is None:
                    break  # it went nowhere else: it comes too late for its producer
                stored = await self._store_in(rest, item, request)
                if not came_too_late(stored):
                    return stored
                reply = stored
        except RowUnreadable as unread:
            # The next start mends a damaged database; a damaged row would hold up the rest for ever.
            logger.error(  # noqa: TRY400
                "a session cannot be read", extra={"session": request.session, "reason": unread.message}
            )
            return internal().reply(0)
        except Refused as unread:
            return unread.reply(0)
        except Exception:
            logger.exception("what came after an end cannot be stored", extra={"session": request.session})
            return internal().reply(0)
        return reply

    async def _store_in(self, rest: Start, item: Item, request: Append) -> Reply:
        replay = Replay(self._handlers)
        assert rest.ulid is not None
        if rest.ulid not in self._begun:
            began = await replay.ask(rest, 0, item.file.producer, time.time())
            if isinstance(began, Error):
                return began
            self._begun[rest.ulid] = item.file.path
        moved = msgspec.structs.replace(request, session=rest.ulid)
        return await replay.ask(moved, len(item.line), item.file.producer, item.file.written_at)

    async def _session(self, ulid: str | None) -> Session | None:
        """Raises Refused."""
        assert ulid is not None
        return await self._reader.ask(lambda database: get_session(database, ulid))

    async def end(self, round_: Round) -> None:
        """End the sessions whose files are done."""
        replay = Replay(self._handlers)
        for ulid in [ulid for ulid, path in self._begun.items() if not round_.holds(path)]:
            ended = await replay.ask(End(session=ulid), 0, None, 0)
            if not isinstance(ended, Error) or ended.code not in PASSING:
                del self._begun[ulid]


def came_too_late(reply: Reply) -> TypeGuard[Error]:
    """Whether the session has ended, or this append went elsewhere for that reason the last time."""
    if not isinstance(reply, Error):
        return False
    return reply.code is ErrorCode.SESSION_ENDED or (reply.code is ErrorCode.INVALID and reply.field == "n")


def _rest_of(ended: Session, file: FileName, number: int) -> Start:
    """The how many-th session for the rest. Its id follows from these, so that another try finds the same.

    It is ours: should we be killed, the next round goes on with it before it is interrupted.
    """
    digest = hashlib.sha256(f"{file}{ended.ulid}{number}".encode()).hexdigest().upper()
    return Start(
        ulid=file.producer[:_ULID_TIME_LETTERS] + digest[:_ULID_RANDOM_LETTERS],
        name=ended.name[: NAME_LENGTH_MAX - len(SUFFIX)] + SUFFIX,
        source=ended.source,
        cli_version=ended.cli_version,
        parent_ulid=ended.ulid,
        shell=ended.shell,
        os=ended.os,
        hostname=ended.hostname,
        cwd=ended.cwd,
        env=ended.env,
        tags=ended.tags,
        meta={"rest_of": ended.ulid},
        owner_pid=os.getpid(),
    )
