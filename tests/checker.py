"""Compares the two stores of a data directory, with nothing but `sqlite3`, `json` and `hashlib`."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

SETTLE_SECONDS_MAX = 30
"""So long a daemon may take to move a file to where it belongs."""


def lines_in_database(data_dir: Path) -> dict[str, list[bytes]]:
    """The event lines of each session, by ULID, as the database has them."""
    found: dict[str, list[bytes]] = {}
    # Not immutable: the write-ahead log must be read too.
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        for (ulid,) in connection.execute("SELECT ulid FROM session"):
            found[ulid] = []
        query = (
            "SELECT ulid, seq, line FROM event JOIN session s ON s.id = session_id ORDER BY session_id, seq"
        )
        for ulid, seq, line in connection.execute(query):
            assert seq == len(found[ulid]), f"gap or duplicate in the database: {ulid} at {seq}"
            found[ulid].append(line.encode())
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return found


def lines_in_file(path: Path) -> tuple[dict[str, Any], list[bytes], dict[str, Any] | None]:
    """Header, event lines and footer of one file."""
    header, lines, _, footer = parts_of_file(path)
    return header, lines, footer


def parts_of_file(
    path: Path,
) -> tuple[dict[str, Any], list[bytes], list[dict[str, Any]], dict[str, Any] | None]:
    """Header, event lines, amendments and footer of one file."""
    content = path.read_bytes()
    assert content.endswith(b"\n"), f"{path} ends with a torn line"
    header, *lines = content.split(b"\n")[:-1]
    footer = None
    if lines and json.loads(lines[-1])["type"] == "footer":
        footer = json.loads(lines.pop())
    decoded = [(line, json.loads(line)) for line in lines]
    amends = [record for _, record in decoded if record["type"] == "amend"]
    return json.loads(header), [line for line, record in decoded if record["type"] != "amend"], amends, footer


def facts_in_database(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What the database says of each session besides its events, by ULID."""
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        found = {}
        for row in connection.execute("SELECT * FROM session"):
            query = "SELECT tag FROM tag WHERE session_id = ? ORDER BY position"
            tags = [tag for (tag,) in connection.execute(query, (row["id"],))]
            found[row["ulid"]] = {**dict(row), "tags": tags}
        return found


def mismatches(data_dir: Path) -> Iterator[str]:
    """Every difference between the files and the database, and every broken rule within a file."""
    stored = lines_in_database(data_dir)
    facts = facts_in_database(data_dir)
    files = {path.stem: path for path in (data_dir / "sessions").glob("*.ndjson")}
    trash = {path.stem: path for path in (data_dir / "trash").glob("*.ndjson")}
    yield from (f"{ulid}: in the list and in the trash" for ulid in files.keys() & trash.keys())
    for ulid, fact in facts.items():
        if fact["shelf"] not in ("kept", "trashed"):
            yield f"{ulid}: half of it is there ({fact['shelf']})"
        elif not fact["unsettled"] and ulid not in (trash if fact["shelf"] == "trashed" else files):
            yield f"{ulid}: not where it should be"
    files |= trash
    yield from (f"{ulid}: no file" for ulid in stored.keys() - files.keys())
    yield from (f"{ulid}: not in the database" for ulid in files.keys() - stored.keys())
    for ulid in stored.keys() & files.keys():
        yield from _file_mismatches(ulid, files[ulid], stored[ulid], facts[ulid])
    yield from state_mismatches(data_dir)


def _file_mismatches(ulid: str, path: Path, stored: list[bytes], facts: dict[str, Any]) -> Iterator[str]:
    header, lines, amends, footer = parts_of_file(path)
    if header["id"] != ulid:
        yield f"{ulid}: header says {header['id']}"
    if lines != stored:
        yield f"{ulid}: file has {len(lines)} events, database {len(stored)}, or their bytes differ"
    if [json.loads(line)["seq"] for line in lines] != list(range(len(lines))):
        yield f"{ulid}: gap or duplicate in the file"
    digest = hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    if footer is not None and (footer["digest"], footer["event_count"]) != (digest, len(lines)):
        yield f"{ulid}: footer does not match"
    if not facts["unsettled"]:
        called = {"name": header["name"], "tags": header["tags"]}
        for amend in amends:
            called |= {key: value for key, value in amend.items() if key in called}
        if called != {"name": facts["name"], "tags": facts["tags"]}:
            yield f"{ulid}: the file says {called}, the database {facts['name']} {facts['tags']}"
        if amends and facts["sealed"]:
            yield f"{ulid}: a sealed file with amend lines"


def state_mismatches(data_dir: Path) -> Iterator[str]:
    """Differences between state.ndjson and the labels and milestones in the database."""
    labels: dict[str, str] = {}
    milestones: dict[str, str] = {}
    path = data_dir / "state.ndjson"
    for line in path.read_text().split("\n")[:-1] if path.exists() else []:
        record = json.loads(line)
        if record["type"] == "milestone":
            milestones[record["key"]] = record["value"]
        elif record["session"] is None:
            labels.pop(record["label"], None)
        else:
            labels[record["label"]] = record["session"]
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT label, ulid FROM label JOIN session ON session.id = session_id"
        stored = dict(connection.execute(query))
        if labels != stored:
            yield f"state.ndjson has the labels {labels}, the database {stored}"
        stored = dict(connection.execute("SELECT key, value FROM milestone"))
        if milestones != stored:
            yield f"state.ndjson has the milestones {milestones}, the database {stored}"


def check(data_dir: Path) -> None:
    """Fails unless files and database say the same, byte for byte.

    The files of ended sessions follow what was changed of them: what is found while a daemon is about to move
    or rewrite one is looked at again once it has.
    """
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        were_following = _follow(data_dir)
        try:
            found = list(mismatches(data_dir))
        except FileNotFoundError as gone:
            found = [f"moved between the look and the reading: {gone}"]
        if not found:
            return
        assert were_following or _follow(data_dir), found
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


def _follow(data_dir: Path) -> bool:
    """Whether the file of a session that has ended is not where and what it is to be yet."""
    facts = facts_in_database(data_dir).values()
    return any(fact["unsettled"] and fact["status"] != "recording" for fact in facts)


def texts(data_dir: Path, ulid: str) -> list[str]:
    """The texts of a session's events, from its file."""
    return [
        json.loads(line).get("text") for line in lines_in_file(data_dir / "sessions" / f"{ulid}.ndjson")[1]
    ]
