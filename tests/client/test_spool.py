"""Requests that wait while no daemon can be reached: none is lost, none is done twice, none overtakes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from sessiond_client import (
    SPOOLED,
    Client,
    ConnectionLost,
    DaemonUnavailable,
    NotSpooled,
    RequestFailed,
    Status,
    event,
    new_ulid,
    paths,
)
from sessiond_client.wire.framing import EVENT_BYTES_MAX
from sessiond_client.wire.messages import Ping
from tests.checker import check
from tests.client.both import connected
from tests.client.scripted import Conversation, ScriptedPeer
from tests.running import RunningDaemon

SECONDS = 1.0
"""What a call may take where nobody answers; whatever does not keep to it would take for ever."""

SESSION = new_ulid()


@pytest.fixture
def away(place: Path, asynchronous: bool) -> Iterator[Client]:
    """A client that has never seen a daemon."""
    with connected(asynchronous, place) as client:
        yield client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the daemon is back is looked for as long as a call may take: this machine may be busy."""
    for module in ("courier", "aiocourier"):
        monkeypatch.setattr(f"sessiond_client.{module}.QUICK_SECONDS", 30.0)


def texts(client: Client, session: str) -> list[str | None]:
    return [read.text for read in client.read(session).events]


def texts_at_last(client: Client, session: str) -> list[str | None]:
    """Ask again until a daemon that has to begin first answers within the time of a call."""
    while True:
        with suppress(DaemonUnavailable, ConnectionLost):
            return texts(client, session)


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


# --- away and back


def test_what_was_recorded_without_a_daemon_is_there_once_one_comes(
    start_daemon: Callable[[], RunningDaemon], away: Client, spool: Path
) -> None:
    before = datetime.now(UTC)
    session = away.start(name="alone", source="agent", tags=["a"])
    first = session.append("prompt", "one")
    many = away.append(session.ulid, [event("note", "two"), event("note", "three")])
    ended = session.end(exit_code=3)
    after = datetime.now(UTC)

    assert (first, many.first, many.last, away.spooled) == (SPOOLED, SPOOLED, SPOOLED, 4)
    assert (ended.name, ended.status, ended.exit_code, ended.next_seq) == ("alone", "completed", 3, SPOOLED)
    (file,) = files(spool)
    assert (file.stat().st_mode & 0o777, spool.stat().st_mode & 0o777) == (0o600, 0o700)
    daemon = start_daemon()
    found = away.find("alone")
    assert (found.ulid, found.source, found.tags) == (session.ulid, "agent", ["a"])
    assert (found.status, found.exit_code, found.event_count) == ("completed", 3, 3)
    assert texts(away, session.ulid) == ["one", "two", "three"]
    times = [found.started_at, *(read.at for read in away.read(session.ulid).events), found.ended_at or ""]
    assert [before, *map(datetime.fromisoformat, times), after] == sorted(
        [before, *map(datetime.fromisoformat, times), after]
    )
    assert (away.spooled, files(spool)) == (0, [])
    check(daemon.data_dir)


@pytest.mark.usefixtures("patient")
def test_nothing_overtakes_what_waits(
    spool: Path, daemon: RunningDaemon, asynchronous: bool, client: Client
) -> None:
    ulid = client.start(owner_pid=0).ulid
    client.append(ulid, [event("note", "0")])
    daemon.kill()
    with connected(asynchronous, daemon.socket) as away:
        session = away.session(ulid)
        assert [session.append("note", str(n)) for n in range(1, 50)] == [SPOOLED] * 49
        daemon.start()

        assert session.append("note", "50") == 50

        assert texts(away, ulid) == [str(n) for n in range(51)]
        assert (away.spooled, files(spool)) == (0, [])


@pytest.mark.usefixtures("patient")
def test_an_append_whose_answer_does_not_come_is_stored_once(
    spool: Path, daemon: RunningDaemon, asynchronous: bool, client: Client
) -> None:
    ulid = client.start().ulid
    with connected(asynchronous, daemon.socket, timeout=SECONDS) as away:
        session = away.session(ulid)
        daemon.process.send_signal(signal.SIGSTOP)
        assert session.append("note", "unknown") == SPOOLED  # it stands in the socket, too
        assert session.append("note", "next") == SPOOLED
        daemon.process.send_signal(signal.SIGCONT)

        while session.append("note", "live") == SPOOLED:
            assert files(spool)

        stored = texts(client, ulid)
        assert stored[:2] == ["unknown", "next"]
        assert set(stored[2:]) == {"live"}
    check(daemon.data_dir)


def test_it_goes_on_like_that_over_many_restarts(
    spool: Path, daemon: RunningDaemon, asynchronous: bool
) -> None:
    with connected(asynchronous, daemon.socket, timeout=SECONDS) as client:
        session = client.start(owner_pid=0)
        for number in range(3):
            if number:
                daemon.start()
            session.append("note", f"{number} up")
            daemon.kill()
            session.append("note", f"{number} down")
        daemon.start()

        expected = [f"{n} {way}" for n in range(3) for way in ("up", "down")]
        assert texts_at_last(client, session.ulid) == expected


def test_a_client_that_is_closed_leaves_what_waits_to_the_daemon(
    spool: Path, daemon: RunningDaemon, asynchronous: bool, client: Client
) -> None:
    ulid = client.start(owner_pid=0).ulid
    daemon.kill()
    with connected(asynchronous, daemon.socket) as other:
        other.session(ulid).append("note", "left")

    assert len(files(spool)) == 1
    daemon.start()
    wait_until(lambda: texts(client, ulid) == ["left"])
    wait_until(lambda: not files(spool))


def test_a_program_that_comes_later_waits_for_what_others_have_left(
    start_daemon: Callable[[], RunningDaemon], place: Path, asynchronous: bool
) -> None:
    with connected(asynchronous, place) as first:
        ulid = first.start(name="begun", owner_pid=0).ulid
    start_daemon()

    with connected(asynchronous, place) as second:
        assert second.session(ulid).append("note", "next") == 0


def test_what_waits_is_known_to_nobody_else_than_the_daemon_of_this_socket(tmp_path: Path) -> None:
    with Client.connect(tmp_path / "other.sock", autostart=False) as client:
        client.start()

    assert len(files(tmp_path / "other.sock.spool")) == 1
    environ = {"XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s", "HOME": "/h"}
    assert paths.spool_dir(Path("/r/sessiond/sessiond.sock"), environ) == Path("/s/sessiond/spool")
    assert paths.spool_dir(Path("/s/sessiond/run/sessiond.sock"), environ) == Path("/s/sessiond/spool")
    named = {**environ, "SESSIOND_SOCKET": "/x/a.sock"}
    assert paths.spool_dir(paths.socket_path(named), named) == Path("/x/a.sock.spool")


# --- a directory that the daemon would not have


@pytest.mark.parametrize("mode", [0o755, None])
def test_a_spool_that_the_daemon_would_not_have_stops_nobody_but_whom_it_holds_up(
    spool: Path, daemon: RunningDaemon, asynchronous: bool, mode: int | None
) -> None:
    """It is open to others; or for the daemon, which may live elsewhere, it is not there at all."""
    elsewhere = spool.with_name("elsewhere")

    def hide(*, hidden: bool) -> None:
        if mode is not None:
            spool.chmod(mode if hidden else 0o700)
        elif hidden:
            spool.rename(elsewhere)
            spool.symlink_to(elsewhere)
        else:
            spool.unlink()
            elsewhere.rename(spool)

    with connected(asynchronous, daemon.socket, timeout=SECONDS) as client:
        session = client.start(owner_pid=0)
        daemon.kill()
        session.append("note", "first")
        hide(hidden=True)
        daemon.start()

        assert texts(client, session.ulid) == []
        with pytest.raises(NotSpooled):
            session.append("note", "would overtake it")
        with connected(asynchronous, daemon.socket, timeout=SECONDS) as other:
            assert other.start().append("note", "goes on") == 0

        hide(hidden=False)
        while session.append("note", "second") == SPOOLED:
            assert client.spooled
        assert texts(client, session.ulid)[:2] == ["first", "second"]


def test_a_recorder_goes_on_without_a_spool_that_the_daemon_would_not_have(
    spool: Path, client: Client
) -> None:
    spool.mkdir(mode=0o755)
    (spool / f"{new_ulid()}-000001.ndjson").touch()

    session = client.start()
    with session.recorder() as record:
        record("output", "one")

    assert texts(client, session.ulid) == ["one"]


# --- what cannot wait


def test_what_needs_an_answer_does_not_wait(away: Client) -> None:
    ulid = away.start().ulid

    for verb in (
        away.list,
        lambda: away.rename(ulid, "x"),
        lambda: away.append(ulid, [event("note")], expect=0),
        away.status,
    ):
        with pytest.raises(DaemonUnavailable):
            verb()
    with pytest.raises(DaemonUnavailable):
        _ = away.welcome
    assert away.spooled == 1


def test_an_append_that_expects_something_has_an_unknown_outcome(
    daemon: RunningDaemon, asynchronous: bool, client: Client
) -> None:
    ulid = client.start().ulid
    with connected(asynchronous, daemon.socket, timeout=SECONDS) as other:
        session = other.session(ulid)
        daemon.process.send_signal(signal.SIGSTOP)
        with pytest.raises(ConnectionLost):
            session.append("note", expect=0)
        daemon.process.send_signal(signal.SIGCONT)
        assert other.spooled == 0


TOO_DEEP: dict[str, object] = {}
for _ in range(70):
    TOO_DEEP = {"a": TOO_DEEP}
TOO_MUCH = "x" * 1_100_000
REFUSED_ANYWHERE: list[Callable[[Client], object]] = [
    lambda client: client.start("not a name"),
    lambda client: client.start("x" * 129),
    lambda client: client.start(cwd="x" * 5000),
    lambda client: client.start(meta={"x": TOO_MUCH}),
    lambda client: client.start(meta=TOO_DEEP),
    lambda client: client.start(tags=["c++"]),
    lambda client: client.append(SESSION, []),
    lambda client: client.append(SESSION, [event("note")] * 5000),
    lambda client: client.append(SESSION, [event("Note")]),
    lambda client: client.append(SESSION, [event("note", TOO_MUCH)]),
    lambda client: client.append(SESSION, [event("note", data=TOO_DEEP)]),
    lambda client: client.append(SESSION, [event("note", data={"x": "y" * EVENT_BYTES_MAX})]),
    lambda client: client.append(SESSION, [event("command")]),
]


def test_what_the_daemon_would_refuse_is_refused_at_once_and_in_the_same_words(
    client: Client, tmp_path: Path, asynchronous: bool
) -> None:
    elsewhere = tmp_path / "s"
    with connected(asynchronous, elsewhere) as away:
        for verb in REFUSED_ANYWHERE:
            with pytest.raises(RequestFailed) as here:
                verb(away)
            with pytest.raises(RequestFailed) as there:
                verb(client)

            assert here.value.reply == msgspec.structs.replace(there.value.reply, id=0)
        assert (away.spooled, files(elsewhere.with_name("s.spool"))) == (0, [])


# --- deadlines


def silent(conversation: Conversation) -> None:
    conversation.wait_for_end()


def greets_then_silent(conversation: Conversation) -> None:
    conversation.welcome()
    conversation.wait_for_end()


def half_a_line(conversation: Conversation) -> None:
    conversation.welcome()
    conversation.receive()
    conversation.send_bytes(b'{"type":"appended","id":')
    conversation.wait_for_end()


@pytest.mark.parametrize("script", [silent, greets_then_silent, half_a_line])
def test_a_call_ends_in_its_time_whatever_the_daemon_does(
    socket_path: Path, asynchronous: bool, script: Callable[[Conversation], None]
) -> None:
    with (
        ScriptedPeer(socket_path, script),
        connected(asynchronous, socket_path, timeout=SECONDS) as client,
    ):
        assert client.append(SESSION, [event("note")]).first == SPOOLED
        assert client.append(SESSION, [event("note")]).first == SPOOLED
        with pytest.raises((DaemonUnavailable, ConnectionLost)):
            client.list()


def test_while_it_is_away_a_call_does_not_wait_for_its_whole_time_again(
    socket_path: Path, asynchronous: bool
) -> None:
    calls, seconds = 100, 2.0
    with (
        ScriptedPeer(socket_path, greets_then_silent),
        connected(asynchronous, socket_path, timeout=seconds) as client,
    ):
        began = time.monotonic()
        for _ in range(calls):
            client.append(SESSION, [event("note")])

    assert time.monotonic() - began < calls * seconds / 4


def test_threads_that_share_a_stuck_client_end_in_their_time_each(socket_path: Path) -> None:
    answers: list[int] = []
    with (
        ScriptedPeer(socket_path, greets_then_silent),
        Client.connect(socket_path, autostart=False, timeout=SECONDS) as client,
    ):

        def work() -> None:
            answers.append(client.append(SESSION, [event("note")]).first)

        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert answers == [SPOOLED] * 20
        assert client.spooled == 20


def test_a_stuck_client_without_a_spool_says_so_to_its_threads_in_time(socket_path: Path) -> None:
    failures: list[str] = []
    is_stuck, is_over = threading.Event(), threading.Event()

    def answers_late(conversation: Conversation) -> None:
        conversation.welcome()
        request = conversation.receive()
        is_stuck.set()
        is_over.wait()
        conversation.send("pong", id=request["id"])
        conversation.wait_for_end()

    with (
        ScriptedPeer(socket_path, answers_late),
        Client.connect(socket_path, autostart=False, timeout=SECONDS, spool=False) as client,
    ):

        def work() -> None:
            try:
                client.ping()
            except DaemonUnavailable as failure:
                failures.append(str(failure))

        first = threading.Thread(target=lambda: client.call(Ping(), timeout=60))
        first.start()
        is_stuck.wait()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        is_over.set()
        first.join()

    assert len(failures) == 8
    assert all("earlier calls" in failure for failure in failures)


# --- recorders


def test_what_a_recorder_leaves_goes_before_the_end(daemon: RunningDaemon, client: Client) -> None:
    session = client.start()
    with session:
        record = session.recorder()
        record("output", "first")
        record.flush()
        daemon.kill()
        record("output", "second")
        record.close(timeout=0)
        assert record.spill_path is not None
        daemon.start()

    assert texts(client, session.ulid) == ["first", "second"]
    assert client.find(session.ulid).status is Status.COMPLETED


def test_what_a_recorder_left_is_not_overtaken_while_the_daemon_cannot_take_it(
    socket_path: Path, asynchronous: bool
) -> None:
    def takes_nothing(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.welcome(waiting=1)
        conversation.wait_for_end()

    with (
        ScriptedPeer(socket_path, takes_nothing) as peer,
        connected(asynchronous, socket_path, timeout=SECONDS) as client,
    ):
        assert client.spool is not None
        client.spool.left_by_another()
        assert client.append(SESSION, [event("note")]).first == SPOOLED
    assert [it["type"] for it in peer.received()[0]] == ["hello", "hello"]


def test_a_recorder_can_begin_before_the_daemon_has_heard_of_its_session(
    start_daemon: Callable[[], RunningDaemon], place: Path
) -> None:
    with Client.connect(place, autostart=False) as client:
        session = client.start(name="early")
        session.append("note", "first")
        with session.recorder() as record:
            for number in range(100):
                record("output", str(number))
            start_daemon()
        session.end()

        assert texts(client, session.ulid) == ["first", *map(str, range(100))]
        assert client.find(session.ulid).status is Status.COMPLETED


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
