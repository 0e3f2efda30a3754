"""A file that is longer than memory should have to be: no more than a part of it is read at a time."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.storage.directory import DataDirectory
from sessiond.storage.repair.rebuilding import settle_all
from tests import checker

SESSION = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
AT = "2026-01-01T00:00:00.000000Z"
EVENTS = 1600
TEXT = "x" * 10_000
MEMORY_MAX = 8 * 1024 * 1024
"""Of what Python allots; the file has twice as much."""


def encoded(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def long_file() -> bytes:
    """A session that has ended."""
    header = encoded(type="header", version=3, id=SESSION, name="long", source="app", started_at=AT, tags=[])
    events = [encoded(type="event", seq=seq, kind="output", at=AT, text=TEXT) for seq in range(EVENTS)]
    footer = encoded(
        type="footer", ended_at=AT, status="completed", end_reason="stopped", exit_code=0, command_count=0,
        event_count=EVENTS, digest=hashlib.sha256(b"".join(events)).hexdigest(),
    )  # fmt: skip
    return header + b"".join(events) + footer


@contextmanager
def in_parts() -> Iterator[None]:
    """No more than a part of the file is in memory inside."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_MAX


def opened(path: Path) -> dict[str, int]:
    """Start on a directory; what was repaired."""
    with in_parts():
        directory = DataDirectory.open(path, Clock())
    directory.close()
    checker.check(path)
    return directory.recovery.counters


def forget(path: Path, *statements: str) -> None:
    """Let the database have an older state."""
    import apsw

    connection = apsw.Connection(str(path / "sessiond.db"))
    for statement in (*statements, "UPDATE session SET sealed = 0, synced_bytes = 0, synced_seq = 0"):
        connection.execute(statement)
    connection.close()


def gone(path: Path) -> None:
    (path / "sessions" / f"{SESSION}.ndjson").unlink()
    forget(path)


def older(path: Path) -> None:
    forget(
        path,
        "DELETE FROM event WHERE seq >= 100",
        "UPDATE session SET next_seq = 100, status = 'recording', ended_at = NULL, end_reason = NULL,"
        " digest = NULL, byte_count = (SELECT sum(length(line) + 1) FROM event)",
    )


def changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    file = path / "sessions" / f"{SESSION}.ndjson"
    file.write_bytes(change(file.read_bytes()))
    forget(path)


def older_and_torn(path: Path) -> None:
    changed(path, lambda whole: whole[:-500] + b"\0" * 500)
    older(path)


DAMAGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "nothing": (lambda path: changed(path, lambda whole: whole), set()),
    "cut": (lambda path: changed(path, lambda whole: whole[:5_000_000]), {"torn_tails_rewritten"}),
    "torn": (
        lambda path: changed(path, lambda whole: whole[:3_000_000] + (b"?" * 999 + b"\n") * 9000),
        {"torn_tails_rewritten", "orphans_kept"},
    ),
    "blank": (
        lambda path: changed(path, lambda whole: whole[:3_000_000] + bytes(9_000_000)),
        {"torn_tails_rewritten"},
    ),
    "other": (
        lambda path: changed(
            path, lambda whole: whole.replace(b'"seq":999,"kind":"o', b'"seq":999,"kind":"O')
        ),
        {"conflicts_rebuilt", "files_quarantined"},
    ),
    "gone": (gone, {"files_recreated"}),
    "older": (older, {"files_adopted", "events_adopted"}),
    "older and torn": (
        older_and_torn,
        {"files_adopted", "events_adopted", "torn_tails_rewritten", "orphans_kept"},
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that has taken the file in."""
    path: Path = tmp_path_factory.mktemp("long") / "data"
    (path / "sessions").mkdir(mode=0o700, parents=True)
    (path / "sessions" / f"{SESSION}.ndjson").write_bytes(long_file())

    assert opened(path) == {"sessions_taken_in": 1, "events_adopted": EVENTS}
    return path


def test_a_long_file_follows_its_name_part_by_part(whole: Path) -> None:
    forget(whole, "UPDATE session SET name = 'longer', unsettled = 1")

    with in_parts(), closing(DataDirectory.open(whole, Clock())) as directory:
        settle_all(directory, Clock())

    checker.check(whole)


def test_a_long_file_is_mended_part_by_part(whole: Path) -> None:
    file = whole / "sessions" / f"{SESSION}.ndjson"
    right = file.read_bytes()

    for name, (damage, counted) in DAMAGES.items():
        damage(whole)

        assert opened(whole).keys() == counted, name
        assert name == "older and torn" or file.read_bytes() == right, name
