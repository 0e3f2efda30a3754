"""What comes for a session while it is purged is refused, and costs nobody else anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.checker import check
from tests.cli.conftest import Sessionctl
from tests.peer import Peer
from tests.running import RunningDaemon

ULID = "01M7AAAA000000000000000001"
PRODUCER = "01M7PPPPPPPPPPPPPPPPPPPPPP"
EVENT = {"kind": "note", "text": "new"}


def begun(peer: Peer) -> None:
    peer.start(ulid=ULID, owner_pid=0)
    peer.append(ULID, "old")


def answers(peer: Peer, count: int) -> dict[int, dict[str, Any]]:
    return {reply["id"]: reply for reply in (peer.receive() for _ in range(count))}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("end", {}),
        ("restore", {}),
        ("delete", {"force": True}),
        ("append", {"events": [EVENT]}),
        ("rename", {"name": "other"}),
        ("tag", {"add": ["other"]}),
        ("label", {"label": "other"}),
        ("fork", {}),
    ],
)
def test_a_session_that_is_being_purged_is_not_there(
    daemon: RunningDaemon, kind: str, fields: dict[str, Any]
) -> None:
    peer = daemon.peer()
    begun(peer)

    peer.send("delete", id=1, session=ULID, purge=True, force=True)
    peer.send(kind, id=2, session=ULID, **fields)
    replies = answers(peer, 2)

    assert (replies[1]["type"], replies[2].get("code")) == ("deleted", "not_found")
    assert daemon.peer().call("ping")["type"] == "pong"
    check(daemon.data_dir)


@pytest.mark.parametrize("kind", ["start", "fork"])
def test_the_id_of_a_session_that_is_being_purged_is_busy(daemon: RunningDaemon, kind: str) -> None:
    peer = daemon.peer(producer=PRODUCER)
    parent = peer.start(owner_pid=0)
    begun(peer)
    fields = {"session": parent} if kind == "fork" else {}

    purge = {"type": "delete", "id": 1, "session": ULID, "purge": True, "force": True}
    again = {"type": kind, "id": 2, "ulid": ULID, "owner_pid": 0, **fields}
    # In one piece: the daemon reads both before it can have removed anything.
    peer.send_bytes(b"".join(json.dumps(message).encode() + b"\n" for message in (purge, again)))
    replies = answers(peer, 2)

    assert (replies[1]["type"], replies[2].get("code")) == ("deleted", "busy")
    assert peer.call(kind, ulid=ULID, owner_pid=0, **fields)["type"] == "started"
    check(daemon.data_dir)


def test_what_was_to_be_synced_of_a_purged_session_is_not_taken_for_the_next_of_its_id(
    daemon: RunningDaemon,
) -> None:
    header = {"ulid": ULID, "name": "n", "source": "app", "started_at": "2026-01-01T00:00:00Z"}
    peer = daemon.peer()
    for _ in range(20):
        begun(peer)
        peer.call("delete", session=ULID, purge=True, force=True)
        saved = peer.call("save", header=header, events=[EVENT])
        assert saved["session"]["event_count"] == 1
        assert peer.call("delete", session=ULID)["type"] == "deleted"
        check(daemon.data_dir)
        assert peer.call("delete", session=ULID, purge=True)["type"] == "deleted"
    assert peer.call("status")["lagging_files"] == []


def test_who_purges_is_told_what_cannot_be_removed_yet_and_the_rest_goes_by_itself(
    daemon: RunningDaemon, home: Path
) -> None:
    peer = daemon.peer(producer=PRODUCER)
    begun(peer)
    peer.call("end", session=ULID)
    file = daemon.data_dir / "sessions" / f"{ULID}.ndjson"
    copy = home / file.name
    file.rename(copy)
    (file / "in the way").mkdir(parents=True)

    refused = [peer.call("delete", session=ULID, purge=True) for _ in range(2)]
    others = [peer.call("start", ulid=ULID), peer.call("adopt", path=str(copy))]
    seen = [peer.call("get", session=ULID)["session"], peer.call("delete", session=ULID).get("code")]
    other = peer.start(owner_pid=0)
    elsewhere = peer.call("delete", session=other, purge=True, force=True)
    shutil.rmtree(file)
    removed = peer.call("delete", session=ULID, purge=True)

    assert [reply["code"] for reply in [*refused, *others]] == ["busy"] * 4
    assert "gone for everybody" in refused[0]["message"]
    assert "its file cannot be removed" in refused[0]["message"]
    assert seen == [None, "not_found"]
    assert elsewhere["type"] == "deleted"
    assert (removed["type"], removed.get("code")) in [("deleted", None), ("error", "not_found")]
    assert peer.call("adopt", path=str(copy))["type"] == "saved"
    assert "Traceback" not in daemon.log_text()
    check(daemon.data_dir)


def test_the_command_says_what_is_left_of_a_purge(daemon: RunningDaemon) -> None:
    peer = daemon.peer()
    begun(peer)
    peer.call("end", session=ULID)
    file = daemon.data_dir / "sessions" / f"{ULID}.ndjson"
    file.unlink()
    (file / "in the way").mkdir(parents=True)

    failed = Sessionctl(daemon.environ)("delete", ULID, "--purge", "--force")

    assert failed.returncode == 1
    assert failed.stdout.decode().startswith("failed ")
    assert "gone for everybody" in failed.stdout.decode()
    assert "goes by itself" in failed.stdout.decode()
