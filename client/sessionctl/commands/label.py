"""`sessionctl label`: names of the user's own that stand for sessions.

The one rule: a label stands for one session, and what it stood for before is said when it changes.
"""

from __future__ import annotations

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, complain
from sessionctl.options import completed, session_argument
from sessionctl.output import Form, form_for, json_option, write_json, write_line, write_reply
from sessionctl.reference import resolve
from sessiond_client.client import Client
from sessiond_client.errors import RequestFailed
from sessiond_client.wire.messages import Labelled, Session

_label = click.argument("label", shell_complete=completed("labels"))


@click.group("label", short_help="Let a label stand for a session, remove it, list all.")
def command() -> None:
    """Let labels stand for sessions: a label is found before a name, and may be any text of one line.

    Each subcommand takes --json.

    \b
    Examples:
      sessionctl label set baseline nightly
      sessionctl show baseline
    """


@command.command("set", short_help="Let a label stand for a session.")
@_label
@session_argument(default=".")
@json_option
def set_(label: str, session: str, as_json: bool) -> None:
    """Let LABEL stand for SESSION (default: the one of this shell), whatever it stood for before.

    What names a session by itself can be no label: an id, `.`, and all that begins with @.

    \b
    Examples:
      sessionctl label set baseline nightly
      sessionctl label set "before the upgrade" @last
    """
    if (name := label.strip()) == "." or name.startswith("@"):
        raise Failure(ExitCode.USAGE, f"{name} has a meaning of its own and cannot be a label")
    with connect() as client:
        info = resolve(client, session)
        hidden = _hidden_by(client, name, info)
        labelled = client.label(label, info.ulid)
    if hidden is not None:
        complain(f"{labelled.label} is a session's name, too; from now on it means the label")
    if as_json:
        write_reply(labelled)
    else:
        before = _before(labelled) if labelled.previous != info.ulid else ""
        write_line(f"{escape_line(labelled.label)} stands for {escape_line(info.name)} ({info.ulid}){before}")


@command.command("remove", short_help="Remove a label.")
@_label
@json_option
def remove(label: str, as_json: bool) -> None:
    """Remove LABEL; its session stays as it is. Exit code 4 if there is no such label.

    Example: sessionctl label remove baseline
    """
    with connect() as client:
        labelled = client.unlabel(label)
    if labelled.previous is None:
        raise Failure(ExitCode.NOT_FOUND, f"there is no label {label!r}; see: sessionctl label list")
    if as_json:
        write_reply(labelled)
    else:
        write_line(f"{escape_line(labelled.label)} is removed{_before(labelled)}")


@command.command("list", short_help="List the labels.")
@json_option
def list_(as_json: bool) -> None:
    """List the labels, each with the id and the name of its session, parted by tabs.

    Example: sessionctl label list --json
    """
    with connect() as client:
        labels = client.labels()
    for target in labels:
        if as_json:
            write_json(target)
        else:
            write_line(f"{escape_line(target.label)}\t{target.session}\t{escape_line(target.name)}")
    if not labels and form_for(as_json) is Form.PRETTY:
        complain("no labels yet; set one with: sessionctl label set LABEL SESSION")


def _before(labelled: Labelled) -> str:
    return f"; before, it stood for {labelled.previous}" if labelled.previous else ""


def _hidden_by(client: Client, label: str, target: Session) -> Session | None:
    """Another session that was found by this name until now."""
    try:
        found = client.find(label)
    except RequestFailed:
        return None
    return found if found.name == label and found.ulid != target.ulid else None
