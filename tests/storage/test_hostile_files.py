"""Files that nobody should have written, or removed: the daemon starts, serves, and keeps them aside."""

from __future__ import annotations

import json

import pytest

from tests.checker import check, lines_in_database, texts
from tests.running import RunningDaemon
from tests.storage.test_recovery import TEXTS, change_database, file_of, quarantined, recovery, session

__all__ = ["session"]


ULID = "01M7AAAA000000000000000001"
PARENT = "01M7PPPPPPPPPPPPPPPPPPPPPP"
HEADER = {"type": "header", "version": 3, "id": ULID, "name": "n", "source": "app", "tags": []}
HEADER |= {"started_at": "2026-01-01T00:00:00Z"}
EVENT = {"type": "event", "seq": 0, "kind": "note", "at": "2026-01-01T00:00:00Z", "text": "a"}
FAR = "9999-12-31T23:59:59-23:59"


@pytest.mark.parametrize("shelf", ["sessions", "trash"])
@pytest.mark.parametrize(
    ("lines", "events"),
    [
        ([{**HEADER, "started_at": FAR}, EVENT], None),
        ([{**HEADER, "parent_ulid": PARENT, "parent_seq": 1 << 63}, EVENT], None),
        ([HEADER, EVENT, {**EVENT, "seq": 1, "at": FAR}], 1),
        ([HEADER, EVENT, b'{"type":"event","seq":1,"kind":"a","at":"2026-01-01T00:00:00Z","x":"\xff"}'], 1),
        ([HEADER, EVENT, {"type": "footer", "ended_at": FAR, "status": "completed"}], 1),
        ([HEADER, {**EVENT, "seq": 1 << 80}], 0),
    ],
)
def test_no_file_of_an_unknown_session_keeps_the_daemon_from_starting(
    daemon: RunningDaemon, shelf: str, lines: list[object], events: int | None
) -> None:
    known = daemon.peer().start(owner_pid=0)
    daemon.stop()
    encoded = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    (daemon.data_dir / shelf / f"{ULID}.ndjson").write_bytes(b"".join(line + b"\n" for line in encoded))

    recovery(daemon)

    stored = lines_in_database(daemon.data_dir)
    assert stored.pop(known) == []
    assert [len(each) for each in stored.values()] == ([] if events is None else [events])
    assert quarantined(daemon)


def test_bytes_that_are_no_text_in_a_field_nobody_knows_are_kept_aside(
    daemon: RunningDaemon, session: str
) -> None:
    line = b'{"type":"event","seq":20,"kind":"a","at":"2026-01-01T00:00:00.000000Z","x":"\xff"}\n'
    with file_of(daemon, session).open("ab") as file:
        file.write(line)

    assert recovery(daemon) == {"orphans_kept": 1, "torn_tails_rewritten": 1}
    assert texts(daemon.data_dir, session) == TEXTS
    assert line in b"".join(path.read_bytes() for path in (daemon.data_dir / "quarantine").iterdir())


def test_the_file_of_a_deleted_session_that_was_never_synced_is_mended_into_the_trash(
    daemon: RunningDaemon,
) -> None:
    peer = daemon.peer()
    ulid = peer.start(owner_pid=0)
    peer.append(ulid, "kept")
    assert peer.call("delete", session=ulid, force=True)["type"] == "deleted"
    daemon.kill()
    change_database(daemon, "UPDATE session SET sealed = 0, unsettled = 0")
    trashed = daemon.data_dir / "trash" / f"{ulid}.ndjson"
    trashed.write_bytes(trashed.read_bytes()[:-20])

    daemon.start()
    while daemon.peer().call("status")["lagging_files"] or not trashed.exists():
        pass

    check(daemon.data_dir)
    assert trashed.read_bytes().endswith(b"}\n")


def test_labels_and_milestones_that_could_not_be_written_follow_by_themselves(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    peer.call("milestone_set", key="a", value="1")
    state = daemon.data_dir / "state.ndjson"
    aside = state.rename(daemon.home / "aside")
    state.mkdir()

    assert peer.call("milestone_set", key="b", value="2")["stored"]
    assert peer.call("status")["lagging_files"] == ["state.ndjson"]
    state.rmdir()
    aside.rename(state)
    while peer.call("status")["lagging_files"]:
        pass

    check(daemon.data_dir)
    assert '"key":"b"' in state.read_text()


def test_a_sealed_file_that_somebody_removed_is_written_again_with_the_next_change(
    daemon: RunningDaemon,
) -> None:
    peer = daemon.peer()
    ulid = peer.start(owner_pid=0)
    peer.append(ulid, "kept")
    peer.call("end", session=ulid)
    assert peer.call("rename", session=ulid, name="first")["type"] == "session"
    file_of(daemon, ulid).unlink()

    assert peer.call("rename", session=ulid, name="second")["type"] == "session"

    assert peer.call("status")["lagging_files"] == []
    check(daemon.data_dir)
    assert texts(daemon.data_dir, ulid) == ["kept"]
