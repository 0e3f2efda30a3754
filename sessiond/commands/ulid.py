"""What `--session` takes: a ULID in either case. Names are known to a running daemon only."""

from __future__ import annotations

import re

import click

from sessiond_client.wire.words import ULID_PATTERN

_ulid = re.compile(ULID_PATTERN)


def required(text: str) -> str:
    """The ULID as it is stored. Raises click.BadParameter."""
    if not _ulid.match(text.upper()):
        message = f"{text!r} is no ULID; `sessionctl find NAME` tells that of a session"
        raise click.BadParameter(message, param_hint="--session")
    return text.upper()
