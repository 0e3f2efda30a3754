"""Says what is wrong with a data directory that was recovered; knows the formats and nothing of the project.

It has the files as bytes and reads them with `sqlite3`, `json` and `hashlib` alone. The one rule: it believes
nothing that one of the two stores says before the other has said the same.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

DATA = "/data/"
WAL_MODE, ROLLBACK_MODE = b"\x02\x02", b"\x01\x01"
MODE_AT = slice(18, 20)
"""Where a database says which journal it has; a copy in memory cannot have a log of its own."""

State = dict[str, Any]


SET_ASIDE = (".orphan-", ".alone-", "/state.ndjson.unreadable-")
"""What may come into the quarantine: what was never answered, a log without its database, and labels and
milestones that the disk did not give; the database has them."""


def violations(content: dict[str, bytes], allowed: list[State]) -> list[str]:
    """Everything that is wrong with these files; `allowed` are the states that would be right."""
    files = {path.removeprefix(DATA): data for path, data in content.items() if path.startswith(DATA)}
    with closing(sqlite3.connect(":memory:")) as database:
        database.row_factory = sqlite3.Row
        image = bytearray(files["sessiond.db"])
        assert image[MODE_AT] == WAL_MODE
        image[MODE_AT] = ROLLBACK_MODE
        database.deserialize(bytes(image))
        try:
            state = _state(database)
            found = list(_differences(database, files, state))
        except (sqlite3.DatabaseError, ValueError, KeyError) as error:
            return [f"mismatch: it cannot be read: {error!r}"]
    if state not in allowed:
        found += _explained(state, allowed)
    return found


def _state(database: sqlite3.Connection) -> State:
    """What the database says there is."""
    sessions: dict[str, Any] = {}
    for row in database.execute("SELECT id, ulid, name, status, shelf FROM session WHERE shelf != 'purged'"):
        tags = database.execute("SELECT tag FROM tag WHERE session_id = ? ORDER BY position", (row["id"],))
        sessions[row["ulid"]] = {
            "name": row["name"],
            "tags": [tag for (tag,) in tags],
            "status": row["status"],
            "shelf": row["shelf"],
            "texts": [_text(json.loads(line)) for _, line in _events(database, row["id"])],
        }
    labels = database.execute("SELECT label, ulid FROM label JOIN session ON session.id = session_id")
    milestones = database.execute("SELECT key, value FROM milestone")
    return {
        "sessions": sessions,
        "labels": dict(labels.fetchall()),
        "milestones": dict(milestones.fetchall()),
    }


def _text(record: dict[str, Any]) -> str:
    return str(record["command"] if record["type"] == "command" else record["text"])


def _events(database: sqlite3.Connection, row_id: int) -> list[tuple[int, bytes]]:
    sql = "SELECT seq, line FROM event WHERE session_id = ? ORDER BY seq"
    return [(seq, line.encode()) for seq, line in database.execute(sql, (row_id,))]


def _differences(database: sqlite3.Connection, files: dict[str, bytes], state: State) -> Iterator[str]:
    """Where the two stores differ, and where one of them breaks a rule of its own."""
    if (said := database.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        yield f"mismatch: the database is damaged: {said}"
    sessions = {
        path: data for path, data in files.items() if path.startswith(("sessions/", "trash/"))
    }  # and what is left of them must be gone
    for row in database.execute("SELECT * FROM session"):
        folder = {"kept": "sessions", "trashed": "trash"}.get(row["shelf"])
        content = sessions.pop(f"{folder}/{row['ulid']}.ndjson", None)
        if folder is None or content is None or row["unsettled"]:
            yield f"mismatch: {row['ulid']} is {row['shelf']}, unsettled {row['unsettled']}, without its file"
        else:
            for what in _file_differences(row, content, database):
                yield f"{what} ({row['ulid']})"
    yield from (f"mismatch: {path} belongs to nobody" for path in sessions)
    yield from (
        f"mismatch: {path} was set aside"
        for path in files
        if path.startswith("quarantine/") and not any(reason in path for reason in SET_ASIDE)
    )
    yield from _state_file_differences(state, files.get("state.ndjson", b""))


def _file_differences(row: sqlite3.Row, content: bytes, database: sqlite3.Connection) -> Iterator[str]:
    stored = _events(database, row["id"])
    if [seq for seq, _ in stored] != list(range(row["next_seq"])):
        yield f"gap: the database has {[seq for seq, _ in stored]}, and {row['next_seq']} comes next"
    if not content.endswith(b"\n"):
        yield "mismatch: the file ends in the middle of a line"
        return
    header, *lines = content[:-1].split(b"\n")
    records = [json.loads(line) for line in lines]
    footer = records.pop() if records and records[-1]["type"] == "footer" else None
    events = [line for line, record in zip(lines, records, strict=False) if record["type"] != "amend"]
    if events != [line for _, line in stored]:
        yield f"mismatch: the file has {len(events)} events, the database {len(stored)}, or other bytes"
    if header.decode() != row["header"] or json.loads(header)["id"] != row["ulid"]:
        yield "mismatch: another header"
    data = b"".join(line + b"\n" for line in events)
    if len(data) != row["byte_count"]:
        yield f"mismatch: {len(data)} bytes of events, the database says {row['byte_count']}"
    yield from _end_differences(row, footer, data, len(events))
    called = json.loads(header)
    amends = [record for record in records if record["type"] == "amend"]
    for amend in amends:
        called |= {key: value for key, value in amend.items() if key in ("name", "tags")}
    tags = database.execute("SELECT tag FROM tag WHERE session_id = ? ORDER BY position", (row["id"],))
    if (called["name"], called["tags"]) != (row["name"], [tag for (tag,) in tags]):
        yield f"mismatch: the file says {called['name']}, {called['tags']}"
    if row["sealed"] and amends:
        yield "mismatch: a sealed file with amend lines"


def _end_differences(
    row: sqlite3.Row, footer: dict[str, Any] | None, data: bytes, count: int
) -> Iterator[str]:
    if (footer is None) != (row["status"] == "recording"):
        yield f"mismatch: {row['status']}, and the footer is {footer}"
    elif footer is not None:
        digest = hashlib.sha256(data).hexdigest()
        if (footer["digest"], footer["event_count"]) != (digest, count) or row["digest"] != digest:
            yield "mismatch: the digest or the count is not that of the events"


def _state_file_differences(state: State, content: bytes) -> Iterator[str]:
    labels: dict[str, str] = {}
    milestones: dict[str, str] = {}
    for record in map(json.loads, content.splitlines()):
        if record["type"] == "milestone":
            milestones[record["key"]] = record["value"]
        elif record["session"] is None:
            labels.pop(record["label"], None)
        else:
            labels[record["label"]] = record["session"]
    if (labels, milestones) != (state["labels"], state["milestones"]):
        yield f"mismatch: state.ndjson says {labels} {milestones}"


def _explained(state: State, allowed: list[State]) -> list[str]:
    """In which way a state is not the nearest one allowed."""
    return min((list(_compared(state, other)) for other in allowed), key=len)


def _compared(state: State, promised: State) -> Iterator[str]:
    for ulid in promised["sessions"].keys() | state["sessions"].keys():
        there, right = state["sessions"].get(ulid), promised["sessions"].get(ulid)
        if there is None or right is None:
            yield f"{'lost' if there is None else 'mismatch'}: session {ulid}, it should be {right}"
            continue
        counted = Counter(there["texts"])
        yield from (f"lost: {text[:20]} of {ulid}" for text in right["texts"] if text not in counted)
        yield from (f"duplicate: {text[:20]} of {ulid}" for text in counted if counted[text] > 1)
        if there != right:
            facts = {key: (there[key], right[key]) for key in there if there[key] != right[key]}
            texts = facts.pop("texts", ([], []))
            yield f"mismatch: {ulid} has {len(texts[0])} instead of {len(texts[1])} events, {facts}"
    for what in ("labels", "milestones"):
        if state[what] != promised[what]:
            yield f"lost: {what} are {state[what]} instead of {promised[what]}"
