"""The asynchronous client: many tasks on one connection, with the promises of the blocking one."""

from __future__ import annotations

import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from sessiond_client import (
    AsyncClient,
    ConnectionLost,
    DaemonUnavailable,
    ErrorCode,
    ProtocolError,
    RequestFailed,
    Status,
    event,
    new_ulid,
)
from tests.client.scripted import Conversation, ScriptedPeer
from tests.running import RunningDaemon

pytestmark = pytest.mark.anyio

SESSION = new_ulid()


def connect(path: Path, timeout: float = 30) -> AbstractAsyncContextManager[AsyncClient]:
    return AsyncClient.connect(path, autostart=False, timeout=timeout, spool=False)


def impatient(client: AsyncClient) -> None:
    """From here on its calls end soon; that it was greeted may take longer."""
    client._courier._timeout = 0.2


async def test_a_session_is_recorded_and_read_back(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        async with await client.start(name="nightly", tags=["a"]) as session:
            assert await session.append("prompt", "hello", {"n": 1}) == 0
            assert (await session.append_many([event("output", "one")], expect=1)).last == 1

        found = await client.find("nightly")
        assert (found.status, found.end_reason) == ("completed", "stopped")
        assert [read.text for read in (await session.read()).events] == ["hello", "one"]
        assert (await session.count()).events == 2
        assert await client.get(new_ulid()) is None
        assert [listed.ulid for listed in (await client.list(tags_all=["a"])).sessions] == [session.ulid]
        assert (await client.status()).sessions_recording == 0
        await client.ping()
        assert session.info.status is Status.COMPLETED


async def test_a_session_left_by_an_exception_is_interrupted_and_the_exception_comes_bare(
    daemon: RunningDaemon,
) -> None:
    async def work() -> None:
        async with connect(daemon.socket) as client, await client.start(name="left"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()

    async with connect(daemon.socket) as client:
        assert (await client.find("left")).end_reason == "exited"


async def test_a_cancelled_session_is_interrupted(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        with anyio.CancelScope() as scope:
            async with await client.start(name="cancelled"):
                scope.cancel()
                await anyio.sleep_forever()

        assert (await client.find("cancelled")).status is Status.INTERRUPTED


async def test_tasks_share_a_connection_and_a_restart_is_not_noticed(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        session = await client.start()
        seqs: list[int] = []

        async def work(name: int) -> None:
            for number in range(20):
                seqs.append(await session.append("output", f"{name} {number}"))
                if (name, number) == (0, 10):
                    await anyio.to_thread.run_sync(daemon.restart)

        async with anyio.create_task_group() as tasks:
            for name in range(50):
                tasks.start_soon(work, name)

        assert sorted(seqs) == list(range(1000))
        texts = [(read.text or "").split() for read in (await session.read()).events]
        for name in range(50):
            assert [number for by, number in texts if by == str(name)] == [str(n) for n in range(20)]
        assert (await client.status()).connections == 1


async def test_many_requests_travel_at_once(socket_path: Path) -> None:
    def collect_and_answer_backwards(conversation: Conversation) -> None:
        conversation.welcome()
        for number, request in reversed([*enumerate([conversation.receive() for _ in range(100)])]):
            conversation.send("counted", id=request["id"], events=number, commands=0)
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, collect_and_answer_backwards):
        async with connect(socket_path) as client:
            counts: list[int] = []

            async def count() -> None:
                counts.append((await client.count(SESSION)).events)

            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(count)

    assert sorted(counts) == list(range(100))


async def test_more_appends_than_the_window_are_never_on_their_way(socket_path: Path) -> None:
    full, go_on = threading.Event(), threading.Event()

    def collect(conversation: Conversation) -> None:
        conversation.welcome()
        waiting = [conversation.receive() for _ in range(512)]
        full.set()
        go_on.wait(30)
        for append in waiting:
            conversation.send("appended", id=append["id"], session=SESSION, first=0, last=0)
        conversation.serve_appends()

    with ScriptedPeer(socket_path, collect):
        async with connect(socket_path) as client, anyio.create_task_group() as tasks:
            for _ in range(2000):
                tasks.start_soon(client.append, SESSION, [event("note")])
            assert await anyio.to_thread.run_sync(full.wait, 30)

            assert client._link.protocol.unanswered == 512

            go_on.set()


async def test_an_append_whose_answer_was_lost_is_sent_again_with_the_same_number(socket_path: Path) -> None:
    def hang_up(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.receive()

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.serve_appends()

    with ScriptedPeer(socket_path, hang_up, answer) as peer:
        async with connect(socket_path) as client:
            await client.append(SESSION, [event("prompt", "hello")])

    first, second = peer.received()
    assert first[1] == second[1]
    assert first[0]["producer"] == second[0]["producer"] == second[1]["producer"]


async def test_a_cancelled_request_leaves_the_connection_whole(socket_path: Path) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def answer_slowly(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.await_more()
        begun.set()
        cancelled.wait(30)
        big = conversation.receive()
        late = conversation.receive()
        conversation.send("appended", id=big["id"], session=SESSION, first=0, last=0)
        conversation.send("pong", id=late["id"])
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, answer_slowly) as peer:
        async with connect(socket_path) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.append, SESSION, [event("output", "x" * 1024 * 1024)] * 8)
                assert await anyio.to_thread.run_sync(begun.wait, 30)
                tasks.cancel_scope.cancel()
            cancelled.set()
            await client.ping()

    assert len(peer.conversations) == 1


async def test_a_request_without_an_answer_has_an_unknown_outcome(socket_path: Path) -> None:
    def say_nothing(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, say_nothing):
        async with connect(socket_path) as client:
            impatient(client)
            with pytest.raises(ConnectionLost):
                await client.ping()


async def test_what_was_never_sent_is_told_apart(socket_path: Path) -> None:
    def hang_up(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.receive()

    with ScriptedPeer(socket_path, hang_up):
        async with connect(socket_path) as client:
            impatient(client)
            with pytest.raises(ConnectionLost):
                await client.ping()
            with pytest.raises(DaemonUnavailable):
                await client.ping()


async def test_without_a_daemon_nothing_is_waited_for(socket_path: Path) -> None:
    with pytest.raises(DaemonUnavailable, match="sessiond serve"):
        async with connect(socket_path, timeout=3600):
            pass


async def test_a_daemon_of_another_version_is_told_apart_at_once(socket_path: Path) -> None:
    def greet(conversation: Conversation) -> None:
        conversation.welcome(protocol=2)
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, greet), pytest.raises(ProtocolError, match="speaks version 2"):
        async with connect(socket_path):
            pass


async def test_garbage_fails_the_request_and_the_next_one_gets_a_new_connection(socket_path: Path) -> None:
    def talk_nonsense(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.receive()
        conversation.send_bytes(b"nonsense\n")
        conversation.wait_for_end()

    def answer(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.send("pong", id=conversation.receive()["id"])
        conversation.wait_for_end()

    with ScriptedPeer(socket_path, talk_nonsense, answer):
        async with connect(socket_path) as client:
            with pytest.raises(ProtocolError):
                await client.ping()
            await client.ping()


async def test_refusals_say_why(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        with pytest.raises(RequestFailed) as refused:
            await client.find("no-such-thing")

        assert refused.value.code is ErrorCode.NOT_FOUND


async def test_a_closed_client_opens_again_when_it_is_used(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        await client.close()

        assert (await client.status()).pid == daemon.process.pid


@pytest.mark.parametrize("way", ["awaited", "entered", "iterated"])
async def test_a_session_is_followed_across_a_restart_to_its_end(daemon: RunningDaemon, way: str) -> None:
    async with connect(daemon.socket) as client:
        session = await client.start()
        await session.append("prompt", "0")
        follower = session.follow(after=-1)
        if way == "awaited":
            assert await follower is follower
        elif way == "entered":
            await follower.__aenter__()
        seen = [(await anext(follower)).seq]

        async def finish() -> None:
            await session.append("prompt", "1")
            await anyio.to_thread.run_sync(daemon.restart)
            await session.append("prompt", "2")
            await session.end()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish)
            seen += [event.seq async for event in follower]

        assert seen == [0, 1, 2]
        assert follower.ended is not None


async def test_an_unknown_session_cannot_be_followed(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        with pytest.raises(RequestFailed):
            await client.follow(new_ulid())


async def test_a_follower_gives_up_when_the_daemon_stays_away(daemon: RunningDaemon) -> None:
    async with connect(daemon.socket) as client:
        session = await client.start()
        async with session.follow() as events:
            events._timeout = 0.2
            daemon.kill()
            with pytest.raises(ConnectionLost):
                await anext(events)


async def test_a_recorder_stores_everything_in_order(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.intake.QUEUE_BYTES_MAX", 4096)
    async with connect(daemon.socket) as client:
        session = await client.start()

        async with session.recorder() as record:
            for number in range(2000):
                await record("output", str(number))
            await record.flush()
            assert (await session.count()).events == 2000

        events = (await session.read(limit=10_000)).events
        assert [event.text for event in events] == [str(number) for number in range(2000)]


async def test_recording_can_be_cancelled_while_it_waits_for_room(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_client.intake.QUEUE_BYTES_MAX", 4096)
    monkeypatch.setattr("sessiond_client.aiosession.ROOM_SECONDS", 0.05)
    from sessiond_client import AsyncRecorder, RecordingIncomplete

    record = AsyncRecorder(socket_path, SESSION, autostart=False)

    with anyio.move_on_after(0.2) as scope:
        while True:
            await record("output", "x" * 1000)

    assert scope.cancelled_caught
    with pytest.raises(RecordingIncomplete):
        await record.close(timeout=0)
