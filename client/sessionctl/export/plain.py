"""Plain text: what was on the terminal, without colours and escape sequences.

The one rule: nothing in it can control the terminal it is looked at on. Events that are no output stand on
lines of their own: a command behind `$`, others behind their kind.
"""

from __future__ import annotations

from collections.abc import Iterator

from sessionctl.export.formats import Options
from sessionctl.export.passages import Passage, passages
from sessionctl.export.recording import Recording

UNSEEN_KINDS = frozenset({"marker", "exit"})
"""What stands beside a terminal, not on it."""


def export(recording: Recording, _options: Options) -> Iterator[bytes]:
    """One passage after the other."""
    for passage in passages(recording):
        if passage.kind not in UNSEEN_KINDS:
            yield (_text(passage) + ("" if passage.goes_on else "\n")).encode()


def _text(passage: Passage) -> str:
    if passage.kind == "output":
        return passage.text
    if passage.kind == "command":
        return f"$ {passage.text}"
    return f"{passage.kind}: {passage.text or passage.facts}"
