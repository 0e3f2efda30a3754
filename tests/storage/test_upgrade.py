"""A database of the first schema, with a session that is still recording, under the present version."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from sessiond.storage.database import migrations
from sessiond.storage.encoding import encode_events, header_line
from sessiond_client.wire.messages import NewEvent, Session, Source, Status
from tests import checker
from tests.crash.damaged import AT, OPEN, TEXTS, appended, commit, ended, faults, opened

SYNCED = 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """As a daemon of the first schema leaves it when it is killed: the file lacks the last event."""
    header = header_line(
        Session(
            ulid=OPEN,
            name="old",
            source=Source.APP,
            status=Status.RECORDING,
            started_at="2025-11-21T09:24:31.123456Z",
        )
    )
    events = [NewEvent(kind="prompt", text=text) for text in TEXTS]
    lines = encode_events(events, 0, 0, AT).data.splitlines(keepends=True)
    path = tmp_path / "data"
    os.umask(0o077)
    (path / "sessions").mkdir(parents=True)
    (path / "sessions" / f"{OPEN}.ndjson").write_bytes(header + b"\n" + b"".join(lines[:-1]))
    with closing(apsw.Connection(str(path / "sessiond.db"))) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(migrations()[0])
        database.execute("PRAGMA user_version = 1")
        database.execute(
            "INSERT INTO session (id, ulid, name, source, status, started_at, header, next_seq, byte_count,"
            " last_event_at, synced_bytes, synced_seq) VALUES (1, ?, 'old', 'app', 'recording', ?, ?, ?, ?,"
            " ?, ?, ?)",
            (
                OPEN, AT, header.decode(), len(lines), sum(map(len, lines)), AT,
                len(header) + 1 + len(lines[0]), SYNCED,
            ),
        )  # fmt: skip
        database.executemany(
            "INSERT INTO event (session_id, seq, kind, at, line) VALUES (1, ?, 'prompt', ?, ?)",
            [(seq, AT, line[:-1].decode()) for seq, line in enumerate(lines)],
        )
    return path


def test_a_session_that_records_goes_on_after_the_upgrade_of_its_database(path: Path) -> None:
    with opened(path) as (directory, store):
        assert dict(directory.recovery.counters) == {"tails_completed": 1}
        commit(store, appended(OPEN, "four"), ended(OPEN))

    assert faults(path) == []
    checker.check(path)
    assert checker.texts(path, OPEN) == [*TEXTS, "four"]
    copy = path / f"sessiond.db.before-schema-{len(migrations())}"
    with closing(apsw.Connection(str(copy))) as database:
        assert database.execute("PRAGMA user_version").get == 1
        assert database.execute("SELECT count(*) FROM event").get == len(TEXTS)


def test_a_check_leaves_an_older_database_to_the_daemon(path: Path) -> None:
    from sessiond.errors import StartupRefused

    with pytest.raises(StartupRefused, match="start the daemon once"):
        faults(path)
