"""The files of ended sessions follow what was changed, wherever in between the power goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessiond.clock import Clock
from sessiond.storage.commit.operations import (
    AppendEvents,
    DeleteSession,
    EndSession,
    MarkSettled,
    MarkSynced,
    Operation,
    RenameSession,
    RestoreSession,
    StartSession,
    TagSession,
)
from sessiond.storage.database import rows
from sessiond.storage.directory import DataDirectory
from sessiond.storage.disk import Disk
from sessiond.storage.repair.rebuilding import rebuild
from sessiond.storage.settling import CannotSettle, settle
from sessiond.storage.store import Store
from sessiond_client.wire.messages import EndReason, NewEvent, Source, Status
from tests.checker import check, parts_of_file

SESSION = "01KAJSZ5T0Q4B8M2X7C9D3E6FG"
CHANGING = ("create", "write", "sync", "sync_directory", "rename", "link", "unlink", "truncate")
STEPS_MAX = 40


class PowerCut(BaseException):
    """Nothing more happens after this."""


class CuttingDisk(Disk):
    """A real disk that fails one operation, counted from `arm` on, and after a cut every later one."""

    def __init__(self) -> None:
        self.left = -1
        self.error: Callable[[], BaseException] = PowerCut

    def arm(self, step: int, error: Callable[[], BaseException]) -> None:
        """Let `step` operations that change something pass."""
        self.left = step
        self.error = error


def _counted(name: str) -> Callable[..., Any]:
    def operation(self: CuttingDisk, *arguments: Any) -> Any:
        if self.left == 0:
            error = self.error()
            if not isinstance(error, PowerCut):
                self.left = -1
            raise error
        self.left -= self.left > 0
        return getattr(Disk, name)(self, *arguments)

    return operation


for _name in CHANGING:
    setattr(CuttingDisk, _name, _counted(_name))


class Stores:
    """A data directory with one sealed session, used from this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700)
        self.disk = CuttingDisk()
        self.directory = DataDirectory.open(path, Clock(), self.disk)
        self.store = Store(self.directory.database, self.directory.files, self.directory.state_file, Clock())
        self.do(
            StartSession(ulid=SESSION, name="one", source=Source.APP, started_at=0, received_at=0),
            AppendEvents(session=SESSION, events=[NewEvent(kind="a", text="x")] * 3, received_at=0),
            RenameSession(session=SESSION, name="two", at=0),
            AppendEvents(session=SESSION, events=[NewEvent(kind="a", text="y")], received_at=0),
            EndSession(session=SESSION, status=Status.COMPLETED, end_reason=EndReason.STOPPED, ended_at=0),
        )
        size = self.file.stat().st_size
        self.do(MarkSynced(session=SESSION, size=size, seq=4, sealed=True))

    @property
    def file(self) -> Path:
        return self.directory.files.path(SESSION)

    def do(self, *operations: Operation) -> None:
        self.store.commit(operations)

    def settle(self) -> None:
        done = settle(self.directory.database.connection, self.directory.files, SESSION)
        assert done is not None
        self.do(MarkSettled(session=SESSION, header=done.header, shelf=done.shelf, size=done.size))

    def close(self) -> None:
        self.disk.left = -1
        self.directory.close()


def reopened(path: Path) -> None:
    """Start again, settle, and compare everything."""
    directory = DataDirectory.open(path, Clock())
    store = Store(directory.database, directory.files, directory.state_file, Clock())
    if done := settle(directory.database.connection, directory.files, SESSION):
        mark = MarkSettled(session=SESSION, header=done.header, shelf=done.shelf, size=done.size)
        store.commit([mark])
    assert directory.recovery.counters.keys() <= {"temporary_files_swept"}
    directory.close()
    check(path)


def what_is_said(directory: DataDirectory) -> list[tuple[str, str, str | None]]:
    """Name, shelf and tag of the session."""
    sql = "SELECT name, shelf, tag FROM session LEFT JOIN tag ON tag.session_id = session.id"
    return rows(directory.database.connection, sql)


CHANGES: dict[str, list[Operation]] = {
    "sealed while amended": [],
    "renamed": [RenameSession(session=SESSION, name="three", at=0)],
    "tagged": [TagSession(session=SESSION, add=["t"], remove=[], at=0)],
    "deleted": [DeleteSession(session=SESSION, force=False, purge=False, at=0)],
    "renamed and deleted": [
        RenameSession(session=SESSION, name="three", at=0),
        DeleteSession(session=SESSION, force=False, purge=False, at=0),
    ],
    "deleted and restored": [
        DeleteSession(session=SESSION, force=False, purge=False, at=0),
        RestoreSession(session=SESSION),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_power_cut_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path, change: str) -> None:
    for step in range(STEPS_MAX):
        stores = Stores(tmp_path / str(step))
        stores.do(*CHANGES[change])
        stores.disk.arm(step, PowerCut)
        try:
            stores.settle()
        except PowerCut:
            stores.close()
            places = [stores.path / "sessions", stores.path / "trash"]
            (file,) = [path for place in places for path in place.glob("*.ndjson")]
            assert len(parts_of_file(file)[1]) == 4
            reopened(stores.path)
            continue
        stores.close()
        reopened(stores.path)
        assert step > 2
        return
    raise AssertionError("it has more steps than expected")


def test_a_failing_disk_leaves_the_old_file_and_its_backup_and_trying_again_helps(tmp_path: Path) -> None:
    for step in range(STEPS_MAX):
        stores = Stores(tmp_path / str(step))
        stores.do(RenameSession(session=SESSION, name="three", at=0))
        stores.disk.arm(step, lambda: OSError(28, "No space left on device"))
        try:
            stores.settle()
        except OSError:
            assert len(parts_of_file(stores.file)[1]) == 4
            assert not list(stores.path.glob("sessions/*.tmp-*"))
            stores.settle()
        else:
            stores.close()
            assert step > 2
            return
        assert parts_of_file(stores.file)[0]["name"] == "three"
        assert not list(stores.path.glob("sessions/*.bak"))
        stores.close()
        check(stores.path)
    raise AssertionError("it has more steps than expected")


def test_a_header_is_not_put_over_events_that_are_not_those_of_the_session(tmp_path: Path) -> None:
    stores = Stores(tmp_path / "d")
    before = stores.file.read_bytes()
    stores.do(RenameSession(session=SESSION, name="three", at=0))
    stores.directory.database.connection.execute("UPDATE event SET line = replace(line, 'y', 'z')")

    with pytest.raises(CannotSettle, match="digest"):
        stores.settle()

    assert stores.file.read_bytes() == before
    assert stores.file.with_name(f"{stores.file.name}.bak").read_bytes() == before
    stores.close()


@pytest.mark.parametrize("change", ["tagged", "renamed and deleted"])
def test_a_rebuilt_database_has_what_the_files_had_not_followed_yet(tmp_path: Path, change: str) -> None:
    stores = Stores(tmp_path / "d")
    stores.do(*CHANGES[change])
    before = what_is_said(stores.directory)
    stores.close()

    rebuild(stores.path, Clock(), lambda *_: None)

    directory = DataDirectory.open(stores.path, Clock())
    assert what_is_said(directory) == before
    directory.close()
    check(stores.path)


def test_a_row_that_says_nothing_does_not_keep_a_database_from_being_rebuilt(tmp_path: Path) -> None:
    stores = Stores(tmp_path / "d")
    stores.do(TagSession(session=SESSION, add=["t"], remove=[], at=0))
    stores.directory.database.connection.execute("UPDATE session SET previous_names = '['")
    stores.close()

    done = rebuild(stores.path, Clock(), lambda *_: None)

    assert (done.sessions, done.events) == (1, 4)
    check(stores.path)


def test_a_rebuilt_database_has_no_session_that_was_to_be_purged(tmp_path: Path) -> None:
    stores = Stores(tmp_path / "d")
    stores.do(DeleteSession(session=SESSION, force=False, purge=True, at=0))
    stores.close()

    done = rebuild(stores.path, Clock(), lambda *_: None)

    assert (done.sessions, done.recovery) == (0, {})
    assert not stores.file.exists()
