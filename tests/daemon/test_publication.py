"""Who may serve where: locks, stale sockets, planted links, modes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import pytest

from tests.running import RunningDaemon, environ_for


def serve(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to give up by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "sessiond", "serve", *options],
        env=environ_for(home),
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_second_daemon_on_the_same_socket_exits_75_at_once(daemon: RunningDaemon) -> None:
    result = serve(daemon.home)

    assert result.returncode == 75
    assert "another sessiond has the socket" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert daemon.peer().call("ping")["type"] == "pong"


def test_a_second_daemon_on_the_same_data_exits_75(daemon: RunningDaemon) -> None:
    other = daemon.home / "run" / "other"
    other.mkdir(mode=0o700)

    result = serve(daemon.home, "--socket", str(other / "s.sock"))

    assert result.returncode == 75
    assert "another sessiond has the data" in result.stderr
    assert not (other / "s.sock").exists()


def test_of_eight_daemons_started_at_once_one_serves(home: Path) -> None:
    for directory in ("run", "data"):
        (home / directory).mkdir(mode=0o700)
    command = [sys.executable, "-P", "-m", "sessiond", "serve"]
    racers = [
        subprocess.Popen(command, env=environ_for(home), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(8)
    ]
    with ThreadPoolExecutor(len(racers)) as pool:
        try:
            ends = {pool.submit(racer.wait): racer for racer in racers}
            losers = list(islice(as_completed(ends), len(racers) - 1))
            (survivor,) = [racer for end, racer in ends.items() if end not in losers]
            survivor.send_signal(signal.SIGTERM)
            assert [end.result() for end in losers] == [75] * 7
            assert survivor.wait(15) == 0
        finally:
            for racer in racers:
                racer.kill()
                assert racer.stderr is not None
                racer.stderr.close()


def test_a_stale_socket_is_replaced(daemon: RunningDaemon) -> None:
    for _ in range(3):
        daemon.restart()

    assert daemon.peer().call("ping")["type"] == "pong"


def test_a_planted_link_is_replaced_and_not_followed(daemon: RunningDaemon) -> None:
    daemon.stop()
    target = daemon.home / "target"
    daemon.socket.symlink_to(target)

    daemon.start()

    assert daemon.peer().call("ping")["type"] == "pong"
    assert not daemon.socket.is_symlink()
    assert not target.exists()


def test_the_socket_goes_when_the_daemon_stops(daemon: RunningDaemon) -> None:
    assert daemon.stop() == 0

    assert not daemon.socket.exists()


def test_everything_is_private_to_the_user(daemon: RunningDaemon) -> None:
    session = daemon.peer().start()

    assert mode(daemon.socket) == 0o600
    assert mode(daemon.socket.parent) == 0o700
    for path in [daemon.data_dir, *daemon.data_dir.rglob("*")]:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert (daemon.data_dir / "sessions" / f"{session}.ndjson").exists()
    assert (daemon.data_dir / "sessiond.db-wal").exists()


@pytest.mark.parametrize("place", ["data/sessiond", "run/sessiond"])
def test_a_directory_open_to_others_is_refused_with_what_to_do(home: Path, place: str) -> None:
    (home / place).mkdir(parents=True)
    (home / place).chmod(0o755)

    result = serve(home)

    assert result.returncode == 78
    assert result.stderr == (
        f"sessiond: {home / place}, for the {'data' if 'data' in place else 'socket'},"
        f" is open to others (mode 755); chmod 700 {home / place}\n"
    )


def test_a_directory_of_another_user_is_refused(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    (home / "data" / "sessiond").mkdir(parents=True, mode=0o700)
    os.chown(home / "data" / "sessiond", 65534, 65534)

    result = serve(home)

    assert result.returncode == 78
    assert "belongs to user 65534" in result.stderr


def test_a_file_where_the_directory_should_be_is_one_clear_line(home: Path) -> None:
    (home / "data").mkdir(mode=0o700)
    (home / "data" / "sessiond").write_text("")

    result = serve(home)

    assert result.returncode == 78
    assert len(result.stderr.splitlines()) == 1


def test_a_socket_path_longer_than_an_address_works(home: Path) -> None:
    directory = home / ("d" * 100)
    directory.mkdir(mode=0o700)

    long = RunningDaemon(home, "--socket", str(directory / "sessiond.sock"))

    try:
        descriptor = os.open(directory, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{descriptor}/sessiond.sock")
            client.sendall(b'{"type":"ping"}\n')
            assert b"pong" in client.recv(100)
        os.close(descriptor)
    finally:
        long.kill()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[record]\nenvs = []\n", "unknown field `envs`"),
        ("[record]\nenv = 5\n", "Expected `array`, got `int`"),
        ("[record\n", "config.toml"),
        ('[log]\nlevel = "loud"\n', "log.level is 'loud'"),
    ],
)
def test_a_setting_that_is_not_understood_is_refused(home: Path, content: str, complaint: str) -> None:
    config = home / "config" / "sessiond" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(content)

    result = serve(home)

    assert result.returncode == 78
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_kept_environment_can_be_set(home: Path) -> None:
    config = home / "config" / "sessiond" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[record]\nenv = ["VIRTUAL_ENV"]\n')
    daemon = RunningDaemon(home)
    try:
        with daemon.peer() as peer:
            session = peer.call("start", env={"PATH": "/bin", "VIRTUAL_ENV": "/v"})["session"]
    finally:
        daemon.kill()

    assert session["env"] == {"VIRTUAL_ENV": "/v"}
