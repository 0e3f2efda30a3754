"""The files of the spool as a client writes them: bounded, private, whole, and let go of in time."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.failures import FAILURES_MAX, Failures
from sessiond_client import SPOOLED, Client, DaemonCannotStore, DaemonUnavailable, NotSpooled, new_ulid
from sessiond_client import spool_file as spool_module
from sessiond_client.spool import Spool, not_spooled
from sessiond_client.spool_file import SpoolFile
from sessiond_client.wire.messages import Start, Welcome
from sessiond_client.wire.spool import FileName, parse_name
from tests.checker import check
from tests.client.both import connected
from tests.running import RunningDaemon, environ_for


@pytest.fixture
def one_away(place: Path) -> Iterator[Client]:
    """The blocking one; what the file is like is the same for both."""
    with Client.connect(place, autostart=False) as client:
        yield client


def texts(client: Client, session: str) -> list[str | None]:
    return [read.text for read in client.read(session).events]


def start_request() -> Start:
    return Start(ulid=new_ulid(), name="x", owner_pid=0)


def welcome(waiting: int) -> Welcome:
    return Welcome(protocol=1, version="0", pid=1, data_dir="/d", env=[], waiting=waiting)


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


def test_a_full_file_is_a_clear_error_and_stays_as_it_was(
    one_away: Client, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "FILE_BYTES_MAX", 1000)
    session = one_away.start(env={})
    with pytest.raises(NotSpooled, match=r"is full .* sessiond serve") as full:
        [session.append("note", "x" * 100) for _ in range(10)]

    assert isinstance(full.value.__cause__, DaemonUnavailable)
    (file,) = files(spool)
    assert file.read_bytes().endswith(b"}\n")
    assert file.read_bytes().count(b"\n") == 1 + one_away.spooled
    assert file.stat().st_size <= 1000


def test_a_full_directory_is_a_clear_error_that_leaves_no_file(
    one_away: Client, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.mkdir(mode=0o700, exist_ok=True)
    (spool / "other").write_bytes(b"x" * 10_000)
    monkeypatch.setattr(spool_module, "DIRECTORY_BYTES_MAX", 10_100)
    with pytest.raises(NotSpooled, match="MiB wait there"):
        one_away.start()
    monkeypatch.undo()
    monkeypatch.setattr(spool_module, "DIRECTORY_FILES_MAX", 1)
    with pytest.raises(NotSpooled, match="1 files wait there"):
        one_away.start()

    assert [path.name for path in files(spool)] == ["other"]


def test_a_full_disk_leaves_nothing_half_written(
    start_daemon: Callable[[], RunningDaemon], home: Path, place: Path
) -> None:
    environ = environ_for(home)
    code = f"""if True:
        import resource
        from pathlib import Path
        from sessiond_client import Client, NotSpooled
        client = Client.connect(Path({str(place)!r}), autostart=False, timeout=1)
        session = client.start(name="first", env={{}}, owner_pid=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        kept = 0
        try:
            while True:
                session.append("note", str(kept) + "." * 200)
                kept += 1
        except NotSpooled as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            print(kept, error)
        for later in ("." * 5000, "s"):
            try:
                session.append("note", later)
                print("overtaken")
            except NotSpooled:
                pass
    """
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True
    )

    kept = int(done.stdout.split()[0])
    spool = home / "state" / "sessiond" / "spool"
    assert f"cannot write in the spool {spool}: File too large; raise the limit" in done.stdout
    (file,) = files(spool)
    assert file.read_bytes().count(b"\n") == kept + 2
    assert "overtaken" not in done.stdout
    assert file.read_bytes().endswith(b"\n")
    start_daemon()
    with Client.connect(place, autostart=False) as client:
        wait_until(lambda: not file.exists())
        stored = texts(client, client.find("first").ulid)
    assert [text and text[:2].rstrip(".") for text in stored] == [*map(str, range(kept))]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left"),
            "cannot write in the spool /s: No space left; free some space",
        ),
        (OSError(errno.EIO, "I/O error"), "cannot write in the spool /s: I/O error; see to the disk"),
        (OSError(errno.EPERM, "/s is open; chmod 700 /s"), "/s is open; chmod 700 /s"),
    ],
)
def test_what_cannot_be_kept_is_told_with_the_place_and_what_to_do(error: OSError, told: str) -> None:
    assert str(not_spooled(Path("/s"), error)) == f"the request could not be kept: {told}"


def test_nothing_smaller_overtakes_what_found_no_room(
    start_daemon: Callable[[], RunningDaemon],
    one_away: Client,
    spool: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool_module, "FILE_BYTES_MAX", 2000)
    session = one_away.start(env={}, owner_pid=0)
    session.append("note", "first")
    before = files(spool)[0].read_bytes()
    with pytest.raises(NotSpooled):
        session.append("note", "large" * 400)

    for later in (lambda: session.append("note", "small"), session.end):
        with pytest.raises(NotSpooled, match="is full"):
            later()
    assert files(spool)[0].read_bytes() == before

    monkeypatch.undo()
    assert session.append("note", "large" * 400) == SPOOLED
    session.append("note", "small")
    session.end()
    one_away.close()
    start_daemon()
    assert texts(one_away, session.ulid) == ["first", "large" * 400, "small"]


def test_a_disk_that_cannot_sync_keeps_nothing(
    one_away: Client, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = one_away.start()
    before = files(spool)[0].read_bytes()

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(NotSpooled, match="Input/output error"):
        session.append("note", "lost")
    monkeypatch.undo()

    assert files(spool)[0].read_bytes() == before
    assert session.append("note", "kept") == SPOOLED


# --- who else is there


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770])
def test_a_directory_that_is_open_to_others_is_not_used(one_away: Client, spool: Path, mode: int) -> None:
    spool.mkdir(exist_ok=True)
    spool.chmod(mode)

    with pytest.raises(NotSpooled, match=f"chmod 700 {spool}"):
        one_away.start()

    assert files(spool) == []


def test_a_link_in_the_place_of_the_directory_is_not_followed(
    one_away: Client, spool: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    spool.symlink_to(elsewhere)

    with pytest.raises(NotSpooled, match=f"{spool} is a link: put what it leads to in its place"):
        one_away.start()

    assert files(elsewhere) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_directory_of_somebody_else_is_not_used(one_away: Client, spool: Path) -> None:
    spool.mkdir(mode=0o700)
    os.chown(spool, 65534, 65534)

    with pytest.raises(NotSpooled, match="belongs to user 65534"):
        one_away.start()


def test_a_link_planted_as_the_file_is_not_written_through(
    one_away: Client, spool: Path, tmp_path: Path
) -> None:
    session = one_away.start()
    (first,) = files(spool)
    name = parse_name(first.name)
    assert name is not None
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (spool / str(name._replace(number=2))).symlink_to(victim)
    one_away.close()

    with pytest.raises(NotSpooled):
        session.append("note", "x")

    assert victim.read_text() == "mine"


# --- who else looks at the file


def test_a_file_that_is_removed_before_it_is_locked_is_made_anew(
    one_away: Client, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon finds it in that moment, and nothing in it."""
    lock = fcntl.flock

    def late(file: int, operation: int) -> None:
        monkeypatch.undo()
        files(spool)[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    assert one_away.start().append("note", "kept") == SPOOLED

    (file,) = files(spool)
    assert b"kept" in file.read_bytes()
    assert (file.name[-13:], one_away.spooled) == ("000002.ndjson", 2)


def test_a_file_that_somebody_else_locks_first_is_left_to_them(
    one_away: Client, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    others: list[int] = []

    def late(file: int, operation: int) -> None:
        monkeypatch.undo()
        others.append(os.open(files(spool)[0], os.O_RDWR))
        lock(others[0], operation)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    one_away.start()
    os.close(others[0])

    assert [file.stat().st_size > 0 for file in files(spool)] == [False, True]


def test_what_is_handed_over_is_not_held_by_a_child_that_is_just_being_forked(
    one_away: Client, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_away.start()
    monkeypatch.setattr(os, "close", lambda _file: None)  # as if there were a copy of the descriptor
    one_away.close()
    monkeypatch.undo()

    with files(spool)[0].open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture
def left(tmp_path: Path) -> SpoolFile:
    """A file with one line that was let go of."""
    (tmp_path / "s").mkdir(mode=0o700)
    file = SpoolFile(tmp_path / "s", FileName("0" * 26, 1), "test")
    file.write(b"one\n")
    file.leave()
    return file


def test_a_file_that_was_let_go_of_is_gone_on_with_as_it_was_left(left: SpoolFile) -> None:
    assert left.take_again()
    left.write(b"two\n")

    assert left.path.read_bytes().endswith(b"}\none\ntwo\n")
    with left.path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    left.close()


@pytest.mark.parametrize("fate", ["removed", "replaced", "longer", "locked", "open to others"])
def test_a_file_that_is_not_as_it_was_left_is_not_gone_on_with(left: SpoolFile, fate: str) -> None:
    with left.path.open("ab", buffering=0) as other:
        if fate == "removed":
            left.path.unlink()
        elif fate == "replaced":
            left.path.unlink()
            left.path.symlink_to("/dev/null")
        elif fate == "longer":
            other.write(b"x")
        elif fate == "locked":
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            left.directory.chmod(0o755)

        assert not left.take_again()


def test_what_a_daemon_was_told_of_is_gone_on_with_only_once_it_has_put_that_off(spool: Path) -> None:
    waits = Spool(spool, "0" * 26, "test")
    away = DaemonUnavailable(spool, "away")

    def numbers() -> list[int]:
        waits.keep(start_request(), away)
        return [int(file.stem[-6:]) for file in files(spool)]

    assert numbers() == [1]
    waits.hand_over()
    assert numbers() == [1, 2]  # the daemon is just looking at the first
    waits.hand_over()
    waits.taken_over(welcome(waiting=2))
    assert numbers() == [1, 2]
    assert waits.is_news
    waits.hand_over()
    assert numbers() == [1, 2, 3]
    waits.let_go()
    waits.taken_over(welcome(waiting=3))  # said of the second
    assert numbers() == [1, 2, 3, 4]
    waits.let_go()


def test_a_client_that_is_put_off_again_and_again_has_one_file_and_loses_nothing(
    spool: Path, daemon: RunningDaemon, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("courier", "aiocourier"):
        monkeypatch.setattr(f"sessiond_client.{module}.SILENT_SECONDS", 0.0)
        monkeypatch.setattr(f"sessiond_client.{module}.QUICK_SECONDS", 30.0)
    with connected(asynchronous, daemon.socket) as client:
        session = client.start(owner_pid=0)
        daemon.stop()
        failures = Failures(daemon.socket.parent, daemon.data_dir, Clock())
        for _ in range(FAILURES_MAX):
            failures.note("EIO")
        session.append("note", "0")
        daemon.start()  # it only reads

        assert [session.append("note", str(number)) for number in range(1, 20)] == [SPOOLED] * 19
        assert len(files(spool)) == 1
        assert client.spool is not None
        assert isinstance(client.spool.failure, DaemonCannotStore)
        assert str(client.spool.failure).endswith("cannot store yet what waits in the spool")

        failures.path.unlink()
        daemon.stop()
        daemon.start()
        assert texts(client, session.ulid) == [str(number) for number in range(20)]
    check(daemon.data_dir)


def test_two_clients_have_a_file_each(
    start_daemon: Callable[[], RunningDaemon], one_away: Client, place: Path, spool: Path
) -> None:
    with Client.connect(place, autostart=False) as other:
        mine, theirs = one_away.start(name="mine"), other.start(name="theirs", owner_pid=0)
        for number in range(3):
            mine.append("note", f"mine {number}")
            theirs.append("note", f"theirs {number}")
        assert len(files(spool)) == 2
        start_daemon()

        assert texts(one_away, mine.ulid) == ["mine 0", "mine 1", "mine 2"]
        assert texts(other, theirs.ulid) == ["theirs 0", "theirs 1", "theirs 2"]


def test_a_forked_child_does_not_keep_the_file_of_its_parent(
    start_daemon: Callable[[], RunningDaemon], home: Path, place: Path
) -> None:
    code = f"""if True:
        import os, sys
        from pathlib import Path
        from sessiond_client import Client
        client = Client.connect(Path({str(place)!r}), autostart=False, timeout=1)
        session = client.start(name="parent", owner_pid=0)
        session.append("note", "of the parent")
        if os.fork() == 0:
            sys.stdout.write(f"{{os.getpid()}}\\n")
            sys.stdout.flush()
            sys.stdin.read()
            session.append("note", "of the child")
        else:
            os._exit(0)
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environ_for(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.wait(30)
        start_daemon()
        with Client.connect(place, autostart=False) as client:
            wait_until(lambda: client.stats().events == 1)
            ulid = client.find("parent").ulid
            assert texts(client, ulid) == ["of the parent"]
            assert process.stdin is not None
            process.stdin.close()
            wait_until(lambda: texts(client, ulid) == ["of the parent", "of the child"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
