"""What all tests share: a real daemon in a directory of its own."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.prepared import Preparation, PreparedDaemon
from tests.running import RunningDaemon


def pytest_configure() -> None:
    """What a script starts in its background, or `nohup`, ignores these, and so would all that is tested."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test of hostile text printed has to pass from the worker's process as text that is UTF-8."""
    report = yield
    report.sections = [
        (title, content.encode(errors="backslashreplace").decode()) for title, content in report.sections
    ]
    return report


@pytest.fixture
def home() -> Iterator[Path]:
    """A private directory as a home; its path is short, for that of a socket may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sessiond-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def preparation() -> Iterator[Preparation]:
    """What daemons are forked from."""
    preparation = Preparation()
    yield preparation
    preparation.close()


@pytest.fixture
def start_daemon(home: Path, preparation: Preparation) -> Iterator[Callable[[], RunningDaemon]]:
    """Starts daemons on the same data directory and socket; those still running are killed at the end."""
    started: list[RunningDaemon] = []

    def start() -> RunningDaemon:
        daemon = PreparedDaemon(home, preparation)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.kill()
        daemon.close_peers()


@pytest.fixture
def daemon(start_daemon: Callable[[], RunningDaemon]) -> RunningDaemon:
    """A daemon that has answered its first ping."""
    return start_daemon()
