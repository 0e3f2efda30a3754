"""Questions about what spans sessions: tags, labels, milestones, totals.

The one rule: as in the catalog, only SELECTs; sessions in the trash count only where it says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import apsw
import msgspec

from sessiond.clock import optional_time_text
from sessiond.storage.database import rows
from sessiond_client.wire.messages import LabelTarget, StatsReply, TagCount

TAGS_MAX = 1000
"""The most used tags, all that are told: a tag may have 4096 characters."""

PAGE_ITEMS_MAX = 5000
PAGE_BYTES_MAX = 4 * 1024 * 1024
"""A page of labels or milestones ends after the one that reaches this many bytes."""

TOP_TAGS = 10


def tag_counts(connection: apsw.Connection, limit: int = TAGS_MAX) -> list[TagCount]:
    """Tags and how many sessions have each, the most used first."""
    sql = (
        "SELECT tag, count(*) FROM tag JOIN session ON session.id = session_id WHERE shelf = 'kept'"
        " GROUP BY tag ORDER BY 2 DESC, 1 LIMIT ?"
    )
    return [TagCount(tag=tag, sessions=count) for tag, count in rows(connection, sql, (limit,))]


def labels(connection: apsw.Connection, after: str | None = None) -> tuple[list[LabelTarget], str | None]:
    """A page of labels and what they stand for, in their order, and the last one if there are more."""
    sql = (
        "SELECT label, ulid, name FROM label JOIN session ON session.id = session_id WHERE shelf = 'kept'"
        " AND label > ? ORDER BY label"
    )
    page, more = _page(connection.execute(sql, (after or "",)))
    targets = [LabelTarget(label=label, session=ulid, name=name) for label, ulid, name in page]
    return targets, targets[-1].label if more else None


def milestone(connection: apsw.Connection, key: str) -> str | None:
    """The value under a key."""
    found = rows(connection, "SELECT value FROM milestone WHERE key = ?", (key,))
    return str(found[0][0]) if found else None


def milestones(connection: apsw.Connection, after: str | None = None) -> tuple[dict[str, str], str | None]:
    """A page of keys and values, in the order of their keys, and the last key if there are more."""
    sql = "SELECT key, value FROM milestone WHERE key > ? ORDER BY key"
    page, more = _page(connection.execute(sql, (after or "",)))
    return {key: value for key, value in page}, page[-1][0] if more else None  # noqa: C416 - pairs, not any tuples


def _page(found: Iterable[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], bool]:
    """The first rows, as many as fit into a page, and whether there are more."""
    page: list[tuple[str, ...]] = []
    size = 0
    for row in found:
        if len(page) == PAGE_ITEMS_MAX or size >= PAGE_BYTES_MAX:
            return page, True
        page.append(row)
        # A character may take six bytes in JSON, as \u0000 does.
        size += sum(len(msgspec.json.encode(value)) for value in row)
    return page, False


def totals(connection: apsw.Connection, request_id: int) -> StatsReply:
    """The answer to `stats`."""
    sql = """
        SELECT count(*), coalesce(sum(status = 'recording'), 0), coalesce(sum(status = 'interrupted'), 0),
               coalesce(sum(next_seq), 0), coalesce(sum(command_count), 0), coalesce(sum(byte_count), 0),
               coalesce(sum(synced_bytes), 0), coalesce(sum(max(ended_at - started_at, 0)), 0),
               min(started_at), max(last_event_at)
        FROM session WHERE shelf = 'kept'
    """
    (found,) = rows(connection, sql)
    sessions, recording, interrupted, events, commands, size, files, duration, first, last = found
    trashed = connection.execute("SELECT count(*) FROM session WHERE shelf = 'trashed'").get
    sources = rows(
        connection,
        "SELECT source, count(*) FROM session WHERE shelf = 'kept' GROUP BY source ORDER BY source",
    )
    pages = connection.execute("PRAGMA page_count").get * connection.execute("PRAGMA page_size").get
    return StatsReply(
        id=request_id,
        sessions=sessions,
        recording=recording,
        interrupted=interrupted,
        trashed=trashed,
        events=events,
        commands=commands,
        event_bytes=size,
        storage_bytes=files + pages,
        duration_seconds=duration / 1_000_000,
        first_started_at=optional_time_text(first),
        last_event_at=optional_time_text(last),
        sources=dict(sources),
        tags=tag_counts(connection, TOP_TAGS),
    )
