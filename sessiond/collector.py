"""Takes over what clients wrote into the spool while no daemon could be reached.

Owns the rounds in which that is done. The one rule: a line is done through the same handlers as a request on
a connection, is marked once it is answered, and only then does the next chunk begin; so whatever cuts a round
short, the next one goes on there and stores nothing twice.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio

from sessiond.backlog import Backlog, Item, Round, waiting
from sessiond.clock import Clock
from sessiond.commits import Wakeup
from sessiond.decoding import BadMessage, decode_request
from sessiond.errors import Refused, StorageFailed
from sessiond.handlers import Handlers
from sessiond.reader import Reader
from sessiond.replay import Replay
from sessiond.rests import PASSING, Rests, came_too_late
from sessiond.spooled import EXHAUSTED, NoSpoolFile, Part, SpooledFile, require_private, sync_directory
from sessiond.storage.files import SessionFiles
from sessiond.storage.recovery.recovery import Counters
from sessiond_client.wire.messages import Append, End, Error, ErrorCode, Reply, Start
from sessiond_client.wire.spool import Spoolable

DIRECTORIES_MAX = 16
"""So many places that clients have named are remembered."""

RETRY_SECONDS = 2.0
"""While something cannot be stored (the disk is full), it is tried again after this."""

LACKING = {errno.ENOSPC, errno.EDQUOT, *EXHAUSTED}
"""What the system says where there is no room, or nothing to open a file with: that passes."""

T = TypeVar("T")

logger = logging.getLogger("sessiond.spool")


class Refusal(NamedTuple):
    """A line that will never be stored, and why."""

    item: Item
    code: str


class Outcome(NamedTuple):
    """What came of a chunk: what is stored, what never will be, and the files in which something waits."""

    done: list[Item]
    refused: list[Refusal]
    held: list[SpooledFile]


class Collector:
    """`run` works until it is cancelled. `counters` are those of the recovery, which `status` shows."""

    def __init__(
        self,
        directories: Sequence[Path],
        handlers: Handlers,
        reader: Reader,
        files: SessionFiles,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._directories = list(dict.fromkeys(directories))
        self._handlers = handlers
        self._files = files
        self._clock = clock
        self._counters = counters
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collector")
        self._work = Wakeup()
        self._work.set()
        self._asked: list[asyncio.Future[Round]] = []
        self._settling: list[asyncio.Future[Round]] = []
        """Of those who wait for as long as there is no room for what waits."""
        self._rests = Rests(handlers, reader)
        self._is_stuck = False
        """Something could not be done in the last round, and is to be tried again soon."""
        self._is_stopping = False
        self._hindrance = ""
        """Why the last round came to nothing, if it did."""
        self._passed_over: set[Path] = set()

    # --- when

    def look(self) -> None:
        """There may be something to take over."""
        self._work.set()

    async def settled(self) -> None:
        """Return once everything that waits now was taken over, as far as it can be.

        Where there is no room for it, that is later.
        """
        await self._next_round(self._settling)

    async def _next_round(self, waiting_for_it: list[asyncio.Future[Round]]) -> Round:
        """The first round that is begun from here on, when it is over."""
        over: asyncio.Future[Round] = asyncio.get_running_loop().create_future()
        waiting_for_it.append(over)
        self._work.set()
        return await over

    async def take_over(self, directory: str, producer: str | None) -> int:
        """Take over what waits in a directory that a client names; how many files this one has to wait for.

        Those are its own, or while nothing can be stored at all, everybody's. Raises Refused.
        """
        path = Path(directory)
        if not path.is_absolute():
            raise Refused(ErrorCode.INVALID, f"{directory} is no absolute path", "send one", field="spool")
        await self._in_thread(lambda: require_private(path))
        if path not in self._directories:
            del self._directories[DIRECTORIES_MAX - 1 :]
            self._directories.append(path)
        round_ = await self._next_round(self._asked)
        if round_.is_blocked:
            return await self._in_thread(lambda: waiting([path]))
        return 0 if producer is None else await self._in_thread(lambda: round_.remaining(producer))

    def waits(self) -> bool:
        """Whether there is anything that may have to be taken over; for the start, as it blocks."""
        return waiting(self._directories) > 0

    async def run(self) -> None:
        """Take over, whenever there may be something."""
        while True:
            with anyio.move_on_after(RETRY_SECONDS if self._is_stuck else None):
                await self._work.wait()
            asked, self._asked = self._asked, []
            settling, self._settling = self._settling, []
            round_ = await self._round()
            if round_.will_go_on or self._is_stopping:
                self._settling = [*settling, *self._settling]
            else:
                asked += settling
            for over in asked:
                if not over.cancelled():
                    over.set_result(round_)

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_stopping = True

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=True)

    # --- one round

    async def _round(self) -> Round:
        self._is_stuck = False
        round_ = Round(self._directories)
        try:
            await self._in_thread(round_.look)
            for part in Part:
                await self._take(round_, part)
            if not round_.is_blocked:
                await self._rests.end(round_)
        except (OSError, Refused) as error:
            self._put_off(round_, error)
        except StorageFailed:
            raise
        except Exception as error:  # noqa: BLE001 - what waits stays where it is, and the daemon serves on
            self._put_off(round_, error, unforeseen=True)
        else:
            self._hindrance = ""
        finally:
            self._thread.submit(round_.close)
            self._tell_passed_over(round_)
        return round_

    async def _take(self, round_: Round, part: Part) -> None:
        """Do what waits of one part, a chunk at a time. Raises OSError."""
        backlog = round_.begin(part)
        try:
            while not self._is_stopping and not round_.is_blocked:
                chunk = await self._in_thread(backlog.take)
                await self._in_thread(partial(self._set_aside, round_))
                if not chunk and not backlog.ended and not backlog.passed:
                    break
                outcome = await self._replay(chunk, round_)
                await self._in_thread(partial(self._finish, backlog, outcome))
        finally:
            self._thread.submit(backlog.close)

    def _put_off(self, round_: Round, error: Exception, *, unforeseen: bool = False) -> None:
        """Try again later, and say why once."""
        self._is_stuck = round_.is_blocked = True
        round_.will_go_on |= isinstance(error, OSError) and error.errno in LACKING
        if str(error) != self._hindrance:
            self._hindrance = str(error)
            logger.error(
                "the spool cannot be taken over yet",
                extra={"reason": str(error)},
                exc_info=error if unforeseen else None,
            )

    def _tell_passed_over(self, round_: Round) -> None:
        """Say once what is passed over, for as long as it is."""
        for path, reason in round_.passed_over.items():
            if path not in self._passed_over:
                logger.warning("spool passed over", extra={"path": str(path), "reason": reason})
        self._passed_over = set(round_.passed_over)

    async def _replay(self, chunk: Sequence[Item], round_: Round) -> Outcome:
        """Do these lines; what comes of each."""
        replay = Replay(self._handlers)
        outcome = Outcome([], [], [])
        asked: list[tuple[Item, Spoolable, asyncio.Future[Reply]]] = []
        for item in chunk:
            try:
                request = _request(item.line)
            except Refused as refusal:
                outcome.refused.append(Refusal(item, refusal.code))
            else:
                answer = replay.ask(request, len(item.line), item.file.producer, item.file.written_at)
                asked.append((item, request, answer))
        held: set[str] = set()
        for item, request, answer in asked:
            reply = await answer
            if isinstance(request, Append) and came_too_late(reply):
                reply = await self._rests.store(item, request, reply)
            if not isinstance(reply, Error):
                outcome.done.append(item)
            elif item.file.name.producer in held:
                pass  # it may well follow from what is held
            elif await self._passes(reply, round_):
                held.add(item.file.name.producer)
                outcome.held.append(item.file)
            else:
                outcome.refused.append(Refusal(item, reply.code))
        return outcome

    async def _passes(self, error: Error, round_: Round) -> bool:
        """Whether the same request may well be done later."""
        if error.code in PASSING:
            self._is_stuck = True
            # Otherwise it is about one session, which is on its way in or out.
            round_.is_blocked |= error.code is not ErrorCode.BUSY or self._handlers.refusing is not None
            round_.will_go_on |= round_.is_blocked and error.code is not ErrorCode.CORRUPT
            return True
        # Its start may still be with a living writer, or have come after we had looked.
        return error.code is ErrorCode.NOT_FOUND and not await self._in_thread(round_.is_all)

    def _finish(self, backlog: Backlog, outcome: Outcome) -> None:
        """In the thread: keep what was refused, mark what is dealt with, remove the files that are done."""
        for file in outcome.held:
            backlog.hold(file)
        self._keep_refused(outcome.refused)
        self._count("spooled_requests_taken", len(outcome.done))
        by_file: dict[SpooledFile, list[int]] = {}
        for item in [*outcome.done, *(refusal.item for refusal in outcome.refused)]:
            if item.file not in backlog.ended:
                by_file.setdefault(item.file, []).append(item.start)
        for file, starts in by_file.items():
            # A start or an end that is done again changes nothing, however long ago it was.
            file.mark(starts, sync=backlog.part is Part.APPENDS)
        self._remove(backlog.ended)
        while backlog.passed:
            backlog.passed.pop().close()

    def _remove(self, files: list[SpooledFile]) -> None:
        """Files in which everything is dealt with: on disk that they are gone before anybody hears of it."""
        directories = {file.path.parent for file in files}
        while files:
            file = files[-1]
            if file.torn:
                self._keep(file, "torn", file.torn)
                self._count("spool_tails_torn")
            file.remove()
            files.pop()
        for directory in directories:
            sync_directory(directory)

    def _keep_refused(self, refused: Sequence[Refusal]) -> None:
        """Lines that will never be stored go into the quarantine, as a file that could be taken over."""
        together: dict[tuple[SpooledFile, str], list[bytes]] = {}
        for (file, _, line), code in refused:
            together.setdefault((file, code), [file.hello]).append(line)
        for (file, code), lines in together.items():
            self._keep(file, code, b"".join(lines))
            self._count("spooled_requests_refused", len(lines) - 1)

    def _keep(self, file: SpooledFile, reason: str, data: bytes) -> None:
        name = f"{file.path.name}.{reason}-{self._clock.now()}"
        self._files.keep(name, [data])
        logger.error("kept of the spool", extra={"path": str(file.path), "reason": reason, "kept": name})

    def _set_aside(self, round_: Round) -> None:
        while round_.damaged:
            finding = round_.damaged.pop()
            try:
                self._set_one_aside(finding, round_)
            finally:
                finding.file.close()

    def _set_one_aside(self, finding: NoSpoolFile, round_: Round) -> None:
        path = finding.file.path
        try:
            kept = self._files.set_aside(path, finding.reason, self._clock.now())
        except OSError as error:
            round_.passed_over[path] = error.strerror or str(error)
            return
        self._count("spool_files_refused")
        logger.error("spool file set aside", extra={"path": str(path), "kept": str(kept)})

    def _count(self, what: str, number: int = 1) -> None:
        if number:
            self._counters.add(what, number)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _request(line: bytes) -> Spoolable:
    """The request in a line. Raises Refused for what is none, or could be stored twice."""
    try:
        request = decode_request(line)
    except BadMessage as bad:
        raise bad.refusal from None
    match request:
        case Append():
            safe = request.producer is not None and request.n is not None
        case Start():
            safe = request.ulid is not None
        case _:
            safe = isinstance(request, End)
    if not safe:
        raise Refused(ErrorCode.INVALID, "no request that can wait in the spool")
    assert isinstance(request, Spoolable)
    return request
