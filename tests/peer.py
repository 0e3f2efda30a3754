"""A client made of nothing but `socket` and `json`: it shares no code with what it tests."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

ANSWER_SECONDS_MAX = 60


class Peer:
    """One raw connection; `call` sends a message and waits for the next line."""

    def __init__(self, path: Path, **hello: Any) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_SECONDS_MAX)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._received = b""
        if hello:
            self.call("hello", protocol=1, **hello)

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message without waiting."""
        self.send_bytes(json.dumps({"type": kind, **fields}).encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line, without its newline; EOFError once the daemon has hung up."""
        while b"\n" not in self._received:
            part = self.socket.recv(1 << 20)
            if not part:
                raise EOFError
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line

    def receive(self) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(self.line())
        return message

    def call(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message and return the next one that comes."""
        self.send(kind, **fields)
        return self.receive()

    def start(self, **fields: Any) -> str:
        """Start a session; returns its ULID."""
        reply = self.call("start", **fields)
        assert reply["type"] == "started", reply
        ulid: str = reply["session"]["ulid"]
        return ulid

    def append(self, session: str, *texts: str, kind: str = "prompt", **fields: Any) -> dict[str, Any]:
        """Append one event for each text; returns the reply."""
        return self.call(
            "append", session=session, events=[{"kind": kind, "text": text} for text in texts], **fields
        )

    def is_cut(self) -> bool:
        """Whether the daemon hangs up without another word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
