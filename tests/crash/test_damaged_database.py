"""The database, its log and its index of the log, lost or damaged, and an old copy put back: the files bring
back every event."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import product
from pathlib import Path

import apsw
import pytest

from sessiond.clock import Clock
from sessiond.errors import StartupRefused
from sessiond.storage.commit.operations import DeleteSession, RenameSession, RestoreSession, TagSession
from sessiond.storage.disk import Disk
from sessiond.storage.repair.mending import Mending
from sessiond.storage.repair.rebuilding import rebuild
from sessiond.storage.store import Store
from tests import checker
from tests.crash.damaged import (
    AT,
    OPEN,
    SEALED,
    TEXTS,
    appended,
    commit,
    copied,
    ended,
    faults,
    make,
    opened,
    started,
)

PAGE_BYTES = 4096
LATER = "01CRZ3NDEKTSV4RRFFQ69G5FAV"
PARTS = ("sessiond.db", "sessiond.db-wal", "sessiond.db-shm")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory where there is one: no disk is cut off here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


def rebuilt(path: Path) -> None:
    rebuild(path, Clock(), lambda *_: None)


def everything(path: Path) -> dict[str, list[bytes]]:
    """The event lines of every session; files and database agree about them, and nothing else is wrong."""
    assert faults(path) == []
    checker.check(path)
    return checker.lines_in_database(path)


def killed(path: Path, target: Path) -> Path:
    """The directory of a daemon that is killed: its log is not in the database yet."""
    make(path)
    with opened(path) as (_, store):
        commit(store, appended(OPEN, "four", "five"))
        shutil.copytree(path, target)
    assert (target / "sessiond.db-wal").stat().st_size > 0
    return target


def damage(path: Path, dice: random.Random, pages: int = 1) -> None:
    """Overwrite pages that are there."""
    content = bytearray(path.read_bytes())
    for _ in range(pages):
        begin = dice.randrange(max(1, len(content) // PAGE_BYTES)) * PAGE_BYTES
        content[begin : begin + PAGE_BYTES] = dice.randbytes(min(PAGE_BYTES, len(content) - begin))
    path.write_bytes(content)


def test_random_pages_of_the_database_are_found_and_the_files_bring_back_every_event(place: Path) -> None:
    make(place / "data")
    lines = everything(place / "data")

    for seed in range(50):
        dice = random.Random(seed)
        path = copied(place / "data", place / "damaged")
        damage(path / "sessiond.db", dice, pages=dice.randint(1, 3))
        damaged = (path / "sessiond.db").read_bytes()

        assert "database_damaged" in {found.code for found in faults(path)}, seed
        rebuilt(path)

        assert everything(path) == lines, seed
        assert damaged in [each.read_bytes() for each in (path / "quarantine").iterdir()], seed
        assert checker.facts_in_database(path)[SEALED]["digest"]


@pytest.mark.parametrize("fates", list(product(("whole", "lost", "damaged"), repeat=3))[1:], ids="-".join)
def test_database_log_and_index_lost_or_damaged_in_any_combination_cost_no_event(
    place: Path, fates: tuple[str, ...]
) -> None:
    path = killed(place / "data", place / "killed")
    lines = everything(place / "data")
    dice = random.Random("-".join(fates))
    for name, fate in zip(PARTS, fates, strict=True):
        if fate == "lost":
            (path / name).unlink()
        elif fate == "damaged":
            damage(path / name, dice)

    if any(found.code == "database_damaged" for found in faults(path)):
        rebuilt(path)
    with opened(path):
        pass

    assert everything(path) == lines
    with closing(apsw.Connection(str(path / "sessiond.db"))) as database:
        assert database.execute("SELECT label FROM label").get == "release"
        assert database.execute("SELECT value FROM milestone").get == "8"


def test_any_bit_of_the_database_that_is_flipped_is_a_fault_at_most_and_ends_no_check(place: Path) -> None:
    make(place / "data")
    path = place / "data" / "sessiond.db"
    whole = path.read_bytes()
    dice = random.Random(8)
    heads = [page + offset for page in range(0, len(whole), PAGE_BYTES) for offset in range(0, 16, 3)]
    used = [offset for offset, byte in enumerate(whole) if byte]
    told: set[str] = set()

    for offset in heads + dice.sample(used, 120):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        with suppress(StartupRefused):  # of the version that the database says it has
            told |= {found.code for found in faults(path.parent)}

    assert {"database_damaged", "row_differs"} <= told


def put_back(path: Path, old: Path) -> None:
    """The old database under the newer files."""
    for name in PARTS:
        (path / name).unlink(missing_ok=True)
    shutil.copy(old / "sessiond.db", path / "sessiond.db")


def deleted(ulid: str) -> DeleteSession:
    return DeleteSession(session=ulid, force=False, purge=False, at=AT)


def since_then(store: Store) -> None:
    """A little of everything."""
    commit(store, appended(OPEN, "four"), RenameSession(session=OPEN, name="again", at=AT))
    commit(store, appended(OPEN, "five"), TagSession(session=OPEN, add=["x"], remove=["t"], at=AT))
    commit(store, started(LATER, "later"), appended(LATER, "six"), ended(LATER))


@pytest.mark.parametrize("synced", [True, False])
@pytest.mark.parametrize("fate", ["recording", "ended", "trashed"])
def test_an_old_copy_of_the_database_put_back_under_newer_files_takes_in_what_they_have(
    place: Path, fate: str, synced: bool
) -> None:
    path = place / "data"
    make(path, synced=synced)
    copied(path, place / "old")
    with opened(path) as (_, store):
        since_then(store)
        if fate != "recording":
            commit(store, ended(OPEN))
        if fate == "trashed":
            commit(store, *(deleted(ulid) for ulid in (OPEN, LATER)))
    settle(path)
    lines = checker.lines_in_database(path)
    assert len(lines[OPEN]) == len(TEXTS) + 2

    put_back(path, place / "old")
    mended(path)

    assert everything(path) == lines
    facts = checker.facts_in_database(path)
    assert (facts[OPEN]["name"], facts[OPEN]["tags"]) == ("again", ["x"])
    assert facts[OPEN]["status"] == ("recording" if fate == "recording" else "completed")
    if fate == "trashed":
        with opened(path) as (_, store):
            commit(store, RestoreSession(session=OPEN))
        settle(path)
        assert everything(path) == lines


def settle(path: Path) -> None:
    """Let the files follow, as a daemon does."""
    from sessiond.storage.repair.rebuilding import settle_all

    with opened(path) as (directory, _):
        settle_all(directory, Clock())


def mended(path: Path) -> None:
    """A start, and then what a check says."""
    with opened(path) as (directory, _):
        mending = Mending(directory, Clock())
        list(mending.sessions())
        mending.rest()
    settle(path)


def test_a_log_without_its_database_is_kept(place: Path) -> None:
    path = killed(place / "data", place / "killed")
    log = (path / "sessiond.db-wal").read_bytes()
    (path / "sessiond.db").unlink()

    with opened(path):
        pass

    kept = [
        each for each in (path / "quarantine").iterdir() if each.name.startswith("sessiond.db-wal.alone-")
    ]
    assert [each.read_bytes() for each in kept] == [log]


def test_a_check_leaves_no_trace_and_sees_what_is_only_in_the_log(place: Path) -> None:
    path = killed(place / "data", place / "killed")
    for gone in ((), ("sessiond.db-shm",)):
        for name in gone:
            (path / name).unlink()
        before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
        contents = {each: each.read_bytes() for each in before if each.is_file()}

        assert faults(path) == []

        assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before
        assert {each: each.read_bytes() for each in contents} == contents


FLIPS = 40
SQL_DAMAGE = {
    "a status that is none": "UPDATE session SET status = 'bogus'",
    "meta that is none": "UPDATE session SET meta = 'x', env = 'y'",
    "a header that is none": "UPDATE session SET header = 'x'",
    "a header that is no text": "UPDATE session SET header = x'78', synced_bytes = 0, sealed = 0",
    "lines that are no text": "UPDATE event SET line = CAST(x'7b2261223a22ff227d' AS TEXT)",
    "lines that are no events": "UPDATE event SET line = '[]' WHERE seq = 1",
    "no fact": "DELETE FROM fact",
    "no label": "DELETE FROM label; DELETE FROM milestone",
    "no events": "DROP TABLE event",
    "no sessions": "DROP TABLE session",
    "another schema": "PRAGMA user_version = 99",
    "none of its schema": "PRAGMA user_version = 0",
}


def in_database(path: Path, sql: str) -> None:
    with closing(apsw.Connection(str(path / "sessiond.db"))) as database:
        database.execute(sql)


@pytest.mark.parametrize("gone", ["", SEALED])
def test_whatever_bit_of_the_old_database_flips_a_rebuild_ends_with_all_that_the_files_had(
    place: Path, gone: str
) -> None:
    make(place / "data")
    lines = everything(place / "data")
    dice = random.Random(gone)
    incomplete = 0

    for _ in range(FLIPS):
        path = copied(place / "data", place / "damaged")
        content = bytearray((path / "sessiond.db").read_bytes())
        content[offset := dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        (path / "sessiond.db").write_bytes(content)
        if gone:
            (path / "sessions" / f"{gone}.ndjson").unlink()

        done = rebuild(path, Clock(), lambda *_: None)

        found = everything(path)
        told = {each.session for each in done.incomplete}
        assert found[OPEN] == lines[OPEN], offset
        assert found.get(SEALED) == lines[SEALED] or told == {SEALED}, offset
        incomplete += len(told)
    assert incomplete <= (FLIPS // 10 if gone else 0)


@pytest.mark.parametrize("damage", SQL_DAMAGE)
def test_whatever_a_row_or_a_table_says_a_rebuild_keeps_what_the_files_have(place: Path, damage: str) -> None:
    make(place / "data")
    lines = everything(place / "data")
    in_database(place / "data", SQL_DAMAGE[damage])
    old = (place / "data" / "sessiond.db").read_bytes()

    done = rebuild(place / "data", Clock(), lambda *_: None)

    assert (everything(place / "data"), done.incomplete) == (lines, [])
    assert old in [each.read_bytes() for each in (place / "data" / "quarantine").iterdir()]
    with closing(apsw.Connection(str(place / "data" / "sessiond.db"))) as database:
        assert database.execute("SELECT label FROM label").get == "release"


@pytest.mark.parametrize(
    "damage", ["no events", "no fact", "a status that is none", "a header that is no text"]
)
def test_a_start_that_cannot_read_the_database_builds_it_anew_with_what_only_that_had(
    place: Path, damage: str
) -> None:
    make(place / "data")
    lines = everything(place / "data")
    in_database(place / "data", SQL_DAMAGE[damage])
    if damage == "no fact":
        (place / "data" / "sessions" / f"{SEALED}.ndjson").unlink()

    with opened(place / "data") as (directory, _):
        assert directory.recovery.counters["databases_rebuilt"] == 1

    assert everything(place / "data") == lines
    kept = {each.name.partition("-")[0] for each in (place / "data" / "quarantine").iterdir()}
    assert "sessiond.db.damaged" in kept
    assert not any(name.startswith(OPEN) for name in kept), "no file is to blame"


def test_without_a_database_the_trash_stays_the_trash(place: Path) -> None:
    make(place / "data")
    lines = everything(place / "data")
    with opened(place / "data") as (_, store):
        commit(store, deleted(SEALED))
    settle(place / "data")
    (place / "data" / "sessiond.db").unlink()

    rebuilt(place / "data")

    assert everything(place / "data") == lines
    assert (place / "data" / "trash" / f"{SEALED}.ndjson").exists()
    assert list((place / "data" / "quarantine").iterdir()) == []
    rebuilt(place / "data")
    assert (place / "data" / "trash" / f"{SEALED}.ndjson").exists()


def damage_both(path: Path, row: int, text: bytes) -> None:
    """Take an event of the sealed session from the database, and damage a line of its file."""
    sealed = f"(SELECT id FROM session WHERE ulid = '{SEALED}')"
    in_database(path, f"DELETE FROM event WHERE seq = {row} AND session_id = {sealed}")
    file = path / "sessions" / f"{SEALED}.ndjson"
    file.write_bytes(
        file.read_bytes().replace(b'"type":"event","seq":' + text, b'"type":"evenT","seq":' + text)
    )


@pytest.mark.parametrize("way", [rebuilt, mended], ids=["anew", "mended"])
def test_two_copies_that_are_not_whole_are_put_together_if_they_have_every_event(
    place: Path, way: Callable[[Path], None]
) -> None:
    make(place / "data")
    lines = everything(place / "data")
    whole = (place / "data" / "sessions" / f"{SEALED}.ndjson").read_bytes()
    damage_both(place / "data", 2, b"0")

    way(place / "data")

    assert everything(place / "data") == lines
    assert (place / "data" / "sessions" / f"{SEALED}.ndjson").read_bytes() == whole
    assert any("damaged-" in each.name for each in (place / "data" / "quarantine").iterdir())


def test_what_neither_copy_has_is_told_and_nothing_else_is_lost(place: Path) -> None:
    make(place / "data")
    lines = everything(place / "data")
    damage_both(place / "data", 1, b"1")
    file = place / "data" / "sessions" / f"{SEALED}.ndjson"
    damaged = file.read_bytes()
    mended_faults = place / "mended"
    shutil.copytree(place / "data", mended_faults)
    mended(mended_faults)
    assert (mended_faults / "sessions" / file.name).read_bytes() == damaged, "left as it is"

    (told,) = rebuild(place / "data", Clock(), lambda *_: None).incomplete

    assert told == (SEALED, "sealed", 1, 1, 1)
    assert everything(place / "data") == {**lines, SEALED: lines[SEALED][:1]}
    kept = {each.name.partition("-")[0]: each for each in (place / "data" / "quarantine").iterdir()}
    assert kept[f"{SEALED}.rest"].read_bytes() == lines[SEALED][2] + b"\n"


@pytest.mark.parametrize("way", [rebuilt, mended], ids=["anew", "mended"])
def test_a_later_name_and_the_trash_win_over_an_old_database_put_back(
    place: Path, way: Callable[[Path], None]
) -> None:
    path = place / "data"
    make(path)
    with opened(path) as (_, store):
        commit(store, started(LATER, "later"), appended(LATER, "six"), ended(LATER))
    lines = everything(path)
    copied(path, place / "old")
    with opened(path) as (_, store):
        commit(store, RenameSession(session=SEALED, name="again", at=AT))
        commit(store, TagSession(session=SEALED, add=["x"], remove=["t"], at=AT), deleted(LATER))
    settle(path)
    file = (path / "sessions" / f"{SEALED}.ndjson").read_bytes()

    put_back(path, place / "old")
    way(path)

    assert everything(path) == lines
    facts = checker.facts_in_database(path)[SEALED]
    assert (facts["name"], facts["tags"]) == ("again", ["x"])
    assert (path / "sessions" / f"{SEALED}.ndjson").read_bytes() == file
    assert (path / "trash" / f"{LATER}.ndjson").exists()


def test_a_newer_database_names_a_session_whose_older_file_was_put_back(place: Path) -> None:
    path = place / "data"
    make(path)
    file = path / "sessions" / f"{SEALED}.ndjson"
    old = file.read_bytes()
    with opened(path) as (_, store):
        commit(store, RenameSession(session=SEALED, name="again", at=AT))
    settle(path)
    lines = everything(path)
    file.write_bytes(old)

    rebuilt(path)

    assert everything(path) == lines
    assert checker.facts_in_database(path)[SEALED]["name"] == "again"


class Killed(BaseException):
    """The process is gone: nothing is done any more."""


def test_a_rebuild_that_is_cut_short_anywhere_is_done_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(place / "data")
    lines = everything(place / "data")
    with opened(place / "data") as (_, store):
        commit(store, started(LATER, "later"), appended(LATER, "six"), ended(LATER), deleted(LATER))
        lines[LATER] = checker.lines_in_database(place / "data")[LATER]
    settle(place / "data")
    damage_both(place / "data", 2, b"0")
    steps = left = 0

    def counted(name: str) -> None:
        real = getattr(Disk, name)

        def step(*arguments: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments)

        monkeypatch.setattr(Disk, name, step)

    for name in ("create", "write", "rename", "link", "unlink", "sync", "truncate"):
        counted(name)
    is_done = False
    while not is_done:
        left = -1
        path = copied(place / "data", place / "killed")
        left = steps
        try:
            rebuilt(path)
            is_done = True
        except Killed:
            left = -1
            rebuilt(path)
        left = -1
        assert everything(path) == lines, steps
        assert (path / "trash" / f"{LATER}.ndjson").exists(), steps
        steps += 1
    assert steps > 10
