"""The events of a fork with those it inherits: its parent's up to where it was forked, and so on upwards.

The one rule: an inherited event is never copied; it is found by its place along the chain, which counts from
the first event of the eldest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from sessiond.errors import not_found
from sessiond.storage.catalog import Page, collect, event_conditions, marked
from sessiond.storage.database import rows
from sessiond_client.wire import messages

ANCESTORS_MAX = 1000
"""Beyond so many generations nothing is inherited, and nothing from a session that is its own ancestor."""


class Link(NamedTuple):
    """The part of a chain that one session has: its seqs from 0 to `length` - 1 are at `start` and after."""

    row_id: int
    ulid: str
    start: int
    length: int


def read_chain(connection: apsw.Connection, request: messages.Read) -> Page:
    """A page of a fork's events and of those it inherits; positions are along the chain."""
    chain = _chain(connection, request.session)
    backwards = request.tail is not None
    limit = request.limit if request.tail is None else min(request.tail, request.limit)
    if limit == 0:
        return Page([], 0, 0, more=False)
    links = reversed(chain) if backwards else iter(chain)
    page = collect(_lines(connection, request, links, limit + 1, backwards=backwards), limit)
    if backwards:
        page.lines.reverse()
        return Page(page.lines, page.last, page.first, page.more)
    return page


def _chain(connection: apsw.Connection, ulid: str) -> list[Link]:
    """The eldest first."""
    found: list[tuple[int, str, int]] = []
    parent: tuple[str, int] | None = (ulid, -1)
    seen: set[str] = set()
    while parent is not None and parent[0] not in seen and len(found) < ANCESTORS_MAX:
        seen.add(parent[0])
        sql = (
            "SELECT id, next_seq, parent_ulid, parent_seq FROM session"
            " WHERE ulid = ? AND shelf IN ('kept', 'trashed')"
        )
        row = next(iter(rows(connection, sql, (parent[0],))), None)
        if row is None:
            if not found:
                raise not_found(ulid)
            break
        row_id, next_seq, parent_ulid, parent_seq = row
        found.append((row_id, parent[0], min(next_seq, parent[1] + 1) if found else next_seq))
        parent = None if parent_ulid is None or parent_seq is None else (parent_ulid, parent_seq)
    chain: list[Link] = []
    start = 0
    for row_id, name, count in reversed(found):
        chain.append(Link(row_id, name, start, count))
        start += count
    return chain


def _lines(
    connection: apsw.Connection, request: messages.Read, links: Iterator[Link], limit: int, *, backwards: bool
) -> Iterator[tuple[int, str]]:
    direction = "DESC" if backwards else "ASC"
    for link in links:
        first = max(request.after + 1 - link.start, 0)
        end = link.length if request.before is None else min(request.before - link.start, link.length)
        if first >= end:
            continue
        conditions, bindings = event_conditions(request)
        sql = (
            "SELECT seq, line FROM event WHERE session_id = ? AND seq >= ? AND seq < ?"  # noqa: S608
            f"{''.join(f' AND {condition}' for condition in conditions)} ORDER BY seq {direction} LIMIT ?"
        )
        values: list[Any] = [link.row_id, first, end, *bindings, limit]
        for seq, line in connection.execute(sql, values):
            yield link.start + seq, marked(line, link.ulid)
