"""Regular expressions of users, and the text that they are run on.

The one rule: they are run by RE2, in time linear in the text, so that none of them hangs; RE2 is loaded only
where there is one.
"""

from __future__ import annotations

import re
from typing import Any

import click

_sequence = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*(?:[@-~]|\Z)"
    r"|[\]PX^_][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\Z)"
    r"|[ -/]*[0-OQ-WYZ\\`-~]"
    r")?"
)
"""A string (a title, a link) that has no end after 4096 characters was none, and is text."""


def without_sequences(text: str) -> str:
    """A text as a person read it: without the control sequences of terminals (ECMA-48)."""
    return _sequence.sub("", text) if "\x1b" in text else text


def compiled(pattern: str) -> Any:
    """A pattern in RE2's syntax, which takes time linear in the text. Raises `ValueError`."""
    import re2

    options = re2.Options()
    options.log_errors = False  # it would write to standard error on its own
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if isinstance(error, re2.error) and error.args else error
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise ValueError(f"{pattern!r} is no regular expression of RE2: {reason}") from None


def pattern_option(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """What an option that takes a REGEX, or several, was given, or a usage error."""
    try:
        if isinstance(value, tuple):
            return [compiled(pattern) for pattern in value]
        return None if value is None else compiled(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
