"""Who may serve where: locks, stale sockets, planted links, modes."""

from __future__ import annotations

import os
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from sessiond import config
from sessiond.daemon import check_data_dir
from sessiond.errors import StartupRefused
from sessiond.publication import require_no_links, take_lock
from sessiond_client import paths
from tests.daemon.test_presence import connect_when_there
from tests.running import ROOT, RunningDaemon, environ_for

SYSTEM_PYTHON = Path("/usr/bin/python3")


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


EXIT_SECONDS_MAX = 60
"""A bound for the losers of a race on a busy machine; that they give up at once is what they say."""


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_of_eight_daemons_started_at_once_one_serves(home: Path, rounds: int) -> None:
    for directory in ("run", "data"):
        (home / directory).mkdir(mode=0o700)
    for _ in range(rounds):
        race(home)
        assert not (home / "run" / "sessiond" / "sessiond.sock").exists()


def race(home: Path) -> None:
    """Start eight at once: seven exit with 75, the other serves until it is told to stop."""
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
            # Before it serves, a signal ends it at once, and it may be long behind those that gave up.
            connect_when_there(home / "run" / "sessiond" / "sessiond.sock").close()
            survivor.send_signal(signal.SIGTERM)
            assert [end.result() for end in losers] == [75] * 7
            assert survivor.wait(15) == 0
        finally:
            for racer in racers:
                racer.kill()
                assert racer.stderr is not None
                racer.stderr.close()


def test_a_daemon_that_is_one_too_many_gives_up_without_looking_at_the_data(daemon: RunningDaemon) -> None:
    """It imports, finds the lock held, and says so: that takes as long as saying anything at all."""
    trace = daemon.home / "trace"
    if shutil.which("strace") is None:
        pytest.skip("needs strace to see what a process opens")
    command = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        "trace=openat,connect,nanosleep,clock_nanosleep",
    ]

    result = subprocess.run(
        [*command, sys.executable, "-P", "-m", "sessiond", "serve"],
        env=daemon.environ,
        capture_output=True,
        timeout=EXIT_SECONDS_MAX,
    )

    assert result.returncode == 75
    calls = trace.read_text()
    assert "sessiond.sock.lock" in calls
    assert str(daemon.data_dir) not in calls
    assert "sleep" not in calls


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


def test_a_link_planted_for_the_lock_of_the_socket_is_refused(home: Path) -> None:
    directory, name = home / "run" / "sessiond", "sessiond.sock.lock"
    directory.mkdir(parents=True, mode=0o700)
    target = home / "target"
    (directory / name).symlink_to(target)

    result = serve(home)

    assert result.returncode == 78
    assert len(result.stderr.splitlines()) == 1
    assert str(directory / name) in result.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    ["lock", "sessiond.db", "sessiond.db-wal", "state.ndjson", "search.db", "sessions", "trash", "spool"],
)
def test_a_link_planted_in_the_data_directory_is_refused_and_not_followed(home: Path, name: str) -> None:
    data_dir = home / "data" / "sessiond"
    data_dir.mkdir(parents=True, mode=0o700)
    target = home / "target"
    (data_dir / name).symlink_to(target)

    result = serve(home)

    assert result.returncode == 78
    assert result.stderr == f"sessiond: {data_dir / name} is a link; put what it leads to in its place\n"
    assert not target.exists()


def test_a_link_planted_for_a_session_file_is_not_followed(daemon: RunningDaemon) -> None:
    target = daemon.home / "target"
    target.write_text("untouched")
    ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    path = daemon.data_dir / "sessions" / f"{ulid}.ndjson"
    path.symlink_to(target)

    with daemon.peer() as peer:
        peer.start(ulid=ulid, owner_pid=0)
        assert peer.append(ulid, "text")["type"] == "appended"
    daemon.stop()

    assert target.read_text() == "untouched"


def test_a_data_directory_that_is_the_users_own_link_is_followed(home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (home / "data").mkdir(mode=0o700)
    (home / "data" / "sessiond").symlink_to(elsewhere)

    daemon = RunningDaemon(home)
    daemon.kill()

    assert (elsewhere / "sessiond.db").exists()


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_umask_it_is_started_with_changes_nothing(home: Path, umask: int) -> None:
    for directory in ("run", "data"):
        (home / directory).mkdir(mode=0o700)
    daemon = RunningDaemon(home, under=["sh", "-c", f'umask {umask:o}; exec "$@"', "sh"])
    try:
        test_everything_is_private_to_the_user(daemon)
        if umask != 0o777:
            daemon.socket.unlink()
            while not daemon.socket.exists():
                pass
            assert mode(daemon.socket) == 0o600
    finally:
        daemon.close_peers()
        daemon.kill()


def test_a_directory_that_others_could_replace_is_refused(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data").chmod(0o777)

    result = serve(home)

    assert result.returncode == 78
    assert "can be replaced by others" in result.stderr
    assert f"chmod o-w {home / 'data'}" in result.stderr


def test_without_a_runtime_directory_the_socket_is_in_the_home_and_never_in_tmp() -> None:
    environ = {"HOME": "/home/u"}

    for each in (environ, environ | {"XDG_RUNTIME_DIR": ""}, environ | {"XDG_RUNTIME_DIR": "tmp"}):
        assert paths.socket_path(each) == Path("/home/u/.local/state/sessiond/run/sessiond.sock")


def test_no_core_is_dumped(daemon: RunningDaemon) -> None:
    limits = Path(f"/proc/{daemon.process.pid}/limits").read_text().splitlines()

    assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]


def test_a_daemon_of_another_user_than_the_data_is_refused(home: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None or not SYSTEM_PYTHON.exists():
        pytest.skip("needs root, setpriv and a Python that other users can run")
    home.chmod(0o755)
    for place in ("data/sessiond", "run/sessiond"):
        (home / place).mkdir(parents=True, mode=0o700)
        (home / place).parent.chmod(0o755)
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from sessiond import publication\n"
        "try: publication.private_directory(Path(sys.argv[1]), 'the data')\n"
        "except publication.StartupRefused as refused: print(refused)\n"
    )
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    places = [str(path) for path in (ROOT, ROOT / "client", *map(Path, site.getsitepackages()))]

    result = subprocess.run(
        [*nobody, str(SYSTEM_PYTHON), "-c", script, str(home / "data" / "sessiond"), *places],
        capture_output=True,
        text=True,
        cwd="/",
    )

    if "PermissionError" in result.stderr or "ModuleNotFoundError" in result.stderr:
        pytest.skip("what is tested cannot be read by other users here")
    assert "belongs to user 0, not to you" in result.stdout, result.stderr


def test_data_on_a_network_file_system_is_refused_unless_the_risk_is_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "data").mkdir(mode=0o700)
    mounts = home / "mountinfo"
    mounts.write_text(f"1 1 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / {home / 'data'} rw - nfs4 host:/a rw\n")
    monkeypatch.setattr(paths, "MOUNTS", mounts)
    environ = environ_for(home)

    with pytest.raises(StartupRefused, match="is on nfs4, a network file system") as refused:
        check_data_dir(config.load(environ, None, None))

    assert "sessionctl config set storage.any_file_system true" in refused.value.hint
    assert not (home / "data" / "sessiond").exists()
    path = paths.config_path(environ)
    path.parent.mkdir(parents=True)
    path.write_text("[storage]\nany_file_system = true\n")
    check_data_dir(config.load(environ, None, None))
    assert (home / "data" / "sessiond").exists()


def test_the_socket_goes_when_the_daemon_stops(daemon: RunningDaemon) -> None:
    assert daemon.stop() == 0

    assert not daemon.socket.exists()


def test_everything_is_private_to_the_user(daemon: RunningDaemon) -> None:
    session = daemon.peer().start()

    assert mode(daemon.socket) == 0o600
    assert mode(daemon.socket.parent) == 0o700
    for path in [daemon.data_dir, *daemon.data_dir.rglob("*")]:
        with suppress(FileNotFoundError):  # the journal of an index that was being made
            found = path.lstat().st_mode
            assert stat.S_IMODE(found) == (0o700 if stat.S_ISDIR(found) else 0o600), path
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


def test_a_directory_that_cannot_be_looked_into_is_refused_with_what_to_do(home: Path) -> None:
    with pytest.raises(StartupRefused) as refused:
        require_no_links(home / "gone")

    assert "cannot use" in str(refused.value)
    assert refused.value.exit_code == 78


@pytest.mark.parametrize("read_only", [True, False])
def test_a_pipe_in_the_place_of_a_lock_is_refused_and_not_waited_for(tmp_path: Path, read_only: bool) -> None:
    os.mkfifo(tmp_path / "lock", 0o600)
    writer = os.open(tmp_path / "lock", os.O_RDWR)

    with pytest.raises(StartupRefused, match="lock is no regular file; see what it is, and remove it"):
        take_lock(tmp_path / "lock", "the data", "holder", read_only=read_only)

    os.close(writer)
