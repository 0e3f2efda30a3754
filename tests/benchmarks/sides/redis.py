"""Redis Streams with `appendfsync always`: a stream a session, an entry an event."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence

import redis
from redis.connection import UnixDomainSocketConnection

from tests.benchmarks.events import KIND, line, now
from tests.benchmarks.servers import Server
from tests.benchmarks.sides.side import Missing, NotDurable, Side, require_count
from tests.benchmarks.work import Order, Pipeliner

FIELD = "line"
ANSWER_SECONDS_MAX = 60
BLOCK_MILLISECONDS = 100
SETTINGS = {"appendonly": "yes", "appendfsync": "always", "save": "", "auto-aof-rewrite-percentage": "0"}


class StreamProducer(Pipeliner):
    """XADD; the events of a batch are pipelined. The commands are packed by hand: that is the quick way."""

    def __init__(self, path: str) -> None:
        self._redis = redis.Redis(unix_socket_path=path, socket_timeout=ANSWER_SECONDS_MAX)
        self._connection = UnixDomainSocketConnection(path=path, socket_timeout=ANSWER_SECONDS_MAX)
        self._connection.connect()
        self._next: dict[str, int] = {}
        self._commands: list[tuple[str | bytes, ...]] = []
        self._unanswered: list[int] = []

    def begin(self, order: Order) -> None:
        """A session is one process's, which counts its seqs."""
        self._next = dict.fromkeys(order.sessions, 0)

    def close(self) -> None:
        """Hang up."""
        self._connection.disconnect()
        self._redis.close()

    def _add(self, session: str, texts: Sequence[str], kind: str) -> None:
        at = now().text
        first = self._next[session]
        self._next[session] = first + len(texts)
        self._commands += [
            ("XADD", session, "*", FIELD, line(seq, at, text, kind)[:-1])
            for seq, text in enumerate(texts, first)
        ]

    def _flush(self) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(self._commands))
        self._commands.clear()

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One pipeline, and all its replies."""
        self._add(session, texts, kind)
        self._flush()
        for _ in texts:
            self._connection.read_response()

    def send(self, session: str, texts: Sequence[str]) -> None:
        """One pipeline."""
        self._add(session, texts, KIND)
        self._unanswered.append(len(texts))

    def collect(self) -> int:
        """The replies of the oldest half of what is on its way, so that there is always more to do."""
        if self._commands:
            self._flush()
        batches = (len(self._unanswered) + 1) // 2
        for _ in range(sum(self._unanswered[:batches])):
            self._connection.read_response()
        del self._unanswered[:batches]
        return batches

    def tail(self, session: str, count: int) -> int:
        """XREVRANGE."""
        return len(self._redis.xrevrange(session, count=count))

    def follow(self, session: str, until: float) -> Iterator[Sequence[bytes]]:
        """XREAD, which blocks until there is something new."""
        last = "0"
        while time.monotonic() < until:
            for _, entries in self._redis.xread({session: last}, block=BLOCK_MILLISECONDS):
                last = entries[-1][0]
                yield [fields[FIELD.encode()] for _, fields in entries]


class RedisSide(Side):
    """A server on a Unix socket."""

    name = "redis"
    title = "Redis Streams"

    @staticmethod
    def producer(address: str) -> StreamProducer:
        """A connection to its socket."""
        return StreamProducer(address)

    @classmethod
    def require(cls) -> None:
        """The server is Debian's."""
        if shutil.which("redis-server") is None:
            raise Missing("redis-server is not installed", "apt-get install redis-server")

    def start(self) -> None:
        """Start the server."""
        self.address = str(self.directory / "redis.sock")
        settings = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
        place = ["--port", "0", "--unixsocket", self.address, "--dir", str(self.directory)]
        self._redis = redis.Redis(unix_socket_path=self.address, socket_timeout=ANSWER_SECONDS_MAX)
        self._server = Server(
            ["redis-server", *place, *settings],
            self.directory,
            self._is_ready,
            environ=self.slow_sync.environ,
        )
        self._sessions = 0

    def _is_ready(self) -> bool:
        try:
            return bool(self._redis.ping())
        except redis.exceptions.RedisError:
            return False

    def version(self) -> str:
        """As it says itself."""
        return f"Redis {self._redis.info('server')['redis_version']}"

    def durability(self) -> str:
        """As it says itself."""
        found = {name: self._redis.config_get(name)[name] for name in SETTINGS}
        if found != SETTINGS:
            raise NotDurable(f"the server has {found}")
        return "appendonly yes, appendfsync always"

    def open_sessions(self, count: int) -> list[str]:
        """New names; a stream is there with its first entry."""
        opened = [f"session-{number}" for number in range(self._sessions, self._sessions + count)]
        self._sessions += count
        return opened

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """XLEN; then the memory is given back, for nothing is to be read there any more."""
        for session, count in zip(sessions, counts, strict=True):
            require_count("the stream has entries", self._redis.xlen(session), count)
        self._redis.delete(*sessions)
        os.sync()

    def close(self) -> None:
        """Stop the server."""
        self._redis.close()
        self._server.stop()
        shutil.rmtree(self.directory)


SIDE = RedisSide
