"""The verbs of `Client` that find and read what is recorded.

The one rule: nothing here changes anything, so every verb can be asked again at will. `AsyncCatalogue` has
the same verbs, awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Unpack

from sessiond_client.events import EventPage, page_of
from sessiond_client.filters import EventFilters, HitFilters, SessionFilters
from sessiond_client.requests import found, list_request, read_request, search_request
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import (
    LIST_LIMIT_DEFAULT,
    READ_LIMIT_DEFAULT,
    SEARCH_LIMIT_DEFAULT,
    Counted,
    CountRequest,
    Find,
    Get,
    Hit,
    Hits,
    ReplyT,
    Request,
    SearchMode,
    Session,
    Sessions,
    Source,
    StatsReply,
    StatsRequest,
    Status,
    Verified,
    Verify,
)


class Catalogue(ABC):
    """Finding sessions, reading their events, searching in both."""

    @abstractmethod
    def call(self, request: Request[ReplyT], *, timeout: float | None = None) -> ReplyT:
        """Send any request of the wire and return its reply."""

    def get(self, session: str) -> Session | None:
        """The session with exactly this ULID, in the trash or not, or None."""
        return self.call(Get(session=session)).session

    def find(self, needle: str, *, trashed: bool = False) -> Session:
        """The session meant by a ULID, a label, a unique prefix or suffix of 4 letters or more, or a name.

        `trashed`: of those in the trash, which are not found otherwise. Raises `RequestFailed` with the code
        `not_found` (`suggestions`) or `ambiguous` (`candidates`).
        """
        return found(self.call(Find(needle=needle, trashed=trashed)).session)

    def last(self, **filters: Unpack[SessionFilters]) -> Session | None:
        """The newest session that passes the `filters` of `list`, or None."""
        return next(iter(self.list(limit=1, **filters)), None)

    def list(
        self,
        *,
        limit: int = LIST_LIMIT_DEFAULT,
        before: str | None = None,
        status: Status | str | None = None,
        source: Source | str | None = None,
        tags: Sequence[str] = (),
        tags_all: Sequence[str] = (),
        parent_ulid: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        name_prefix: str | None = None,
        cwd: str | None = None,
        hostname: str | None = None,
        trashed: bool = False,
    ) -> Sessions:
        """Sessions, newest first; `next` of the answer goes into `before` of the next page.

        `tags`: any of them, `tags_all`: all of them; `since` and `until` are about `started_at`; `trashed`:
        those in the trash, which are not listed otherwise.
        """
        return self.call(
            list_request(
                limit=limit,
                before=before,
                status=status,
                source=source,
                tags=tags,
                tags_all=tags_all,
                parent_ulid=parent_ulid,
                since=since,
                until=until,
                name_prefix=name_prefix,
                cwd=cwd,
                hostname=hostname,
                trashed=trashed,
            )
        )

    def sessions(self, **filters: Unpack[SessionFilters]) -> Iterator[Session]:
        """All sessions that pass the `filters` of `list`, newest first; asks for page after page."""
        before = None
        while True:
            page = self.list(before=before, **filters)
            yield from page
            if (before := page.next) is None:
                return

    def read(
        self,
        session: str,
        *,
        after: int = -1,
        before: int | None = None,
        tail: int | None = None,
        limit: int = READ_LIMIT_DEFAULT,
        kinds: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        inherit: bool = False,
    ) -> EventPage:
        """Events with `after` < seq < `before`, ascending; `tail` N gives the last N of them.

        `inherit`: of a fork, first the events of its parent up to where it was forked; `after`, `before` and
        `next` then count along this whole chain, and each event has a `session`.
        """
        request = read_request(
            session,
            after=after,
            before=before,
            tail=tail,
            limit=limit,
            kinds=kinds,
            since=since,
            until=until,
            inherit=inherit,
        )
        return page_of(self.call(request))

    def events(self, session: str, **filters: Unpack[EventFilters]) -> Iterator[Event]:
        """All events of a session that pass the `filters` of `read`; asks for page after page."""
        while True:
            page = self.read(session, **filters)
            yield from page
            if page.next is None:
                return
            filters["after"] = page.next

    def count(self, session: str) -> Counted:
        """How many events and commands a session has."""
        return self.call(CountRequest(session=session))

    def search(
        self,
        query: str,
        *,
        mode: SearchMode | str = SearchMode.WORDS,
        limit: int = SEARCH_LIMIT_DEFAULT,
        before: str | None = None,
        session: str | None = None,
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        exit_code: int | None = None,
        cwd: str | None = None,
    ) -> Hits:
        """Events by their text, and sessions by name, tags and labels, newest first; see `SearchMode`.

        `next` of the answer goes into `before` of the next page. `kinds`, `exit_code` and `cwd` are about
        events: with any of them, sessions themselves are no hits. Raises `RequestFailed` (`invalid`) for a
        query that cannot be read.
        """
        return self.call(
            search_request(
                query,
                mode=mode,
                limit=limit,
                before=before,
                session=session,
                kinds=kinds,
                tags=tags,
                since=since,
                until=until,
                exit_code=exit_code,
                cwd=cwd,
            )
        )

    def hits(self, query: str, **filters: Unpack[HitFilters]) -> Iterator[Hit]:
        """All that `search` finds, newest first; asks for page after page."""
        before = None
        while True:
            page = self.search(query, before=before, **filters)
            yield from page
            if (before := page.next) is None:
                return

    def verify(self, session: str | None = None, *, after: str | None = None) -> Verified:
        """Compare files and database, line by line: one session, or a page of them in the order of ULIDs.

        `next` of the answer goes into `after` of the next page. A page takes about a second, and longer where
        one session does. See docs/recovery.md for the codes of `faults`.
        """
        return self.call(Verify(session=session, after=after))

    def stats(self) -> StatsReply:
        """Totals over all sessions that are not in the trash."""
        return self.call(StatsRequest())
