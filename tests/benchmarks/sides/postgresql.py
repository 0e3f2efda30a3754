"""PostgreSQL as it comes, which is durable: the same table; INSERT for single events, COPY for batches."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from tests.benchmarks.events import KIND, line, now
from tests.benchmarks.servers import Server, ServerFailed, nobody
from tests.benchmarks.sides.side import Missing, NotDurable, Side, require_count
from tests.benchmarks.work import Order, Pipeliner

TABLE_SQL = """
CREATE TABLE event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id bigint NOT NULL,
    seq        bigint NOT NULL,
    kind       text   NOT NULL,
    at         bigint NOT NULL,
    line       text   NOT NULL,
    UNIQUE (session_id, seq)
)"""
INSERT_SQL = "INSERT INTO event (session_id, seq, kind, at, line) VALUES (%s, %s, %s, %s, %s)"
COPY_SQL = "COPY event (session_id, seq, kind, at, line) FROM STDIN"
COUNT_SQL = "SELECT count(*), coalesce(max(seq), -1) + 1 FROM event WHERE session_id = %s"
TAIL_SQL = "SELECT line FROM event WHERE session_id = %s ORDER BY seq DESC LIMIT %s"
AFTER_SQL = "SELECT line FROM event WHERE session_id = %s AND seq >= %s ORDER BY seq"
SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "wal_sync_method": "fdatasync"}
PLACES = "/usr/lib/postgresql"
NOTICE_SECONDS_MAX = 0.1


def program(name: str) -> str:
    """One of the server's programs, which Debian keeps off the path. Raises Missing."""
    versions = sorted(Path(PLACES).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        raise Missing(f"{name} of PostgreSQL is not installed", "apt-get install postgresql")
    return found


def connect(address: str) -> psycopg.Connection:
    """A connection that commits each statement."""
    return psycopg.connect(address, autocommit=True)


class TableProducer(Pipeliner):
    """Statements are prepared by psycopg; unanswered ones are committed one by one all the same."""

    def __init__(self, address: str) -> None:
        self._connection = connect(address)
        self._listening = connect(address)
        self._next: dict[str, int] = {}
        self._waiting: list[tuple[str, Sequence[str]]] = []
        self._announces = False

    def begin(self, order: Order) -> None:
        """A session is one process's, which counts its seqs."""
        self._next = dict.fromkeys(order.sessions, 0)
        self._announces = order.marked

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
        self._listening.close()

    def _rows(self, session: str, texts: Sequence[str], kind: str) -> list[tuple[int, int, str, int, str]]:
        moment = now()
        first = self._next[session]
        self._next[session] = first + len(texts)
        return [
            (int(session), seq, kind, moment.microseconds, line(seq, moment.text, text, kind)[:-1].decode())
            for seq, text in enumerate(texts, first)
        ]

    def append(self, session: str, texts: Sequence[str], kind: str = KIND) -> None:
        """INSERT of one event, or COPY of a batch; NOTIFY where somebody follows."""
        rows = self._rows(session, texts, kind)
        if len(rows) == 1:
            self._connection.execute(INSERT_SQL, rows[0])
        else:
            with self._connection.cursor().copy(COPY_SQL) as copy:
                for row in rows:
                    copy.write_row(row)
        if self._announces:
            self._connection.execute(f"NOTIFY session_{session}")

    def send(self, session: str, texts: Sequence[str]) -> None:
        """It is kept until `collect`: psycopg's pipelines end with waiting for all of it."""
        self._waiting.append((session, texts))

    def collect(self) -> int:
        """COPY knows no pipeline; single events go in one, a commit for each."""
        batches = len(self._waiting)
        if len(self._waiting[0][1]) > 1:
            for session, texts in self._waiting:
                self.append(session, texts)
        else:
            with self._connection.pipeline() as pipeline:
                for session, texts in self._waiting:
                    self._connection.execute(INSERT_SQL, self._rows(session, texts, KIND)[0])
                    pipeline.sync()
        self._waiting.clear()
        return batches

    def tail(self, session: str, count: int) -> int:
        """One query."""
        return len(self._connection.execute(TAIL_SQL, (int(session), count)).fetchall())

    def follow(self, session: str, until: float) -> Iterator[Sequence[bytes]]:
        """LISTEN; what is new is then read."""
        self._listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"session_{session}")))
        seen = 0
        while time.monotonic() < until:
            found = self._connection.execute(AFTER_SQL, (int(session), seen)).fetchall()
            seen += len(found)
            if found:
                yield [row[0].encode() for row in found]
            else:
                list(self._listening.notifies(timeout=NOTICE_SECONDS_MAX, stop_after=1))


class PostgresSide(Side):
    """A server on a Unix socket, with its defaults but for where it is."""

    name = "postgresql"
    title = "PostgreSQL"

    @staticmethod
    def producer(address: str) -> TableProducer:
        """Two connections: one of them listens."""
        return TableProducer(address)

    @classmethod
    def require(cls) -> None:
        """The server is Debian's; as root it takes setpriv to start it as somebody else."""
        program("postgres")
        if nobody() and shutil.which("setpriv") is None:
            raise Missing(
                "PostgreSQL does not run as root, and there is no setpriv", "apt-get install util-linux"
            )

    def start(self) -> None:
        """A new cluster, a server for it, the table."""
        self._data = self.directory / "data"
        self._data.mkdir()
        if nobody():
            shutil.chown(self._data, "nobody", "nogroup")
        self.address = f"host={self._data} user=bench dbname=postgres"
        initdb = [
            "initdb",
            "-D",
            str(self._data),
            "-U",
            "bench",
            "--auth=trust",
            "--no-locale",
            "--encoding=UTF8",
        ]
        command = [*nobody(), program("initdb"), *initdb[1:]]
        made = subprocess.run(command, capture_output=True, text=True, cwd=self._data)
        if made.returncode:
            raise ServerFailed(f"initdb failed: {made.stderr.strip()[-500:]}")
        place = ["-D", str(self._data), "-k", str(self._data), "-c", "listen_addresses="]
        self._server = Server(
            [program("postgres"), *place],
            self.directory,
            self._is_ready,
            environ=self.slow_sync.environ,
            under=nobody(),
        )
        self._connection = connect(self.address)
        self._connection.execute(TABLE_SQL)
        self._sessions = 0

    def _is_ready(self) -> bool:
        try:
            connect(self.address).close()
        except psycopg.OperationalError:
            return False
        return True

    def version(self) -> str:
        """As it says itself."""
        return f"PostgreSQL {self._show('server_version').split()[0]}"

    def _show(self, name: str) -> str:
        row = self._connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        assert row is not None
        value: str = row[0]
        return value

    def durability(self) -> str:
        """As it says itself."""
        found = {name: self._show(name) for name in SAFE}
        if found != SAFE:
            raise NotDurable(f"the server has {found}")
        return ", ".join(f"{name}={value}" for name, value in found.items())

    def open_sessions(self, count: int) -> list[str]:
        """New numbers."""
        opened = [str(number) for number in range(self._sessions, self._sessions + count)]
        self._sessions += count
        return opened

    def settle(self, sessions: Sequence[str], counts: Sequence[int]) -> None:
        """Rows are counted."""
        for session, count in zip(sessions, counts, strict=True):
            row = self._connection.execute(COUNT_SQL, (int(session),)).fetchone()
            assert row is not None
            require_count("the table has rows", row[0], count)
            require_count("seqs in the table reach", row[1], count)
        os.sync()

    def close(self) -> None:
        """Stop the server."""
        self._connection.close()
        self._server.stop(signal.SIGINT)
        shutil.rmtree(self.directory)


SIDE = PostgresSide
