"""`sessionctl end`: ends a session. The one rule: ending it twice is no error and changes nothing."""

from __future__ import annotations

import click

from sessionctl.connection import connect
from sessionctl.options import session_argument
from sessionctl.output import counted, json_option, write_json, write_line
from sessionctl.reference import resolve
from sessiond_client.wire.messages import Status

EXIT_CODE_MIN, EXIT_CODE_MAX = -(2**31), 2**31 - 1


@click.command("end", short_help="End a session.")
@session_argument()
@click.option(
    "--status",
    type=click.Choice([Status.COMPLETED.value, Status.INTERRUPTED.value]),
    default=Status.COMPLETED.value,
    show_default=True,
    help="How it ended.",
)
@click.option(
    "--exit-code",
    type=click.IntRange(EXIT_CODE_MIN, EXIT_CODE_MAX),
    help="The exit code of what was recorded.",
)
@json_option
def command(session: str, status: str, exit_code: int | None, as_json: bool) -> None:
    """End a session and seal its file. A session that has ended already stays as it is.

    Example: sessionctl end @last --exit-code 0
    """
    with connect() as client:
        ended = client.end(resolve(client, session).ulid, status=status, exit_code=exit_code)
    if as_json:
        write_json(ended)
    else:
        code = "" if ended.exit_code is None else f", exit code {ended.exit_code}"
        write_line(f"{ended.name} ({ended.ulid}) {ended.status}, {counted(ended.event_count, 'event')}{code}")
