"""Sessions with known times and texts, for tests that compare whole exports; a daemon for many tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessionctl.export.formats import FORMATS, Options
from sessionctl.export.recording import Recording
from sessiond_client import Client
from sessiond_client.events import event
from tests.running import RunningDaemon

START = datetime(2026, 11, 21, 9, 24, 31, 500_000, UTC)

Told = tuple[str, str | None, dict[str, Any]]


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon for the tests of a module."""
    home = tmp_path_factory.mktemp("h")
    home.chmod(0o700)
    daemon = RunningDaemon(home)
    yield daemon
    daemon.kill()


@pytest.fixture
def shared_client(daemon: RunningDaemon) -> Iterator[Client]:
    """A client of it."""
    with Client.connect(daemon.socket, autostart=False) as client:
        yield client


def record(client: Client, *told: Told, ended: bool = True, **about: Any) -> str:
    """A session with these events, each a quarter of a second after the one before; its ULID."""
    known: dict[str, Any] = {"name": "demo", "hostname": "box", "os": "Linux", "cwd": "/src"}
    known |= {"shell": "/bin/bash", "env": {"HOME": "/home/ada", "USER": "ada", "TERM": "xterm"}}
    session = client.start(started_at=START, owner_pid=0, cli_version="test/1", **(known | about))
    moments = (START + timedelta(seconds=0.25) * number for number in range(1, len(told) + 1))
    events = [event(kind, text, data, at) for (kind, text, data), at in zip(told, moments, strict=False)]
    if events:
        client.append(session.ulid, events)
    if ended:
        client.end(session.ulid, exit_code=0, ended_at=START + timedelta(seconds=9))
    return session.ulid


def terminal_session(client: Client) -> str:
    """A recorded terminal: colours, a character cut in two, bytes that are no text, two sizes; its ULID."""
    return record(
        client,
        ("resize", None, {"cols": 100, "rows": 30}),
        ("output", "\x1b[1mgr\u00fc\u00df\x1b[0m\r\n", {}),
        ("output", "\ufffd", {"b64": "4oI="}),  # the first two bytes of a euro sign
        ("output", "\ufffd!", {"b64": "rCH/"}),  # its last one, "!", and a byte that is no UTF-8
        ("input", "q", {}),
        ("resize", None, {"cols": 80, "rows": 24}),
        ("marker", "here", {}),
        ("exit", None, {"exit_code": 3}),
        meta={"argv": ["sh", "-c", "it's"]},
        tags=["prod"],
    )


def commands(*texts: str, cwd: str | None = "/src", exit_code: int = 0) -> Sequence[Told]:
    """Finished commands."""
    return [("command", text, {"cwd": cwd, "exit_code": exit_code}) for text in texts]


def exported(client: Client, ulid: str, name: str, **options: Any) -> str:
    """The session in a format, as if it were the first of its name."""
    info = client.get(ulid)
    assert info is not None
    chunks = FORMATS[name].chunks(Recording(client, info), Options(**options))
    return re.sub(r"\bdemo-\d+", "demo", b"".join(chunks).decode())
