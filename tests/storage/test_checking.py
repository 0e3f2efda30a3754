"""Each fault that a check knows: it is found, says where, and what it promises mends it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from sessiond.clock import Clock
from sessiond.storage.catalog import get_session, list_sessions, read_events
from sessiond.storage.check.checking import AtRest, Checking, leftovers
from sessiond.storage.check.faults import FaultCode, beside_a_daemon
from sessiond.storage.database import open_reader
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond.storage.repair.rebuilding import rebuild
from sessiond_client.wire.messages import Fault, List, Read
from tests import checker
from tests.crash.damaged import OPEN, SEALED, appended, commit, ended, faults, make, mend, opened, started
from tests.running import ROOT

STRANGER = "01ARZ3NDEKTSV4RRFFQ69G5FZZ"


def sql(*statements: str) -> Callable[[Path], None]:
    """Damage done to the database."""

    def damage(path: Path) -> None:
        with closing(apsw.Connection(str(path / "sessiond.db"))) as connection:
            for statement in statements:
                connection.execute(statement.format(sealed=SEALED, open=OPEN))

    return damage


def in_file(ulid: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Damage done to a session file."""

    def damage(path: Path) -> None:
        file = path / "sessions" / f"{ulid}.ndjson"
        assert old in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(old, new, 1))

    return damage


def moved(path: Path, ulid: str = SEALED) -> None:
    (path / "sessions" / f"{ulid}.ndjson").rename(path / "trash" / f"{ulid}.ndjson")


def twice(path: Path, ulid: str = SEALED) -> None:
    (path / "trash" / f"{ulid}.ndjson").write_bytes((path / "sessions" / f"{ulid}.ndjson").read_bytes())


def link(path: Path) -> None:
    file = path / "sessions" / f"{SEALED}.ndjson"
    file.rename(path / "elsewhere")
    file.symlink_to(path / "elsewhere")


def unknown(path: Path) -> None:
    whole = (path / "sessions" / f"{SEALED}.ndjson").read_bytes()
    (path / "sessions" / f"{STRANGER}.ndjson").write_bytes(whole.replace(SEALED.encode(), STRANGER.encode()))


def state(text: bytes) -> Callable[[Path], None]:
    return lambda path: _write(path / "state.ndjson", text)


def _write(path: Path, text: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(b'"8"', text))


class Case(NamedTuple):
    """A damage, the codes that it is found as, and a word of what mends it."""

    damage: Callable[[Path], None]
    codes: set[str]
    repair: str


OF_SEALED = "(SELECT id FROM session WHERE ulid = '{sealed}')"
OF_OPEN = "(SELECT id FROM session WHERE ulid = '{open}')"
INTO_EVENT = "INSERT INTO event (id, session_id, seq, kind, at, line)"
CASES = {
    "no file": Case(lambda p: (p / "sessions" / f"{SEALED}.ndjson").unlink(), {"file_missing"}, "--session"),
    "no file of an open session": Case(
        lambda p: (p / "sessions" / f"{OPEN}.ndjson").unlink(), {"file_missing"}, "next start"
    ),
    "a link": Case(link, {"file_unreadable"}, "--session"),
    "in the trash": Case(moved, {"file_misplaced"}, "puts both into the trash"),
    "also in the trash": Case(twice, {"file_twice"}, "--session"),
    "in the trash while it records": Case(lambda p: moved(p, OPEN), {"file_misplaced"}, "next start"),
    "also in the trash while it records": Case(lambda p: twice(p, OPEN), {"file_twice"}, "--session"),
    "unknown": Case(unknown, {"file_unknown"}, "next start"),
    "header": Case(in_file(SEALED, b"sealed", b"Sealed"), {"header_differs"}, "--session"),
    "footer": Case(in_file(SEALED, b"completed", b"Completed"), {"footer_differs"}, "--session"),
    "amend": Case(in_file(OPEN, b'"name":"opened"', b'"name":"Opened"'), {"line_differs"}, "--session"),
    "line of an open session": Case(
        sql(f"UPDATE event SET line = replace(line, 'one', 'two') WHERE session_id = {OF_OPEN}"),
        {"line_differs"},
        "--session",
    ),
    "line": Case(
        sql(f"UPDATE event SET line = replace(line, 'one', 'two') WHERE session_id = {OF_SEALED}"),
        {"digest_differs"},
        "rows of the session",
    ),
    "event": Case(
        sql(f"DELETE FROM event WHERE seq = 1 AND session_id = {OF_SEALED}"),
        {"events_missing", "digest_differs"},
        "rows of the session",
    ),
    "last event": Case(
        sql(f"DELETE FROM event WHERE seq = 2 AND session_id = {OF_OPEN}"),
        {"events_missing"},
        "rows of the session",
    ),
    "kind": Case(
        sql(f"UPDATE event SET kind = 'note' WHERE session_id = {OF_SEALED}"), {"row_differs"}, "rows of the"
    ),
    "time": Case(
        sql(f"UPDATE event SET at = 7 WHERE session_id = {OF_OPEN}"), {"row_differs"}, "rows of the"
    ),
    "no event": Case(
        sql(f"UPDATE event SET line = '[]' WHERE seq = 0 AND session_id = {OF_SEALED}"),
        {"row_differs", "digest_differs"},
        "rows of the",
    ),
    "counts": Case(sql("UPDATE session SET command_count = 9"), {"counts_differ"}, "rows of the"),
    "next seq": Case(
        sql("UPDATE session SET next_seq = 9 WHERE ulid = '{sealed}'"), {"events_missing"}, "rows of the"
    ),
    "digest": Case(
        sql("UPDATE session SET digest = 'x' WHERE ulid = '{sealed}'"), {"digest_differs"}, "rows of the"
    ),
    "name": Case(sql("UPDATE session SET name = name || 'x'"), {"name_differs"}, "rows of the"),
    "former names": Case(
        sql("UPDATE session SET previous_names = '[\"former\"]'"), {"name_differs"}, "rows of the"
    ),
    "name that the file is to follow": Case(
        sql("UPDATE session SET name = 'other', unsettled = 1 WHERE ulid = '{sealed}'"),
        {"name_differs"},
        "rows of the",
    ),
    "last time": Case(sql("UPDATE session SET last_event_at = 1"), {"counts_differ"}, "rows of the"),
    "tags": Case(sql("DELETE FROM tag"), {"name_differs"}, "rows of the"),
    "amends": Case(
        sql("UPDATE session SET amend_bytes = 9 WHERE ulid = '{open}'"), {"amends_differ"}, "rows of the"
    ),
    "stored header": Case(
        sql("UPDATE session SET header = 'x' WHERE ulid = '{open}'"), {"row_differs"}, "rows of the"
    ),
    "no JSON": Case(
        sql(f"UPDATE event SET line = '{{{{' WHERE seq = 0 AND session_id = {OF_SEALED}"),
        {"row_differs", "digest_differs"},
        "rows of the",
    ),
    "beginning": Case(
        sql(
            "UPDATE session SET started_at = 7, source = 'shell', hostname = 'evil', cwd = '/x', env = '{{}}'"
        ),
        {"beginning_differs"},
        "rows of the",
    ),
    "event at the next seq": Case(
        sql(f"{INTO_EVENT} SELECT 900 + id, id, next_seq, 'note', 1, '{{{{}}}}' FROM session"),
        {"events_surplus"},
        "rows of the",
    ),
    "event before the first": Case(
        sql(f"{INTO_EVENT} SELECT 900 + id, id, -5, 'note', 1, '{{{{}}}}' FROM session"),
        {"events_surplus"},
        "rows of the",
    ),
    "receipt": Case(
        sql("INSERT INTO receipt SELECT 'p', id, ulid, 0, next_seq, 1 << 62 FROM session"),
        {"receipts_differ"},
        "--mend",
    ),
    "milestone": Case(state(b'"9"'), {"state_differs"}, "--mend"),
    "short state": Case(state(b""), {"state_differs"}, "next start"),
}


def shelves(path: Path) -> dict[str, str]:
    with closing(open_reader(path / "sessiond.db")) as connection:
        return dict(connection.execute("SELECT ulid, shelf FROM session"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_found_says_what_mends_it_and_is_mended_by_that(path: Path, case: str) -> None:
    damage, codes, repair = CASES[case]
    lines = checker.lines_in_database(path)
    damage(path)

    found = faults(path)
    assert {each.code for each in found} == codes
    assert all(repair in each.repair for each in found), found
    assert all(Path(each.path).parent.is_relative_to(path) for each in found)

    if "next start" in repair:
        with opened(path):
            pass
    else:
        mend(path)
    assert faults(path) == []
    checker.check(path)
    mended = checker.lines_in_database(path)
    assert [shelves(path)[ulid] for ulid in (SEALED, OPEN)] == [
        "trashed" if damage is moved else "kept",
        "kept",
    ]
    with closing(open_reader(path / "sessiond.db")) as connection:
        called = [get_session(connection, ulid) for ulid in (SEALED, OPEN)]
    assert [(it.name, it.previous_names) for it in called if it] == [("sealed", []), ("opened", ["open"])]
    assert mended[SEALED] == lines[SEALED]
    assert len(mended[OPEN]) == len(lines[OPEN])


MADE_LAX = "CREATE TABLE event (id INTEGER PRIMARY KEY, session_id, seq, kind, at, line)"
SAYS_NOTHING = {
    "source": "'nowhere'",
    "status": "'bogus'",
    "meta": "'x'",
    "env": "'{{\"A\":7}}'",
    "name": "CAST(x'ff' AS TEXT)",
    "cwd": "x'ff'",
    "started_at": "1 << 62",
    "digest": "NULL",
    "previous_names": "'{{}}'",
    "header": "x'00'",
}


@pytest.mark.parametrize("column", SAYS_NOTHING)
def test_a_row_that_says_nothing_of_a_session_needs_the_database_built_anew_and_hides_no_other(
    path: Path, column: str
) -> None:
    sql(f"UPDATE session SET {column} = {SAYS_NOTHING[column]} WHERE ulid = '{{sealed}}'")(path)
    in_file(OPEN, b"one", b"One")(path)

    found = {each.session: each for each in faults(path)}

    assert {ulid: each.code for ulid, each in found.items()} == {SEALED: "row_differs", OPEN: "line_differs"}
    assert "`sessiond rebuild` sets the database aside" in found[SEALED].repair


@pytest.mark.parametrize("column", [column for column in SAYS_NOTHING if column != "header"])
def test_a_row_that_says_nothing_is_left_out_of_a_list_and_counted(path: Path, column: str) -> None:
    sql(f"UPDATE session SET {column} = {SAYS_NOTHING[column]} WHERE ulid = '{{sealed}}'")(path)

    with closing(open_reader(path / "sessiond.db")) as connection:
        for limit in (1, 2):
            found = list_sessions(connection, List(id=1, limit=limit), [], [])
            assert ([each.ulid for each in found[0]], *found[1:]) == ([OPEN], None, 1)
        with pytest.raises(ValueError, match=r"."):
            get_session(connection, SEALED)


@pytest.mark.parametrize("value", ["NULL", "x'7b7d'", "7", "CAST(x'ff' AS TEXT)"])
def test_a_line_that_is_no_text_is_a_fault_of_its_session_and_is_read_by_nobody(
    path: Path, value: str
) -> None:
    sql("DROP TABLE event", MADE_LAX, f"INSERT INTO event VALUES (1, 1, 0, 'prompt', 7, {value})")(path)

    with (
        closing(open_reader(path / "sessiond.db")) as connection,
        pytest.raises(ValueError, match=r"text|utf"),
    ):
        read_events(connection, Read(id=1, session=SEALED))
    with closing(apsw.Connection(str(path / "sessiond.db"))) as connection:
        compared = Checking(path, connection, SessionFiles(path, Disk()), is_live=True).compare(SEALED)
    assert compared is not None
    assert "row_differs" in {each.code for each in compared.faults}


@pytest.mark.parametrize("column", ["ulid", "shelf"])
def test_a_row_that_no_session_can_be_found_by_is_told(path: Path, column: str) -> None:
    sql(f"UPDATE session SET {column} = x'ff' WHERE ulid = '{{sealed}}'")(path)

    told = next(each for each in faults(path) if each.code == "row_differs")

    assert told.session is None
    assert "row 1 does not say" in told.message


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM fact WHERE name = 'state_bytes'", "DELETE FROM fact", "DROP TABLE event",
        "DROP TABLE receipt", "DROP INDEX session_by_name", "PRAGMA user_version = 0",
        "PRAGMA user_version = 1", "PRAGMA user_version = -1",
        "UPDATE fact SET value = 'abc' WHERE name = 'position_floor'",
        "UPDATE fact SET value = 'abc' WHERE name = 'state_bytes'",
        "ALTER TABLE session DROP COLUMN hostname",
    ],
)  # fmt: skip
def test_a_database_that_lacks_something_is_damaged_and_the_next_start_builds_it_anew(
    path: Path, statement: str
) -> None:
    lines = checker.lines_in_database(path)
    sql(statement)(path)

    assert "database_damaged" in {each.code for each in faults(path)}
    with opened(path):
        pass

    assert faults(path) == []
    assert checker.lines_in_database(path) == lines


def test_a_start_that_meets_what_is_no_text_builds_the_database_anew(path: Path) -> None:
    lines = checker.lines_in_database(path)
    sql("UPDATE session SET ulid = CAST(x'ff' AS TEXT) WHERE ulid = '{open}'")(path)

    with opened(path) as (directory, _):
        assert directory.recovery.counters["databases_rebuilt"] == 1

    assert faults(path) == []
    assert checker.lines_in_database(path) == lines


def test_a_database_with_nothing_in_it_is_built_anew_by_the_next_start(path: Path) -> None:
    lines = checker.lines_in_database(path)
    (path / "sessiond.db").write_bytes(b"")

    (found,) = faults(path)
    assert (found.code, found.message) == ("database_missing", "there are files, and nothing in the database")
    with opened(path):
        pass

    assert faults(path) == []
    assert checker.lines_in_database(path) == lines


def test_a_file_that_is_not_there_is_not_promised_to_the_quarantine(path: Path) -> None:
    (path / "sessions" / f"{SEALED}.ndjson").unlink()

    (found,) = faults(path)

    assert found.repair == f"`sessiond rebuild --session {SEALED}` writes the file anew from the database"
    assert beside_a_daemon(found).repair == f"stop the daemon, then {found.repair}"


def test_where_neither_copy_is_whole_both_are_left_as_they_are(path: Path) -> None:
    sql(f"DELETE FROM event WHERE seq = 1 AND session_id = {OF_SEALED}")(path)
    in_file(SEALED, b"one", b"One")(path)
    file = path / "sessions" / f"{SEALED}.ndjson"
    before = file.read_bytes()

    mend(path)

    found = faults(path)
    assert all("neither copy is whole" in each.repair for each in found)
    assert {each.code for each in found} == {"events_missing", "digest_differs", "line_differs"}
    assert file.read_bytes() == before


def test_without_a_database_each_file_is_held_against_itself(path: Path) -> None:
    (path / "sessiond.db").unlink()
    in_file(SEALED, b"one", b"One")(path)
    (path / "trash" / f"{STRANGER}.ndjson").mkdir()

    found = faults(path)

    assert [each.code for each in found] == ["database_missing", "line_invalid", "file_unreadable"]
    footer = (path / "sessions" / f"{SEALED}.ndjson").read_bytes().index(b'{"type":"footer"')
    assert found[1].offset == footer


def test_an_empty_directory_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path) == []


def test_a_session_that_is_called_otherwise_is_sound_before_and_after_its_file_follows(path: Path) -> None:
    from sessiond.storage.commit.operations import RenameSession
    from sessiond.storage.repair.rebuilding import settle_all
    from tests.crash.damaged import AT

    with opened(path) as (_, store):
        commit(store, RenameSession(session=SEALED, name="other", at=AT), ended(OPEN))
    assert faults(path) == []
    with opened(path) as (directory, _):
        settle_all(directory, Clock())
    assert faults(path) == []
    checker.check(path)


def test_what_lies_about_is_told_and_is_no_fault(path: Path) -> None:
    for name in (
        "sessions/x.ndjson.tmp-new",
        "sessions/x.ndjson.bak",
        "quarantine/y",
        "state.ndjson.tmp-new",
    ):
        (path / name).touch()

    assert faults(path) == []
    assert [Path(each).name for each in leftovers(path, SessionFiles(path, Disk()))] == [
        "y", "x.ndjson.bak", "x.ndjson.tmp-new", "state.ndjson.tmp-new",
    ]  # fmt: skip


def test_a_file_is_compared_page_by_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watched(Disk):
        def read_at(self, descriptor: int, offset: int, size: int) -> bytes:
            nonlocal largest
            largest = max(largest, size)
            return super().read_at(descriptor, offset, size)

    with opened(path) as (_, store):
        commit(store, started(STRANGER, "large"))
        for _ in range(10):
            commit(store, appended(STRANGER, *("x" * 1000 for _ in range(500))))
    check = AtRest(path, SessionFiles(path, Watched()))

    assert list(check.faults()) == []
    assert check.totals.events == 5000 + 6
    assert largest < 2 * 1024 * 1024


def test_a_rebuild_first_mends_the_files_from_the_old_database(path: Path) -> None:
    lines = checker.lines_in_database(path)
    in_file(SEALED, b"one", b"One")(path)
    (path / "sessions" / f"{OPEN}.ndjson").unlink()

    done = rebuild(path, Clock(), lambda *_: None)

    assert (done.sessions, done.events, done.mended) == (2, 6, 2)
    assert faults(path) == []
    checker.check(path)
    assert checker.lines_in_database(path) == lines
    kept = {re.sub(r"\d+$", "", each.name) for each in (path / "quarantine").iterdir()}
    logs = {"sessiond.db-wal.replaced-", "sessiond.db-shm.replaced-"}
    assert kept - logs == {f"{SEALED}.ndjson.damaged-", "sessiond.db.replaced-"}


def test_a_check_that_nobody_waits_for_any_more_ends(path: Path) -> None:
    from sessiond.storage.check.checking import open_at_rest
    from sessiond.storage.check.comparison import CutShort

    files = SessionFiles(path, Disk())
    connection = open_at_rest(path / "sessiond.db", files)
    assert connection is not None
    with closing(connection), pytest.raises(CutShort):
        list(Checking(path, connection, files, is_live=True, cut=lambda: True).sessions())


def test_recovery_document_names_every_fault() -> None:
    text = (ROOT / "docs" / "recovery.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)

    assert documented == [code.value for code in FaultCode]
    assert Fault.__struct_fields__


class Moving(Disk):
    """The file of a session is moved into the trash at the second look at it."""

    def __init__(self) -> None:
        self.opened = 0

    def open_read(self, path: Path) -> int:
        """Open a file, if it is there."""
        self.opened += 1
        if self.opened == 2:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return super().open_read(path)


def test_beside_a_daemon_a_file_that_moves_while_it_is_looked_at_is_looked_for_again(path: Path) -> None:
    in_file(SEALED, b'"one"', b'"One"')(path)
    disk = Moving()
    with closing(open_reader(path / "sessiond.db")) as connection:
        check = Checking(path, connection, SessionFiles(path, disk), is_live=True)
        compared = check.compare(SEALED)

    assert disk.opened > 2
    assert compared is not None
    assert [each.code for each in compared.faults] == ["line_differs"]
