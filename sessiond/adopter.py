"""Brings session files from elsewhere in, one at a time, slice by slice between the commits of the others.

Owns the thread that reads them. A file is read twice: first to its end, to know what it holds and whether it
is here already, then again to store it. The one rule: until the last small commit nobody sees anything of it,
and whatever happens before that, all of it is purged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import anyio
from msgspec import structs

from sessiond.commits import Wakeup
from sessiond.errors import Refused
from sessiond.purger import Purger
from sessiond.reader import Reader
from sessiond.storage.catalog import get_session, purged_ulids, read_events
from sessiond.storage.commit.operations import (
    AbandonAdopted,
    Abandoned,
    AdoptEvents,
    BeginAdoption,
    KeepAdopted,
    Operation,
    Outcome,
    Stored,
)
from sessiond.storage.files import SessionFiles
from sessiond.storage.foreign.file import ForeignSession, Slice, SourceFile
from sessiond.storage.foreign.incoming import IncomingFile
from sessiond.writer import Writer
from sessiond_client.wire.messages import ErrorCode, Read, Session, Status

WAITING_MAX = 256
"""So many adoptions may wait for their turn."""

RETRY_SECONDS = 1.0

LANE = "adopter"

T = TypeVar("T")

logger = logging.getLogger("sessiond.adopter")


class Adopter:
    """`adopt` brings one file in; `run` has what was not finished purged, until it is cancelled."""

    def __init__(self, writer: Writer, reader: Reader, purger: Purger, session_files: SessionFiles) -> None:
        self._writer = writer
        self._reader = reader
        self._purger = purger
        self._files = session_files
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="adopter")
        self._turn = anyio.Lock()
        self._waiting = 0
        self._unfinished: dict[str, None] = {}
        """Sessions that were begun and perhaps not finished."""
        self._failed = Wakeup()

    async def run(self) -> None:
        """Have purged what failed and cancelled adoptions leave."""
        while True:
            await self._failed.wait()
            try:
                async with self._turn:
                    abandoned = await self._abandon()
            except Refused as refusal:
                logger.warning("an unfinished adoption stays", extra={"reason": refusal.message})
                await anyio.sleep(RETRY_SECONDS)
                self._failed.set()
            else:
                for ulid in abandoned:
                    self._purger.remove(ulid)

    async def adopt(self, path: str, is_wanted: Callable[[], bool]) -> tuple[Stored, str | None]:
        """The session in a file, stored, and where the file is damaged, if it is. Raises Refused.

        Once `is_wanted` says no, it is given up.
        """
        if self._waiting >= WAITING_MAX:
            raise Refused(ErrorCode.BUSY, f"{self._waiting} files wait to be brought in", "try again later")
        self._waiting += 1
        try:
            async with self._turn:
                source = await self._in_thread(lambda: SourceFile(path))
                with self._closing(source.close):
                    return await self._bring_in(source, is_wanted)
        finally:
            self._waiting -= 1
            if self._unfinished:
                self._failed.set()

    async def _bring_in(self, source: SourceFile, is_wanted: Callable[[], bool]) -> tuple[Stored, str | None]:
        survey = await self._in_thread(lambda: ForeignSession(source))
        slices = survey.slices()
        while await self._in_thread(lambda: next(slices, None)) is not None:
            _require(is_wanted)
        session = survey.session
        begun = await self._begin(session)
        if begun.existed:
            return begun, survey.damage
        file = IncomingFile(self._files, session.ulid)
        with self._closing(file.abandon):
            await self._in_thread(lambda: file.begin(begun.session))
            await self._copy(source, session, file, is_wanted)
            await self._in_thread(lambda: file.finish(begun.session))
            kept = await self._write(KeepAdopted(session=session.ulid, size=file.size))
        del self._unfinished[session.ulid]
        return _stored(kept), survey.damage

    async def _begin(self, session: Session) -> Stored:
        """The session that is here already, or a row for one to be brought in."""
        for ulid in await self._abandon():
            self._purger.remove(ulid)
        if session.ulid in await self._reader.ask(purged_ulids):
            await self._purger.purged(session.ulid)
        known = await self._reader.ask(lambda database: get_session(database, session.ulid))
        if known is not None and await self._begins(known, session):
            how = "and still recording" if known.status is Status.RECORDING else "and longer"
            raise Refused(
                ErrorCode.EXISTS,
                f"session {known.ulid} is here already, {how}: these are its first {session.next_seq} events",
                "nothing was changed",
            )
        if known is None:
            file = IncomingFile(self._files, session.ulid)
            await self._in_thread(lambda: file.require_free(session.byte_count))
        # Noted before: even if we are cancelled here, it will be begun.
        self._unfinished[session.ulid] = None
        try:
            begun = _stored(await self._write(BeginAdoption(session=session)))
        except Refused:
            del self._unfinished[session.ulid]
            raise
        if begun.existed:
            del self._unfinished[session.ulid]
        return begun

    async def _begins(self, known: Session, session: Session) -> bool:
        """Whether a session has less than the one that is here, and all of it stands at its beginning."""
        less = known.status is Status.RECORDING or session.next_seq < known.next_seq
        if known.trashed_at or known.started_at != session.started_at or not less:
            return False
        digest = hashlib.sha256()
        request = Read(session=known.ulid, before=session.next_seq)
        while True:
            page = await self._reader.ask(partial(read_events, request=request))
            digest.update(b"".join(line + b"\n" for line in page.lines))
            if not page.more:
                return known.next_seq >= session.next_seq and digest.hexdigest() == session.digest
            request = structs.replace(request, after=page.last)

    async def _copy(
        self, source: SourceFile, surveyed: Session, file: IncomingFile, is_wanted: Callable[[], bool]
    ) -> None:
        """Store the events, a slice at a time, and make sure that they are those that were surveyed."""
        foreign = await self._in_thread(lambda: ForeignSession(source))
        slices = foreign.slices()

        def next_slice() -> Slice | None:
            if (taken := next(slices, None)) is not None:
                file.add(taken.data)
            return taken

        while (taken := await self._in_thread(next_slice)) is not None:
            _require(is_wanted)
            first, data, kinds, times, lines = taken
            events = AdoptEvents(session=surveyed.ulid, first=first, kinds=kinds, times=times, lines=lines)
            await self._write(events, len(data))
        if foreign.session != surveyed:
            raise Refused(
                ErrorCode.CONFLICT,
                f"{source.path} was changed while it was read; nothing was stored",
                "try again once nobody writes to it",
                path=source.path,
            )

    async def _abandon(self) -> list[str]:
        """Mark what was not finished as purged; returns what is to be purged. Raises Refused."""
        await self._in_thread(lambda: None)  # by now the thread has closed and removed what it was to
        abandoned = []
        for ulid in list(self._unfinished):
            outcome = await self._write(AbandonAdopted(session=ulid))
            assert isinstance(outcome, Abandoned)
            del self._unfinished[ulid]
            if outcome.purged:
                abandoned.append(ulid)
        return abandoned

    async def _write(self, operation: Operation, size: int = 0) -> Outcome:
        outcome = await self._writer.ask(operation, LANE, size)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @contextmanager
    def _closing(self, close: Callable[[], None]) -> Iterator[None]:
        """Close something in the thread, after whatever the thread still does with it."""
        try:
            yield
        finally:
            self._thread.submit(close)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=True)


def _require(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise Refused(ErrorCode.BUSY, "whoever asked for it is gone")


def _stored(outcome: Outcome) -> Stored:
    assert isinstance(outcome, Stored)
    return outcome
