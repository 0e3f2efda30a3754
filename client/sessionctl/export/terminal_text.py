"""What a terminal would have shown, as plain lines.

Owns one line of a terminal and a cursor in it. The one rule: escape sequences never come out, however they
are cut; text does, once. Within a line the cursor is followed (carriage return, backspace, cursor left and
right, erase, delete and insert), so that edited command lines and progress bars come out as they were last
seen. Between lines it is not: a program that paints the whole screen comes out as the text it wrote, in the
order in which it wrote it. Source of the sequences: ECMA-48.
"""

from __future__ import annotations

import re

LINE_LENGTH_MAX = 16 * 1024
"""Of a longer line, the beginning is settled: it is given out, and the cursor no longer gets back to it."""

SEQUENCE_LENGTH_MAX = 256
"""A control sequence that is longer was none: its beginning is dropped, the rest is text."""

STRING_LENGTH_MAX = 1024 * 1024
"""A string sequence (a window title, an image) that has no end by then is over."""

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<numbers>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|(?P<string>\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x8f\x91-\x97\x99\x9a\x9c])"
    r"|(?:(?:\x1b\[|\x9b)[0-?]*|\x1b)[ -/]*(?=[^ -~])"
)
_STRING_END = re.compile(r"\x07|\x9c|\x18|\x1a|\x1b\\|(?=\x1b[^\\])")


class TerminalText:
    """Takes the output of a program in pieces; gives the lines that are finished."""

    def __init__(self) -> None:
        self._line = ""
        self._column = 0
        self._begun = False
        self._held = ""
        self._skipped: int | None = None

    def feed(self, text: str) -> str:
        """The lines that this piece finishes, each with its newline, and what is settled of a longer one."""
        text = self._held + text
        self._held = ""
        finished: list[str] = []
        position = 0
        while position < len(text):
            if self._skipped is not None:
                position = self._skip(text, position)
            elif token := _TOKEN.match(text, position):
                self._take(token, finished)
                position = token.end()
            elif len(text) - position <= SEQUENCE_LENGTH_MAX:
                self._held = text[position:]
                break
            else:
                position += 1
        return "".join(finished)

    def _skip(self, text: str, position: int) -> int:
        """Go on to the end of a string sequence; returns where it is."""
        assert self._skipped is not None  # noqa: S101 - only called within one
        end = _STRING_END.search(text, position)
        if end is not None:
            self._skipped = None
            return end.end()
        self._skipped += len(text) - position
        if text.endswith("\x1b"):
            self._held = "\x1b"
        if self._skipped > STRING_LENGTH_MAX:
            self._skipped = None
        return len(text)

    def rest(self) -> str:
        """The last line, which has no newline; afterwards all is as at the beginning."""
        line, self._line, self._column, self._begun = self._line, "", 0, False
        self._held, self._skipped = "", None
        return line.rstrip(" ")

    def _take(self, token: re.Match[str], finished: list[str]) -> None:
        if token["text"] is not None:
            self._write(token["text"], finished)
        elif token["string"] is not None:
            self._skipped = 0
        elif token["final"] is not None:
            self._move(token["final"], token["numbers"], finished)
        elif token["control"] is not None:
            self._control(token["control"], finished)

    def _write(self, text: str, finished: list[str]) -> None:
        while text:
            column, line = self._column, self._line
            part, text = text[: LINE_LENGTH_MAX - column], text[LINE_LENGTH_MAX - column :]
            if column == len(line):
                self._line = line + part
            else:
                self._line = line[:column].ljust(column) + part + line[column + len(part) :]
            self._column = column + len(part)
            if self._column == LINE_LENGTH_MAX:
                finished.append(self._line)
                self._line, self._column, self._begun = "", 0, True

    def _control(self, control: str, finished: list[str]) -> None:
        if control in "\n\x0b\x0c\x85":
            self._end_line(finished)
        elif control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(self._column - 1, 0)
        elif control == "\t":
            self._write("\t", finished)

    def _end_line(self, finished: list[str]) -> None:
        finished.append(self._line.rstrip(" ") + "\n")
        self._line, self._column, self._begun = "", 0, False

    def _move(self, final: str, numbers: str, finished: list[str]) -> None:
        """A control sequence: what it does to this line, or an end to it if it leads to another."""
        first = numbers.partition(";")[0]
        count = min(int(first), LINE_LENGTH_MAX) if first.isdecimal() else 0
        steps = max(count, 1)
        line, column = self._line, self._column
        if final == "C":
            self._column = min(column + steps, LINE_LENGTH_MAX)
        elif final == "D":
            self._column = max(column - steps, 0)
        elif final in "G`":
            self._column = min(steps, LINE_LENGTH_MAX) - 1
        elif final == "K" or (final == "J" and count == 0):
            self._line = (line[:column], " " * min(column + 1, len(line)) + line[column + 1 :], "")[
                min(count, 2)
            ]
        elif final == "P":
            self._line = line[:column] + line[column + steps :]
        elif final == "X":
            self._line = line[:column] + " " * min(steps, len(line[column:])) + line[column + steps :]
        elif final == "@":
            self._line = (line[:column] + " " * steps + line[column:])[:LINE_LENGTH_MAX]
        elif final in "ABEFHfdJ" and (line.strip() or self._begun):
            self._end_line(finished)
