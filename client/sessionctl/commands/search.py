"""`sessionctl search`: events by their text, sessions by name, tag and label.

The one rule: what matched is marked where the daemon says, after each piece of text was escaped by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, complain
from sessionctl.options import (
    completed,
    directory_option,
    since_option,
    tag_option,
    until_option,
)
from sessionctl.output import (
    Colour,
    Form,
    colours_wanted,
    form_for,
    json_option,
    painted,
    write_json,
    write_line,
)
from sessionctl.reference import resolve
from sessionctl.times import local_time
from sessiond_client.client import Client
from sessiond_client.filters import HitFilters
from sessiond_client.wire.messages import SEARCH_LIMIT_DEFAULT, SEARCH_LIMIT_MAX, Hit, SearchMode

OF_SESSION = "session"
"""Stands in the place of an event's kind where a session itself was found."""

EXIT_CODE_MIN, EXIT_CODE_MAX = -(2**31), 2**31 - 1


@click.command("search", short_help="Find events by their text, and sessions by name, tag and label.")
@click.argument("words", metavar="QUERY...", nargs=-1, required=True)
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in SearchMode]),
    help=f"How QUERY is read (default: {SearchMode.WORDS.value}).",
)
@click.option("-e", "--regex", is_flag=True, help="The same as --mode regex.")
@click.option("--substring", is_flag=True, help="The same as --mode substring.")
@click.option(
    "-s", "--session", metavar="SESSION", shell_complete=completed("sessions"), help="Only in this session."
)
@click.option(
    "-k", "--kind", "kinds", multiple=True, help="Only events of this kind; several: of any of them."
)
@tag_option("Only in sessions with this tag; several: with any of them.")
@since_option("Only")
@until_option("Only")
@click.option(
    "--exit-code",
    metavar="CODE",
    type=click.IntRange(EXIT_CODE_MIN, EXIT_CODE_MAX),
    help="Only commands that ended with this one.",
)
@directory_option("Only what was run in this directory.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    default=SEARCH_LIMIT_DEFAULT,
    show_default=True,
    help="At most so many.",
)
@click.option("-a", "--all", "everything", is_flag=True, help="All there are, however many.")
@click.option("--before", metavar="CURSOR", help="Go on where a search stopped at its limit.")
@json_option
def command(
    words: tuple[str, ...],
    mode: str | None,
    regex: bool,
    substring: bool,
    session: str | None,
    kinds: tuple[str, ...],
    tags: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    exit_code: int | None,
    cwd: str | None,
    limit: int,
    everything: bool,
    before: str | None,
    as_json: bool,
) -> int:
    """Find events by their text, and sessions by name, tag, label and recorded command, newest first.

    A text is searched as it was read, without colours; what a program wrote in two pieces is two texts.

    QUERY is words or beginnings of them (dep*), "phrases", AND, OR and NOT; with --substring these very
    characters, in upper or lower case; with --regex a regular expression of RE2, so that none takes for ever.
    Several arguments are one QUERY, with spaces between them.

    Elsewhere than on a terminal one hit a line, parted by tabs: session, seq, kind, time, name, text; with
    --json an object a line, in which `marks` says where the text matches. Exit code 1: nothing was found. If
    there is more than the limit, standard error says how to go on.

    \b
    Examples:
      sessionctl search 'deploy AND fail*' --since 7d
      sessionctl search -e 'error: .*timeout' -k output -n 10
      sessionctl search --substring 'rm -rf' --json | jq -r .session
    """
    where: HitFilters = {"mode": _mode(mode, regex, substring), "kinds": kinds, "tags": tags}
    where |= {"since": since, "until": until, "exit_code": exit_code, "cwd": cwd}
    form = form_for(as_json)
    with connect() as client:
        if session is not None:
            where["session"] = resolve(client, session).ulid
        search = _Search(client, " ".join(words), where, before)
        writer = Writer(form)
        found = 0
        for hit in search.hits(None if everything else limit):
            writer.write(hit)
            found += 1
    if search.next is not None and found:
        complain(f"there is more; go on with: --before {search.next}")
    if not found and form is Form.PRETTY:
        complain("nothing was found")
    return ExitCode.OK if found else ExitCode.NEGATIVE


def _mode(mode: str | None, regex: bool, substring: bool) -> SearchMode:
    asked = {SearchMode(mode)} if mode is not None else set()
    asked |= {SearchMode.REGEX} if regex else set()
    asked |= {SearchMode.SUBSTRING} if substring else set()
    if len(asked) > 1:
        raise click.UsageError("--mode, --regex and --substring exclude each other")
    return asked.pop() if asked else SearchMode.WORDS


class _Search:
    """One search, a page at a time. `next` is where it goes on, None behind the last hit."""

    def __init__(self, client: Client, query: str, where: HitFilters, before: str | None) -> None:
        self.next = before
        self._client = client
        self._query = query
        self._where = where

    def hits(self, limit: int | None) -> Iterator[Hit]:
        """At most `limit` hits (None: all)."""
        left = limit
        while True:
            size = SEARCH_LIMIT_MAX if left is None else min(left, SEARCH_LIMIT_MAX)
            page = self._client.search(self._query, limit=size, before=self.next, **self._where)
            self.next = page.next
            yield from page
            left = None if left is None else left - len(page.hits)
            if self.next is None or not page.hits or left == 0:
                return


class Writer:
    """Writes hits in one form."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._colours = form is Form.PRETTY and colours_wanted()

    def write(self, hit: Hit) -> None:
        """One hit."""
        if self._form is Form.JSON:
            write_json(hit)
        elif self._form is Form.PLAIN:
            seq = "" if hit.seq is None else str(hit.seq)
            fields = [hit.session, seq, hit.kind or OF_SESSION, hit.at, hit.name, hit.snippet]
            write_line("\t".join(map(escape_line, fields)))
        else:
            write_line(self._line(hit))

    def _line(self, hit: Hit) -> str:
        at = local_time(hit.at).strftime("%Y-%m-%d %H:%M")
        place = escape_line(hit.name) + ("" if hit.seq is None else f" {hit.seq}")
        kind = escape_line(hit.kind or OF_SESSION)
        head = f"{painted(at, Colour.DIM, self._colours)}  {painted(place, Colour.CYAN, self._colours)}"
        return f"{head}  {painted(kind, Colour.DIM, self._colours)}  {self.marked(hit)}"

    def marked(self, hit: Hit) -> str:
        """The snippet, escaped piece by piece, so that the marks stay where they belong."""
        pieces = []
        done = 0
        for begin, end in sorted(hit.marks):
            begin = max(begin, done)
            if begin < min(end, len(hit.snippet)):
                pieces.append(escape_line(hit.snippet[done:begin]))
                pieces.append(painted(escape_line(hit.snippet[begin:end]), Colour.RED, self._colours))
                done = end
        return "".join([*pieces, escape_line(hit.snippet[done:])])
