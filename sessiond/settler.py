"""Lets the files of ended sessions follow what was changed of them: their header, the trash.

The one rule: the database has the change before anything here begins, so whatever is cut short is done at the
next start; one file at a time, in a reader's thread, for a large one takes seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import anyio
import apsw

from sessiond.commits import Wakeup
from sessiond.errors import Refused, StorageFailed
from sessiond.reader import Reader
from sessiond.storage.commit.operations import MarkSettled
from sessiond.storage.database import rows
from sessiond.storage.files import SessionFiles
from sessiond.storage.settling import CannotSettle, settle
from sessiond.writer import Writer

SETTLE_SECONDS_MAX = 10.0
"""So long the sender of a change waits for the file; after that it is answered, and the file follows."""

RETRY_SECONDS = 5.0

logger = logging.getLogger("sessiond.settler")


class Settler:
    """`run` works until it is cancelled; `lagging` are the sessions whose file could not be settled.

    `hurry` is called when somebody waits for a file that is not on disk yet.
    """

    def __init__(
        self, writer: Writer, reader: Reader, files: SessionFiles, hurry: Callable[[], None]
    ) -> None:
        self._hurry = hurry
        self._writer = writer
        self._reader = reader
        self._files = files
        self._waiting: dict[str, list[anyio.Event]] = {}
        self._work = Wakeup()
        self._work.set()
        self.lagging: set[str] = set()

    def look(self) -> None:
        """There may be something to settle."""
        self._work.set()

    async def settled(self, ulid: str) -> None:
        """Return once the file of a session was settled, or could not be, or after ten seconds."""
        tried = anyio.Event()
        self._waiting.setdefault(ulid, []).append(tried)
        self._work.set()
        with anyio.move_on_after(SETTLE_SECONDS_MAX):
            await tried.wait()

    async def run(self) -> None:
        """Settle what there is, one file at a time."""
        while True:
            with anyio.move_on_after(RETRY_SECONDS if self.lagging else None):
                await self._work.wait()
            # Who begins to wait from here on may have changed what is being settled: that is another turn.
            waiting, self._waiting = self._waiting, {}
            try:
                unsettled = await self._reader.ask(_unsettled)
            except Refused as refusal:
                logger.warning("files do not follow yet", extra={"reason": refusal.message})
                self._wait_on(waiting)
                await anyio.sleep(RETRY_SECONDS)
                self._work.set()
                continue
            self.lagging &= unsettled.keys()
            for ulid in [ulid for ulid, sealed in unsettled.items() if sealed]:
                await self._settle(ulid)
                _tell(waiting.pop(ulid, []))
            for events in [waiting.pop(ulid) for ulid in [*waiting] if ulid not in unsettled]:
                _tell(events)
            if waiting:
                self._wait_on(waiting)
                self._hurry()  # their files are not on disk yet

    def _wait_on(self, waiting: dict[str, list[anyio.Event]]) -> None:
        for ulid, events in waiting.items():
            self._waiting.setdefault(ulid, []).extend(events)

    async def _settle(self, ulid: str) -> None:
        try:
            done = await self._reader.ask(partial(settle, files=self._files, ulid=ulid))
        except (OSError, CannotSettle, Refused) as error:
            self._report(ulid, error)
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001 - a row like no other must not end the service of the others
            self._report(ulid, error, unforeseen=True)
        else:
            self.lagging.discard(ulid)
            if done is not None:
                mark = MarkSettled(session=ulid, header=done.header, shelf=done.shelf, size=done.size)
                outcome = await self._writer.ask(mark, ("settled", ulid))
                if isinstance(outcome, Refused):
                    self._report(ulid, outcome)  # and done again

    def _report(self, ulid: str, error: Exception, *, unforeseen: bool = False) -> None:
        if ulid not in self.lagging:
            logger.error(
                "file does not follow yet; its backup, if there is one, is beside it",
                extra={"session": ulid, "reason": str(error)},
                exc_info=error if unforeseen else None,
            )
        self.lagging.add(ulid)


def _tell(waiting: list[anyio.Event]) -> None:
    for tried in waiting:
        tried.set()


def _unsettled(connection: apsw.Connection) -> dict[str, bool]:
    """The sessions whose file is to follow, and whether it is sealed: before that it must not be touched."""
    sql = "SELECT ulid, sealed FROM session WHERE unsettled = 1 AND shelf IN ('kept', 'trashed')"
    return {ulid: bool(sealed) for ulid, sealed in rows(connection, sql)}
