"""Queries in words: what they mean, as an expression of FTS5, and where their words stand in a text.

The one rule: the user's text reaches FTS5 only inside quotes, so that no query is a syntax error there, a
column or NEAR. Words are compared as `unicode61 remove_diacritics 2` does: runs of letters and digits, in
lower case and without diacritics (https://sqlite.org/fts5.html#unicode61_tokenizer).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from sessiond.errors import Refused
from sessiond_client.wire.messages import ErrorCode

TERMS_MAX = 64
PREFIXES_MAX = 8
"""Beginnings of words in one query: each makes FTS5 collect every event with such a word."""

NESTING_MAX = 16
FOLDED_REMEMBERED_MAX = 8192

SIGMA, FINAL_SIGMA = "\u03c3", "\u03c2"
MARK = "\u0301"
"""Stands for any mark that is written over or under the letter before it."""

_token = re.compile(r'\s*(?:([()])|"((?:[^"]|"")*)"(\*?)|(")|([^\s()"]+))')
_word = re.compile(rf"(?:[^\W_]{MARK}*)+")


class _Folding(dict[int, str]):
    """A character to the one it is compared as, always one to one, so that positions stay."""

    def __missing__(self, code: int) -> str:
        decomposed = unicodedata.normalize("NFD", chr(code))
        if unicodedata.category(decomposed[0]) == "Mn":
            folded = MARK
        else:
            lower = decomposed[0].lower()
            folded = SIGMA if lower == FINAL_SIGMA else lower[0]
        if len(self) < FOLDED_REMEMBERED_MAX:
            self[code] = folded
        return folded


_folding = _Folding()


def folded(text: str) -> str:
    """A text as words are compared, of the same length."""
    return text.lower() if text.isascii() else text.translate(_folding)


class Words(NamedTuple):
    """A query: as an expression of FTS5, and as a pattern that finds its words in a folded text."""

    expression: str
    pattern: re.Pattern[str]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the words of the query stand in a text."""
        return (match.span() for match in self.pattern.finditer(folded(text)))


class _Part(NamedTuple):
    """A part of a query: its expression, and the patterns of the words that must or may be there."""

    expression: str
    patterns: tuple[str, ...]


def parse_words(query: str) -> Words:
    """Read a query. Raises Refused, with `field` set, for one that means nothing."""
    parser = _Parser(query)
    part = parser.whole()
    if part is None:
        raise _invalid("no word to search for", "give a word or the beginning of one, or search by substring")
    return Words(part.expression, re.compile("|".join(part.patterns)))


def _invalid(message: str, hint: str) -> Refused:
    return Refused(ErrorCode.INVALID, message, hint, field="query")


class _Parser:
    """any := all {OR all};  all := one {[AND] one | [AND] NOT one};  one := word | "phrase" | ( any )."""

    def __init__(self, query: str) -> None:
        self._tokens = self._split(query)
        self._next = 0
        self._terms = 0
        self._prefixes = 0

    @staticmethod
    def _split(query: str) -> list[re.Match[str]]:
        tokens = []
        position = 0
        query = query.rstrip()
        while position < len(query):
            token = _token.match(query, position)
            assert token is not None
            if token[4]:
                raise _invalid("a quote that is not closed", 'close it with another ", or leave it out')
            tokens.append(token)
            position = token.end()
        return tokens

    def whole(self) -> _Part | None:
        """The whole query; None if there is no word in it."""
        if not self._tokens:
            return None
        part = self._any(0)
        if self._next < len(self._tokens):
            raise _invalid("a ) without its (", "leave it out, or put quotes around the words it belongs to")
        return part

    def _peek(self) -> str:
        """The next token if it is a parenthesis or a bare word, else nothing."""
        if self._next == len(self._tokens):
            return ""
        token = self._tokens[self._next]
        return token[1] or token[5] or ""

    def _any(self, depth: int) -> _Part | None:
        if depth > NESTING_MAX:
            raise _invalid(f"more than {NESTING_MAX} parentheses in each other", "leave some out")
        parts = [self._all(depth)]
        while self._peek() == "OR":
            self._next += 1
            parts.append(self._all(depth))
        return _joined(parts, " OR ")

    def _all(self, depth: int) -> _Part | None:
        wanted: list[_Part | None] = [self._one(depth)]
        unwanted: list[_Part | None] = []
        while self._next < len(self._tokens) and self._peek() not in {")", "OR"}:
            if self._peek() == "AND":
                self._next += 1
            if self._peek() == "NOT":
                self._next += 1
                unwanted.append(self._one(depth))
            else:
                wanted.append(self._one(depth))
        part = _joined(wanted, " AND ")
        without = _joined(unwanted, " OR ")
        if part is None or without is None:
            if without is not None:
                raise _nothing_but_not()
            return part
        return _Part(f"({part.expression} NOT {without.expression})", part.patterns)

    def _one(self, depth: int) -> _Part | None:
        word = self._peek()
        if word == "NOT":
            raise _nothing_but_not()
        if word in {"AND", "OR", ")"} or self._next == len(self._tokens):
            where = f"before {word}" if word else "at the end"
            raise _invalid(f"a word is missing {where}", "add it, or put quotes around AND, OR, ( and )")
        token = self._tokens[self._next]
        self._next += 1
        if word == "(":
            part = self._any(depth + 1)
            if self._peek() != ")":
                raise _invalid("a ( without its )", "close it, or put quotes around the words with it")
            self._next += 1
            return part
        if token[2] is not None:
            return self._term(token[2].replace('""', '"'), is_prefix=bool(token[3]))
        return self._term(word.rstrip("*"), is_prefix=word.endswith("*"))

    def _term(self, text: str, *, is_prefix: bool) -> _Part | None:
        words = _word.findall(folded(text))
        if not words:
            return None
        self._terms += len(words)
        self._prefixes += is_prefix
        if self._terms > TERMS_MAX or self._prefixes > PREFIXES_MAX:
            raise _invalid(
                f"more than {TERMS_MAX} words, or more than {PREFIXES_MAX} beginnings of words",
                "search for fewer at once",
            )
        quoted = '"' + text.replace('"', '""').replace("\0", " ") + '"' + "*" * is_prefix
        return _Part(quoted, (_pattern(words, is_prefix=is_prefix),))


def _nothing_but_not() -> Refused:
    return _invalid("NOT needs something to leave it out of", "say first what is wanted: wanted NOT unwanted")


def _joined(parts: list[_Part | None], operator: str) -> _Part | None:
    present = [part for part in parts if part is not None]
    if len(present) <= 1:
        return present[0] if present else None
    expression = operator.join(part.expression for part in present)
    return _Part(f"({expression})", tuple(pattern for part in present for pattern in part.patterns))


def _pattern(words: list[str], *, is_prefix: bool) -> str:
    """A regular expression for these words in a row, in a folded text."""
    letters = ("".join(f"{re.escape(letter)}{MARK}*" for letter in word.replace(MARK, "")) for word in words)
    rest = rf"(?:[^\W_]{MARK}*)*" if is_prefix else r"(?![^\W_])"
    return rf"(?<![^\W_])(?<![^\W_]{MARK})" + r"[\W_]+".join(letters) + rest
