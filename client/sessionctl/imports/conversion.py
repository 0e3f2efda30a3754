"""From a source to the file of a session.

Owns the id of what is imported, and the filling-in of times. The one rule: the same content makes the same
session, the same id and (where it has times of its own) the same lines, whoever imports it and when.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from sessionctl.connection import NAME
from sessionctl.imports import bash, fish, plain, zsh
from sessionctl.imports.cast import Cast, Happening
from sessionctl.imports.detect import Format
from sessionctl.imports.entry import Entry, Reader
from sessionctl.imports.source import Damaged, Refused, Source
from sessionctl.lines import text_and_bytes
from sessionctl.names import is_name
from sessionctl.session_file import SessionFile, time_text
from sessiond_client.ulids import RANDOM_BYTES, derived_ulid
from sessiond_client.wire.lines import FORMAT_VERSION, CommandLine, EventLine, HeaderLine
from sessiond_client.wire.messages import NAME_LENGTH_MAX, Status
from sessiond_client.wire.messages import Source as SessionSource

READERS: dict[Format, Reader] = {
    Format.BASH: bash.entries,
    Format.ZSH: zsh.entries,
    Format.FISH: fish.entries,
    Format.PLAIN: plain.entries,
}
SHELLS = {Format.BASH, Format.ZSH, Format.FISH}
NAME_DEFAULT = "imported"


class Conversion:
    """One source on its way to be a session. `ulid` is its id, now and whenever it is imported again.

    Raises `Refused` if there is nothing in it.
    """

    def __init__(self, source: Source, format: Format) -> None:  # noqa: A002 - the word of its users
        source.digest()  # first of all, so that no later change goes unnoticed
        self._source = source
        self._format = format
        self._cast = Cast(source) if format is Format.CAST else None
        if self._cast is not None:
            self._first = self._cast.started_at
        else:
            self._first = _first_time(source, READERS[format])
        self.ulid = _ulid(format, source, self._first)

    def write(self, file: SessionFile, name: str | None, tags: Sequence[str]) -> Damaged | None:
        """Write the whole session. Returns where the source is damaged; `file` has what is whole before."""
        start = self._source.modified_at if self._first is None else self._first
        title = None if self._cast is None else self._cast.title
        file.header(
            HeaderLine(
                version=FORMAT_VERSION,
                id=self.ulid,
                name=name or _name(title, self._source.name),
                source=SessionSource.IMPORT,
                started_at=time_text(start),
                shell=self._format if self._format in SHELLS else None,
                tags=[*tags],
                cli_version=NAME,
                meta=self._meta(),
            )
        )
        if self._cast is not None:
            damage = _write_cast(self._cast, start, file)
        else:
            damage = _write_history(self._source, READERS[self._format], start, file)
        self._source.require_unchanged()
        return damage

    def _meta(self) -> dict[str, Any]:
        cast = self._cast
        meta: dict[str, Any] = {"imported_from": self._source.name}
        meta["format"] = self._format.value if cast is None else f"asciicast-v{cast.version}"
        if self._first is None:
            meta["times_from"] = "import" if self._source.piped else "mtime"
        return meta if cast is None else meta | cast.meta


def _first_time(source: Source, entries: Reader) -> int | None:
    """When the first command of a known time was started."""
    with suppress(Damaged):  # told when what is before it has been taken
        return next((it.started_at for it in entries(source) if it.started_at is not None), None)
    return None


def _ulid(format: Format, source: Source, first: int | None) -> str:  # noqa: A002 - as above
    """The id of this content. Where it has no time, the id has none either: a file's own may change."""
    digest = hashlib.sha256(format.encode() + b"\n" + source.digest()).digest()
    return derived_ulid(0 if first is None else first // 1000, digest[:RANDOM_BYTES])


def _name(title: str | None, base_name: str) -> str:
    """A title that can be a name, else what can be kept of the file's name."""
    if title and is_name(title):
        return title
    stem = base_name[:1] + base_name[1:].partition(".")[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:NAME_LENGTH_MAX] or NAME_DEFAULT


def _write_history(source: Source, entries: Reader, start: int, file: SessionFile) -> Damaged | None:
    """The commands of a history. One of unknown time happened when the one before did, as far as is known."""
    damage = None
    at = end = start
    try:
        for entry in entries(source):
            at = _end_of(entry, at)
            end = max(end, at)
            file.command(_command(entry, at))
    except Damaged as found:
        damage = found
    if not file.events:
        raise Refused("there are no commands in it" if damage is None else str(damage))
    _close(file, end, damage)
    return damage


def _end_of(entry: Entry, before: int) -> int:
    return before if entry.started_at is None else entry.started_at + (entry.duration or 0)


def _command(entry: Entry, at: int) -> CommandLine:
    text, exact = text_and_bytes(entry.text)
    known = entry.started_at is not None
    ended = known and entry.duration is not None
    return CommandLine(
        seq=0,
        index=0,
        at=time_text(at),
        command=text,
        started_at=time_text(entry.started_at) if entry.started_at is not None else None,
        ended_at=time_text(at) if ended else None,
        duration_ms=entry.duration // 1000 if ended and entry.duration is not None else None,
        data={**(entry.data or {}), **exact},
    )


def _write_cast(cast: Cast, start: int, file: SessionFile) -> Damaged | None:
    damage = None
    exit_code: int | None = None
    end = start
    try:
        for happening in cast.happenings():
            at = start + happening.at
            end = max(end, at)
            if happening.kind == "exit" and happening.data:
                exit_code = happening.data["exit_code"]
            file.event(_event(happening, time_text(at)))
    except Damaged as found:
        damage = found
    _close(file, end, damage, exit_code)
    return damage


def _event(happening: Happening, at: str) -> EventLine:
    data = UNSET if happening.data is None else Raw(msgspec.json.encode(happening.data))
    return EventLine(seq=0, kind=happening.kind, at=at, text=happening.text, data=data)


def _close(file: SessionFile, end: int, damage: Damaged | None, exit_code: int | None = None) -> None:
    """The footer. How a session ended whose end is missing, nobody knows."""
    status = Status.COMPLETED if damage is None else Status.INTERRUPTED
    file.footer(time_text(end), status, exit_code=exit_code)
