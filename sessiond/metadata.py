"""What the requests do that are about sessions and not about their events: names, tags, labels, forks, trash.

The one rule: as in `handlers`: what writes goes to the writer, what reads to a reader, each gets one reply. A
change of an ended session is answered once its file has followed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import apsw
from anyio.abc import TaskGroup
from msgspec import UNSET
from ulid import ULID

from sessiond import checks
from sessiond.answering import submit
from sessiond.clock import Clock
from sessiond.connection import Connection
from sessiond.errors import Refused
from sessiond.owners import Owners
from sessiond.purger import Purger
from sessiond.reader import Reader
from sessiond.settler import Settler
from sessiond.storage.commit import registers
from sessiond.storage.commit.operations import (
    DeleteSession,
    ForkSession,
    LabelSet,
    MilestoneStored,
    Operation,
    RenameSession,
    RestoreSession,
    SetLabel,
    SetMilestone,
    TagSession,
)
from sessiond.writer import Writer
from sessiond_client.wire import messages
from sessiond_client.wire.messages import ULID_PATTERN, VALUE_BYTES_MAX, ErrorCode, Reply, Session, Status

Verb = Callable[[Connection, Any, int], None]


class Metadata:
    """Does these requests of all connections."""

    def __init__(
        self,
        *,
        clock: Clock,
        writer: Writer,
        reader: Reader,
        owners: Owners,
        settler: Settler,
        purger: Purger,
    ) -> None:
        self._clock = clock
        self._writer = writer
        self._reader = reader
        self._owners = owners
        self._settler = settler
        self._purger = purger
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Run what a request waits for in this task group."""
        self._tasks = tasks

    def verbs(self) -> dict[type, Verb]:
        """What does each request."""
        return {
            messages.Rename: self._rename,
            messages.Tag: self._tag,
            messages.TagsRequest: self._tags,
            messages.Label: self._label,
            messages.LabelsRequest: self._labels,
            messages.MilestoneSet: self._milestone_set,
            messages.MilestoneGet: self._milestone_get,
            messages.MilestonesRequest: self._milestones,
            messages.Fork: self._fork,
            messages.Delete: self._delete,
            messages.Restore: self._restore,
            messages.StatsRequest: self._stats,
        }

    # --- changes -----------------------------------------------------------------------------------------

    def _rename(self, connection: Connection, request: messages.Rename, size: int) -> None:
        operation = RenameSession(session=request.session, name=request.name, at=self._clock.now())
        self._change(connection, request, size, operation)

    def _tag(self, connection: Connection, request: messages.Tag, size: int) -> None:
        operation = TagSession(
            session=request.session,
            add=checks.normalised_tags(request.add, "add"),
            remove=checks.normalised_tags(request.remove, "remove"),
            at=self._clock.now(),
        )
        self._change(connection, request, size, operation)

    def _restore(self, connection: Connection, request: messages.Restore, size: int) -> None:
        self._change(connection, request, size, RestoreSession(session=request.session))

    def _change(
        self, connection: Connection, request: messages.AnyRequest, size: int, operation: Operation
    ) -> None:
        """A change that is answered with the session, after its file has followed."""

        def done(session: Session) -> None:
            reply = messages.SessionReply(id=request.id, session=session)
            if session.status is Status.RECORDING:
                connection.reply(reply, size)
            else:
                self._reply_after(partial(self._settler.settled, session.ulid), connection, reply, size)

        submit(self._writer, connection, request, size, operation, done)

    def _delete(self, connection: Connection, request: messages.Delete, size: int) -> None:
        ulid = request.session
        operation = DeleteSession(
            session=ulid, force=request.force, purge=request.purge, at=self._clock.now()
        )

        def done(_: None) -> None:
            self._owners.unwatch(ulid)
            reply = messages.Deleted(id=request.id, session=ulid, purged=request.purge)
            after = self._purger.purged if request.purge else self._settler.settled
            self._reply_after(partial(after, ulid), connection, reply, size)

        submit(self._writer, connection, request, size, operation, done)

    def _reply_after(
        self, work: Callable[[], Awaitable[None]], connection: Connection, reply: Reply, size: int
    ) -> None:
        assert self._tasks is not None

        async def finish() -> None:
            try:
                await work()
            except Refused as refusal:
                connection.reply(refusal.reply(reply.id), size)
            else:
                connection.reply(reply, size)

        self._tasks.start_soon(finish)

    def _label(self, connection: Connection, request: messages.Label, size: int) -> None:
        label = request.label.strip()
        if not label:
            raise Refused(ErrorCode.INVALID, "an empty label", "give it at least a letter", field="label")
        if request.session is not None and re.fullmatch(ULID_PATTERN, label.upper()):
            raise Refused(
                ErrorCode.INVALID,
                f"{label} is an id, and an id always means its own session",
                "give it another label",
                field="label",
            )
        operation = SetLabel(label=label, session=request.session, at=self._clock.now())

        def done(stored: LabelSet) -> None:
            reply = messages.Labelled(
                id=request.id, label=label, session=request.session, previous=stored.previous
            )
            connection.reply(reply, size)

        submit(self._writer, connection, request, size, operation, done)

    def _milestone_set(self, connection: Connection, request: messages.MilestoneSet, size: int) -> None:
        _check_milestone(request)
        operation = SetMilestone(
            key=request.key,
            value=request.value,
            if_absent=request.if_absent,
            expect=request.expect,
            at=self._clock.now(),
        )

        def done(stored: MilestoneStored) -> None:
            reply = messages.Milestone(
                id=request.id, key=request.key, value=stored.value, stored=stored.stored
            )
            connection.reply(reply, size)

        submit(self._writer, connection, request, size, operation, done)

    def _fork(self, connection: Connection, request: messages.Fork, size: int) -> None:
        owner = connection.owner_of(request.owner_pid)
        operation = ForkSession(
            session=request.session,
            seq=request.at,
            ulid=request.ulid or str(ULID()),
            name=request.name,
            started_at=self._clock.now(),
            producer=connection.producer,
            owner=owner,
            cli_version=request.cli_version,
        )

        def done(session: Session) -> None:
            if owner is not None and session.status is Status.RECORDING:
                self._owners.watch(session.ulid, owner)
            connection.reply(messages.Started(id=request.id, session=session), size)

        submit(self._writer, connection, request, size, operation, done)

    # --- questions ---------------------------------------------------------------------------------------

    def _ask(
        self,
        connection: Connection,
        request: messages.AnyRequest,
        size: int,
        question: Callable[[apsw.Connection], Reply],
    ) -> None:
        connection.ask(request.id, size, lambda: self._reader.ask(question))

    def _tags(self, connection: Connection, request: messages.TagsRequest, size: int) -> None:
        def question(db: apsw.Connection) -> Reply:
            return messages.Tags(id=request.id, tags=registers.tag_counts(db))

        self._ask(connection, request, size, question)

    def _labels(self, connection: Connection, request: messages.LabelsRequest, size: int) -> None:
        def question(db: apsw.Connection) -> Reply:
            page, last = registers.labels(db, request.after)
            return messages.Labels(id=request.id, labels=page, next=last or UNSET)

        self._ask(connection, request, size, question)

    def _milestone_get(self, connection: Connection, request: messages.MilestoneGet, size: int) -> None:
        def question(db: apsw.Connection) -> Reply:
            value = registers.milestone(db, request.key)
            return messages.Milestone(id=request.id, key=request.key, value=value)

        self._ask(connection, request, size, question)

    def _milestones(self, connection: Connection, request: messages.MilestonesRequest, size: int) -> None:
        def question(db: apsw.Connection) -> Reply:
            page, last = registers.milestones(db, request.after)
            return messages.Milestones(id=request.id, milestones=page, next=last or UNSET)

        self._ask(connection, request, size, question)

    def _stats(self, connection: Connection, request: messages.StatsRequest, size: int) -> None:
        self._ask(connection, request, size, lambda db: registers.totals(db, request.id))


def _check_milestone(request: messages.MilestoneSet) -> None:
    if not request.key:
        raise Refused(ErrorCode.INVALID, "a milestone without a key", "give it one", field="key")
    size = len(request.value.encode())
    if size > VALUE_BYTES_MAX:
        raise Refused(
            ErrorCode.TOO_LARGE,
            f"a value of {size} bytes; at most {VALUE_BYTES_MAX}",
            "keep large things in a session",
            field="value",
        )
