"""`sessionctl import`: files of other programs, and of other daemons, become sessions.

The one rule: every file that was named is accounted for, in one line of its own and in the summary.
"""  # noqa: N999 - the command's name

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, complain
from sessionctl.imports.detect import ALIASES, Format
from sessionctl.imports.intake import Intake, Outcome
from sessionctl.imports.progress import Progress
from sessionctl.names import checked_name, normal_tags
from sessionctl.options import completed
from sessionctl.output import json_option, write_json, write_line
from sessionctl.terminal.signals import interruptible
from sessiond_client.wire.messages import Session


def _format(context: click.Context, parameter: click.Parameter, value: str | None) -> Format | None:
    if value is None:
        return None
    names = {it.value: it for it in Format} | ALIASES
    if value in names:
        return names[value]
    near = get_close_matches(value, names, n=1)
    meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(Format)}"
    raise click.BadParameter(f"there is no format {value!r}; {meant}", context, parameter)


def _name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else checked_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def _tags(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[str]:
    try:
        return normal_tags(values)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command("import", short_help="Turn histories and recordings into sessions.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "-F",
    "--format",
    "format_",
    callback=_format,
    shell_complete=completed("import_formats"),
    metavar="FORMAT",
    help="ndjson, cast, bash, zsh, fish or plain, instead of what it looks like.",
)
@click.option("-n", "--name", callback=_name, help="The session's name, instead of the file's or its own.")
@click.option("-t", "--tag", "tags", multiple=True, callback=_tags, help="A tag; may be given several times.")
@json_option
def command(
    files: tuple[str, ...], format_: Format | None, name: str | None, tags: list[str], as_json: bool
) -> int:
    """Turn every FILE into a session, with the times at which it happened. `-` is standard input.

    \b
    FORMAT is seen from the content:
      ndjson  the file of a session, of sessiond or of rec
      cast    a recording by asciinema, asciicast version 1, 2 or 3
      bash    a history with times (HISTTIMEFORMAT); without them: plain
      zsh     a history with times (EXTENDED_HISTORY); without them: plain
      fish    a history
      plain   a list of commands, one a line, or a script

    The same content is stored once, however often it is imported; what is here already stays as it is, also
    its name and tags. A damaged file is imported up to there.
    Ends with 1 if any file was damaged, or could not be imported.

    \b
    Examples:
      sessionctl import ~/.zsh_history -t laptop
      sessionctl import *.cast
      ssh server cat .bash_history | sessionctl import - -F bash -n server
    """
    outcomes = []
    with interruptible(), connect() as client, Progress() as progress:
        intake = Intake(client, format_, name, tags, progress)
        for file in files:
            outcome = intake.take(file)
            outcomes.append(outcome)
            progress.clear()
            _tell(outcome, name, tags, as_json)
    if not as_json:
        write_line(_summary(outcomes))
    flawless = all(outcome.error is None and outcome.damage is None for outcome in outcomes)
    return ExitCode.OK if flawless else ExitCode.NEGATIVE


def _tell(outcome: Outcome, name: str | None, tags: Sequence[str], as_json: bool) -> None:
    if as_json:
        write_json(outcome)
    elif outcome.session is not None:
        session = outcome.session
        events = _counted(session.event_count, "event")
        what = f"was there already{_kept(session, name, tags)}" if outcome.existed else events
        trashed = f", in the trash (see: sessionctl restore {session.ulid})" if session.trashed_at else ""
        line = f"{session.name} ({session.ulid}) {what}{trashed}, from {outcome.file}"
        write_line(escape_line(line))
    if outcome.error is not None:
        rest = "; nothing of it is stored" if outcome.session is None else ""
        complain(f"{outcome.file}: {outcome.error}{rest}")
    if outcome.damage is not None:
        complain(f"{outcome.file}: {outcome.damage}; what is whole before that is stored")


def _kept(session: Session, name: str | None, tags: Sequence[str]) -> str:
    """What was asked for and not done: what is here already keeps its name and its tags."""
    kept = ["name"] if name not in {None, session.name} else []
    kept += ["tags"] if not set(tags) <= set(session.tags) else []
    verbs = {"name": "rename", "tags": "tag add"}
    see = " and ".join(f"sessionctl {verbs[it]}" for it in kept)
    return f" and keeps its {' and '.join(kept)} (see: {see})" if kept else ""


def _summary(outcomes: Sequence[Outcome]) -> str:
    new = [it.session for it in outcomes if it.session is not None and not it.existed]
    existed = sum(it.existed for it in outcomes)
    damaged = sum(it.damage is not None for it in outcomes)
    skipped = sum(it.session is None for it in outcomes)
    events = sum(session.event_count for session in new)
    parts = [f"imported {_counted(len(new), 'session')}, {_counted(events, 'event')}"]
    if existed:
        parts.append(f"{_number(existed)} {'was' if existed == 1 else 'were'} there already")
    if damaged:
        parts.append(f"{_number(damaged)} damaged")
    if skipped:
        parts.append(f"{_number(skipped)} skipped")
    return "; ".join(parts)


def _counted(count: int, what: str) -> str:
    return f"{_number(count)} {what}" if count == 1 else f"{_number(count)} {what}s"


def _number(number: int) -> str:
    return f"{number:,}".replace(",", " ")
