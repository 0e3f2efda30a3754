"""`sessionctl verify`: what it shows, and how it ends."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.cli.conftest import Sessionctl
from tests.running import RunningDaemon


@pytest.fixture
def session(daemon: RunningDaemon) -> str:
    """A session that has ended, and whose file has followed its new name, so that it is on disk."""
    peer = daemon.peer()
    session = peer.start(name="nightly", owner_pid=0)
    peer.append(session, "one", "two")
    peer.call("end", session=session)
    peer.call("rename", session=session, name="weekly")
    return session


def file_of(daemon: RunningDaemon, session: str) -> Path:
    return daemon.data_dir / "sessions" / f"{session}.ndjson"


def test_a_sound_store_is_told_in_one_line(sessionctl: Sessionctl, session: str) -> None:
    line = sessionctl.out("verify")

    assert line.startswith("compared 1 session, 2 events, ")
    assert line.endswith(": all is well\n")
    assert sessionctl.out("verify", "weekly") == line


def test_a_fault_is_shown_with_what_mends_it_and_the_exit_code_is_1(
    sessionctl: Sessionctl, daemon: RunningDaemon, session: str
) -> None:
    path = file_of(daemon, session)
    path.write_bytes(path.read_bytes().replace(b"two", b"Two"))

    result = sessionctl("verify")

    assert result.returncode == 1
    first, second, third, last = result.stdout.decode().splitlines()
    assert first.startswith(f"line_differs  {path}, byte ")
    assert second.startswith(f"    session {session}: ")
    assert third.startswith(f"    -> stop the daemon, then `sessiond rebuild --session {session}` ")
    assert last.endswith(": 1 fault")
    assert sessionctl("verify", "@last").returncode == 1


def test_json_is_one_object_a_line_and_a_summary(
    sessionctl: Sessionctl, daemon: RunningDaemon, session: str
) -> None:
    assert sessionctl.json("verify") == [
        {
            "type": "summary",
            "sessions": 1,
            "events": 2,
            "bytes": sessionctl.json("stats")[0]["event_bytes"],
            "faults": 0,
            "lagging": [],
        }
    ]
    file_of(daemon, session).unlink()

    fault, summary = map(json.loads, sessionctl("verify", "--json").stdout.splitlines())

    assert (fault["type"], fault["code"], fault["session"]) == ("fault", "file_missing", session)
    assert summary["faults"] == 1


def test_an_unknown_session_is_not_found(sessionctl: Sessionctl, session: str) -> None:
    assert sessionctl("verify", "nowhere").returncode == 4


def test_the_name_of_a_strange_file_is_escaped(
    sessionctl: Sessionctl, daemon: RunningDaemon, session: str
) -> None:
    (daemon.data_dir / "sessions" / "\x1b[31m.ndjson").touch()

    result = sessionctl("verify")

    assert result.returncode == 1
    assert b"file_unknown" in result.stdout
    assert b"\x1b" not in result.stdout


def test_a_row_that_says_nothing_is_missing_from_a_list_that_says_so_and_verify_names_it(
    sessionctl: Sessionctl, daemon: RunningDaemon, session: str
) -> None:
    other = daemon.peer().start(owner_pid=0)
    with closing(apsw.Connection(str(daemon.data_dir / "sessiond.db"))) as database:
        database.execute("UPDATE session SET meta = 'x' WHERE ulid = ?", (session,))

    listed = sessionctl("list")
    shown = sessionctl("show", session)
    result = sessionctl("verify")

    assert listed.returncode == 0
    assert other in listed.stdout.decode()
    assert session not in listed.stdout.decode()
    words = "sessionctl: 1 session cannot be read, and left out; `sessionctl verify` says what mends that\n"
    assert listed.stderr.decode() == words
    assert shown.returncode != 0
    assert "`sessionctl verify` says where, and what mends it" in shown.stderr.decode()
    assert "-> stop the daemon, then `sessiond rebuild` sets the database aside" in result.stdout.decode()
