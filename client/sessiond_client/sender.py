"""The sending half of a recorder: one thread that takes events from the intake and sees them acknowledged.

Owns the connection, its `Protocol`, the appends that are not acknowledged, and the spill file. The one rule:
events are numbered into appends once, in the order they were taken, and an append leaves this module only
acknowledged, written to the spill file, or reported as undelivered. Nothing here waits but `_wait`.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from contextlib import suppress

from sessiond_client.autostart import Connector, NotYet
from sessiond_client.errors import DaemonUnavailable, RequestFailed
from sessiond_client.intake import Intake
from sessiond_client.protocol import Protocol, append_line, stamped, unstamped
from sessiond_client.spool_file import SpoolFile
from sessiond_client.wire.messages import Appended, Error, ErrorCode
from sessiond_client.wire.spool import PASSING

BATCH_EVENTS_MAX = 1024
BATCH_BYTES_MAX = 1024 * 1024
"""How much goes into one append; a single event may be larger."""

IN_FLIGHT_APPENDS_MAX = 16
IN_FLIGHT_BYTES_MAX = 8 * 1024 * 1024
"""How much is sent ahead of the acknowledgements."""

SMALL_IN_FLIGHT_MAX = 2
"""With so many appends on their way, a small queue waits and grows: fewer, larger appends."""

STALL_SECONDS = 1.0
"""A daemon that acknowledges nothing for so long counts as away: a full queue is spilled then."""

RECONNECT_SECONDS_FIRST = 0.01
RECONNECT_SECONDS_MAX = 1.0
START_RETRY_SECONDS = 5.0
"""After a daemon could not be started, it is not tried again before this."""

REFUSED_RETRY_SECONDS = 0.5
"""After `busy`, `disk_full` or `read_only`, the same append is sent again so much later."""

GREET_RETRY_SECONDS = 1.0
"""After a daemon could not take over what waits in the spool, it is asked to again so much later."""

SPILL_RETRY_SECONDS = 1.0
"""After the spill file could not be written, it is tried again so much later."""

RECEIVE_BYTES = 64 * 1024


class Batch:
    """One numbered append: `line` (without id) has `count` events from number `first` on."""

    __slots__ = ("count", "first", "length", "line", "n", "spilled_at")

    def __init__(self, n: int, first: int, count: int, line: bytes) -> None:
        self.n = n
        self.first = first
        self.count = count
        self.line = line
        self.length = 0
        self.spilled_at: int | None = None


class Sender:
    """Runs in a thread of its own until everything is settled, or the intake is closed and out of time."""

    def __init__(
        self, session: str, intake: Intake, protocol: Protocol, connector: Connector, spill: SpoolFile | None
    ) -> None:
        self.reconnects = 0
        self._heard = False
        self.spilled = 0
        self.is_put_off = False
        """Whether a daemon has answered last that it cannot store now what it was sent, or what waits."""
        self._session = session
        self._intake = intake
        self._protocol = protocol
        self._connector = connector
        self._spill = spill
        self._socket: socket.socket | None = None
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._outbox: deque[memoryview] = deque()
        self._outstanding: dict[int, Batch] = {}  # n -> taken and not acknowledged, held in memory
        self._in_flight: dict[int, Batch] = {}  # request id -> sent and not answered
        self._refused: list[Batch] = []  # to be sent again, nothing overtakes them
        self._carried: Batch | None = None  # could not be spilled: goes before the queue
        self._on_disk: deque[Batch] = deque()  # spilled and not read back, `line` left empty
        self._window = IN_FLIGHT_APPENDS_MAX
        self._pause = RECONNECT_SECONDS_FIRST
        self._hurried = False  # once it is being closed, the next attempt does not wait for its time
        self._connect_at = 0.0
        self._retry_at = 0.0
        self._spill_at = 0.0
        self._greet_at = 0.0
        self._progress_at = time.monotonic()
        self.end_line: bytes | None = None
        """The end of the session as it goes into the spill file, behind what is left there."""
        self.end_left = False
        """Whether it has."""
        self._is_left = False  # everything is in the spill file, for the daemon to take from there

    def wake(self) -> None:
        """Make the thread look again; from any thread, at any time."""
        with suppress(OSError):  # full: then it wakes anyway; closed: then it has ended
            self._waker.send(b"\0")

    def run(self) -> None:
        """The thread: work until done, then leave nothing behind that is not in the spill file."""
        try:
            while not self._done():
                self._connect()
                self._fill()
                self._relieve()
                self._wait()
        except Exception as error:  # noqa: BLE001 - handed on to whoever records
            self._intake.fail(error)
        try:
            self._leave()
        except OSError as error:
            self._intake.fail(error)
        finally:
            self._intake.finish()

    def release(self) -> None:
        """After the thread has ended: give back what is left."""
        self._woken.close()
        self._waker.close()

    # --- when to stop

    def _done(self) -> bool:
        intake = self._intake
        if intake.failure is not None:
            return True
        if not intake.closing:
            return False
        if intake.settled == intake.recorded:
            return True
        # Where there is no room in the spill file either, there may be some until `give_up_at`.
        return self._is_late() and (
            self._spill is None or self._is_left or time.monotonic() >= intake.give_up_at
        )

    def _is_late(self) -> bool:
        """Whether what is not acknowledged by now is to be left in the spill file."""
        return self._intake.closing and time.monotonic() >= self._intake.close_deadline

    def _leave(self) -> None:
        """Put into the spill file what is not acknowledged; then hang up, and the daemon looks for it."""
        try:
            left = self._intake.settled < self._intake.recorded
            if self._spill is not None and left and not self._is_left:
                self._spill_all(ending=self._intake.failure is None)
        finally:
            if self._spill is not None:
                self._spill.leave()
            self._hang_up()

    # --- the connection

    def _connect(self) -> None:
        """One attempt, if there is no connection and it is time for one; never waits."""
        now = time.monotonic()
        if self._intake.closing and not self._hurried:
            self._hurried = True
            self._connect_at = now
        if self._socket is not None or now < self._connect_at:
            return
        try:
            self._socket = self._connector.attempt()
        except NotYet:
            self._back_off(now)
        except DaemonUnavailable:
            self._back_off(now)
            if self._connector.autostart:
                self._connect_at = now + START_RETRY_SECONDS
        else:
            self._outbox = deque([memoryview(self._protocol.opening())])
            self._progress_at = now

    def _back_off(self, now: float) -> None:
        self._connect_at = now + self._pause
        self._pause = min(self._pause * 2, RECONNECT_SECONDS_MAX)

    def _lose(self) -> None:
        """The connection is gone; everything unanswered goes first on the next one."""
        self._hang_up()
        # A daemon that ends may still be connected to for a moment: that is not another time it was away.
        self.reconnects += self._heard
        self._heard = False
        self.is_put_off = False
        self._back_off(time.monotonic())

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._outbox.clear()

    # --- sending

    def _fill(self) -> None:
        """Number and send as much as may be on its way, in order: refused, spilled, carried, queued."""
        self._greet_again()
        while self._may_send():
            batch = self._next_batch()
            if batch is None:
                break
            if not self._in_flight:
                self._progress_at = time.monotonic()
            number, line = self._protocol.forward(batch.line)
            self._in_flight[number] = batch
            self._outbox.append(memoryview(line))
        self._flush()

    def _may_send(self) -> bool:
        if self._socket is None or self._protocol.unanswered >= self._window:
            return False
        if self._protocol.spool is not None and (not self._protocol.greeted or self._is_kept_waiting()):
            # What waits there is to be stored first; the daemon greets us when it is, as far as it can be.
            return False
        if self._refused and (self._in_flight or time.monotonic() < self._retry_at):
            return False
        return self._protocol.unanswered_bytes < IN_FLIGHT_BYTES_MAX

    def _is_kept_waiting(self) -> bool:
        """Whether the daemon has greeted us, but cannot take over yet what waits in the spool."""
        protocol = self._protocol
        return protocol.greeted and protocol.welcome is not None and bool(protocol.welcome.waiting)

    def _greet_again(self) -> None:
        """Ask a daemon that could not take over the spool to try it again, when it is time for that."""
        if self._socket is not None and self._is_kept_waiting() and time.monotonic() >= self._greet_at:
            self._outbox.append(memoryview(self._protocol.hello()))

    def _next_batch(self) -> Batch | None:
        if self._refused:
            return self._refused.pop(0)
        if self._on_disk:
            batch = self._read_back(self._on_disk.popleft())
        elif self._carried is not None:
            batch, self._carried = self._carried, None
        elif self._worth_sending():
            taken = self._take()
            if taken is None:
                return None
            batch = taken
        else:
            return None
        self._outstanding[batch.n] = batch
        return batch

    def _worth_sending(self) -> bool:
        return len(self._in_flight) < SMALL_IN_FLIGHT_MAX or self._intake.closing or not self._intake.is_small

    def _take(self) -> Batch | None:
        """Number the oldest events of the queue."""
        first, events = self._intake.take(BATCH_EVENTS_MAX, BATCH_BYTES_MAX)
        if not events:
            return None
        n = self._protocol.next_n()
        return Batch(n, first, len(events), append_line(self._session, events, self._protocol.producer, n))

    def _flush(self) -> None:
        """Send what the socket takes now."""
        while self._socket is not None and self._outbox:
            try:
                sent = self._socket.send(self._outbox[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # The daemon has hung up; `_receive` hears its last words, if there are any, and the end.
                self._outbox.clear()
                return
            if sent < len(self._outbox[0]):
                self._outbox[0] = self._outbox[0][sent:]
            else:
                self._outbox.popleft()

    # --- spilling

    def _relieve(self) -> None:
        """Move the queue to the spill file, if someone waits for room and the daemon does not help, or at
        the end."""
        now = time.monotonic()
        late = self._is_late()
        wanted = late or (self._intake.starved and self._stalled(now))
        if self._spill is None or not wanted or now < self._spill_at:
            return
        try:
            self._spill_all(ending=late)
        except OSError:
            # No room on the disk either: recording waits, as it would without a spill file.
            self._spill_at = now + SPILL_RETRY_SECONDS
        else:
            self._is_left = late

    def _spill_all(self, ending: bool) -> None:
        """Write everything that only memory has; with `ending`, the end of the session behind it."""
        assert self._spill is not None
        while self._spill_one():
            pass
        if ending and self.end_line is not None and not self.end_left:
            self._spill.write(self.end_line)
            self.end_left = True

    @property
    def lost(self) -> int:
        """How many events are neither acknowledged nor in the spill file."""
        unkept = [batch for batch in self._outstanding.values() if batch.spilled_at is None]
        if self._carried is not None:
            unkept.append(self._carried)
        return sum(batch.count for batch in unkept) + self._intake.recorded - self._intake.taken

    def _stalled(self, now: float) -> bool:
        return self._socket is None or now >= self._progress_at + STALL_SECONDS

    def _spill_one(self) -> bool:
        """Write the oldest append that only memory has; False if there is none."""
        for batch in self._outstanding.values():
            if batch.spilled_at is None:
                self._write(batch)
                return True
        batch_or_none = self._carried or self._take()
        if batch_or_none is None:
            return False
        self._carried = batch_or_none
        self._write(self._carried)
        self._carried.line = b""
        self._on_disk.append(self._carried)
        self._carried = None
        return True

    def _write(self, batch: Batch) -> None:
        assert self._spill is not None
        line = stamped(batch.line, time.time_ns() // 1000)
        batch.spilled_at = self._spill.write(line)
        batch.length = len(line)
        self.spilled += batch.count

    def _read_back(self, batch: Batch) -> Batch:
        assert self._spill is not None
        assert batch.spilled_at is not None
        batch.line = unstamped(self._spill.read(batch.spilled_at, batch.length))
        return batch

    # --- waiting and receiving

    def _wait(self) -> None:
        """Until the daemon says something, takes something, an event comes, or the next thing is due."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._socket is not None:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        # Events are waited for only where one would be sent; a full window is opened by a reply.
        wants_event = self._may_send() and self._worth_sending() and not self._refused
        if wants_event and not self._intake.arm():
            return
        if self._done():
            return
        for descriptor, events in poll.poll(self._milliseconds()):
            if descriptor == self._woken.fileno():
                with suppress(BlockingIOError):
                    self._woken.recv(4096)
            elif events & ~select.POLLOUT:
                self._receive()

    def _milliseconds(self) -> int | None:
        """How long nothing is due; None: for ever."""
        due: list[float] = []
        now = time.monotonic()
        if self._socket is None:
            due.append(self._connect_at)
        elif self._refused and not self._in_flight:
            due.append(self._retry_at)
        elif self._is_kept_waiting():
            due.append(self._greet_at)
        if self._spill is not None and self._intake.starved:
            due.append(max(self._progress_at + STALL_SECONDS, self._spill_at))
        if self._is_late():
            due.append(min(self._spill_at, self._intake.give_up_at))
        elif self._intake.closing:
            due.append(self._intake.close_deadline)
        return max(0, int((min(due) - now) * 1000) + 1) if due else None

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._heard = True
        try:
            replies = self._protocol.receive(data)
        except RequestFailed as refused:
            if refused.code is not ErrorCode.BUSY:
                raise
            self._lose()
            return
        if due := self._protocol.due():
            self._outbox.append(memoryview(due))
        self.is_put_off |= self._is_kept_waiting()
        if self._is_kept_waiting() and self._greet_at <= time.monotonic():
            self._greet_at = time.monotonic() + GREET_RETRY_SECONDS
        for reply in replies:
            batch = self._in_flight.pop(reply.id)
            if isinstance(reply, Appended):
                self._acknowledge(batch)
            elif isinstance(reply, Error):
                self._refuse(batch, reply)
        self._settle()

    def _acknowledge(self, batch: Batch) -> None:
        del self._outstanding[batch.n]
        self.is_put_off = False
        self._progress_at = time.monotonic()
        self._pause = RECONNECT_SECONDS_FIRST
        self._window = IN_FLIGHT_APPENDS_MAX
        if batch.spilled_at is not None:
            assert self._spill is not None
            self._spill.delivered(batch.spilled_at)

    def _refuse(self, batch: Batch, error: Error) -> None:
        """Keep what will be taken later, and send one at a time until then; anything else is the end."""
        if error.code not in PASSING:
            self._intake.fail(RequestFailed(error))
            return
        self.is_put_off = True
        self._refused.append(batch)
        self._refused.sort(key=lambda refused: refused.n)
        self._window = 1
        self._retry_at = time.monotonic() + REFUSED_RETRY_SECONDS

    def _settle(self) -> None:
        """Tell the intake up to where everything is acknowledged."""
        if self._outstanding:
            upto = next(iter(self._outstanding.values())).first
        elif self._on_disk:
            upto = self._on_disk[0].first
        elif self._carried is not None:
            upto = self._carried.first
        else:
            upto = self._intake.taken
        self._intake.settle(upto)
