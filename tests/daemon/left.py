"""What a client has left in the spool, and what became of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.peer import Peer
from tests.running import RunningDaemon

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(number: int) -> str:
    """A ULID of the tests' own."""
    digits = ""
    while number:
        digits = LETTERS[number % 32] + digits
        number //= 32
    return "01M7" + digits.rjust(22, "0")


PRODUCER, OTHER = ulid(1), ulid(2)
SESSION = ulid(100)


class SpoolFile:
    """A file as a client would leave it; written with nothing but `json`."""

    def __init__(self, home: Path, producer: str = PRODUCER, number: int = 1) -> None:
        self.directory = home / "state" / "sessiond" / "spool"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = self.directory / f"{producer}-{number:06}.ndjson"
        self.producer = producer
        self.n = 0
        self.stamp = 0
        # A daemon that runs removes a file without a line, and this one has no writer's lock on it.
        made = self.directory / "made"
        with made.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(self._encoded("hello", protocol=1, producer=producer))
        made.rename(self.path)

    def line(self, kind: str, **fields: Any) -> SpoolFile:
        """Add a line."""
        return self.add(self._encoded(kind, **fields))

    def _encoded(self, kind: str, **fields: Any) -> bytes:
        self.stamp += 10
        return json.dumps({"type": kind, "id": self.stamp, **fields}).encode() + b"\n"

    def add(self, data: bytes) -> SpoolFile:
        """Add bytes as they are."""
        with self.path.open("ab") as file:
            file.write(data)
        return self

    def start(self, session: str = SESSION, **fields: Any) -> SpoolFile:
        """Add a start; nobody owns the session."""
        return self.line("start", **{"ulid": session, "owner_pid": 0, **fields})

    def append(self, *texts_: str, session: str = SESSION, **fields: Any) -> SpoolFile:
        """Add an append for each text."""
        for text in texts_:
            self.n += 1
            events = [{"kind": "note", "text": text}]
            own = {"producer": self.producer, "n": self.n}
            self.line("append", **{"session": session, "events": events, **own, **fields})
        return self


def quarantine(daemon: RunningDaemon) -> dict[str, bytes]:
    """What is in the quarantine, by name without the moment."""
    found = (daemon.data_dir / "quarantine").iterdir()
    return {path.name.rpartition("-")[0]: path.read_bytes() for path in found}


def collected(daemon: RunningDaemon, home: Path) -> Peer:
    """A connection that was greeted once everything that waits was taken over."""
    peer = daemon.peer()
    greeting = peer.call("hello", protocol=1, spool=str(home / "state" / "sessiond" / "spool"))
    assert (greeting["type"], greeting["waiting"]) == ("welcome", 0), greeting
    return peer
