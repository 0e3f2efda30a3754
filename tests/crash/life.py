"""A scripted life of the stores: each request once, and what must be stored after each of them.

The one rule: it counts what was acknowledged, sends nothing before the answer to the last request is there,
and sends that one again, unchanged, for as long as it got none. Nothing of the project is imported.
"""

from __future__ import annotations

import copy
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.peer import Peer

PRODUCER = "01KAJ000000000000000000000"
FIRST, SECOND, THIRD = (f"01KAJ00000000000000000000{letter}" for letter in "ABC")

RETRIED = {"disk_full", "busy"}
ONLY_READS = "read_only"
"""A daemon that had no room to start in stays so until it is started again."""

"""Refusals that say: nothing was stored, send it again."""

REFUSALS_MAX = 3
"""After so many refusals of one request the fault is taken to be there for good."""


class Step(NamedTuple):
    """One request."""

    kind: str
    fields: dict[str, Any]


def _start(ulid: str, name: str) -> Step:
    return Step("start", {"ulid": ulid, "name": name, "owner_pid": 0})


def _append(session: str, n: int, *texts: str) -> Step:
    events = [{"kind": "prompt", "text": text} for text in texts]
    return Step("append", {"session": session, "events": events, "producer": PRODUCER, "n": n})


STEPS = [
    _start(FIRST, "first"),
    _append(FIRST, 1, "one"),
    _append(FIRST, 2, "two", "three", "four"),
    Step("tag", {"session": FIRST, "add": ["blue"]}),
    Step("rename", {"session": FIRST, "name": "first-renamed"}),
    _append(FIRST, 3, "five"),
    _start(SECOND, "second"),
    _append(SECOND, 4, "long " + "x" * 9000, "short"),
    Step("label", {"label": "good", "session": FIRST}),
    Step("milestone_set", {"key": "build", "value": "7"}),
    Step("end", {"session": SECOND}),
    Step("rename", {"session": SECOND, "name": "second-renamed"}),
    Step("delete", {"session": SECOND}),
    _append(FIRST, 5, "six"),
    Step("restore", {"session": SECOND}),
    _start(THIRD, "third"),
    _append(THIRD, 6, "soon gone"),
    Step("label", {"label": "gone", "session": THIRD}),
    Step("delete", {"session": THIRD, "force": True, "purge": True}),
    Step("label", {"label": "good", "session": SECOND}),
    _append(FIRST, 7, "seven", "eight"),
    Step("end", {"session": FIRST}),
    Step("tag", {"session": FIRST, "add": ["late"], "remove": ["blue"]}),
]


def _after(step: Step, before: dict[str, Any]) -> dict[str, Any]:
    state = copy.deepcopy(before)
    fields = step.fields
    sessions = state["sessions"]
    session = sessions.get(fields.get("session"))
    match step.kind:
        case "start":
            fresh = {"name": fields["name"], "tags": [], "status": "recording", "shelf": "kept", "texts": []}
            sessions[fields["ulid"]] = fresh
        case "append":
            session["texts"] += [event["text"] for event in fields["events"]]
        case "tag":
            kept = [tag for tag in session["tags"] if tag not in fields.get("remove", [])]
            session["tags"] = kept + fields["add"]
        case "rename":
            session["name"] = fields["name"]
        case "end":
            session["status"] = "completed"
        case "delete" if fields.get("purge"):
            del sessions[fields["session"]]
            state["labels"] = {
                label: ulid for label, ulid in state["labels"].items() if ulid != fields["session"]
            }
        case "delete":
            session["shelf"] = "trashed"
        case "restore":
            session["shelf"] = "kept"
        case "label":
            state["labels"][fields["label"]] = fields["session"]
        case "milestone_set":
            state["milestones"][fields["key"]] = fields["value"]
    return state


def _states() -> list[dict[str, Any]]:
    states: list[dict[str, Any]] = [{"sessions": {}, "labels": {}, "milestones": {}}]
    for step in STEPS:
        states.append(_after(step, states[-1]))
    return states


STATES = _states()
"""What must be stored after so many steps."""


def stored(data_dir: Path) -> dict[str, Any]:
    """What the database has, in the form of `STATES`. A session that is being purged counts as gone."""
    state: dict[str, Any] = {"sessions": {}, "labels": {}, "milestones": {}}
    with closing(sqlite3.connect(f"file:{data_dir / 'sessiond.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT id, ulid, name, status, shelf FROM session WHERE shelf != 'purged'"
        for row_id, ulid, name, status, shelf in connection.execute(query).fetchall():
            tags = connection.execute("SELECT tag FROM tag WHERE session_id = ? ORDER BY position", (row_id,))
            lines = connection.execute("SELECT line FROM event WHERE session_id = ? ORDER BY seq", (row_id,))
            state["sessions"][ulid] = {
                "name": name,
                "tags": [tag for (tag,) in tags],
                "status": status,
                "shelf": shelf,
                "texts": [json.loads(line)["text"] for (line,) in lines],
            }
        query = "SELECT label, ulid FROM label JOIN session ON session.id = session_id"
        state["labels"] = dict(connection.execute(query))
        state["milestones"] = dict(connection.execute("SELECT key, value FROM milestone"))
    return state


class Life:
    """How far the script is: `done` steps were acknowledged."""

    def __init__(self) -> None:
        self.done = 0

    @property
    def is_over(self) -> bool:
        """Whether every step was acknowledged."""
        return self.done == len(STEPS)

    def proceed(self, socket: Path, answer_seconds_max: float) -> str:
        """Do the steps that are left: `done`, `lost` (no daemon any more), or the code of a refusal.

        `waiting` is a purge whose files the disk does not let go: it is answered when they are gone. Raises
        TimeoutError if the daemon neither answers nor hangs up otherwise, AssertionError for a wrong answer.
        """
        refusals = 0
        try:
            with Peer(socket) as peer:
                peer.socket.settimeout(answer_seconds_max)
                greeting = peer.call("hello", protocol=1, producer=PRODUCER)
                assert greeting["type"] == "welcome", greeting
                while not self.is_over:
                    step = STEPS[self.done]
                    reply = peer.call(step.kind, **step.fields)
                    if reply.get("code") == ONLY_READS:
                        return ONLY_READS
                    if reply["type"] == "error" and reply["code"] in RETRIED:
                        refusals += 1
                        if refusals == REFUSALS_MAX:
                            return str(reply["code"])
                        continue
                    refusals = 0
                    # A purge that was done before its answer was lost finds nothing any more.
                    gone = "purge" in step.fields and reply.get("code") == "not_found"
                    assert reply["type"] != "error" or gone, (step, reply)
                    self.done += 1
        except TimeoutError:
            if "purge" not in STEPS[self.done].fields:
                raise
            return "waiting"
        except (EOFError, ConnectionError, FileNotFoundError):
            return "lost"
        return "done"

    def violations(self, data_dir: Path) -> list[str]:
        """What is stored and must not be, or the other way round."""
        found = stored(data_dir)
        if found in STATES[self.done : self.done + 2]:
            return []
        return [f"after {self.done} answers there must be {STATES[self.done]}, not {found}"]
