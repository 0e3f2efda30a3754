"""Recorded command lines as text of a shell script.

Owns what this package knows of the shell's quoting. The one rule: a command never reaches beyond itself.
One whose quotes do not close is handed to `eval`, where it fails alone instead of swallowing what follows; in
a script that one shell reads to its end, so is one that may be no whole command.
What is not understood here (here-documents, command substitution) is left as it is. Source: POSIX.1-2024,
Shell Command Language, 2.2; Bash manual, 3.1.2.
"""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from enum import StrEnum


class Quote(StrEnum):
    """The kinds of quoting in which a place of a command line can be."""

    PLAIN = "plain"
    SINGLE = "single"
    DOUBLE = "double"
    ANSI = "ansi"
    COMMENT = "comment"


_OPENING = re.compile(r"\\(?:.|\Z)|(?<![^\s;&|()])#|\$'|['\"]", re.DOTALL)
_CLOSING = {
    Quote.SINGLE: re.compile("[^']*'"),
    Quote.DOUBLE: re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL),
    Quote.ANSI: re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL),
    Quote.COMMENT: re.compile(r"[^\n]*"),
}
_QUOTES = {"'": Quote.SINGLE, '"': Quote.DOUBLE, "$'": Quote.ANSI, "#": Quote.COMMENT}
_HERE_DOCUMENT = re.compile(r"(?<!<)<<(-?)[ \t]*(\\?)(['\"]?)([^\s'\"<>|&;()\\]+)\3")
_NESTING = re.compile(r"<<|`|\$[({\"]")
_PAIRS = (("(", ")"), ("{", "}"))
_COMPOUND = re.compile(
    r"(?<![^\s;&|(`])(?:if|then|else|elif|fi|for|select|while|until|do|done|case|esac|function|coproc|\[\[|[{}])"
    r"(?![^\s;&|)`])|(?<![$<>])\(|;;|[|&;<>(]\s*\Z|\A\s*[|&;)]|[|&;<>(]\s*[|;)]|[|;]\s*&|&\s+&"
)
"""What can begin, go on or end a command of several parts, or stands where a word is missing."""

_UNKNOWN = "\ufffd"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
_ANSI_SPECIAL = re.compile(r"[\x00-\x1f\x7f\\']")
_ANSI_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\", "'": r"\'"}


def verbatim(text: str) -> str:
    """The command as it was typed, if it ends where it ends; it may have several lines."""
    text = text.replace("\0", _UNKNOWN)  # no shell takes it
    return text if _is_closed(text) else f"eval {shlex.quote(text)}"


def contained(text: str) -> str:
    """As `verbatim`, for a command of which nobody knows whether a shell ever took it for whole."""
    if (
        _COMPOUND.search(text)
        or text.count("`") % 2
        or any(text.count(a) != text.count(b) for a, b in _PAIRS)
    ):
        return f"eval {shlex.quote(text.replace(chr(0), _UNKNOWN))}"
    return verbatim(text)


def one_line(text: str) -> str:
    """The command on one line, for formats that know no other."""
    if _is_closed(text) and not _CONTROL.search(text) and "<<" not in text:
        return text
    return f"eval {ansi_quoted(text)}"


def word(text: str) -> str:
    """Any text as one word on one line, quoted no more than need be."""
    return ansi_quoted(text) if _CONTROL.search(text) else shlex.quote(text)


def ansi_quoted(text: str) -> str:
    """Any text as one word of bash on one line."""

    def escaped(match: re.Match[str]) -> str:
        character = match.group()
        if character == "\0":
            return _UNKNOWN
        return _ANSI_SHORT.get(character) or f"\\x{ord(character):02x}"

    return f"$'{_ANSI_SPECIAL.sub(escaped, text)}'"


def tolerant(text: str) -> str:
    """A command that failed when it was recorded, and may do so again."""
    return f"{{\n{text}\n}} || true"


class Quoting:
    """How each place of a command line is quoted, as far as that can be told by looking at it."""

    def __init__(self, text: str) -> None:
        self._nested = _NESTING.search(text) is not None
        self._begins, self._quotes = _stretches(text) or ([], [])

    def at(self, position: int) -> Quote | None:
        """The quoting there; None if that cannot be told."""
        if self._nested or not self._begins:
            return None
        return self._quotes[bisect_right(self._begins, position) - 1]


def _stretches(text: str) -> tuple[list[int], list[Quote]] | None:
    """Where each kind of quoting begins; None if the last one does not end."""
    begins, quotes = [0], [Quote.PLAIN]
    position = 0
    while opening := _OPENING.search(text, position):
        position = opening.end()
        quote = _QUOTES.get(opening.group())
        if quote is None:
            if opening.group() == "\\":
                return None
            continue
        closing = _CLOSING[quote].match(text, position)
        if closing is None:
            return None
        begins += [position, closing.end()]
        quotes += [quote, Quote.PLAIN]
        position = closing.end()
    return begins, quotes


def _is_closed(text: str) -> bool:
    """Whether what follows the command is outside of it."""
    documents = list(_HERE_DOCUMENT.finditer(text))
    if not documents:
        return _stretches(text) is not None
    # Quotes within a here-document need not close: those before the first one must, and each must end.
    line_end = text.find("\n", documents[0].start())
    return line_end > 0 and _stretches(text[:line_end]) is not None and _all_end(documents, text)


def _all_end(documents: list[re.Match[str]], text: str) -> bool:
    """Whether the last line ends a here-document, and each has a line that does."""
    lines = text.rstrip("\n").split("\n")
    words = {document[4] for document in documents}
    bare = [line.lstrip("\t") for line in lines]
    return bare[-1] in words and words <= set(bare[1:])
