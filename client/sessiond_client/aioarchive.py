"""The verbs of `AsyncClient` that name, keep and put away whole sessions: those of `Archive`, awaited.

The one rule: each can be sent again after a lost connection; `Archive` says how.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from sessiond_client.archive import ADOPT_SECONDS
from sessiond_client.requests import adopt_request, found, save_request, tag_request
from sessiond_client.wire.messages import (
    Delete,
    Deleted,
    Label,
    Labelled,
    LabelsRequest,
    LabelTarget,
    Milestone,
    MilestoneGet,
    MilestoneSet,
    MilestonesRequest,
    NewEvent,
    Rename,
    ReplyT,
    Request,
    Restore,
    Saved,
    SavedFooter,
    SavedHeader,
    Session,
    TagCount,
    TagsRequest,
)


class AsyncArchive(ABC):
    """Names, tags, labels and milestones; storing whole sessions; the trash."""

    @abstractmethod
    async def call(self, request: Request[ReplyT], *, timeout: float | None = None) -> ReplyT:
        """Send any request of the wire and return its reply."""

    async def rename(self, session: str, name: str) -> Session:
        """Give a session another name, while it records or after.

        Raises `RequestFailed` (`exists`) if another session that is not in the trash has it.
        """
        return found((await self.call(Rename(session=session, name=name))).session)

    async def tag(self, session: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Session:
        """Remove and add tags, while a session records or after; `tags` of the answer are the final list."""
        return found((await self.call(tag_request(session, add, remove))).session)

    async def tags(self) -> list[TagCount]:
        """The tags in use, the most used first."""
        return (await self.call(TagsRequest())).tags

    async def label(self, label: str, session: str) -> Labelled:
        """Let a label stand for a session from now on; `previous` is what it stood for before."""
        return await self.call(Label(label=label, session=session))

    async def unlabel(self, label: str) -> Labelled:
        """Remove a label; `previous` is what it stood for, None if it was not in use."""
        return await self.call(Label(label=label, session=None))

    async def labels(self) -> list[LabelTarget]:
        """The labels in use and what they stand for, in their order."""
        page = await self.call(LabelsRequest())
        found = [*page.labels]
        while isinstance(page.next, str):
            page = await self.call(LabelsRequest(after=page.next))
            found += page.labels
        return found

    async def milestone(self, key: str) -> str | None:
        """The value under a key, or None if it was never set."""
        return (await self.call(MilestoneGet(key=key))).value

    async def set_milestone(
        self, key: str, value: str, *, if_absent: bool = False, expect: str | None = None
    ) -> Milestone:
        """Store a value under a key. `if_absent`: only if there is none; `expect`: only if it is this one.

        The answer has the value that is stored then, and in `stored` whether it is this one's work. With a
        condition, and a connection that was lost meanwhile, `stored` may be False though `value` is what was
        given: then the first try has stored it, or somebody else has stored the same.
        """
        return await self.call(MilestoneSet(key=key, value=value, if_absent=if_absent, expect=expect))

    async def milestones(self) -> dict[str, str]:
        """All keys and their values."""
        page = await self.call(MilestonesRequest())
        found = dict(page.milestones)
        while isinstance(page.next, str):
            page = await self.call(MilestonesRequest(after=page.next))
            found |= page.milestones
        return found

    async def save(
        self, header: SavedHeader, events: Sequence[NewEvent], footer: SavedFooter | None = None
    ) -> Saved:
        """Store a whole session, or nothing; saving it again changes nothing and is answered with `existed`.

        Without a `footer` it is stored as interrupted. Give the `header` a `ulid` to be able to save the same
        session in another run. Raises `RequestFailed` with the code `exists` if it is stored with other
        events, or `too_large` above 16 MiB: write such a session to a file, and adopt that.
        """
        return await self.call(save_request(header, events, footer))

    async def adopt(self, path: str | os.PathLike[str], *, timeout: float = ADOPT_SECONDS) -> Saved:
        """Store the session in an NDJSON file, of version 2 or 3 and any size, which stays as it is.

        Adopting it again changes nothing and is answered with `existed`. `damage` of the answer says from
        where on the file could not be read. It is the daemon that reads: a process of its own, of this user.
        """
        return await self.call(adopt_request(path), timeout=timeout)

    async def delete(self, session: str, *, force: bool = False, purge: bool = False) -> Deleted:
        """Put a session into the trash; `purge`: remove it for good, from the trash too.

        `force`: also one that records, which is refused otherwise (`session_recording`). If the connection is
        lost after a purge, the second try is refused with `not_found`: it is gone. It is
        gone for everybody, too, if a purge is refused with `disk_full` or `busy`: the disk keeps some of it.
        """
        return await self.call(Delete(session=session, force=force, purge=purge))

    async def restore(self, session: str) -> Session:
        """Take a session out of the trash. If its name is taken by now, it gets a suffix."""
        return found((await self.call(Restore(session=session))).session)
