"""Starting the daemon: where nobody listens, once, detached, and with a clear word when it fails."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from sessiond_client import AsyncClient, Client, DaemonUnavailable, paths
from sessiond_client.autostart import Connector, NotYet
from tests.client.scripted import Conversation, ScriptedPeer
from tests.running import environ_for

CONNECT = """
import sys
from sessiond_client import Client
with Client.connect() as client:
    client.start().append("prompt", "x")
    print(client.welcome.pid)
"""


@pytest.fixture
def environ(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An environment of its own, with autostart, also for this process; ends daemons started in it."""
    environ = environ_for(home) | {"SESSIOND_AUTOSTART": "1"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SESSIOND_SOCKET", raising=False)
    (home / "run").mkdir(mode=0o700)
    yield environ
    stop_daemon(paths.socket_path(environ))


def stop_daemon(path: Path) -> None:
    """Kill whoever listens at `path`, and wait until it is gone."""
    try:
        with Client.connect(path, autostart=False) as client:
            pid = client.welcome.pid
    except DaemonUnavailable:
        return
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([descriptor], [], [], 30)
    os.close(descriptor)


def test_a_daemon_is_started_where_none_answers(environ: dict[str, str], home: Path) -> None:
    with Client.connect() as client:
        session = client.start()
        assert session.append("prompt", "hello") == 0
        pid = client.welcome.pid

    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for descriptor in (0, 1):
        assert os.readlink(f"/proc/{pid}/fd/{descriptor}") == "/dev/null"
    log = home / "state" / "sessiond" / "daemon.log"
    assert os.readlink(f"/proc/{pid}/fd/2") == str(log)
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_a_started_daemon_does_not_speak_for_the_service_it_was_started_from(
    environ: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(home / "manager"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(home / "manager"))
        manager.setblocking(False)

        with Client.connect() as client:
            client.ping()

        with pytest.raises(BlockingIOError):
            manager.recv(4096)


def test_a_started_daemon_inherits_no_files(environ: dict[str, str], tmp_path: Path) -> None:
    with (tmp_path / "mine").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)
        with Client.connect() as client:
            pid = client.welcome.pid

    open_files = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            open_files.add(os.readlink(link))
    assert str(tmp_path / "mine") not in open_files


def test_many_clients_at_once_start_one_daemon(environ: dict[str, str]) -> None:
    command = [sys.executable, "-P", "-c", CONNECT]
    clients = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(8)]

    outputs = [client.communicate(timeout=60)[0] for client in clients]

    assert [client.returncode for client in clients] == [0] * 8
    assert len(set(outputs)) == 1
    with Client.connect(autostart=False) as client:
        assert len(client.list().sessions) == 8


def test_data_held_by_a_daemon_that_listens_elsewhere_is_a_clear_failure_in_seconds(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with Client.connect() as client:
        listens_at = client.path

    with pytest.raises(DaemonUnavailable, match=f"it listens at {listens_at}: set SESSIOND_SOCKET to that"):
        Client.connect(tmp_path / "other.sock", autostart=True, timeout=30, spool=False)


def test_a_daemon_that_dies_is_started_again_and_leaves_no_zombie(environ: dict[str, str]) -> None:
    with Client.connect() as client:
        session = client.start(owner_pid=0)
        session.append("prompt", "one")
        first = client.welcome.pid

        stop_daemon(client.path)
        session.append("prompt", "two")

        assert client.welcome.pid != first
        assert [event.text for event in session.read().events] == ["one", "two"]
        client.session(session.ulid).follow(after=-1).close()
        assert not Path(f"/proc/{first}").exists()


@pytest.mark.anyio
async def test_the_asynchronous_client_starts_a_daemon_too(environ: dict[str, str]) -> None:
    async with AsyncClient.connect() as client:
        session = await client.start(owner_pid=0)
        await session.append("prompt", "one")

        await anyio.to_thread.run_sync(stop_daemon, client.path)

        assert await session.append("prompt", "two") == 1


def test_a_socket_of_a_service_manager_wins(environ: dict[str, str], home: Path) -> None:
    path = paths.socket_path()
    path.parent.mkdir(mode=0o700)

    def greet(conversation: Conversation) -> None:
        conversation.welcome(version="managed")
        conversation.wait_for_end()

    with ScriptedPeer(path, greet), Client.connect() as client:
        assert client.welcome.version == "managed"
    assert not (home / "state").exists()


def test_autostart_can_be_forbidden(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIOND_AUTOSTART", "0")
    with pytest.raises(DaemonUnavailable):
        Client.connect(spool=False)
    monkeypatch.setenv("SESSIOND_AUTOSTART", "1")
    with pytest.raises(DaemonUnavailable):
        Client.connect(autostart=False, spool=False)


def test_another_socket_than_the_users_is_passed_to_the_daemon(environ: dict[str, str], home: Path) -> None:
    path = home / "elsewhere" / "s"

    with Client.connect(path) as client:
        assert client.path == path
        assert path.is_socket()

    stop_daemon(path)


def test_a_daemon_that_cannot_start_says_why(environ: dict[str, str], home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "sessiond").write_text("a file, where the data directory belongs")

    with pytest.raises(DaemonUnavailable, match="it was started and exited with") as error:
        Client.connect(spool=False)

    last = (home / "state" / "sessiond" / "daemon.log").read_text().splitlines()[-1]
    assert last.strip() in error.value.reason


class FakeDaemon:
    """In place of the process that would be started: `code` None means that it runs."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        self.commands: list[list[str]] = []

    def spawn(self, command: list[str], _log: Path) -> FakeDaemon:
        self.commands.append(command)
        return self

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def loser(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """A daemon that finds another one running."""
    loser = FakeDaemon(75)
    monkeypatch.setattr("sessiond_client.autostart._spawn_detached", loser.spawn)
    return loser


def test_who_loses_the_race_to_start_waits_for_the_winner(loser: FakeDaemon, socket_path: Path) -> None:
    connector = Connector(socket_path, autostart=True)
    for _ in range(3):
        with pytest.raises(NotYet):
            connector.attempt()

    with socket.socket(socket.AF_UNIX) as winner:
        winner.bind(str(socket_path))
        winner.listen()
        connector.attempt().close()

    assert len(loser.commands) == 1
    assert loser.commands[0][-2:] == ["--socket", str(socket_path)]


def test_a_daemon_is_started_again_when_the_winner_was_about_to_stop(
    loser: FakeDaemon, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.autostart.RESPAWN_SECONDS", 0.0)
    connector = Connector(socket_path, autostart=True)

    for _ in range(2):
        with pytest.raises(NotYet):
            connector.attempt()

    assert len(loser.commands) == 2


def test_a_daemon_that_never_gets_ready_is_not_waited_for_for_ever(
    loser: FakeDaemon, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.autostart.START_SECONDS_MAX", 0.0)
    loser.code = None

    with pytest.raises(DaemonUnavailable, match="does not answer; see "):
        Connector(socket_path, autostart=True).open(deadline=float("inf"))
