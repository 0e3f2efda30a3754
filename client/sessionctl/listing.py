"""Which sessions were asked for, and fetching them.

Owns the paging. The one rule: a page is fetched when it is wanted and no larger than what is left to fetch,
so that any number of sessions can be gone through and a few are fetched at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from msgspec import UNSET

from sessionctl.output import counted
from sessiond_client.client import Client
from sessiond_client.filters import SessionFilters
from sessiond_client.wire.messages import LIST_LIMIT_MAX, Session


def listed(client: Client, filters: SessionFilters, limit: int | None = None) -> Iterator[Session]:
    """At most `limit` of the sessions that pass the filters (None: all), newest first."""
    left = limit
    before: str | None = None
    while True:
        size = LIST_LIMIT_MAX if left is None else min(left, LIST_LIMIT_MAX)
        page = client.list(limit=size, before=before, **filters)
        if page.unreadable is not UNSET:
            said = f"{counted(page.unreadable, 'session')} cannot be read, and left out"
            click.echo(f"sessionctl: {said}; `sessionctl verify` says what mends that", err=True)
        yield from page
        left = None if left is None else left - len(page.sessions)
        before = page.next
        if before is None or not page.sessions or left == 0:
            return
