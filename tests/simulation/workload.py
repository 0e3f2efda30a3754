"""What the processes on a simulated disk are asked to do: batches of operations made from a seed.

The one rule: every batch can be sent again whole and is then answered the same, as a client does that lost
its connection; so the operations of one batch do not undo each other, and each event's text is there once.
"""

from __future__ import annotations

from itertools import count
from random import Random

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
from sessiond_client.wire.messages import EndReason, NewEvent, Session, Source, Status
from tests.simulation.model import Model, Promised

SESSIONS_MAX = 5
EVENTS_MAX = 4
TEXT_SIZES = (0, 10, 100, 600, 5000)
PRODUCER = "01KAJSZ5T0Q4B8M2X7C9D3E6FG"
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
STARTED_AT = 1_794_900_000_000_000


class Workload:
    """Makes one batch after the other, each for the state that the model says there is."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers = count(1)
        self._n = count(1)

    def batch(self, model: Model) -> list[Operation]:
        """Some appends, at times with a start before them and an end behind them, or one change."""
        random = self._random
        recording = [ulid for ulid, one in model.sessions.items() if one.status == "recording"]
        if not recording or (len(model.sessions) < SESSIONS_MAX and random.random() < 0.15):
            start = self._start()
            return [start, *self._appends([start.ulid]), *self._perhaps_end(start.ulid)]
        if random.random() < 0.3:
            change = self._change(model)
            others = [ulid for ulid in recording if ulid != getattr(change, "session", None)]
            return [change, *self._appends(others[: random.randint(0, 1)])]
        chosen = random.sample(recording, min(len(recording), random.randint(1, 3)))
        return [*self._appends(chosen), *self._perhaps_end(chosen[0])]

    def _number(self) -> str:
        return f"{next(self._numbers)}"

    def _ulid(self) -> str:
        return "01KB" + "".join(self._random.choices(LETTERS, k=22))

    def _start(self) -> StartSession:
        return StartSession(
            ulid=self._ulid(),
            name=f"name-{self._number()}",
            source=Source.APP,
            started_at=STARTED_AT,
            received_at=STARTED_AT,
            producer=PRODUCER,
            tags=["a"] if self._random.random() < 0.3 else [],
        )

    def _events(self) -> list[NewEvent]:
        events = []
        for _ in range(self._random.randint(1, EVENTS_MAX)):
            kind = self._random.choice(("prompt", "output", "command"))
            text = f"<{self._number()}> " + "x" * self._random.choice(TEXT_SIZES)
            events.append(NewEvent(kind=kind, text=text))
        return events

    def _appends(self, ulids: list[str]) -> list[AppendEvents]:
        return [
            AppendEvents(
                session=ulid,
                events=self._events(),
                received_at=STARTED_AT,
                producer=PRODUCER,
                n=next(self._n),
            )
            for ulid in ulids
        ]

    def _perhaps_end(self, ulid: str) -> list[EndSession]:
        if self._random.random() < 0.8:
            return []
        return [self._end(ulid)]

    @staticmethod
    def _end(ulid: str) -> EndSession:
        return EndSession(
            session=ulid, status=Status.COMPLETED, end_reason=EndReason.STOPPED, ended_at=STARTED_AT
        )

    def _change(self, model: Model) -> Operation:
        """One change of something other than events."""
        random = self._random
        kept = {ulid: one for ulid, one in model.sessions.items() if one.shelf == "kept"}
        ulid = random.choice(list(kept))
        number = self._number()
        made: list[Operation] = [
            RenameSession(session=ulid, name=f"renamed-{number}", at=STARTED_AT),
            TagSession(session=ulid, add=[f"t{number}"], remove=["a"], at=STARTED_AT),
            SetLabel(label=f"l{random.randint(1, 3)}", session=ulid, at=STARTED_AT),
            SetLabel(label=f"l{random.randint(1, 3)}", session=None, at=STARTED_AT),
            self._milestone(number),
            self._end(ulid),
            self._save(number),
        ]
        if kept[ulid].texts:
            made.append(self._fork(ulid, number))
        made += self._removals(model, kept)
        return random.choice(made)

    def _fork(self, ulid: str, number: str) -> ForkSession:
        return ForkSession(
            session=ulid,
            seq=None,
            ulid=self._ulid(),
            name=f"fork-{number}",
            started_at=STARTED_AT,
            producer=PRODUCER,
        )

    @staticmethod
    def _milestone(number: str) -> SetMilestone:
        return SetMilestone(
            key=f"k{int(number) % 3}", value=number, if_absent=False, expect=None, at=STARTED_AT
        )

    def _save(self, number: str) -> SaveSession:
        session = Session(
            ulid=self._ulid(),
            name=f"saved-{number}",
            source=Source.IMPORT,
            status=Status.COMPLETED,
            started_at="2026-11-21T09:24:31.123456Z",
            end_reason=EndReason.IMPORTED,
        )
        return SaveSession(session=session, events=self._events())

    def _removals(self, model: Model, kept: dict[str, Promised]) -> list[Operation]:
        ended = [ulid for ulid, one in kept.items() if one.status != "recording"]
        trashed = [ulid for ulid, one in model.sessions.items() if one.shelf == "trashed"]
        made: list[Operation] = []
        for ulid in ended[:1]:
            made.append(DeleteSession(session=ulid, force=False, purge=False, at=STARTED_AT))
            made.append(DeleteSession(session=ulid, force=False, purge=True, at=STARTED_AT))
        for ulid in trashed[:1]:
            made.append(RestoreSession(session=ulid))
            made.append(DeleteSession(session=ulid, force=False, purge=True, at=STARTED_AT))
        return made
