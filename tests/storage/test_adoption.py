"""Files from elsewhere, read: what is taken of each version, and where the damage begins."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import ulid

from sessiond.errors import Refused
from sessiond.storage.foreign.file import SLICE_LINES_MAX, ForeignSession, SourceFile
from sessiond_client.wire.framing import EVENT_LINE_BYTES_MAX
from sessiond_client.wire.messages import EndReason, ErrorCode, Session, Source, Status

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
AT = "2026-01-02T03:04:05.678901Z"
REC_ID = "b9e1c9d4-5d5c-4a3e-9d57-0c9f8ab5f6a1"

HEADER: dict[str, Any] = {
    "type": "header", "version": 3, "id": ULID, "name": "demo", "source": "shell", "started_at": AT,
}  # fmt: skip
REC_HEADER: dict[str, Any] = {
    "type": "header", "version": 2, "id": REC_ID, "name": "deploy", "shell": "bash", "os": "Debian 12",
    "hostname": "box", "env": {"HOME": "/root"}, "tags": ["prod"], "started_at": 1700000000.25,
}  # fmt: skip
REC_COMMAND: dict[str, Any] = {
    "type": "command", "index": 0, "command": "make test", "cwd": "/src", "started_at": 1700000001.5,
    "ended_at": 1700000003.0, "exit_code": 2, "duration_ms": 1500,
}  # fmt: skip
REC_FOOTER: dict[str, Any] = {
    "type": "footer", "ended_at": 1700000009.0, "command_count": 1, "status": "completed",
}  # fmt: skip


def event(seq: int, text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"type": "event", "seq": seq, "kind": "note", "at": AT, "text": text, **fields}


def footer(*events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(encoded(*events)).hexdigest()
    counts = {"event_count": len(events), "command_count": 0, "digest": digest}
    ending = {"ended_at": AT, "status": "completed", "end_reason": "exited", "exit_code": 3}
    return {"type": "footer", **ending, **counts, **fields}


def encoded(*lines: object) -> bytes:
    return b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)


def read(path: Path) -> tuple[Session, list[str], str | None]:
    """The session in a file, its event lines, and the damage."""
    source = SourceFile(str(path))
    try:
        foreign = ForeignSession(source)
        lines = [line for part in foreign.slices() for line in part.lines]
    finally:
        source.close()
    return foreign.session, lines, foreign.damage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "foreign.ndjson"


# --- version 3 ---------------------------------------------------------------------------------------------


def test_event_lines_are_taken_byte_for_byte(path: Path) -> None:
    lines = [
        b'{"type":"event","seq":0,"kind":"note","at":"%s","text":"gr\xc3\xbc\xc3\x9fe","new":1}'
        % AT.encode(),
        b'{ "at":"2026-01-02T03:04:05+02:00","type":"event","kind":"x.y","seq":1,"data":{ "n": 1.10 }}',
        b'{"type":"command","seq":2,"index":0,"at":"%s","command":"ls","exit_code":0}' % AT.encode(),
    ]
    end = footer() | {"digest": hashlib.sha256(encoded(*lines)).hexdigest()}
    path.write_bytes(encoded(HEADER, *lines, end))

    session, taken, damage = read(path)

    assert damage is None
    assert [line.encode() for line in taken] == lines
    assert (session.ulid, session.name, session.source) == (ULID, "demo", Source.SHELL)
    assert (session.status, session.end_reason, session.exit_code) == ("completed", "exited", 3)
    assert (session.event_count, session.command_count) == (3, 1)
    assert session.byte_count == len(encoded(*lines))
    assert session.digest == end["digest"]


def test_fields_of_the_header_that_we_do_not_know_are_kept_in_meta(path: Path) -> None:
    header = HEADER | {"color": {"a": [1]}, "team": "x", "meta": {"team": "y"}, "source": "robot"}
    path.write_bytes(encoded(header, footer(weather="fine")))

    session, _, damage = read(path)

    assert damage is None
    assert session.source is Source.IMPORT
    assert session.meta == {
        "team": "y", "color": {"a": [1]}, "header.team": "x", "source": "robot", "weather": "fine",
    }  # fmt: skip


def test_amend_lines_are_applied_and_dropped(path: Path) -> None:
    amends = [
        {"type": "amend", "at": AT, "name": "new"},
        {"type": "amend", "at": AT, "tags": ["One two", "b"]},
    ]
    path.write_bytes(encoded(HEADER | {"tags": ["old"]}, event(0), *amends, event(1)))

    session, taken, damage = read(path)

    assert damage is None
    assert len(taken) == 2
    assert (session.name, session.previous_names, session.tags) == ("new", ["demo"], ["one-two", "b"])


def test_what_cannot_be_a_name_or_a_tag_is_made_one_and_kept_in_meta(path: Path) -> None:
    name = "\u202eevil \x1b[31m name"
    path.write_bytes(encoded(HEADER | {"name": name, "tags": ["Good One", "c++"]}))

    session, _, _ = read(path)

    assert session.name == "evil-31m-name"
    assert session.tags == ["good-one"]
    assert session.meta == {"name": name, "tags": ["c++"]}


def test_a_header_with_a_text_that_is_not_short_is_no_session(path: Path) -> None:
    path.write_bytes(encoded(HEADER | {"cwd": "/" * 4097}))

    with pytest.raises(Refused, match="4096 characters for `cwd`"):
        read(path)


def test_tags_beyond_those_that_a_session_may_have_are_kept_in_meta(path: Path) -> None:
    tags = [f"tag-{number}" for number in range(300)]
    path.write_bytes(encoded(HEADER | {"tags": tags}))

    session, _, _ = read(path)

    assert (session.tags, session.meta) == (tags[:256], {"tags": tags[256:]})


def test_a_file_without_a_footer_was_interrupted(path: Path) -> None:
    path.write_bytes(encoded(HEADER, event(0, at="2026-01-02T03:04:09Z")))

    session, _, damage = read(path)

    assert damage is None
    assert (session.status, session.end_reason) == (Status.INTERRUPTED, EndReason.IMPORTED)
    assert session.ended_at == "2026-01-02T03:04:09.000000Z"


DEPTH_BOMB = b'{"type":"event","seq":0,"kind":"note","at":"%s","data":%s}'


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\0" * 40, "not a line"),
        (b'{"type":"event","seq":0,"kind":"note","at":"%s","text":"a\0b"}' % AT.encode(), "not a line"),
        (b'{"type":"event","seq":0,"kind":"note","at":"%s","text":"\xff"}' % AT.encode(), "UTF-8"),
        (json.dumps(event(1)).encode(), "seq is 1, not 0"),
        (json.dumps(event(0, kind="Bad Kind")).encode(), "is no kind"),
        (json.dumps(event(0, at="yesterday")).encode(), "not a line"),
        (json.dumps({k: v for k, v in event(0).items() if k != "at"}).encode(), "has no time"),
        (json.dumps(event(0, text="x" * (1024 * 1024 + 1))).encode(), "a text of"),
        (json.dumps(event(0, data=[1])).encode(), "no JSON object"),
        (json.dumps(event(0, kind="command")).encode(), "no command line"),
        (json.dumps(event(0, session=ULID)).encode(), "not a line"),
        (json.dumps({"type": "command", "seq": 0, "index": 4, "at": AT, "command": "x"}).encode(), "index"),
        (DEPTH_BOMB % (AT.encode(), b'{"a":' * 65 + b"1" + b"}" * 65), "nested deeper"),
        (DEPTH_BOMB % (AT.encode(), b'{},"new":' + b"[" * 70 + b"]" * 70), "nested deeper"),
        (DEPTH_BOMB % (AT.encode(), b"[" * 200_000 + b"]" * 200_000), "nested too deeply"),
        (DEPTH_BOMB % (AT.encode(), b'{"a":' * 200_000), "nested too deeply"),
        (json.dumps(event(0)).encode() + b"\r", "carriage return"),
        (b'{"type":"event","seq":0,\r"kind":"note","at":"%s"}' % AT.encode(), "carriage return"),
        (json.dumps(HEADER).encode(), "not a line"),
        (b'{"type":"unheard_of"}', "not a line"),
        (b"[]", "not a line"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_line_ends_what_is_taken_and_is_told(path: Path, line: bytes, why: str) -> None:
    path.write_bytes(encoded(HEADER, line, event(0)))

    session, taken, damage = read(path)

    assert taken == []
    assert session.status is Status.INTERRUPTED
    assert damage is not None
    assert damage.startswith(f"line 2 (byte {len(encoded(HEADER))}): ")
    assert why in damage
    assert damage.endswith("; what follows was left out")
    assert len(damage) < 400


def test_a_footer_with_another_digest_is_damage_and_ends_nothing(path: Path) -> None:
    path.write_bytes(encoded(HEADER, event(0), footer(event(0, "was another"))))

    session, taken, damage = read(path)

    assert len(taken) == 1
    assert (session.status, session.end_reason) == (Status.INTERRUPTED, EndReason.IMPORTED)
    assert damage is not None
    assert damage.startswith("line 3 ")


def test_what_follows_the_footer_is_left_out(path: Path) -> None:
    path.write_bytes(encoded(HEADER, event(0), footer(event(0)), event(1)))

    session, taken, damage = read(path)

    assert (len(taken), session.status) == (1, Status.COMPLETED)
    assert damage is not None
    assert "after the footer" in damage


def test_the_longest_line_is_taken_and_one_that_no_reply_could_carry_is_damage(path: Path) -> None:
    room = EVENT_LINE_BYTES_MAX - len(encoded(event(0, data={"x": ""})))
    large = event(0, data={"x": "y" * room})
    path.write_bytes(encoded(HEADER, large, event(1, data={"x": "y" * (room + 1)}), event(2)))

    _, taken, damage = read(path)

    assert [line.encode() + b"\n" for line in taken] == [encoded(large)]
    assert damage is not None
    assert "line 3 " in damage
    assert f"longer than {EVENT_LINE_BYTES_MAX} bytes" in damage


def torn_at_every_byte(path: Path, content: bytes, header_size: int) -> None:
    """Cut the file everywhere: a prefix of whole lines is taken, never a part of one, and nothing crashes."""
    path.write_bytes(content)
    whole = read(path)[1]
    for size in range(1, len(content) + 1):
        path.write_bytes(content[:size])
        if size < header_size:
            with pytest.raises(Refused) as caught:
                read(path)
            assert caught.value.code is ErrorCode.INVALID
            continue
        session, taken, damage = read(path)
        assert taken == whole[: len(taken)]
        assert session.event_count == len(taken)
        # A last line that is whole but for its newline counts.
        complete = max(content[:size].count(b"\n"), content[: size + 1].count(b"\n"))
        assert len(taken) == min(complete - 1, len(whole)), size
        at_a_line = content[size - 1 : size] == b"\n" or content[size : size + 1] == b"\n"
        assert (damage is None) == at_a_line
        assert session.status == ("completed" if complete == content.count(b"\n") else "interrupted")


def test_a_file_torn_at_any_byte_gives_its_whole_lines(path: Path) -> None:
    events = [event(0, "grüße"), event(1, data={"a": [1, "}"]}), event(2, "\x1b[0m\u2028")]

    torn_at_every_byte(path, encoded(HEADER, *events, footer(*events)), len(encoded(HEADER)))


def test_a_file_of_version_2_torn_at_any_byte_gives_its_whole_lines(path: Path) -> None:
    content = encoded(REC_HEADER, REC_COMMAND, {"type": "custom", "x": "é"}, REC_COMMAND, REC_FOOTER)

    torn_at_every_byte(path, content, len(encoded(REC_HEADER)))


# --- version 2 ---------------------------------------------------------------------------------------------


def test_every_field_of_version_2_has_its_place(path: Path) -> None:
    path.write_bytes(encoded(REC_HEADER | {"recovered": True}, REC_COMMAND, REC_FOOTER))

    session, (line,), damage = read(path)

    assert damage is None
    assert json.loads(line) == {
        "type": "command", "seq": 0, "index": 0, "at": "2023-11-14T22:13:23.000000Z", "command": "make test",
        "cwd": "/src", "started_at": "2023-11-14T22:13:21.500000Z",
        "ended_at": "2023-11-14T22:13:23.000000Z", "exit_code": 2, "duration_ms": 1500,
    }  # fmt: skip
    assert session.name == "deploy"
    assert (session.source, session.shell, session.os, session.hostname) == (
        Source.SHELL, "bash", "Debian 12", "box",
    )  # fmt: skip
    assert (session.env, session.tags, session.recovered) == ({"HOME": "/root"}, ["prod"], True)
    assert session.started_at == "2023-11-14T22:13:20.250000Z"
    assert session.ended_at == "2023-11-14T22:13:29.000000Z"
    assert (session.status, session.end_reason) == (Status.COMPLETED, EndReason.STOPPED)
    assert session.meta == {"rec_id": REC_ID}
    assert ulid.ULID.from_str(session.ulid).milliseconds == 1_700_000_000_250


def test_version_2_without_what_may_be_left_out(path: Path) -> None:
    header = {key: REC_HEADER[key] for key in ("type", "version", "id", "name", "started_at")}
    command = {"type": "command", "index": 7, "command": "", "cwd": "/", "started_at": 0.0}
    path.write_bytes(encoded(header, command))

    session, (line,), damage = read(path)

    assert damage is None
    assert json.loads(line) == {
        "type": "command", "seq": 0, "index": 0, "at": "1970-01-01T00:00:00.000000Z", "command": "",
        "cwd": "/", "started_at": "1970-01-01T00:00:00.000000Z", "data": {"rec_index": 7},
    }  # fmt: skip
    assert (session.status, session.end_reason) == (Status.INTERRUPTED, EndReason.IMPORTED)
    assert session.tags == []
    assert not session.recovered


def test_nothing_unknown_in_version_2_is_lost(path: Path) -> None:
    odd = {"type": "annotation", "deep": {"a": [1.5]}, "seq": 9}
    header = REC_HEADER | {"theme": "dark"}
    path.write_bytes(encoded(header, REC_COMMAND | {"user": "eve"}, odd, REC_FOOTER | {"mood": "good"}))

    session, lines, damage = read(path)

    assert damage is None
    assert session.meta == {"rec_id": REC_ID, "theme": "dark", "mood": "good"}
    assert json.loads(lines[0])["data"] == {"user": "eve"}
    note = json.loads(lines[1])
    assert (note["kind"], note["data"], note["at"]) == ("note", odd, "2023-11-14T22:13:23.000000Z")


def test_the_id_of_a_version_2_session_comes_from_its_uuid_and_start_alone(path: Path) -> None:
    ulids = []
    for header in (REC_HEADER, REC_HEADER | {"name": "other", "tags": []}, REC_HEADER | {"started_at": 1.0}):
        path.write_bytes(encoded(header))
        ulids.append(read(path)[0].ulid)

    assert ulids[0] == ulids[1] != ulids[2]


@pytest.mark.parametrize(
    ("status", "expected"),
    [("completed", "completed"), ("interrupted", "interrupted"), ("recording", "interrupted")],
)
def test_the_status_of_version_2_is_that_of_the_footer(path: Path, status: str, expected: str) -> None:
    path.write_bytes(encoded(REC_HEADER, REC_FOOTER | {"status": status}))

    assert read(path)[0].status == expected


@pytest.mark.parametrize(
    "line",
    [
        b"\0\0",
        REC_COMMAND | {"started_at": 1e18},
        REC_COMMAND | {"exit_code": "x"},
        REC_HEADER,
        b'{"a":1e999}',
    ],
    ids=["nul", "time", "type", "header", "number"],
)
def test_a_damaged_line_of_version_2_is_told(path: Path, line: Any) -> None:
    path.write_bytes(encoded(REC_HEADER, REC_COMMAND, line, REC_FOOTER))

    session, lines, damage = read(path)

    assert len(lines) == 1
    assert session.status is Status.INTERRUPTED
    assert damage is not None
    assert damage.startswith("line 3 (byte ")


# --- what is no session file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"\x7fELF\x00\x01" * 100,
        b"make\nls\n",
        b'{"version": 2, "width": 80, "height": 24}\n[0.1, "o", "x"]\n',
        b'{"type":"header","version":9,"id":"x"}\n',
        encoded(HEADER | {"id": "../../etc/passwd"}),
        encoded(HEADER | {"name": 5}),
        encoded(HEADER | {"started_at": "soon"}),
        encoded(REC_HEADER | {"id": "no-uuid"}),
        encoded(REC_HEADER | {"started_at": -1e30}),
        encoded(event(0)),
        b"[" * 1_000_000 + b"\n",
        b'{"type":"header","version":3,"meta":' + b"[" * 1_000_000,
    ],
)
def test_a_file_without_a_valid_header_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(Refused) as caught:
        read(path)

    assert caught.value.code is ErrorCode.INVALID
    assert caught.value.fields["path"] == str(path)
    assert caught.value.fields["offset"] == 0


def test_a_pipe_is_refused_and_not_waited_for(path: Path) -> None:
    os.mkfifo(path)

    with pytest.raises(Refused, match="no regular file"):
        SourceFile(str(path))


def test_a_slice_is_bounded_in_lines_and_bytes(path: Path) -> None:
    events = [event(seq, "x" * (400_000 if seq < 8 else 1)) for seq in range(3000)]
    path.write_bytes(encoded(HEADER, *events))
    source = SourceFile(str(path))

    slices = list(ForeignSession(source).slices())

    source.close()
    assert max(len(part.lines) for part in slices) == SLICE_LINES_MAX
    assert max(len(part.data) for part in slices) < 1_500_000
    assert [part.first for part in slices] == [
        sum(len(p.lines) for p in slices[:n]) for n in range(len(slices))
    ]
