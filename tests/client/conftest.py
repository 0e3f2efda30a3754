"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_client import Client, paths
from tests.running import RunningDaemon


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where a scripted peer can listen."""
    return tmp_path / "s"


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    """A client of the real daemon, which it never starts itself."""
    with Client.connect(daemon.socket, autostart=False) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["blocking", "asynchronous"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    """Which of the two clients a test holds to its promises; see `tests.client.both`."""
    return bool(request.param)


@pytest.fixture
def place(home: Path) -> Path:
    """Where the daemon of this test will listen."""
    directory = home / "run" / "sessiond"
    directory.mkdir(mode=0o700, parents=True)
    return directory / "sessiond.sock"


@pytest.fixture
def spool(place: Path) -> Path:
    """Where the requests to it wait."""
    return paths.spool_dir(place)
