"""The readers of shell histories and lists: what is an entry, and where a damaged file ends."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionctl.imports.conversion import READERS, Conversion
from sessionctl.imports.detect import Format, detect
from sessionctl.imports.entry import Entry
from sessionctl.imports.source import LINE_BYTES_MAX, Damaged, Refused, Source
from sessionctl.session_file import scratch
from sessiond_client.wire.messages import TEXT_BYTES_MAX

SECOND = 1_000_000


def read(directory: Path, format_: Format, content: bytes) -> tuple[list[Entry], Damaged | None]:
    """What a reader makes of a file with this content."""
    path = directory / "history"
    path.write_bytes(content)
    entries: list[Entry] = []
    with Source(path) as source:
        try:
            entries.extend(READERS[format_](source))
        except Damaged as damage:
            return entries, damage
    return entries, None


def texts(directory: Path, format_: Format, content: bytes) -> list[bytes]:
    entries, damage = read(directory, format_, content)
    assert damage is None, damage
    return [entry.text for entry in entries]


# --- bash


def test_bash_entries_have_the_time_before_them_and_keep_their_line_breaks(tmp_path: Path) -> None:
    entries, damage = read(
        tmp_path, Format.BASH, b"#1700000000\nfor x in 1\ndo\n\n  #done\ndone\n#1700000005\nls\n"
    )

    assert damage is None
    assert [(entry.text, entry.started_at) for entry in entries] == [
        (b"for x in 1\ndo\n\n  #done\ndone", 1_700_000_000 * SECOND),
        (b"ls", 1_700_000_005 * SECOND),
    ]
    assert {entry.duration for entry in entries} == {None}


def test_a_bash_history_that_begins_without_times_has_one_command_a_line(tmp_path: Path) -> None:
    entries, _ = read(tmp_path, Format.BASH, b"first\n\n# a comment\n#1700000000\nfor x\ndo\n")

    assert [(entry.text, entry.started_at) for entry in entries] == [
        (b"first", None),
        (b"# a comment", None),
        (b"for x", 1_700_000_000 * SECOND),
        (b"do", None),
    ]


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b"#17000", [b"one", b"two\nlines"]),
        (b"and a third that is cut o", [b"one"]),
        (b"\0\0\0\0", [b"one", b"two\nlines"]),
        (b"#1700000009\ncut o", [b"one", b"two\nlines"]),
    ],
)
def test_a_cut_off_bash_history_ends_with_its_last_whole_entry(
    tmp_path: Path, tail: bytes, kept: list[bytes]
) -> None:
    whole = b"#1700000000\none\n#1700000001\ntwo\nlines\n"

    entries, damage = read(tmp_path, Format.BASH, whole + tail)

    assert [entry.text for entry in entries] == kept
    assert damage is not None
    last = tail.rfind(b"\n") + 1
    assert (damage.line, damage.offset) == (6 + (last > 0), len(whole) + last)


# --- zsh


def test_zsh_entries_have_start_and_duration(tmp_path: Path) -> None:
    entries, _ = read(tmp_path, Format.ZSH, b": 1700000000:12;make\n: 1700000020:0;: x\nplain\n\\: escaped\n")

    assert entries == [
        Entry(b"make", 1_700_000_000 * SECOND, 12 * SECOND),
        Entry(b": x", 1_700_000_020 * SECOND, 0),
        Entry(b"plain"),
        Entry(b": escaped"),
    ]


def test_zsh_line_breaks_closing_backslashes_and_changed_bytes_are_put_right(tmp_path: Path) -> None:
    content = b": 1:0;a \\\\\nb\n: 2:0;x\\\\ \n: 3:0;\xc5\x83\xa3 \x83\xa3\n: 4:0;if\\\nfi\n"

    assert texts(tmp_path, Format.ZSH, content) == [
        b"a \\\nb",
        rb"x\\",
        "Ń ".encode() + b"\x83",
        b"if\nfi",
    ]


def test_a_zsh_history_that_ends_within_an_entry_ends_before_it(tmp_path: Path) -> None:
    for tail in (b": 2:0;two\\\n", b": 2:0;two\\\nthree", b": 2:0;tw"):
        entries, damage = read(tmp_path, Format.ZSH, b": 1:0;one\n" + tail)

        assert [entry.text for entry in entries] == [b"one"]
        assert damage is not None


# --- fish


def test_fish_entries_have_time_and_paths_and_their_escapes_are_undone(tmp_path: Path) -> None:
    content = (
        rb"- cmd: echo a\nb \\n \t" + b"\n  when: 1700000000\n  paths:\n    - /a\\\\b\n    - c d\n"
        b"- cmd: x\n  when: 1700000001\n"
    )

    assert read(tmp_path, Format.FISH, content) == (
        [
            Entry(b"echo a\nb \\n \\t", 1_700_000_000 * SECOND, data={"paths": ["/a\\b", "c d"]}),
            Entry(b"x", 1_700_000_001 * SECOND),
        ],
        None,
    )


@pytest.mark.parametrize(
    ("tail", "kept"), [(b"  pat", 1), (b"- cmd: cut o", 2), (b"\0\0\0", 2), (b"stray\n- cmd: x\n", 2)]
)
def test_a_damaged_fish_history_ends_with_its_last_whole_entry(
    tmp_path: Path, tail: bytes, kept: int
) -> None:
    entries, damage = read(tmp_path, Format.FISH, b"- cmd: a\n  when: 1\n- cmd: b\n  when: 2\n" + tail)

    assert [entry.text for entry in entries] == [b"a", b"b"][:kept]
    assert damage is not None
    assert damage.line == 5


def test_a_fish_command_that_is_too_long_ends_the_history_before_it(tmp_path: Path) -> None:
    content = b"- cmd: a\n  when: 1\n- cmd: " + b"x" * (TEXT_BYTES_MAX + 1) + b"\n"

    entries, damage = read(tmp_path, Format.FISH, content)

    assert [entry.text for entry in entries] == [b"a"]
    assert damage is not None
    assert "the command is longer" in damage.why


# --- lists


def test_a_list_has_one_command_a_line_and_a_script_no_comments(tmp_path: Path) -> None:
    body = b"# why\r\n  make all\r\n\r\ndocker run \\\n  -it x\nlast"

    assert texts(tmp_path, Format.PLAIN, body) == [b"# why", b"make all", b"docker run \\\n  -it x", b"last"]
    script = b"\xef\xbb\xbf#!/bin/sh\n" + body
    assert texts(tmp_path, Format.PLAIN, script) == [b"make all", b"docker run \\\n  -it x", b"last"]


# --- all of them


@pytest.mark.parametrize("format_", READERS)
def test_a_line_or_a_command_without_end_is_damage_not_memory(tmp_path: Path, format_: Format) -> None:
    for content in (
        b"x" * (LINE_BYTES_MAX + 2),
        b"- cmd: " + b"x" * (TEXT_BYTES_MAX + 1) + b"\n",
        b"#1\n" + (b"x" * 1000 + b"\\\n") * 1100,
    ):
        entries, damage = read(tmp_path, format_, content)

        assert all(len(entry.text) <= TEXT_BYTES_MAX for entry in entries)
        assert damage is not None or format_ in {Format.BASH, Format.FISH}


@pytest.mark.parametrize("format_", READERS)
def test_a_line_that_is_too_long_is_not_read_to_its_end(tmp_path: Path, format_: Format) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 1 << 28)

    tracemalloc.start()
    try:
        with Source(path) as source, pytest.raises(Damaged, match="the line is longer than"):
            next(READERS[format_](source))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * LINE_BYTES_MAX


def test_what_is_appended_meanwhile_is_not_read_and_a_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"one\ntwo\n")

    with Source(path) as source:
        source.digest()
        with path.open("ab") as file:
            file.write(b"three\n")
        assert [line.data for line in source.lines()] == [b"one", b"two"]
        source.require_unchanged()
        path.write_bytes(b"ONE\ntwo\nthree\n")
        with pytest.raises(Refused, match="it changed while it was read"):
            source.require_unchanged()


PIECES = st.sampled_from(
    [
        *(b"#1700000000", b": 12:3;", b"- cmd: ", b"  when: 9", b"  paths:", b"    - p"),
        *(b"\\", b"\n", b"\0", b"\x83", b"\xff", b" ", b"x", b"#!", b"{", b'"type":"header"'),
        *(b'{"version":2,"width":1,"height":1}', b'{"version":1,"stdout":[[1,"a"]]}'),
        *(b'[0.1,"o","x"]', b'[1e999,"r","1x1"]', b'["sNaN","o",""]'),
    ]
)
CONTENTS = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(b"".join))


@settings(deadline=None)
@given(content=CONTENTS)
def test_no_bytes_whatever_bring_a_reader_down(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for format_ in READERS:
            entries, damage = read(Path(directory), format_, content)

            assert all(entry.text.strip() for entry in entries)
            assert damage is None or 0 <= damage.offset < len(content)


@settings(deadline=None)
@given(content=CONTENTS)
def test_no_bytes_whatever_bring_the_conversion_down(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", directory)
        path = Path(directory) / "file"
        path.write_bytes(content)
        for format_ in (*READERS, Format.CAST):
            with Source(path) as source:
                with suppress(Refused):
                    detect(source)
                with suppress(Refused), scratch("import", "x") as (made, file):
                    _write(Conversion(source, format_), made, file)


def _write(conversion: Conversion, path: Path, file: Any) -> None:
    from sessionctl.session_file import SessionFile
    from sessiond_client.wire.lines import decode_event

    conversion.write(SessionFile(path, file), None, [])
    lines = path.read_bytes().splitlines()
    assert lines[0].startswith(b'{"type":"header"')
    assert lines[-1].startswith(b'{"type":"footer"')
    assert [decode_event(line).seq for line in lines[1:-1]] == list(range(len(lines) - 2))


# --- what it is


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (b"#1700000000\nls\n", Format.BASH),
        (b"ls\n#1700000000\nls\n", Format.BASH),
        (b"ls\n: 1700000000:0;ls\n", Format.ZSH),
        (b"\n- cmd: ls\n  when: 1\n", Format.FISH),
        (b"ls\n# a comment\n", Format.PLAIN),
        (b"ls\n" * 99 + b"\0", Format.PLAIN),
        (b"#!/bin/sh\nls\n", Format.PLAIN),
        (b"{ ls; }\n", Format.PLAIN),
        (b"printf '\x1b[31m\xff'\n", Format.PLAIN),
        (b'{"version": 2, "width": 80, "height": 24}\n', Format.CAST),
        (b'{"version":3,"term":{"cols":80,"rows":24}}\n', Format.CAST),
        (b'{\n  "version": 1,\n  "stdout": []\n}\n', Format.CAST),
        (b'{"type":"header","version":2,"id":"x"}\n', Format.NDJSON),
    ],
)
def test_the_format_is_seen_from_the_content(tmp_path: Path, content: bytes, format_: Format) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with Source(path) as source:
        assert detect(source) is format_


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "binary"),
        (b"\xff\xfel\0s\0\n\0", "binary"),
        (bytes(range(1, 32)) * 9, "binary"),
        (b"l\0s\n" * 99, "binary"),
        (b"caf\xe9\n\0", "binary"),
        (b"\x1f\x8b\x08\0", "gunzip"),
        (b'{"name": "x"}\n', "JSON"),
        (b'{"name": ' + b"[" * 100_000, "JSON"),
    ],
)
def test_what_is_none_of_these_is_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with Source(path) as source, pytest.raises(Refused, match=reason):
        detect(source)
