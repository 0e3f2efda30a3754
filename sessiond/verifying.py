"""What the request `verify` does.

The one rule: nobody waits for it: it has a thread and a connection of its own, and answers a page at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from sessiond.clock import Clock
from sessiond.connection import Connection
from sessiond.errors import Refused, database_damaged, files_closed, not_found
from sessiond.storage.check.checking import Checking, Totals
from sessiond.storage.check.comparison import Compared, CutShort
from sessiond.storage.check.faults import Cure, beside_a_daemon
from sessiond.storage.database import DAMAGE, open_reader, refusing
from sessiond.storage.directory import DATABASE_NAME, mark_suspect
from sessiond.storage.files import SessionFiles
from sessiond_client.wire.messages import ErrorCode, Fault, Verified, Verify

VERIFY_SECONDS_MAX = 1.0
"""A page ends with the session that is compared when so much time is over ..."""

FAULTS_PER_PAGE_MAX = 1000
"""... or with the one that brings so many faults."""

logger = logging.getLogger("sessiond.verifying")


class Verifying:
    """Compares files and database beside the writer, for whoever asks."""

    def __init__(
        self, data_dir: Path, files: SessionFiles, clock: Clock, *, is_at_rest: bool = False
    ) -> None:
        self._data_dir = data_dir
        self._is_at_rest = is_at_rest
        self._files = files
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._connection: apsw.Connection | None = None
        self._is_closing = False

    def verbs(self) -> dict[type, Callable[[Connection, Any, int], None]]:
        """The requests that are done here."""
        return {Verify: self._verify}

    def _verify(self, connection: Connection, request: Verify, size: int) -> None:
        def cut() -> bool:
            return self._is_closing or not connection.is_open

        connection.ask(request.id, size, partial(self._answer, request, cut))

    async def _answer(self, request: Verify, cut: Callable[[], bool]) -> Verified:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._page, request, cut)

    def _page(self, request: Verify, cut: Callable[[], bool]) -> Verified:
        page = _Page(request)
        try:
            with refusing(self._data_dir / DATABASE_NAME):
                self._fill(page, request, cut)
        except CutShort:
            raise Refused(ErrorCode.BUSY, "the daemon is stopping", "ask again once it is back") from None
        except OSError as error:
            raise files_closed(error) from None
        if page.has_damage:
            self._suspect()
        return page.reply()

    def _fill(self, page: _Page, request: Verify, cut: Callable[[], bool]) -> None:
        try:
            if self._connection is None:
                self._connection = open_reader(self._data_dir / DATABASE_NAME, is_at_rest=self._is_at_rest)
            check = Checking(self._data_dir, self._connection, self._files, is_live=True, cut=cut)
            if request.session is None:
                self._some(page, check, request.after)
            elif (compared := check.compare(request.session)) is not None:
                page.add(request.session, compared)
            else:
                raise not_found(request.session)
        except DAMAGE as error:
            self._suspect()
            raise database_damaged(self._data_dir / DATABASE_NAME, error) from None

    def _some(self, page: _Page, check: Checking, after: str | None) -> None:
        """As many sessions as the time allows, and with the first of them what belongs to none."""
        end = self._clock.monotonic() + VERIFY_SECONDS_MAX
        if after is None:
            page.faults += islice(check.directory_faults(), FAULTS_PER_PAGE_MAX)
        for ulid, compared in check.sessions(after or ""):
            page.add(ulid, compared)
            if self._clock.monotonic() >= end or len(page.faults) >= FAULTS_PER_PAGE_MAX:
                page.next = ulid
                return

    def _suspect(self) -> None:
        """Have the next start look at the whole database, unless nothing is to be written."""
        if self._is_at_rest:
            return
        with suppress(OSError):  # who asked is told all the same
            mark_suspect(self._data_dir)

    def close(self) -> None:
        """Let what is being compared be cut short, and close the connection."""
        self._is_closing = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._connection is not None:
            self._connection.close()


class _Page:
    """One answer while it is being made."""

    def __init__(self, request: Verify) -> None:
        self._id = request.id
        self._totals = Totals()
        self._lagging: list[str] = []
        self.faults: list[Fault] = []
        self.has_damage = False
        self.next: str | None = None

    def add(self, ulid: str, compared: Compared) -> None:
        """Count a session in."""
        self._totals.add(compared)
        self.faults += compared.faults
        self.has_damage = self.has_damage or Cure.DATABASE in compared.cures
        if compared.faults:
            codes = sorted({found.code for found in compared.faults})
            logger.error("a check found faults", extra={"session": ulid, "codes": codes})
        elif compared.lags:
            self._lagging.append(ulid)

    def reply(self) -> Verified:
        """The answer."""
        return Verified(
            id=self._id,
            sessions=self._totals.sessions,
            events=self._totals.events,
            bytes=self._totals.size,
            faults=[beside_a_daemon(found) for found in self.faults],
            lagging=self._lagging,
            next=self.next,
        )
