"""`sessionctl rename`: gives a session another name. The one rule: no two sessions get the same one."""

from __future__ import annotations

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import complain
from sessionctl.options import session_argument
from sessionctl.output import json_option, write_json, write_line
from sessionctl.reference import resolve


@click.command("rename", short_help="Give a session another name.")
@session_argument()
@click.argument("name")
@json_option
def command(session: str, name: str, as_json: bool) -> None:
    """Give SESSION another name: letters, digits, _ and -, at most 128.

    It may be recording. What it was called before is kept, and shown by `show`. Exit code 1 if another
    session has the name. With --json the session.

    Example: sessionctl rename @last nightly
    """
    with connect() as client:
        info = resolve(client, session)
        renamed = client.rename(info.ulid, name)
        hidden = any(target.label == name and target.session != info.ulid for target in client.labels())
    if hidden:
        complain(f"{name} is a label, too, and still means another session; use the id, or remove the label")
    if as_json:
        write_json(renamed)
    else:
        write_line(f"{escape_line(info.name)} is now {escape_line(renamed.name)} ({renamed.ulid})")
