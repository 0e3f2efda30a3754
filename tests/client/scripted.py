"""A peer that plays a daemon by a script: one function for each connection it accepts.

It shares no code with the library. For the faults that a real daemon does not commit on demand.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]


class Conversation:
    """One accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.received: list[Message] = []
        self._socket = connection
        self._lines = connection.makefile("rb")

    def receive(self) -> Message:
        """The next message; EOFError when the client has hung up."""
        line = self._lines.readline()
        if not line:
            raise EOFError
        message: Message = json.loads(line)
        self.received.append(message)
        return message

    def await_more(self) -> None:
        """Return when a message has begun to come, or none will; it is still to be received."""
        self._lines.peek(1)

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        self.send_bytes(json.dumps({"type": kind, **fields}).encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def welcome(self, **fields: Any) -> Message:
        """Receive the hello and answer it; returns it."""
        hello = self.receive()
        greeting = {"id": hello["id"], "protocol": 1, "version": "0", "pid": 1, "data_dir": "/d", "env": []}
        self.send("welcome", **greeting | fields)
        return hello

    def append(self) -> Message:
        """Receive an append and acknowledge it."""
        message = self.receive()
        assert message["type"] == "append", message
        last = len(message["events"]) - 1
        self.send("appended", id=message["id"], session=message["session"], first=0, last=last)
        return message

    def serve_appends(self) -> None:
        """Acknowledge appends until the client hangs up."""
        try:
            while True:
                self.append()
        except (EOFError, ConnectionError):
            return

    def wait_for_end(self) -> None:
        """Return when the client has hung up; what it still says is kept in `received`."""
        try:
            while True:
                self.receive()
        except (EOFError, ConnectionError):
            return

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


Script = Callable[[Conversation], None]


class ScriptedPeer:
    """Listens at `path` and plays one script for each connection, in turn; then it refuses connections."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.path = path
        self.conversations: list[Conversation] = []
        self._scripts = scripts
        self._failure: BaseException | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def received(self) -> list[list[Message]]:
        """What each connection has received, hellos included."""
        return [conversation.received for conversation in self.conversations]

    def _run(self) -> None:
        try:
            for script in self._scripts:
                self._play(script)
        except BaseException as failure:  # noqa: BLE001 - raised again by the test's own thread
            self._failure = failure
        self._listener.close()

    def _play(self, script: Script) -> None:
        connection, _ = self._listener.accept()
        conversation = Conversation(connection)
        self.conversations.append(conversation)
        try:
            script(conversation)
        finally:
            conversation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._thread.join(30)
            assert not self._thread.is_alive(), "the script was not played to its end"
            if self._failure is not None:
                raise self._failure
