"""Peers that mean harm or know no better: they cost the daemon nothing lasting, and the others nothing."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import suppress
from pathlib import Path

from sessiond.server import HELD_BYTES_MAX
from tests.checker import check, texts
from tests.running import RunningDaemon

HOSTILE_CONNECTIONS = 5_000
MEMORY_MIB_MAX = 10
SEED = 20261121

HOSTILE_LINES = [
    b"\n\n\n",
    b"\x00" * 4096 + b"\n",
    b"\xff\xfe\xfd\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b'{"type":"ping"' + b" " * 50_000 + b"}\n",
    b"[" * 50_000 + b"\n",
    b"[" * 20_000 + b"]" * 20_000 + b"\n",
    b'{"type":"start","meta":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001 + b"\n",
    b'{"type":"start","meta":{"a":[' + b"[]," * 20_000 + b'[]]},"name":"no name"}\n',
    b'{"type":"append","session":"01ARZ3NDEKTSV4RRFFQ69G5FAV","events":[' + b"{}," * 5_000 + b"{}]}\n",
    b'{"type":"append","session":"01ARZ3NDEKTSV4RRFFQ69G5FAV","events":[{"kind":"a","data":{"n":1e999}}]}\n',
    b'{"type":"append","session":"../../../etc/passwd","events":[{"kind":"a"}]}\n',
    b'{"type":"get","session":"01ARZ3NDEKTSV4RRFFQ69G5FAV\\u0000"}\n',
    b'{"type":"find","needle":"%_%\\u0000"}\n',
    b'{"type":"search","query":"\\"((((","mode":"words"}\n',
    b'{"type":"search","query":"(((((((((","mode":"regex"}\n',
    b'{"type":"adopt","path":"/dev/zero"}\n',
    b'{"type":"adopt","path":"/proc/self/mem"}\n',
    b'{"type":"list","limit":1000,"before":"\xc2\x80"}\n',
    b'{"type":"hello","protocol":99999999999999999999}\n',
    b'{"type":"cancel"}\n' * 50,
    b'{"type":"list"}\n' * 20,
    b'{"type":"follow","after":-1}\n' * 100,
    b'{"type":"status","id":NaN}\n',
    b'{"type":"ping","id":1}',
    b'{"type":"append","ev',
]
WAYS = ["leave", "half-close", "reset", "read"]


def approach(path: Path, message: bytes, way: str) -> None:
    """One hostile connection: it says something and is rude about the answer."""
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.settimeout(30)
        hostile.connect(str(path))
        with suppress(BrokenPipeError, ConnectionResetError):  # the daemon may have enough of it first
            hostile.sendall(message)
            if way == "half-close":
                hostile.shutdown(socket.SHUT_WR)
                hostile.recv(1)
            elif way == "read" and message.endswith(b"}\n"):
                hostile.recv(1)
            elif way == "reset":
                hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def assert_unimpressed(daemon: RunningDaemon) -> None:
    """The same process, and nothing in its log that it did not expect."""
    with daemon.peer() as peer:
        while (status := peer.call("status"))["connections"] > 1:
            pass
    assert status["pid"] == daemon.process.pid
    log = daemon.log_text()
    assert "Traceback" not in log
    assert "a request failed" not in log


def test_five_thousand_hostile_connections_leave_nothing_behind(daemon: RunningDaemon) -> None:
    dice = random.Random(SEED)
    for message in HOSTILE_LINES:  # so that every part has been at work once
        approach(daemon.socket, message, "half-close")
    healthy = daemon.peer()
    session = healthy.start(owner_pid=0)
    sent = 0
    before = daemon.memory_mib()

    for number in range(HOSTILE_CONNECTIONS):
        approach(daemon.socket, dice.choice(HOSTILE_LINES), dice.choice(WAYS))
        if number % 10 == 0:
            assert healthy.append(session, f"text {sent}")["first"] == sent
            sent += 1

    healthy.close()
    assert_unimpressed(daemon)
    assert daemon.memory_mib() - before < MEMORY_MIB_MAX
    check(daemon.data_dir)
    assert texts(daemon.data_dir, session) == [f"text {number}" for number in range(sent)]


def test_half_lines_of_many_peers_never_fill_the_memory(daemon: RunningDaemon) -> None:
    half = b'{"type":"ping","x":"' + b"a" * (15 << 20)
    for _ in range(2 * HELD_BYTES_MAX // len(half)):
        with suppress(BrokenPipeError, ConnectionResetError):  # it was one too many
            daemon.peer().send_bytes(half)

    with daemon.peer() as polite:
        assert polite.append(polite.start(), "served")["type"] == "appended"
        assert polite.call("status")["connections"] <= HELD_BYTES_MAX // len(half) + 1
    assert daemon.memory_mib() < 2 * HELD_BYTES_MAX / (1 << 20)
    assert "connection holds too much" in daemon.log_text()
    daemon.close_peers()
    assert_unimpressed(daemon)


COMMITS_MAX = 12
"""That five polite appends may take: the batch that had begun, one each should they arrive one by one, and a
few in between."""

FLOOD_SENDS_MAX = 8


class Flood:
    """Sends one request over and over, as fast as the daemon reads."""

    def __init__(self, connection: socket.socket, line: bytes) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._lines = line * 1000
        self._unsent = b""
        self.answered = 0

    def go_on(self) -> None:
        """Send much, or until the daemon takes no more, then read the answers there are."""
        with suppress(BlockingIOError):
            for _ in range(FLOOD_SENDS_MAX):
                self._unsent = self._unsent or self._lines
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        with suppress(BlockingIOError):
            while data := self._socket.recv(1 << 20):
                self.answered += data.count(b'"appended"')


def test_a_flood_beside_polite_peers_holds_none_of_them_up(daemon: RunningDaemon) -> None:
    observer = daemon.peer()
    flooded = observer.start(owner_pid=0)
    polite = [daemon.peer() for _ in range(5)]
    sessions = [peer.start(owner_pid=0) for peer in polite]
    event = b'{"type":"append","session":"%s","events":[{"kind":"a"}]}\n' % flooded.encode()
    flood = Flood(daemon.peer().socket, event)

    for turn in range(10):
        flood.go_on()
        before = observer.call("status")["commits"]
        for peer, session in zip(polite, sessions, strict=True):
            peer.send("append", session=session, events=[{"kind": "a", "text": str(turn)}])
        assert [peer.receive()["first"] for peer in polite] == [turn] * len(polite)

        assert observer.call("status")["commits"] - before <= COMMITS_MAX

    assert flood.answered > 0
    daemon.close_peers()
    assert_unimpressed(daemon)
