"""`sessionctl start`: begins a session for a script.

The one rule: plain output is the id and nothing else.
"""

from __future__ import annotations

import os

import click

from sessionctl.connection import connect, remark_spooled
from sessionctl.host import about_host, parent_session, unicode_text
from sessionctl.options import completed, tag_option
from sessionctl.output import json_option, write_line, write_outcome
from sessiond_client.wire.messages import Source

NOBODY = 0


@click.command("start", short_help="Begin a session and print its id.")
@click.argument("given", metavar="[NAME]", required=False)
@click.option("-n", "--name", help="The session's name, too: letters, digits, _ and -.")
@tag_option("A tag; may be given several times.")
@click.option(
    "--source",
    type=click.Choice([source.value for source in Source]),
    default=Source.APP.value,
    show_default=True,
    help="What kind of program records.",
)
@click.option("--cwd", type=click.Path(), help="The directory it belongs to, instead of this one.")
@click.option(
    "--parent",
    metavar="SESSION",
    shell_complete=completed("sessions"),
    help="The session it is part of (default: the one of this shell).",
)
@click.option("--detach", is_flag=True, help="Nobody owns it: it records until it is ended.")
@json_option
def command(
    given: str | None,
    name: str | None,
    tags: tuple[str, ...],
    source: str,
    cwd: str | None,
    parent: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Begin a session and print its id.

    The process that calls sessionctl owns the session: when it is gone and has not ended the session, the
    session becomes `interrupted`. With --detach there is no owner. Where no daemon answers, the session waits
    in the spool, and is there for all once a daemon takes it over.

    \b
    Example:
      id=$(sessionctl start nightly)
      make 2>&1 | sessionctl append "$id" output -
      sessionctl end "$id"
    """
    if given is not None and name is not None:
        raise click.UsageError("the name is given twice")
    owner = NOBODY if detach else os.getppid()
    with connect(spool=True) as client:
        session = client.start(
            given or name,
            source=source,
            tags=tags,
            cwd=None if cwd is None else unicode_text(os.path.abspath(cwd)),
            parent_ulid=parent_session(client, parent),
            owner_pid=owner,
            **about_host(),
        )
        spooled = remark_spooled(client)
    if as_json:
        write_outcome(session.info, spooled)
    else:
        write_line(session.ulid)
