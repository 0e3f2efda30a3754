"""The index follows what is committed, whatever happens to it or to the daemon."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from sessiond.clock import Clock
from sessiond.errors import Refused
from sessiond.search.index import Index
from sessiond.search.pages import Page
from sessiond.search.recorded import Recorded
from sessiond.storage.directory import INDEX_NAME
from tests.crash.damaged import make
from tests.running import RunningDaemon
from tests.search.asking import hits, recorded, refusal, snippets

MODES = ["words", "substring", "regex"]


def index_of(daemon: RunningDaemon) -> Path:
    return daemon.data_dir / INDEX_NAME


def found_everywhere(daemon: RunningDaemon, query: str) -> set[int]:
    """How many hits there are in each mode."""
    peer = daemon.peer()
    return {len(hits(peer, query, mode=mode, limit=1000)) for mode in MODES}


def flood(daemon: RunningDaemon, events: int, word: str = "flood") -> str:
    """A session with very many events, more than the index takes up in a slice."""
    peer = daemon.peer()
    session = recorded(peer)
    for first in range(0, events, 4000):
        peer.append(session, *(f"{word} {number}" for number in range(first, min(events, first + 4000))))
    return session


def rebuilt(daemon: RunningDaemon) -> int:
    return daemon.log_text().count("the search index is built anew")


def test_the_index_is_private_and_made_at_the_first_start(daemon: RunningDaemon) -> None:
    recorded(daemon.peer(), "a")
    hits(daemon.peer(), "a")

    assert {path.stat().st_mode & 0o777 for path in daemon.data_dir.glob(f"{INDEX_NAME}*")} == {0o600}
    assert rebuilt(daemon) == 0


def test_a_daemon_that_is_killed_before_it_has_indexed_catches_up(daemon: RunningDaemon) -> None:
    flood(daemon, 30_000)
    daemon.restart()

    assert len(snippets(daemon.peer(), "flood 29999", limit=5)) == 1
    peer = daemon.peer()
    assert len(snippets(peer, "^flood 1?7$", mode="regex")) == 2
    assert rebuilt(daemon) == 0


def test_kills_at_any_moment_leave_no_gap_and_nothing_twice(daemon: RunningDaemon) -> None:
    session = recorded(daemon.peer())
    total = 0
    for turn in range(4):
        peer = daemon.peer()
        for _ in range(turn * 3 + 1):
            peer.append(session, *(f"grain {total + number}" for number in range(500)))
            total += 500
        if turn % 2:
            peer.send("search", query="grain")
        daemon.restart()

    peer = daemon.peer()
    for mode in MODES:
        reply = peer.call("search", query="grain", mode=mode, limit=1000)
        found = [hit["seq"] for hit in reply["hits"]]
        while reply["next"]:
            reply = peer.call("search", query="grain", mode=mode, limit=1000, before=reply["next"])
            found += [hit["seq"] for hit in reply["hits"]]
        assert found == list(range(total - 1, -1, -1)), mode
    assert rebuilt(daemon) == 0


def test_an_index_that_was_deleted_is_built_anew(daemon: RunningDaemon) -> None:
    recorded(daemon.peer(), "find me", name="me")
    assert found_everywhere(daemon, "me") == {2}
    daemon.kill()
    index_of(daemon).unlink()
    daemon.start()

    assert found_everywhere(daemon, "me") == {2}
    daemon.stop()
    index_of(daemon).write_bytes(b"")
    daemon.start()
    assert found_everywhere(daemon, "me") == {2}


@pytest.mark.parametrize("content", [b"this is no database, and it is long enough" * 200, os.urandom(16384)])
def test_something_else_under_its_name_is_replaced_and_logged_once(
    daemon: RunningDaemon, content: bytes
) -> None:
    recorded(daemon.peer(), "find me", name="me")
    daemon.stop()  # in order, for a log left behind would bring it all back
    index_of(daemon).write_bytes(content)
    daemon.start()

    assert found_everywhere(daemon, "me") == {2}
    assert rebuilt(daemon) == 1


def test_a_page_that_is_damaged_has_the_index_built_anew_while_the_daemon_runs(daemon: RunningDaemon) -> None:
    flood(daemon, 40_000)
    assert snippets(daemon.peer(), "^flood 17$", mode="regex")
    damage = apsw.Connection(str(index_of(daemon)))
    damage.execute("UPDATE page SET ids = x'00'")
    damage.close()

    assert snippets(daemon.peer(), "^flood 17$", mode="regex") == ["flood 17"]
    assert rebuilt(daemon) == 1


def test_an_index_with_holes_in_it_is_built_anew(daemon: RunningDaemon) -> None:
    flood(daemon, 20_000)
    hits(daemon.peer(), "flood")
    assert daemon.stop() == 0
    with index_of(daemon).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for offset in range(4096 * 3, size, 4096 * 2):
            file.seek(offset)
            file.write(os.urandom(4096))
    daemon.start()

    assert found_everywhere(daemon, "flood 19999") == {1}


def test_the_index_of_another_database_is_not_taken(
    daemon: RunningDaemon, tmp_path: Path, start_daemon: Callable[[], RunningDaemon]
) -> None:
    recorded(daemon.peer(), "first database")
    hits(daemon.peer(), "first")
    daemon.stop()
    for part in daemon.data_dir.glob("sessiond.db*"):
        part.unlink()
    for path in (daemon.data_dir / "sessions").iterdir():
        path.unlink()
    daemon.start()
    recorded(daemon.peer(), "second database")

    assert snippets(daemon.peer(), "database") == ["second database"]
    assert snippets(daemon.peer(), "database", mode="substring") == ["second database"]
    assert rebuilt(daemon) == 1


def test_an_index_with_the_id_of_another_database_is_built_anew(daemon: RunningDaemon) -> None:
    recorded(daemon.peer(), "find me")
    assert found_everywhere(daemon, "find") == {1}
    daemon.stop()
    database = apsw.Connection(str(daemon.data_dir / "sessiond.db"))
    database.execute("UPDATE fact SET value = 'another' WHERE name = 'database_id'")
    database.close()
    daemon.start()

    assert found_everywhere(daemon, "find") == {1}
    assert rebuilt(daemon) == 1


def test_an_old_copy_of_the_database_put_back_has_the_index_built_anew(daemon: RunningDaemon) -> None:
    session = recorded(daemon.peer(), "before the copy")
    daemon.stop()
    copy = (daemon.data_dir / "sessiond.db").read_bytes()
    file = daemon.data_dir / "sessions" / f"{session}.ndjson"
    lines = file.read_bytes()
    daemon.start()
    daemon.peer().append(session, "after the copy")
    assert found_everywhere(daemon, "copy") == {2}
    daemon.stop()
    for part in daemon.data_dir.glob("sessiond.db-*"):
        part.unlink()
    (daemon.data_dir / "sessiond.db").write_bytes(copy)
    file.write_bytes(lines)
    daemon.start()
    daemon.peer().append(session, "another way")

    assert snippets(daemon.peer(), "copy OR way") == ["another way", "before the copy"]
    assert rebuilt(daemon) == 1


def test_an_idle_daemon_does_not_wake_for_the_index(daemon: RunningDaemon) -> None:
    recorded(daemon.peer(), "a")
    hits(daemon.peer(), "a")

    assert daemon.peer().call("status")["followers"] == 0


def test_an_index_that_cannot_be_written_is_told_and_harms_nothing_else(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = recorded(peer, "a")
    daemon.stop()
    for part in daemon.data_dir.glob(f"{INDEX_NAME}*"):
        part.unlink()
    index_of(daemon).with_name(f"{INDEX_NAME}-journal").mkdir()  # SQLite needs it to make a database
    daemon.start()
    peer = daemon.peer()

    error = refusal(peer, "a")
    assert (error["code"], error["path"]) == ("corrupt", str(index_of(daemon)))
    other = recorded(peer, "c")
    assert peer.call("delete", session=other, purge=True, force=True)["purged"]
    assert peer.append(session, "b")["type"] == "appended"
    assert daemon.stop() == 0


# --- forgetting, and what else has no request of its own yet ----------------------------------------------


class Half:
    """The index of a daemon that was stopped, and its database, changed as the daemon would."""

    def __init__(self, daemon: RunningDaemon) -> None:
        assert daemon.stop() == 0
        path = daemon.data_dir / "sessiond.db"
        self.database = apsw.Connection(str(path))
        self.index = Index(index_of(daemon), path, Clock())
        self.catch_up()

    def catch_up(self) -> None:
        while self.index.advance():
            pass

    def forget(self, ulid: str) -> int:
        """Forget a session; in how many slices."""
        slices, after = 0, -1
        while (reached := self.index.forget(ulid, after)) is not None:
            assert reached > after
            slices, after = slices + 1, reached
        return slices

    def bytes(self) -> bytes:
        """Everything that stands in the files of the index."""
        return b"".join(path.read_bytes() for path in self.index.path.parent.glob(f"{INDEX_NAME}*"))

    def close(self) -> None:
        self.index.close()
        self.database.close()


def test_what_is_purged_stands_nowhere_in_the_index(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    secret, other = recorded(peer, name="pssst", tags=["hushhush"]), recorded(peer)
    for number in range(30):
        peer.append(other, *(f"common {number} {each}" for each in range(300)))
        peer.append(secret, *(f"xyzzyplugh common {number} {each}" for each in range(300)))
    assert len(hits(peer, "xyzzyplugh", limit=1000)) == 1000
    before = b"".join(path.read_bytes() for path in daemon.data_dir.glob(f"{INDEX_NAME}*"))
    assert before.count(b"xyzzyplugh") > 1000

    assert peer.call("delete", session=secret, purge=True, force=True)["purged"]
    half = Half(daemon)

    left = half.bytes()
    assert [word for word in (b"xyzzyplugh", b"pssst", b"hushhush") if word in left] == []
    assert half.forget(secret) == 0
    half.close()


def test_forgetting_can_be_cut_short_and_done_again(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    secret = recorded(peer)
    for number in range(20):
        peer.append(secret, *(f"xyzzyplugh {number} {each}" for each in range(300)))
    recorded(peer, "stays")
    half = Half(daemon)
    half.database.execute("UPDATE session SET shelf = 'purged' WHERE ulid = ?", (secret,))

    reached = half.index.forget(secret, -1)
    assert reached is not None
    half.index.close()
    half.database.execute("DELETE FROM event WHERE seq < 100 AND line LIKE '%xyzzy%'")
    slices = half.forget(secret)
    half.catch_up()

    assert slices > 0
    assert b"xyzzyplugh" not in half.bytes()
    assert b"stays" in half.bytes()
    half.close()


def test_a_session_that_is_purged_before_it_was_indexed_never_is(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = recorded(peer, "xyzzyplugh", name="pssst")
    half = Half(daemon)
    half.index.close()
    half.index.drop()
    half.database.execute("UPDATE session SET shelf = 'purged' WHERE ulid = ?", (session,))

    half.catch_up()

    assert b"xyzzyplugh" not in half.bytes()
    assert b"pssst" not in half.bytes()
    half.close()


def test_forgetting_leaves_a_database_whose_last_event_is_purged_its_index(daemon: RunningDaemon) -> None:
    recorded(daemon.peer(), "stays")
    last = recorded(daemon.peer(), "goes")
    half = Half(daemon)
    half.database.execute("UPDATE session SET shelf = 'purged' WHERE ulid = ?", (last,))
    half.forget(last)
    half.database.execute("UPDATE fact SET value = (SELECT max(id) FROM event) WHERE name = 'position_floor'")
    half.database.execute("DELETE FROM event WHERE line LIKE '%goes%'")
    half.database.execute("DELETE FROM session WHERE ulid = ?", (last,))
    (daemon.data_dir / "sessions" / f"{last}.ndjson").unlink()
    half.close()
    daemon.start()

    assert snippets(daemon.peer(), "stays") == ["stays"]
    assert rebuilt(daemon) == 0


def test_a_change_of_a_session_is_followed_also_after_the_latest_change_was_purged(
    daemon: RunningDaemon,
) -> None:
    one, two = recorded(daemon.peer(), name="one"), recorded(daemon.peer(), name="two")
    half = Half(daemon)
    change = "UPDATE session SET changed = 1 + (SELECT max(changed) FROM session), {} WHERE ulid = ?"
    half.database.execute(change.format("shelf = 'kept'"), (two,))
    half.catch_up()
    half.database.execute(change.format("shelf = 'purged'"), (two,))
    half.catch_up()
    half.forget(two)
    half.catch_up()
    half.database.execute("DELETE FROM session WHERE ulid = ?", (two,))
    (daemon.data_dir / "sessions" / f"{two}.ndjson").unlink()

    half.database.execute(change.format("name = 'renamed'"), (one,))
    half.close()
    daemon.start()

    assert [hit["name"] for hit in hits(daemon.peer(), "renamed")] == ["renamed"]
    assert hits(daemon.peer(), "one") == []
    assert rebuilt(daemon) == 0


def test_a_damaged_main_database_is_not_blamed_on_the_index(tmp_path: Path) -> None:
    path = tmp_path / "sessiond.db"
    path.write_bytes(b"no database at all" * 500)

    with pytest.raises(Refused) as refused:
        Recorded(path).extent()

    assert (refused.value.code, refused.value.fields["path"]) == ("corrupt", str(path))


def test_a_page_is_unpacked_as_it_was_packed() -> None:
    page = Page.of([(3, b"a"), (7, "ö".encode()), (9, b"ccc")])
    _, _, *parts = page.packed()

    assert Page.unpacked(*parts) == page
    assert page.without({7}) == Page.of([(3, b"a"), (9, b"ccc")])
    with pytest.raises(apsw.CorruptError):
        Page.unpacked(parts[0][:-1], parts[1], parts[2])


class Failing(apsw.Connection):
    """A connection to a disk that may begin to fail."""

    verb: str | None = None

    def execute(self, statements: str, *arguments: Any, **options: Any) -> Any:
        """Do it, unless that is what fails."""
        if self.verb is not None and statements.startswith(self.verb):
            raise apsw.FullError("database or disk is full")
        return super().execute(statements, *arguments, **options)

    def close(self, force: bool = False) -> None:
        """Close it, and say that it could not be if that is what fails."""
        super().close(force)
        if self.verb == "close":
            raise apsw.IOError("disk I/O error")


@pytest.mark.parametrize("verb", ["close", "BEGIN", "PRAGMA"])
def test_an_index_that_the_disk_fails_is_taken_up_again_later(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    recorded(daemon.peer(), "before")
    monkeypatch.setattr(apsw, "Connection", Failing)
    index = Index(daemon.data_dir / "another.db", daemon.data_dir / "sessiond.db", Clock())
    if verb == "close":
        index.open()
    monkeypatch.setattr(Failing, "verb", verb)
    with pytest.raises(apsw.Error):
        index.close() if verb == "close" else index.open()
    monkeypatch.setattr(Failing, "verb", None)

    while index.advance():
        pass

    assert index.extent is not None
    index.close()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1 + count, hard))
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for descriptor in [taken.pop() for _ in range(count)]:
            os.close(descriptor)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_an_index_is_not_thrown_away_because_no_file_can_be_opened(tmp_path: Path) -> None:
    make(tmp_path / "data")
    path = tmp_path / "data" / INDEX_NAME
    index = Index(path, tmp_path / "data" / "sessiond.db", Clock())
    index.open()
    index.close()
    inode = path.stat().st_ino

    outcomes = set()
    for count in range(12):
        with descriptors_left(count):
            try:
                index.open()
                outcomes.add("opened")
            except (Refused, apsw.CantOpenError):
                outcomes.add("not opened")
        index.close()
        assert path.stat().st_ino == inode

    assert outcomes == {"opened", "not opened"}


def test_a_line_that_is_no_json_has_no_text_and_keeps_no_other_from_being_found(tmp_path: Path) -> None:
    make(tmp_path / "data")
    with closing(apsw.Connection(str(tmp_path / "data" / "sessiond.db"))) as database:
        database.execute("UPDATE event SET line = '{' WHERE id = 2")

    index = Index(tmp_path / "data" / INDEX_NAME, tmp_path / "data" / "sessiond.db", Clock())
    while index.advance():
        pass
    index.close()

    recorded_ = Recorded(tmp_path / "data" / "sessiond.db")
    assert [event.text for event in recorded_.events([1, 2, 3])] == ["one", "", "three"]
    assert [position for position, _ in recorded_.texts(0, None, 10, lambda _: False)[0]] == [1, 3, 4, 5, 6]
    recorded_.close()
