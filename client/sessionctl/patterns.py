"""Regular expressions of users.

The one rule: they are run by RE2, in time linear in the text, so that none of them hangs; RE2 is loaded only
where there is one.
"""

from __future__ import annotations

from typing import Any

import click


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
