"""`sessionctl end`: ends a session. The one rule: ending it twice is no error and changes nothing."""

from __future__ import annotations

import click

from sessionctl.connection import connect, remark_spooled
from sessionctl.options import session_argument
from sessionctl.output import counted, json_option, write_line, write_outcome
from sessionctl.reference import resolve_to_write
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

    Where no daemon answers, a session given by its id ends in the spool: the daemon ends it when it comes.

    Example: sessionctl end @last --exit-code 0
    """
    with connect(spool=True) as client:
        ended = client.end(resolve_to_write(client, session), status=status, exit_code=exit_code)
        spooled = remark_spooled(client)
    if as_json:
        write_outcome(ended, spooled)
    elif not spooled:
        code = "" if ended.exit_code is None else f", exit code {ended.exit_code}"
        write_line(f"{ended.name} ({ended.ulid}) {ended.status}, {counted(ended.event_count, 'event')}{code}")
