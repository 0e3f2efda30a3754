"""Brings the requests of any number of tasks to the daemon, or where none can be reached, into the spool.

Owns the callers that wait for replies, and the task that connects and receives. The one rule: as `Courier`, a
call ends within its time, and once something waits in the spool, nothing that comes later overtakes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread

from sessiond_client.aiolink import AsyncLink
from sessiond_client.autostart import BACKOFF_SECONDS_FIRST, NotYet
from sessiond_client.courier import QUICK_SECONDS, SILENT_SECONDS, live_seconds
from sessiond_client.errors import (
    ConnectionLost,
    DaemonCannotStore,
    DaemonUnavailable,
    RequestFailed,
    SessiondError,
)
from sessiond_client.spool import Spool
from sessiond_client.wire.messages import Error, Reply, Request
from sessiond_client.wire.spool import PASSING

IN_FLIGHT_MAX = 512
"""How many requests are unanswered at most; well within the window in which appends are stored once."""


class _Caller:
    """Waits for the reply to one request. `sent`: the request may have reached the daemon."""

    __slots__ = ("answered", "failure", "reply", "sent")

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.reply: Reply | None = None
        self.failure: SessiondError | None = None
        self.sent = False


class AsyncCourier:
    """One link for any number of tasks; with a `spool`, `greet` and writing do not need a daemon."""

    def __init__(self, link: AsyncLink, timeout: float, spool: Spool | None) -> None:
        self.spool = spool
        self._link = link
        self._timeout = timeout
        self._path = link.connector.path
        self._callers: dict[int, _Caller] = {}
        self._demand = anyio.Event()
        self._room = anyio.Semaphore(IN_FLIGHT_MAX)
        self._rejoining = anyio.Lock()
        self._welcomed: _Caller | None = None
        self._failure = DaemonUnavailable(self._path, "nothing was tried yet")
        self._retry_at = 0.0

    async def greet(self) -> None:
        """Connect and wait for the greeting. Raises `DaemonUnavailable` where there is no spool."""
        try:
            await self._greet()
        except DaemonUnavailable as failure:
            if self.spool is None:
                raise
            self.spool.away = True
            self._note(failure)

    async def exchange(
        self, make: Callable[[], Request[Any]], timeout: float | None = None, *, waits: bool = False
    ) -> Reply:
        """Send what `make` returns when there is room, and return the answer.

        If it `waits`, that is what the spool says where no daemon can be reached.
        """
        waits = waits and self.spool is not None
        seconds = self._timeout if timeout is None else timeout
        until = time.monotonic() + (live_seconds(seconds) if waits else seconds)
        with anyio.move_on_after(until - time.monotonic()) as waiting:
            await self._room.acquire()
        if waiting.cancelled_caught:
            busy = DaemonUnavailable(self._path, "earlier calls still wait for their answers")
            return await self._keep(make(), waits, busy)
        try:
            request = make()
            if self.spool is not None and self.spool.away:
                await self._rejoin(waits, until)
            reply = await self._exchange(request, seconds, until)
            return await self._keep_refused(request, reply) if waits else reply
        except (DaemonUnavailable, ConnectionLost) as failure:
            return await self._keep(request, waits, failure)
        finally:
            self._room.release()

    async def receive(self) -> None:
        """For a task of its own: connect where someone waits for it, and hand each reply to its caller."""
        while True:
            try:
                if self._link.connected:
                    self._deliver(await self._link.receive())
                else:
                    await self._reopen()
            except OSError:
                self._tell_welcomed(None)
                await self._link.pause()
            except SessiondError as error:
                self._fail(error)
                await self._link.pause()

    def hang_up(self) -> None:
        """Close the connection, and let go of what waits, so that the daemon takes it."""
        if self.spool is not None:
            self.spool.let_go()
        self._link.hang_up()

    async def _keep(
        self, request: Request[Any], waits: bool, failure: DaemonUnavailable | ConnectionLost
    ) -> Reply:
        if self.spool is None or not waits:
            raise failure
        return await anyio.to_thread.run_sync(self.spool.keep, request, failure)

    async def _keep_refused(self, request: Request[Any], reply: Reply) -> Reply:
        """The answer; if it is a refusal that passes, and the spool keeps such, that of the spool."""
        assert self.spool is not None
        if self.spool.takes_refused and isinstance(reply, Error) and reply.code in PASSING:
            return await anyio.to_thread.run_sync(self.spool.keep, request, RequestFailed(reply))
        return reply

    # --- greetings

    async def _greet(self) -> None:
        """Connect and wait for the greeting. Raises `DaemonUnavailable` if nobody answers in time."""
        link = self._link
        try:
            with anyio.fail_after(self._timeout):
                while link.protocol.welcome is None:
                    try:
                        if not link.connected:
                            await link.open(patient=False)
                        await link.receive()
                    except OSError:
                        link.reason = "it hangs up without an answer"
                        await link.pause()
        except TimeoutError:
            link.close()
            raise DaemonUnavailable(self._path, link.reason, link.listening) from None
        except BaseException:
            link.close()
            raise

    async def _rejoin(self, quick: bool, until: float) -> None:
        """See that all that waits is taken over; what can wait itself does not wait long for that.

        Raises `DaemonUnavailable`.
        """
        assert self.spool is not None
        if quick and time.monotonic() < self._retry_at:
            raise self._failure.with_traceback(None)
        seconds = until - time.monotonic()
        try:
            with anyio.fail_after(min(seconds, QUICK_SECONDS) if quick else seconds):
                async with self._rejoining:
                    if self.spool.away:
                        await self._be_welcome(patient=not quick)
        except TimeoutError:
            failure = DaemonUnavailable(self._path, self._link.reason, self._link.listening)
            self._note(failure)
            raise failure from None
        except DaemonUnavailable as failure:
            self._note(failure)
            raise
        if self.spool.is_settled:
            self.spool.away = False
        elif quick:
            cannot = DaemonCannotStore(self._path)
            self._note(cannot)
            raise cannot

    async def _be_welcome(self, patient: bool) -> None:
        """Return once a daemon has greeted us that has taken over what waits, as far as it can."""
        assert self.spool is not None
        protocol = self._link.protocol
        while True:
            if not self._link.connected:
                try:
                    self._link.attempt()
                except NotYet as reason:
                    if not patient or not (reason.listening or self._link.connector.autostart):
                        raise DaemonUnavailable(self._path, reason.reason, reason.listening) from None
                    await anyio.sleep(BACKOFF_SECONDS_FIRST)
                    continue
            if not protocol.greeted:
                await self._wait_for_welcome()
            if protocol.greeted:
                assert protocol.welcome is not None
                self.spool.taken_over(protocol.welcome)
                if not self.spool.is_news:
                    return
                self._link.greet_again()

    async def _wait_for_welcome(self) -> None:
        """Return when it has come, or the connection is gone; raises what else came of it."""
        self._welcomed = caller = _Caller()
        self._demand.set()
        await caller.answered.wait()
        if caller.failure is not None:
            raise caller.failure

    def _tell_welcomed(self, failure: SessiondError | None) -> None:
        if self._welcomed is not None:
            self._welcomed.failure = failure
            self._welcomed.answered.set()
            self._welcomed = None

    def _note(self, failure: DaemonUnavailable) -> None:
        """Looking where nobody listens costs nothing; anything else is not done for every call."""
        self._failure = failure
        wait = SILENT_SECONDS if self._link.connector.autostart or failure.listening else 0.0
        self._retry_at = time.monotonic() + wait

    # --- requests

    async def _exchange(self, request: Request[Any], seconds: float, until: float) -> Reply:
        number, line = self._link.protocol.send(request)
        caller = self._callers[number] = _Caller()
        try:
            with anyio.fail_after(until - time.monotonic()):
                if self._link.connected:
                    caller.sent = True
                    self._link.send(line)
                self._demand.set()
                await caller.answered.wait()
        except TimeoutError:
            if caller.sent:
                raise ConnectionLost(self._path, seconds) from None
            raise DaemonUnavailable(self._path, self._link.reason) from None
        finally:
            del self._callers[number]
            self._link.protocol.abandon(number)
        if caller.failure is not None:
            raise caller.failure
        assert caller.reply is not None
        return caller.reply

    def _deliver(self, replies: Sequence[Reply]) -> None:
        if self._link.protocol.greeted:
            self._tell_welcomed(None)
        for reply in replies:
            caller = self._callers.get(reply.id)
            if caller is not None:
                caller.reply = reply
                caller.answered.set()

    async def _reopen(self) -> None:
        while not self._callers and not self._link.connected:
            self._demand = anyio.Event()
            await self._demand.wait()
        await self._link.open()
        for caller in self._callers.values():
            caller.sent = True

    def _fail(self, error: SessiondError) -> None:
        """Tell every caller. To one whose request was sent, that a new connection fails means: unknown."""
        self._tell_welcomed(error)
        for number, caller in self._callers.items():
            lost = isinstance(error, DaemonUnavailable) and caller.sent
            caller.failure = ConnectionLost(self._path, self._timeout) if lost else error
            self._link.protocol.abandon(number)
            caller.answered.set()
