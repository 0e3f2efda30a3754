"""The control sequences of terminals in recorded text: colours, titles, movements of the cursor.

The one rule: a text is looked through as a person read it, so that `failure` is found whatever colour it had,
by the daemon's search as by its clients. The sequences are those of ECMA-48, 5.4 (control sequences) and 5.6
(strings).
"""

from __future__ import annotations

import re

_sequence = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*(?:[@-~]|\Z)"
    r"|[\]PX^_][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\Z)"
    r"|[ -/]*[0-OQ-WYZ\\`-~]"
    r")?"
)
"""A string (a title, a link) that has no end after 4096 characters was none, and is text."""


def without_sequences(text: str) -> str:
    """A text without its control sequences; also without one that is cut off at its end."""
    return _sequence.sub("", text) if "\x1b" in text else text
