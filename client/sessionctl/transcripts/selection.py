"""Which events of a session were asked for, and reading them.

Owns the options that choose events, the same for every command that shows some. The one rule: a page is read
when it is wanted and let go when the next one is, so that a session of any size can be looked through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from sessionctl.options import since_option, until_option
from sessionctl.output import Form, form_for, json_option
from sessionctl.patterns import pattern_option
from sessionctl.transcripts.transcript import Entry
from sessiond_client.client import Client
from sessiond_client.events import decode_lines
from sessiond_client.wire.lines import Event
from sessiond_client.wire.messages import READ_LIMIT_DEFAULT, Events, Read
from sessiond_client.wire.sequences import without_sequences

CAT_KINDS = ("output",)
"""What `cat` shows unless kinds are asked for."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Selection:
    """The events of these kinds (none: all), of this time, whose text has a match of `pattern`."""

    def __init__(
        self,
        kinds: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        pattern: Any = None,
    ) -> None:
        self.pattern = pattern
        self._kinds = [*kinds]
        self._since = since
        self._until = until

    def read(self, client: Client, ulid: str, *, after: int = -1, inherit: bool = False) -> Iterator[Entry]:
        """Those behind `after`, in order; `inherit`: first those of the sessions that it was forked from."""
        following: int | None = after
        while following is not None:
            page = client.call(self._request(ulid, after=following, inherit=inherit))
            yield from self._matching(page)
            following = page.next if isinstance(page.next, int) else None

    def last(self, client: Client, ulid: str, count: int) -> list[Entry]:
        """The last `count` of them in ascending order; found page by page, the last page first."""
        pages: list[list[Entry]] = []
        before: int | None = None
        while count > 0:
            size = count if self.pattern is None else READ_LIMIT_DEFAULT
            page = client.call(self._request(ulid, tail=size, before=before, limit=size))
            pages.append([*self._matching(page)][-count:])
            count -= len(pages[-1])
            if not isinstance(page.next, int) or not page.events:
                break
            before = page.next
        return [entry for entries in reversed(pages) for entry in entries]

    def admits(self, event: Event) -> bool:
        """Whether an event that nobody has chosen yet is one of them."""
        if self._kinds and event.kind not in self._kinds:
            return False
        if self._since is not None or self._until is not None:
            at = datetime.fromisoformat(event.at)
            if (self._since and at < self._since) or (self._until and at >= self._until):
                return False
        return self._matches(event)

    def _request(self, ulid: str, **place: Any) -> Read:
        return Read(session=ulid, kinds=self._kinds, since=self._since, until=self._until, **place)

    def _matching(self, page: Events) -> Iterator[Entry]:
        entries = map(Entry, page.events, decode_lines(page.events))
        return (entry for entry in entries if self._matches(entry.event))

    def _matches(self, event: Event) -> bool:
        return self.pattern is None or self.pattern.search(without_sequences(event.text or "")) is not None


def chosen_form(output: str | None, raw: bool, as_json: bool) -> Form:
    """The form asked for, in one of three ways, else what fits where standard output goes."""
    if sum((output is not None, raw, as_json)) > 1:
        raise click.UsageError("--output, --raw and --json exclude each other")
    if raw:
        return Form.CAT
    return form_for(as_json) if output is None else Form(output)


_FORMS = (Form.PRETTY, Form.PLAIN, Form.NDJSON, Form.CAT)

_OPTIONS = [
    click.option(
        "-k", "--kind", "kinds", multiple=True, help="Only events of this kind; may be given several times."
    ),
    since_option("Only events"),
    until_option("Only events"),
    click.option(
        "--grep",
        "pattern",
        metavar="REGEX",
        callback=pattern_option,
        help="Only events whose text (without colours) matches; none: exit code 1. (?i): whatever the case.",
    ),
    click.option(
        "-o",
        "--output",
        type=click.Choice([form.value for form in _FORMS]),
        help="For a person, as columns, the lines of the file, or the recorded bytes.",
    ),
    click.option("--raw", is_flag=True, help="The same as -o cat."),
    click.option(
        "--cursor-file",
        metavar="FILE",
        type=click.Path(),
        help="Go on where the last call with FILE stopped, and note in FILE where this one does.",
    ),
    json_option,
]


def event_options(function: FunctionT) -> FunctionT:
    """The options that choose events and their form."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
