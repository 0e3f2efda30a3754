"""Our side: a daemon, and the client library in the processes that record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from sessiond_client import Client
from sessiond_client.autostart import Connector
from sessiond_client.protocol import Protocol
from sessiond_client.ulids import new_ulid
from sessiond_client.version import __version__
from sessiond_client.wire.messages import Append, Appended, NewEvent
from tests.benchmarks.events import KIND
from tests.benchmarks.sides.side import NotDurable, Side, require_count
from tests.benchmarks.sides.sqlite_store import COUNT_SQL, require_rows
from tests.benchmarks.work import Pipeliner
from tests.peer import Peer
from tests.running import RunningDaemon

RECEIVE_BYTES = 1 << 16


class DaemonProducer(Pipeliner):
    """Waits through `Client`; pipelines through the library's protocol, as its recorders do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._client = Client.connect(path, autostart=False)
        self._socket = Connector(path, autostart=False).attempt()
        self._socket.setblocking(True)
        self._protocol = Protocol(new_ulid())
        self._socket.sendall(self._protocol.opening())
        while self._protocol.welcome is None:
            self._protocol.receive(self._socket.recv(RECEIVE_BYTES))
        self._lines: list[bytes] = []

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._socket.close()

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """One request, and its reply."""
        self._client.append(session, [NewEvent(kind=kind, text=text) for text in texts])

    def send(self, session: str, texts: Sequence[str]) -> None:
        """One request."""
        protocol = self._protocol
        events = [NewEvent(kind=KIND, text=text) for text in texts]
        request = Append(session=session, events=events, producer=protocol.producer, n=protocol.next_n())
        self._lines.append(protocol.send(request)[1])

    def collect(self) -> int:
        """The replies that are there, at least one."""
        self._socket.sendall(b"".join(self._lines))
        self._lines.clear()
        replies = self._protocol.receive(self._socket.recv(RECEIVE_BYTES))
        refused = [reply for reply in replies if not isinstance(reply, Appended)]
        if refused:
            raise RuntimeError(f"an append was refused: {refused[0]}")
        return len(replies)

    def tail(self, session: str, count: int) -> int:
        """`read` with `tail`."""
        return len(self._client.read(session, tail=count).events)

    def follow(self, session: str, until: float) -> Iterator[Sequence[bytes]]:  # noqa: ARG002 - it ends by itself
        """`follow` from the first event on; the daemon tells when there is something new."""
        with Client.connect(self._path, autostart=False) as client, client.follow(session, after=-1) as lines:
            while found := lines.take_lines():
                yield [bytes(line) for line in found]


class DaemonSide(Side):
    """A daemon in a process of its own."""

    name = "sessiond"
    title = "sessiond"

    @staticmethod
    def producer(address: str) -> DaemonProducer:
        """A connection to its socket."""
        return DaemonProducer(Path(address))

    def start(self) -> None:
        """Start the daemon."""
        home = self.directory / "h"
        home.mkdir(mode=0o700)
        self.daemon = RunningDaemon(home, under=self.slow_sync.under_env())
        self.address = str(self.daemon.socket)
        self._client = Client.connect(self.daemon.socket, autostart=False)

    def version(self) -> str:
        """Its own, and that of its SQLite."""
        return f"{__version__}, SQLite {apsw.sqlite_lib_version()}"

    def durability(self) -> str:
        """Nothing can be set; the journal is seen in the file, the sync in the probe."""
        database = apsw.Connection(str(self._database), flags=apsw.SQLITE_OPEN_READONLY)
        mode = database.execute("PRAGMA journal_mode").get
        database.close()
        if mode != "wal":
            raise NotDurable(f"the journal mode is {mode}")
        return "WAL, one fdatasync a commit before its replies"

    def open_sessions(self, count: int) -> list[str]:
        """New sessions, owned by this process."""
        return [self._client.start().ulid for _ in range(count)]

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """Database rows, file lines and the daemon's own count must be what was acknowledged.

        The search index is waited for, or the next side's round would pay for it.
        """
        for session, count in zip(sessions, counts, strict=True):
            self._client.end(session)
            require_count("the daemon counts", self._client.count(session).events, count)
            file = self.daemon.data_dir / "sessions" / f"{session}.ndjson"
            require_count("the file has lines", file.read_bytes().count(b"\n") - 2, count)
        database = apsw.Connection(str(self._database), flags=apsw.SQLITE_OPEN_READONLY)
        for session, count in zip(sessions, counts, strict=True):
            sql = "SELECT id FROM session WHERE ulid = ?"
            require_rows(database.execute(COUNT_SQL, (int(database.execute(sql, (session,)).get),)), count)
        database.close()
        self.indexed()
        os.sync()

    def restart(self) -> None:
        """Stop and start the daemon; its clients have to connect again."""
        self._client.close()
        self.daemon.stop()
        self.daemon.start()
        self._client = Client.connect(self.daemon.socket, autostart=False)

    def indexed(self) -> None:
        """Return once everything can be searched: a search waits for that, or says that it did in vain."""
        with Peer(self.daemon.socket) as peer:
            while peer.call("search", query="a", limit=1)["type"] == "error":
                pass

    @property
    def _database(self) -> Path:
        return self.daemon.data_dir / "sessiond.db"

    def close(self) -> None:
        """Stop the daemon."""
        self._client.close()
        self.daemon.stop()
        shutil.rmtree(self.directory)


SIDE = DaemonSide
