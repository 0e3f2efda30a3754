"""What a new session says about where it is recorded.

Owns these facts. The one rule: text of the system that is no UTF-8 is made readable here, so that nothing
about the surroundings can keep a session from starting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypedDict

from sessionctl.connection import NAME
from sessionctl.reference import SESSION_VARIABLE, resolve
from sessiond_client.client import Client
from sessiond_client.errors import DaemonUnavailable


class HostFacts(TypedDict):
    """The fields of `Client.start` that say where it is recorded."""

    cli_version: str
    shell: str | None
    os: str
    hostname: str


def about_host(environ: Mapping[str, str] = os.environ) -> HostFacts:
    """The user's shell, the system and the host's name."""
    system = os.uname()
    shell = environ.get("SHELL")
    return HostFacts(
        cli_version=NAME,
        shell=None if shell is None else unicode_text(shell),
        os=f"{system.sysname} {system.release} {system.machine}",
        hostname=system.nodename,
    )


def parent_session(
    client: Client, reference: str | None = None, environ: Mapping[str, str] = os.environ
) -> str | None:
    """The ULID of the parent: the one asked for, else the one this process is recorded in."""
    if reference is not None:
        return resolve(client, reference, environ).ulid
    ulid = environ.get(SESSION_VARIABLE, "")
    if not _looks_like_ulid(ulid):
        return None
    try:
        known = client.get(ulid)
    except DaemonUnavailable:
        # It may wait in the spool itself; a parent that nobody knows harms nothing.
        return ulid
    return None if known is None else known.ulid


def unicode_text(text: str) -> str:
    """Text of the system, where bytes that are no UTF-8 hide as lone surrogates, as text that can be sent."""
    return os.fsencode(text).decode(errors="replace")


def _looks_like_ulid(text: str) -> bool:
    import re

    from sessiond_client.wire.messages import ULID_PATTERN

    return re.match(ULID_PATTERN, text) is not None
