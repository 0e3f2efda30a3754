"""What a source is, seen from its first bytes.

Owns the names of the formats and their marks. The one rule: it goes by content, never by the name of a file;
what has no mark of any format is a plain list of commands, if it is text at all.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from sessionctl.imports import fish, zsh
from sessionctl.imports.plain import BYTE_ORDER_MARK
from sessionctl.imports.source import Damaged, Refused, Source

CONTROLS_SHARE_MAX = 0.02
"""More control characters than this among the first bytes, and it is no text."""


class Format(StrEnum):
    """What can be imported."""

    NDJSON = "ndjson"
    CAST = "cast"
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    PLAIN = "plain"


ALIASES = {"rec": Format.NDJSON, "asciicast": Format.CAST}
"""Other names of formats; `rec` writes NDJSON, version 2."""


class _Probe(msgspec.Struct):
    type: object = None
    version: object = None


_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"\xfd7zXZ\0": "unxz",
    b"BZh": "bunzip2",
    b"PK\x03\x04": "unzip",
}
_JSON_OBJECT = re.compile(rb'\s*\{\s*["}]')
_VERSION_1 = re.compile(rb'"version"\s*:\s*1\s*[,}]')
_BASH_TIME = re.compile(rb"^#\d{9,11}$", re.MULTILINE)
_ZSH_TIMES = re.compile(rb"^" + zsh.TIMES.pattern.replace(rb": *", rb": ", 1), re.MULTILINE)
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\r\f\b\x07\x1b"})


def detect(source: Source) -> Format:
    """The format of a source. Raises `Refused` if it is none of these."""
    head = _head(source)
    if _JSON_OBJECT.match(head):
        return _kind_of_json(source, head)
    return _shell(head) or Format.PLAIN


def require_text(source: Source) -> None:
    """Raise `Refused` for what cannot be a list of commands, whoever says so."""
    _shell(_head(source))


def _head(source: Source) -> bytes:
    head = source.head().removeprefix(BYTE_ORDER_MARK)
    if not head:
        raise Refused("it is empty")
    for mark, tool in _PACKED.items():
        if head.startswith(mark):
            raise Refused(f"it is compressed; unpack it first, with {tool}")
    return head


def _shell(head: bytes) -> Format | None:
    """The shell whose history it is; None for other text."""
    if head.lstrip().startswith(fish.COMMAND):
        return Format.FISH
    if _ZSH_TIMES.search(head):
        return Format.ZSH
    if _BASH_TIME.search(head):
        return Format.BASH
    if _is_binary(head):
        raise Refused("it is binary, and no format that can be imported")
    return None


def _kind_of_json(source: Source, head: bytes) -> Format:
    try:
        first = next(source.lines(cut_off=True))
        probe = msgspec.json.decode(first.data.removeprefix(BYTE_ORDER_MARK), type=_Probe)
    except (Damaged, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        probe = _Probe()
    if probe.type == "header":
        return Format.NDJSON
    if probe.version in {2, 3} or _VERSION_1.search(head):
        return Format.CAST
    raise Refused("it is JSON, but neither a session's file nor an asciicast of version 1 to 3")


def _is_binary(head: bytes) -> bool:
    if b"\0" in head:
        # A file that a crash has damaged has whole lines of text before its NUL bytes.
        head = head[: head.rfind(b"\n", 0, head.index(b"\0")) + 1]
        if not head.strip() or not _is_utf8(head):
            return True
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls > len(head) * CONTROLS_SHARE_MAX


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
