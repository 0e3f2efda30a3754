"""What nobody expects in our directories, pipes and names that are none: set aside, never waited for."""

from __future__ import annotations

import errno
import logging
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sessiond.clock import Clock
from sessiond.errors import StartupRefused
from sessiond.log import JsonFormatter, PlainFormatter
from sessiond.storage import file_reading
from sessiond.storage.check.checking import AtRest
from sessiond.storage.directory import DataDirectory
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from tests import checker
from tests.crash.damaged import OPEN, SEALED, TEXTS, make
from tests.integration.test_check_and_rebuild import sessiond

UNKNOWN = "01CCCCCCCCCCCCCCCCCCCCCCCC"
NO_TEXT = os.fsdecode(b"\xff\xfe\x1b[31m")
MEMORY_MAX = 16 * 1024 * 1024


@pytest.fixture
def data_dir(home: Path) -> Path:
    """A data directory with two sessions and no daemon."""
    (home / "data").mkdir(mode=0o700)
    make(home / "data" / "sessiond")
    return home / "data" / "sessiond"


@pytest.fixture
def pipe() -> Iterator[Callable[[Path], Path]]:
    """Makes pipes in the place of files. Each is held open, so that who waits for it fails at once."""
    with ExitStack() as stack:

        def make_pipe(path: Path) -> Path:
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
            stack.callback(os.close, os.open(path, os.O_RDWR))
            return path

        yield make_pipe


class StandingClock(Clock):
    """No two files are set aside at different times."""

    def now(self) -> int:
        return 1_795_000_000_000_000


def opened(path: Path, disk: Disk | None = None) -> dict[str, int]:
    """Start on a directory; what was repaired."""
    directory = DataDirectory.open(path, StandingClock(), disk)
    directory.close()
    checker.check(path)
    return directory.recovery.counters


def quarantined(path: Path) -> list[str]:
    return sorted(os.fsencode(name).decode(errors="replace") for name in os.listdir(path / "quarantine"))


@pytest.mark.parametrize("opens", [Disk.open_read, Disk.open_append, Disk.sync, Disk.sync_anew])
def test_only_a_regular_file_is_opened(
    tmp_path: Path, pipe: Callable[[Path], Path], opens: Callable[[Disk, Path], object]
) -> None:
    path = pipe(tmp_path / "a")

    with pytest.raises(OSError, match="not a regular file"):
        opens(Disk(), path)


@pytest.mark.parametrize(
    "name",
    [
        "sessiond.db-wal",
        "sessiond.db-shm",
        "state.ndjson",
        "suspect",
        f"sessions/{OPEN}.ndjson",
        f"sessions/{UNKNOWN}.ndjson",
        f"trash/{UNKNOWN}.ndjson",
        "sessions/hello.ndjson",
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_what_is_no_file_is_set_aside_whatever_name_it_has(
    data_dir: Path, pipe: Callable[[Path], Path], name: str, kind: str
) -> None:
    if kind == "pipe":
        pipe(data_dir / name)
    else:
        (data_dir / name).unlink(missing_ok=True)
        (data_dir / name / "within").mkdir(parents=True)

    opened(data_dir)

    (kept,) = quarantined(data_dir)
    assert kept.startswith(f"{Path(name).name}.")
    assert checker.texts(data_dir, SEALED) == TEXTS


def test_names_that_are_too_long_or_no_text_stop_neither_the_start_nor_a_check(
    home: Path, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{letter * 240}.ndjson" for letter in "yyz"] + [f"{NO_TEXT}.ndjson"]
    for name in names:
        (data_dir / "sessions" / name).write_text(name, errors="surrogateescape")
    (data_dir / "trash" / names[0]).write_text("the other")
    (data_dir / "sessions" / f"{NO_TEXT}.ndjson.bak").write_text("")
    (data_dir / "sessions" / f"{SEALED}.ndjson.bak" / "within").mkdir(parents=True)

    found = sessiond(home, "check", timeout=60)
    counters = opened(data_dir)

    assert (found.returncode, found.stderr) == (1, "")
    assert counters == {"files_quarantined": 4}
    kept = [(data_dir / "quarantine" / name).read_bytes() for name in os.listdir(data_dir / "quarantine")]
    assert sorted(kept) == sorted([*{os.fsencode(name) for name in names}, b"the other"])
    told = [JsonFormatter().format(record) for record in caplog.records]
    assert any("\\\\udcff\\\\udcfe\\u001b[31m" in line for line in told)
    assert all("\x1b" not in PlainFormatter().format(record) for record in caplog.records)


HEADER = b'{"type":"header","version":3,"id":"%s","name":"n","source":"app","tags":[],"started_at":"%s"}'
EVENT = b'{"type":"event","seq":0,"kind":"note","at":"%s","text":"a"}'
COMMAND = b'{"type":"command","seq":%d,"index":%d,"at":"%s","command":"ls"}'
AT = b"2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "bad",
    [
        (EVENT % AT).replace(b'"seq":0', b'"seq":2') + b"  ",
        b" " + (EVENT % AT).replace(b'"seq":0', b'"seq":2'),
        (EVENT % AT).replace(b'"seq":0', b'"seq":2') + b"\r",
        COMMAND % (2, 7, AT),
        (EVENT % AT).replace(b'"seq":0,"kind":"note"', b'"seq":2,"kind":"command"'),
    ],
)
def test_a_line_that_readers_could_not_pass_on_is_kept_aside(data_dir: Path, bad: bytes) -> None:
    good = [HEADER % (UNKNOWN.encode(), AT), EVENT % AT, COMMAND % (1, 0, AT)]
    file = data_dir / "sessions" / f"{UNKNOWN}.ndjson"
    file.write_bytes(b"".join(line + b"\n" for line in (*good, bad)))

    opened(data_dir)

    assert len(checker.lines_in_database(data_dir)[UNKNOWN]) == 2
    (kept,) = (data_dir / "quarantine").iterdir()
    assert kept.read_bytes().endswith(bad + b"\n")
    assert list(AtRest(data_dir, SessionFiles(data_dir, Disk())).faults()) == []


def test_a_header_with_blanks_around_it_is_none_of_ours(data_dir: Path) -> None:
    file = data_dir / "sessions" / f"{UNKNOWN}.ndjson"
    file.write_bytes(HEADER % (UNKNOWN.encode(), AT) + b" \n")

    opened(data_dir)

    (kept,) = quarantined(data_dir)
    assert ".foreign-header-" in kept


def test_what_a_file_says_of_its_commands_goes_on_where_the_database_ends(data_dir: Path) -> None:
    for index in range(2):
        with (data_dir / "sessions" / f"{OPEN}.ndjson").open("ab") as file:
            file.write(COMMAND % (3 + index, index, AT) + b"\n")

        assert opened(data_dir)["events_adopted"] == 1


class Stubborn(Disk):
    """A disk on which a file has an attribute that lets nobody move or remove it."""

    def rename(self, old: Path, new: Path) -> None:
        if old.stem in {UNKNOWN, "hello"}:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(old))
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        if SEALED in path.name:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        super().unlink(path)


def test_a_file_that_cannot_even_be_set_aside_is_left_and_the_others_are_served(data_dir: Path) -> None:
    for name in (f"{UNKNOWN}.ndjson", "hello.ndjson"):
        (data_dir / "sessions" / name).write_text("no session")
    for name in (f"{SEALED}.ndjson.bak", f"{SEALED}.ndjson.tmp-new"):
        (data_dir / "sessions" / name).write_text("left over")

    directory = DataDirectory.open(data_dir, Clock(), Stubborn())
    directory.close()

    assert directory.recovery.counters == {"files_passed_over": 2}
    assert len(os.listdir(data_dir / "sessions")) == 2 + 4


def test_the_place_of_the_sessions_taken_by_a_file_is_said_to_be_no_directory(tmp_path: Path) -> None:
    (tmp_path / "quarantine").write_text("")

    with pytest.raises(StartupRefused, match="quarantine is no directory; move it away"):
        DataDirectory.open(tmp_path, Clock())


def test_labels_and_milestones_that_cannot_be_read_are_set_aside(data_dir: Path) -> None:
    class Unreadable(Disk):
        def read_at(self, descriptor: int, offset: int, size: int) -> bytes:
            if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == "state.ndjson" and not offset:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read_at(descriptor, offset, size)

    content = b"{}\n"
    (data_dir / "state.ndjson").write_bytes(content)

    assert opened(data_dir, Unreadable())["files_quarantined"] == 1

    (kept,) = (data_dir / "quarantine").iterdir()
    assert kept.name.startswith("state.ndjson.unreadable-oserror-")
    assert kept.read_bytes() == content


def test_labels_and_milestones_are_read_in_parts(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reading, "FILE_LINE_BYTES_MAX", 2 * 1024 * 1024)
    with (data_dir / "state.ndjson").open("ab") as file:
        file.truncate(64 * 1024 * 1024)
    tracemalloc.start()
    try:
        counters = opened(data_dir)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert counters == {"state_files_rewritten": 1}
    assert peak < MEMORY_MAX


def test_a_field_of_the_log_is_shown_on_one_line() -> None:
    record = logging.makeLogRecord({"levelname": "ERROR", "msg": "file set aside", "path": "a\nb\x1b[2J"})

    assert PlainFormatter().format(record) == "sessiond: error: file set aside path=a\\u000ab\\u001b[2J"
