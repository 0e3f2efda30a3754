"""Damage to files and database, case by case, and what the next start makes of it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.checker import check, lines_in_database, lines_in_file, texts
from tests.running import RunningDaemon

TEXTS = [f"event {number}" for number in range(20)]


@pytest.fixture
def session(daemon: RunningDaemon) -> str:
    """A session with twenty events that is still open when its daemon is killed."""
    peer = daemon.peer()
    ulid = peer.start(name="wounded", owner_pid=0, tags=["a"])
    for text in TEXTS:
        peer.append(ulid, text)
    daemon.kill()
    forget_what_was_synced(daemon)
    return ulid


def forget_what_was_synced(daemon: RunningDaemon) -> None:
    """Have the file not known to be on disk, also if the daemon had the time to sync it."""
    with closing(sqlite3.connect(f"file:{daemon.data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        (synced,) = connection.execute("SELECT sum(synced_bytes) FROM session").fetchone()
    if synced:
        change_database(daemon, "UPDATE session SET synced_bytes = 0, synced_seq = 0")


def file_of(daemon: RunningDaemon, session: str) -> Path:
    return daemon.data_dir / "sessions" / f"{session}.ndjson"


def recovery(daemon: RunningDaemon) -> dict[str, int]:
    """Start the daemon and ask what it had to repair."""
    daemon.start()
    counters: dict[str, int] = daemon.peer().call("status")["recovery"]
    check(daemon.data_dir)
    return counters


def quarantined(daemon: RunningDaemon) -> list[str]:
    return sorted(path.name for path in (daemon.data_dir / "quarantine").iterdir())


def change_database(daemon: RunningDaemon, *statements: str) -> None:
    """Change the database while no daemon runs, as a crash or an old backup would have left it."""
    import apsw

    connection = apsw.Connection(str(daemon.data_dir / "sessiond.db"))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_an_undamaged_directory_needs_no_repair(daemon: RunningDaemon, session: str) -> None:
    assert recovery(daemon) == {}
    assert texts(daemon.data_dir, session) == TEXTS


@pytest.mark.parametrize("cut", [1, 2, 30, 500, 1500])
def test_a_cut_tail_is_written_again(daemon: RunningDaemon, session: str, cut: int) -> None:
    path = file_of(daemon, session)
    os.truncate(path, path.stat().st_size - cut)

    recovery(daemon)

    assert texts(daemon.data_dir, session) == TEXTS
    assert quarantined(daemon) == []


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_a_tail_of_nul_bytes_is_written_again(daemon: RunningDaemon, session: str, size: int) -> None:
    path = file_of(daemon, session)
    content = path.read_bytes()
    path.write_bytes(content[:-size] + b"\0" * size if size < len(content) else b"\0" * size)

    recovery(daemon)

    assert texts(daemon.data_dir, session) == TEXTS
    assert quarantined(daemon) == []


def test_nul_bytes_behind_the_end_are_cut_off(daemon: RunningDaemon, session: str) -> None:
    with file_of(daemon, session).open("ab") as file:
        file.write(b"\0" * 5000)

    assert recovery(daemon) == {"torn_tails_rewritten": 1}
    assert texts(daemon.data_dir, session) == TEXTS


def test_a_file_that_is_gone_is_created_again(daemon: RunningDaemon, session: str) -> None:
    file_of(daemon, session).unlink()

    assert recovery(daemon) == {"files_recreated": 1}
    assert texts(daemon.data_dir, session) == TEXTS


def test_an_empty_file_is_filled_again(daemon: RunningDaemon, session: str) -> None:
    file_of(daemon, session).write_bytes(b"")

    recovery(daemon)

    assert texts(daemon.data_dir, session) == TEXTS


def test_events_that_only_the_file_has_are_taken_into_the_database(
    daemon: RunningDaemon, session: str
) -> None:
    change_database(
        daemon,
        "DELETE FROM event WHERE seq >= 15",
        "UPDATE session SET next_seq = 15, byte_count = (SELECT sum(length(line) + 1) FROM event),"
        " synced_bytes = 0, synced_seq = 0",
    )

    counters = recovery(daemon)

    assert counters["events_adopted"] == 5
    assert len(lines_in_database(daemon.data_dir)[session]) == 20
    assert daemon.peer().append(session, "next")["first"] == 20
    check(daemon.data_dir)


def test_lines_that_do_not_continue_are_kept_aside(daemon: RunningDaemon, session: str) -> None:
    stray = b'{"type":"event","seq":99,"kind":"prompt","at":"2026-01-01T00:00:00.000000Z"}\n'
    with file_of(daemon, session).open("ab") as file:
        file.write(stray)

    recovery(daemon)

    (name,) = quarantined(daemon)
    assert name.startswith(f"{session}.orphan-")
    assert (daemon.data_dir / "quarantine" / name).read_bytes() == stray
    assert texts(daemon.data_dir, session) == TEXTS


def test_a_line_with_other_bytes_sets_the_whole_file_aside(daemon: RunningDaemon, session: str) -> None:
    path = file_of(daemon, session)
    change_database(daemon, "UPDATE session SET synced_bytes = 0, synced_seq = 0")
    forged = path.read_bytes().replace(b"event 7", b"EVENT 7")
    path.write_bytes(forged)

    assert recovery(daemon)["conflicts_rebuilt"] == 1

    (name,) = quarantined(daemon)
    assert ".conflict-" in name
    assert (daemon.data_dir / "quarantine" / name).read_bytes() == forged
    assert texts(daemon.data_dir, session) == TEXTS


def test_a_file_shorter_than_what_was_synced_is_set_aside_and_rebuilt(
    daemon: RunningDaemon, session: str
) -> None:
    size = file_of(daemon, session).stat().st_size
    change_database(daemon, f"UPDATE session SET synced_bytes = {size}, synced_seq = next_seq")
    os.truncate(file_of(daemon, session), 50)

    assert recovery(daemon)["files_rebuilt"] == 1
    assert ".shortened-" in quarantined(daemon)[0]
    assert texts(daemon.data_dir, session) == TEXTS


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_something_else_under_a_files_name_is_set_aside(
    daemon: RunningDaemon, session: str, kind: str
) -> None:
    path = file_of(daemon, session)
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        os.mkfifo(path)

    assert recovery(daemon)["files_rebuilt"] == 1
    assert ".no-file-" in quarantined(daemon)[0]
    assert texts(daemon.data_dir, session) == TEXTS


def test_a_file_that_cannot_be_mended_now_stops_nobody_and_is_mended_later(
    daemon: RunningDaemon, session: str
) -> None:
    path = file_of(daemon, session)
    path.unlink()
    blocker = path.with_name(f"{path.name}.tmp-new")
    blocker.mkdir()
    (blocker / "x").touch()

    daemon.start()
    peer = daemon.peer()
    assert peer.call("status")["recovery"]["files_left_lagging"] == 1
    assert peer.append(session, "on")["first"] == 20
    (blocker / "x").unlink()
    blocker.rmdir()

    while peer.call("status")["lagging_files"]:
        pass
    check(daemon.data_dir)
    assert texts(daemon.data_dir, session) == [*TEXTS, "on"]


def test_temporary_files_are_swept(daemon: RunningDaemon, session: str) -> None:
    leftover = daemon.data_dir / "sessions" / f"{session}.ndjson.tmp-new"
    leftover.write_text("half")

    assert recovery(daemon) == {"temporary_files_swept": 1}
    assert not leftover.exists()


def damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * 200)


def damage_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def remove(path: Path) -> None:
    path.unlink()


def close_in_order(daemon: RunningDaemon) -> None:
    """Start and stop once, so that everything is in the database file and nothing in its log."""
    daemon.start()
    daemon.stop()


@pytest.mark.parametrize("damage", [damage_header, damage_pages, remove])
def test_a_lost_database_is_built_anew_from_the_files(
    daemon: RunningDaemon, session: str, damage: Callable[[Path], None]
) -> None:
    daemon.start()
    peer = daemon.peer()
    sealed = peer.start(name="whole", tags=["b"], env={"PATH": "/bin"}, meta={"a": [1]})
    peer.call("append", session=sealed, events=[{"kind": "command", "text": "ls", "data": {"exit_code": 1}}])
    before = peer.call("end", session=sealed, exit_code=4, end_reason="exited")["session"]
    daemon.stop()
    files = {path.name: path.read_bytes() for path in (daemon.data_dir / "sessions").iterdir()}
    damage(daemon.data_dir / "sessiond.db")

    counters = recovery(daemon)

    assert counters["sessions_taken_in"] == 2
    after = daemon.peer().call("get", session=sealed)["session"]
    assert after == {**before, "recovered": True}
    interrupted = daemon.peer().call("get", session=session)["session"]
    assert (interrupted["status"], interrupted["end_reason"]) == ("interrupted", "daemon_lost")
    for name, content in files.items():
        assert (daemon.data_dir / "sessions" / name).read_bytes().startswith(content)
    if damage is not remove:
        assert counters["databases_rebuilt"] == 1
        assert any(name.startswith("sessiond.db.damaged-") for name in quarantined(daemon))


def test_damage_found_while_running_is_answered_and_repaired_at_the_next_start(
    daemon: RunningDaemon, session: str
) -> None:
    close_in_order(daemon)
    (daemon.data_dir / "suspect").touch(mode=0o600)
    damage_pages(daemon.data_dir / "sessiond.db")

    counters = recovery(daemon)

    assert counters["databases_rebuilt"] == 1
    assert texts(daemon.data_dir, session) == TEXTS
    assert not (daemon.data_dir / "suspect").exists()


def test_an_old_copy_of_the_database_catches_up_from_the_files(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    old = peer.start(owner_pid=0)
    peer.append(old, "a")
    daemon.stop()
    copy = (daemon.data_dir / "sessiond.db").read_bytes()
    daemon.start()
    peer = daemon.peer()
    peer.append(old, "b", "c")
    new = peer.start(owner_pid=0)
    peer.append(new, "d")
    peer.call("end", session=old)
    daemon.stop()
    (daemon.data_dir / "sessiond.db").write_bytes(copy)

    counters = recovery(daemon)

    assert counters["events_adopted"] == 3
    assert texts(daemon.data_dir, old) == ["a", "b", "c"]
    assert daemon.peer().call("get", session=old)["session"]["status"] == "completed"
    assert texts(daemon.data_dir, new) == ["d"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no-header"),
        (b"no json\n", "no-header"),
        (b'{"type":"event"}\n', "no-header"),
        (b"\0" * 5000, "no-header"),
        (
            b'{"type":"header","version":9,"id":"X","name":"n","source":"app","started_at":"x"}\n',
            "foreign-header",
        ),
    ],
)
def test_an_unknown_file_that_is_no_session_is_set_aside_and_stops_nothing(
    daemon: RunningDaemon, session: str, content: bytes, reason: str
) -> None:
    stranger = daemon.data_dir / "sessions" / "01ARZ3NDEKTSV4RRFFQ69G5FAV.ndjson"
    stranger.write_bytes(content)

    assert recovery(daemon) == {"files_quarantined": 1}
    assert f".{reason}-" in quarantined(daemon)[0]
    assert texts(daemon.data_dir, session) == TEXTS


def test_what_is_no_file_under_the_name_of_an_unknown_session_is_set_aside_and_stops_nothing(
    daemon: RunningDaemon, session: str
) -> None:
    os.mkfifo(file_of(daemon, "01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    file_of(daemon, "01ARZ3NDEKTSV4RRFFQ69G5FAW").mkdir()

    assert recovery(daemon) == {"files_quarantined": 2}
    assert all(".no-file-" in name for name in quarantined(daemon))
    assert texts(daemon.data_dir, session) == TEXTS


def test_an_unknown_file_is_taken_in_up_to_its_last_whole_line(daemon: RunningDaemon, session: str) -> None:
    other = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    content = file_of(daemon, session).read_bytes().replace(session.encode(), other.encode())
    file_of(daemon, other).write_bytes(content[:-40])

    assert recovery(daemon)["sessions_taken_in"] == 1
    assert texts(daemon.data_dir, other) == TEXTS[:-1]
    assert lines_in_file(file_of(daemon, other))[2] is not None


def test_recovery_run_twice_changes_nothing_more(daemon: RunningDaemon, session: str) -> None:
    path = file_of(daemon, session)
    os.truncate(path, path.stat().st_size - 100)
    recovery(daemon)
    content = path.read_bytes()
    daemon.kill()

    assert recovery(daemon) == {}
    assert path.read_bytes() == content


def test_a_sealed_file_is_known_to_be_whole_and_not_read_again(daemon: RunningDaemon, session: str) -> None:
    daemon.start()
    daemon.peer().call("end", session=session)
    daemon.stop()

    with closing(sqlite3.connect(daemon.data_dir / "sessiond.db")) as connection:
        query = "SELECT sealed, synced_seq, synced_bytes FROM session"
        assert connection.execute(query).fetchone() == (1, 20, file_of(daemon, session).stat().st_size)


def test_a_reader_of_another_process_does_not_hold_up_the_start(daemon: RunningDaemon, session: str) -> None:
    with closing(sqlite3.connect(f"file:{daemon.data_dir / 'sessiond.db'}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()

        recovery(daemon)

        assert daemon.peer().append(session, "on")["first"] == 20
        reader.rollback()
    check(daemon.data_dir)


def test_a_newer_schema_is_refused_with_one_clear_line(daemon: RunningDaemon, session: str) -> None:
    change_database(daemon, "PRAGMA user_version = 99")

    with pytest.raises(AssertionError):
        daemon.start()

    assert daemon.process.wait(15) == 78
    last = daemon.log_text().splitlines()[-1]
    assert "has schema 99" in last
    assert "install the version of sessiond that wrote it" in last


def test_a_file_that_cannot_be_written_lags_and_catches_up(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    session = peer.start(owner_pid=0)
    peer.append(session, "a")
    path = file_of(daemon, session)
    os.truncate(path, 10)

    daemon.restart()
    peer = daemon.peer()
    moved = path.with_suffix(".moved")
    path.rename(moved)
    reply = peer.append(session, "b")

    assert reply["first"] == 1
    follower = daemon.peer()
    while peer.call("status")["lagging_files"]:
        follower.call("ping")
    check(daemon.data_dir)
    assert texts(daemon.data_dir, session) == ["a", "b"]


def test_the_digest_can_be_checked_without_any_tool_of_ours(daemon: RunningDaemon, session: str) -> None:
    import subprocess

    daemon.start()
    ended = daemon.peer().call("end", session=session)["session"]
    command = 'sed \'1d;$d\' "$1" | grep -v \'^{"type":"amend"\' | sha256sum'

    output = subprocess.run(
        ["sh", "-c", command, "sh", str(file_of(daemon, session))], capture_output=True, text=True
    ).stdout

    assert (
        output.split()[0]
        == ended["digest"]
        == json.loads(file_of(daemon, session).read_text().splitlines()[-1])["digest"]
    )
