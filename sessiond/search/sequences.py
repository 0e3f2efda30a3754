"""Control sequences of terminals in what is searched: colours, titles, movements of the cursor.

The one rule: a text is searched as a person read it, so that `failure` is found whatever colour it had. The
sequences are those of ECMA-48, 5.4 (control sequences) and 5.6 (strings).
"""

from __future__ import annotations

import re

STRING_LENGTH_MAX = 4096
"""A string (a title, a link) without an end by then was none, and is text."""

_sequence = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*(?:[@-~]|\Z)"
    rb"|[\]PX^_][^\x07\x1b\x9c]{0,%d}(?:\x07|\x1b\\|\Z)"
    rb"|[ -/]*[0-OQ-WYZ\\`-~]"
    rb")?" % STRING_LENGTH_MAX
)


def without_sequences(text: bytes) -> bytes:
    """A text in UTF-8 without its control sequences; also without one that is cut off at its end."""
    return _sequence.sub(b"", text) if b"\x1b" in text else text
