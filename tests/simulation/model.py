"""What the processes on a simulated disk were promised: the state that every recovery must bring back.

The one rule: it knows operations and nothing of how they are stored. A batch is one transaction, so after a
fault exactly two states are right while it is on its way, and exactly one once it was answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sessiond.storage.commit.operations import (
    AppendEvents,
    DeleteSession,
    EndSession,
    ForkSession,
    Operation,
    RenameSession,
    RestoreSession,
    SaveSession,
    SetLabel,
    SetMilestone,
    StartSession,
    TagSession,
)


@dataclass
class Promised:
    """What is promised of one session."""

    name: str
    tags: list[str]
    status: str = "recording"
    shelf: str = "kept"
    texts: list[str] = field(default_factory=list)


class Model:
    """Sessions by ULID, labels and milestones."""

    def __init__(self) -> None:
        self.sessions: dict[str, Promised] = {}
        self.labels: dict[str, str] = {}
        self.milestones: dict[str, str] = {}

    def after(self, batch: Iterable[Operation]) -> Model:
        """Another model, of the state after these operations."""
        model = Model()
        model.sessions = {
            ulid: replace(session, tags=session.tags[:], texts=session.texts[:])
            for ulid, session in self.sessions.items()
        }
        model.labels = dict(self.labels)
        model.milestones = dict(self.milestones)
        for operation in batch:
            model._do(operation)
        return model

    def _do(self, operation: Operation) -> None:
        match operation:
            case StartSession():
                self.sessions[operation.ulid] = Promised(operation.name or "", list(operation.tags))
            case ForkSession():
                tags = self.sessions[operation.session].tags
                self.sessions[operation.ulid] = Promised(operation.name or "", tags[:])
            case SaveSession():
                whole = operation.session
                texts = [event.text or "" for event in operation.events]
                saved = Promised(whole.name, whole.tags[:], whole.status.value, "kept", texts)
                self.sessions[whole.ulid] = saved
            case AppendEvents():
                texts = [event.text or "" for event in operation.events]
                self.sessions[operation.session].texts += texts
            case EndSession():
                self._end(operation.session, operation.status.value)
            case RenameSession():
                self.sessions[operation.session].name = operation.name
            case TagSession():
                session = self.sessions[operation.session]
                kept = [tag for tag in session.tags if tag not in operation.remove]
                session.tags = list(dict.fromkeys([*kept, *operation.add]))
            case DeleteSession():
                self._delete(operation)
            case RestoreSession():
                self.sessions[operation.session].shelf = "kept"
            case SetLabel(session=None):
                self.labels.pop(operation.label, None)
            case SetLabel():
                assert operation.session is not None
                self.labels[operation.label] = operation.session
            case SetMilestone():
                self.milestones[operation.key] = operation.value
            case _:
                pass  # about the files alone

    def _end(self, ulid: str, status: str) -> None:
        if self.sessions[ulid].status == "recording":
            self.sessions[ulid].status = status

    def _delete(self, operation: DeleteSession) -> None:
        ulid = operation.session
        self._end(ulid, "interrupted")
        if operation.purge:
            del self.sessions[ulid]
            self.labels = {label: of for label, of in self.labels.items() if of != ulid}
        else:
            self.sessions[ulid].shelf = "trashed"

    def plain(self) -> dict[str, Any]:
        """As the judge has it."""
        return {
            "sessions": {ulid: dict(vars(session)) for ulid, session in self.sessions.items()},
            "labels": self.labels,
            "milestones": self.milestones,
        }
