"""Files of the spool at the moments that no daemon can be brought to: unlocked, renamed, unreadable."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from sessiond.backlog import Round
from sessiond.spooled import LeftOut, NoSpoolFile, Part, SpooledFile, open_spooled, part_of
from sessiond_client.wire.framing import LINE_BYTES_MAX

PRODUCER = "01M70000000000000000000001"
HELLO = b'{"type":"hello","protocol":1,"producer":"%s"}\n' % PRODUCER.encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    path = tmp_path / f"{PRODUCER}-000001.ndjson"
    path.write_bytes(HELLO)
    return path


def test_a_file_that_has_got_its_name_from_another_one_is_not_removed_with_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer of the first has delivered it, removed it, and begun the next, which it holds."""
    lock = fcntl.flock

    def late(file: int, operation: int) -> None:
        path.unlink()
        path.write_bytes(HELLO)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)

    assert open_spooled(path) is None
    assert path.read_bytes() == HELLO


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_read_now_is_let_go_of(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(SpooledFile, "_producer", fail)
        with pytest.raises(OSError if number == errno.EMFILE else LeftOut, match=os.strerror(number)):
            open_spooled(path)

    file = open_spooled(path)
    assert file is not None
    file.close()


def test_a_file_that_cannot_be_read_now_holds_up_its_producer_and_nobody_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b'{"type":"start","id":1}\n'
    path.write_bytes(HELLO + line)
    path.with_name(f"{PRODUCER}-000002.ndjson").write_bytes(HELLO + line)
    other = path.with_name(f"{PRODUCER[:-1]}2-000001.ndjson")
    other.write_bytes(HELLO + line)
    read = SpooledFile.next

    def fail(file: SpooledFile) -> tuple[int, bytes] | None:
        if file.path == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file)

    monkeypatch.setattr(SpooledFile, "next", fail)
    round_ = Round([path.parent])
    round_.look()
    backlog = round_.begin(Part.STARTS)

    assert [item.file.path for item in backlog.take()] == [other]
    assert (round_.is_all(), list(round_.passed_over)) == (False, [path])
    backlog.close()


def test_a_file_that_was_not_there_when_a_round_began_makes_it_incomplete(path: Path) -> None:
    alias = path.parent / "alias"
    alias.symlink_to(path.parent.parent)
    round_ = Round([path.parent, alias / path.parent.name])
    round_.look()
    backlog = round_.begin(Part.STARTS)
    backlog.take()
    assert (len(backlog.ended), round_.is_all()) == (1, True)
    backlog.close()

    path.with_name(f"{PRODUCER}-000002.ndjson").write_bytes(b"")

    assert not round_.is_all()


def test_a_first_line_that_is_too_long_is_kept(path: Path) -> None:
    path.write_bytes(b"x" * LINE_BYTES_MAX + b"y")

    with pytest.raises(NoSpoolFile) as found:
        open_spooled(path)
    found.value.file.close()

    assert path.exists()


def test_what_says_nothing_is_done_with_the_appends() -> None:
    assert part_of(b'{"type":"start","id":7}') == (Part.STARTS, 7)
    assert part_of(b'{"id":8,"type":"end"}') == (Part.ENDS, 8)
    assert part_of(b"garbage") == (Part.APPENDS, 0)
