"""What a hit shows of a text: the part around its first match, and where in it the matches are.

The one rule: a snippet is one line, and its marks count characters of the snippet itself.
"""

from __future__ import annotations

from collections.abc import Iterable

SNIPPET_LENGTH_MAX = 160
"""Characters of the text that a snippet shows at most; an ellipsis at either end comes on top."""

LEAD_LENGTH = 40
"""Characters before the first match that are shown with it."""

ELLIPSIS = "…"

_one_line = dict.fromkeys(map(ord, "\n\r\v\f\x85\u2028\u2029"), " ")


def snippet(text: str, spans: Iterable[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    """The snippet and its marks; `spans` are the matches in the text, in ascending order."""
    text = text.rstrip("\r\n")  # of a line of output there is nothing behind its end
    marks: list[tuple[int, int]] = []
    begin = end = shift = 0
    window = None
    for first, last in spans:
        if window is None:
            begin = max(0, min(first - LEAD_LENGTH, len(text) - SNIPPET_LENGTH_MAX))
            end = min(len(text), begin + SNIPPET_LENGTH_MAX)
            shift = len(ELLIPSIS) * (begin > 0) - begin
            window = (begin, end)
        if first >= end:
            break
        if first < last:
            marks.append((first + shift, min(last, end) + shift))
    if window is None:
        end = min(len(text), SNIPPET_LENGTH_MAX)
    shown = text[begin:end].translate(_one_line)
    return f"{ELLIPSIS * (begin > 0)}{shown}{ELLIPSIS * (end < len(text))}", marks
