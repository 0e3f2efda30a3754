"""The request `verify`: what a running daemon says of its stores, also while they are written to."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessiond.clock import Clock
from sessiond.storage.check.checking import Checking
from sessiond.storage.check.comparison import Comparer
from sessiond.storage.database import open_reader
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond.storage.view import take_view
from sessiond.verifying import Verifying
from sessiond_client.wire.messages import Verify
from tests.crash.damaged import OPEN, SEALED, appended, commit, make, opened
from tests.peer import Peer
from tests.running import RunningDaemon

WRITERS = 4
APPENDS = 150
LOOKS_MIN = 4


def verified(peer: Peer, **fields: Any) -> dict[str, Any]:
    """All pages as one reply."""
    whole = peer.call("verify", **fields)
    assert whole["type"] == "verified", whole
    while whole["next"] is not None:
        page = peer.call("verify", after=whole["next"])
        for name in ("sessions", "events", "bytes", "faults", "lagging"):
            page[name] += whole[name]
        whole = page
    return whole


def ended_session(peer: Peer, *texts: str) -> str:
    """A session whose whole file is known to be on disk: its name has changed, and the file has followed."""
    session = peer.start(owner_pid=0)
    peer.append(session, *texts)
    peer.call("end", session=session)
    peer.call("rename", session=session, name=f"settled-{session[-6:]}")
    return session


def test_a_sound_store_is_counted(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    ended_session(peer, "one", "two")
    recording = peer.start(owner_pid=0)
    peer.append(recording, "three")

    reply = verified(peer)

    assert (reply["sessions"], reply["events"], reply["faults"]) == (2, 3, [])
    stats = peer.call("stats")
    assert reply["bytes"] == stats["event_bytes"]
    assert verified(peer, session=recording)["sessions"] == 1


def test_a_damaged_file_is_told_and_logged_without_what_it_says(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = ended_session(peer, "one", "two")
    path = daemon.data_dir / "sessions" / f"{session}.ndjson"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"two", b"Two"))

    (fault,) = verified(peer)["faults"]

    assert (fault["code"], fault["session"], fault["path"]) == ("line_differs", session, str(path))
    assert fault["offset"] == content.index(b'{"type":"event","seq":1')
    assert f"`sessiond rebuild --session {session}`" in fault["repair"]
    assert verified(peer, session=session)["faults"] == [fault]
    assert "a check found faults" in daemon.log_text()
    assert "Two" not in daemon.log_text()


def test_a_session_that_is_not_there_is_refused(daemon: RunningDaemon) -> None:
    assert daemon.peer().call("verify", session=OPEN)["code"] == "not_found"
    assert daemon.peer().call("verify", session="nonsense")["code"] == "invalid"


def test_a_page_ends_when_its_time_is_over_and_the_next_goes_on(tmp_path: Path) -> None:
    class Hurried(Clock):
        """Every look at it is a second later."""

        seconds = 0.0

        def monotonic(self) -> float:
            self.seconds += 1.0
            return self.seconds

    make(tmp_path / "data")
    verifying = Verifying(tmp_path / "data", SessionFiles(tmp_path / "data", Disk()), Hurried())

    first = verifying._page(Verify(id=1), lambda: False)
    second = verifying._page(Verify(id=2, after=first.next), lambda: False)
    third = verifying._page(Verify(id=3, after=second.next), lambda: False)
    verifying.close()

    assert [(page.sessions, page.next) for page in (first, second, third)] == [
        (1, SEALED), (1, OPEN), (0, None),
    ]  # fmt: skip


def test_what_is_being_written_is_no_fault(daemon: RunningDaemon) -> None:
    """Sessions begin, grow, are renamed, end, go into the trash and come back while they are compared."""

    looked_enough = threading.Event()

    def work(number: int) -> None:
        with Peer(daemon.socket) as peer:
            shared = peer.start(owner_pid=0)
            for step in itertools.count():
                if step >= APPENDS and looked_enough.is_set():
                    return
                assert peer.append(shared, f"{number} {step}", "x" * 3000)["type"] == "appended"
                if step % 10 == 0:
                    peer.call("rename", session=shared, name=f"name-{number}-{step}")
                    peer.call("label", label=f"l{number}", session=shared)
                    short = ended_session(peer, "a")
                    peer.call("delete", session=short)
                    if step % 20:
                        peer.call("restore", session=short)
                    else:
                        peer.call("delete", session=short, purge=True)

    peer = daemon.peer()
    looks = 0
    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(work, number) for number in range(WRITERS)]
        try:
            while not all(writer.done() for writer in writers):
                assert verified(peer)["faults"] == []
                looks += 1
                if looks == LOOKS_MIN:
                    looked_enough.set()
        finally:
            looked_enough.set()
    for writer in writers:
        writer.result()

    assert looks >= LOOKS_MIN
    last = verified(peer)
    assert last["faults"] == []
    assert last["events"] >= WRITERS * APPENDS * 2


def test_a_file_that_is_only_behind_lags_and_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "data"
    make(path)
    files = SessionFiles(path, Disk())
    with opened(path) as (directory, store):
        directory.files.close_all()
        before = files.path(OPEN).read_bytes()
        commit(store, appended(OPEN, "four"), synced=False)
        files.path(OPEN).write_bytes(before)
        reader = open_reader(path / "sessiond.db")

        live = Comparer(reader, path / "sessiond.db", files, is_live=True).compare(OPEN)
        at_rest = Comparer(reader, path / "sessiond.db", files, is_live=False).compare(OPEN)
        files.path(OPEN).write_bytes(before[:-1])
        shorter = Comparer(reader, path / "sessiond.db", files, is_live=True).compare(OPEN)
        reader.close()

    assert live is not None
    assert at_rest is not None
    assert shorter is not None
    assert (live.faults, live.lags) == ([], True)
    assert [fault.code for fault in at_rest.faults] == ["file_short"]
    assert [fault.code for fault in shorter.faults] == ["file_short"], "what was synced must be there"


def test_a_fault_that_is_gone_at_the_second_look_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    make(path)
    files = SessionFiles(path, Disk())
    whole = files.path(SEALED).read_bytes()
    files.path(SEALED).write_bytes(whole.replace(b"one", b"One"))
    reader = open_reader(path / "sessiond.db")
    check = Checking(path, reader, files, is_live=True)
    looks = []
    look = Comparer._look

    def watched(comparer: Comparer, ulid: str) -> Any:
        looks.append(ulid)
        found = look(comparer, ulid)
        files.path(SEALED).write_bytes(whole)
        return found

    monkeypatch.setattr(Comparer, "_look", watched)
    compared = check.compare(SEALED)
    reader.close()

    assert compared is not None
    assert compared.faults == []
    assert looks == [SEALED, SEALED]


def test_what_is_written_between_the_looks_at_file_and_database_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    make(path)
    reader = open_reader(path / "sessiond.db")
    with opened(path) as (_, store):

        def busy(connection: Any, ulid: str) -> Any:
            commit(store, appended(OPEN, "before the look at the database"))
            view = take_view(connection, ulid)
            commit(store, appended(OPEN, "after it"))
            return view

        monkeypatch.setattr("sessiond.storage.check.comparison.take_view", busy)
        files = SessionFiles(path, Disk())
        compared = Comparer(reader, path / "sessiond.db", files, is_live=True).compare(OPEN)
    reader.close()

    assert compared is not None
    assert (compared.faults, compared.lags) == ([], False)
