"""What the daemon knows that begins as the user has typed, for the completions of a shell.

Owns the asking and the choice of what is offered. The one rule: somebody waits for this with a finger on a
key, so no daemon is started, all answers together get `ANSWER_SECONDS`, and whatever goes wrong means fewer
completions and not one word.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from sessionctl.connection import NAME
from sessionctl.output import counted
from sessionctl.times import local_time
from sessiond_client.autostart import Connector
from sessiond_client.link import Link
from sessiond_client.wire.messages import (
    AnyReply,
    Labels,
    LabelsRequest,
    List,
    Request,
    Sessions,
    Tags,
    TagsRequest,
)

ANSWER_SECONDS = 0.05
OFFERED_MAX = 50
"""More than this helps nobody who looks for one."""

NEWEST = CompletionItem("@last", help="the newest session")

_HARMLESS = re.compile(r"@last|\w[\w.+/-]*")
"""A label may have spaces or `$(…)` in it, and bash puts what is offered into the command line as it is."""


def sessions(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names and labels of sessions, and `@last`."""
    return _offered(typed, _named(typed, trashed=False), LabelsRequest(), first=[NEWEST])


def trashed(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names of the sessions in the trash."""
    return _offered(typed, _named(typed, trashed=True))


def labels(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Labels."""
    return _offered(typed, LabelsRequest())


def tags(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Tags, the most used first."""
    return _offered(typed, TagsRequest())


def export_formats(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """What `export` writes; the daemon is not asked."""
    from sessionctl.export.formats import FORMATS

    summaries = {name: entry.summary.replace(",", ";") for name, entry in FORMATS.items()}
    return [CompletionItem(name, help=text) for name, text in summaries.items() if name.startswith(typed)]


def import_formats(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """What `import` reads."""
    from sessionctl.imports.detect import Format

    return [CompletionItem(it.value) for it in Format if it.value.startswith(typed)]


def _named(typed: str, *, trashed: bool) -> List:
    return List(name_prefix=typed or None, limit=OFFERED_MAX, trashed=trashed)


def _offered(
    typed: str, *requests: Request[Any], first: list[CompletionItem] | None = None
) -> list[CompletionItem]:
    found = {item.value: item for item in first or []}
    for reply in _ask(requests):
        for item in _items(reply):
            found.setdefault(item.value, item)
    fitting = (item for item in found.values() if item.value.startswith(typed))
    return [item for item in fitting if _HARMLESS.fullmatch(item.value)][:OFFERED_MAX]


def _items(reply: AnyReply) -> Iterator[CompletionItem]:
    """What a reply offers. In the help no comma: the script for fish cuts there."""
    match reply:
        case Sessions():
            for session in reply.sessions:
                begun = local_time(session.started_at).strftime("%Y-%m-%d %H:%M")
                yield CompletionItem(session.name, help=f"{session.status} session of {begun}")
        case Labels():
            for label in reply.labels:
                yield CompletionItem(label.label, help=f"label of {label.name}")
        case Tags():
            for tag in reply.tags:
                yield CompletionItem(tag.tag, help=f"tag of {counted(tag.sessions, 'session')}")


def _ask(requests: tuple[Request[Any], ...]) -> list[AnyReply]:
    """The replies, in the order of the requests, that come in time; all travel at once."""
    deadline = time.monotonic() + ANSWER_SECONDS
    link = Link(Connector(autostart=False), ANSWER_SECONDS, NAME)
    answers: dict[int, AnyReply] = {}
    try:
        link.greet()
        asked = {link.ask(request, deadline) for request in requests}
        while asked - answers.keys():
            answers |= {reply.id: reply for reply in link.replies(deadline)}
    except Exception:  # noqa: BLE001, S110
        # A word of it would stand in the line that is being typed. Any other command that asks will say it.
        pass
    finally:
        link.close()
    return [answers[number] for number in sorted(answers)]
