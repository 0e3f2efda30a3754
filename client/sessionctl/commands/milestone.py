"""`sessionctl milestone`: values that programs keep under a key, outside of any session.

The one rule: setting tells in its exit code whether the value that is stored now is the one that was given.
"""

from __future__ import annotations

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, complain
from sessionctl.output import json_option, write_exact, write_json, write_line, write_reply


@click.group("milestone", short_help="Keep a value under a key, get it, list all.")
def command() -> None:
    """Keep values under keys, such as the time at which something was done first.

    Each subcommand takes --json.

    \b
    Examples:
      sessionctl milestone set first_deploy_at "$(date -Is)" --if-absent
      sessionctl milestone get first_deploy_at
    """


@command.command("get", short_help="Print a value.")
@click.argument("key")
@json_option
def get(key: str, as_json: bool) -> int:
    """Print the value under KEY. Exit code 1 if it was never set.

    A pipe or a file gets it as it was stored, and a newline; on a terminal, control characters other than
    newlines and tabs are shown escaped.

    Example: sessionctl milestone get first_deploy_at
    """
    with connect() as client:
        value = client.milestone(key)
    if as_json:
        write_json({"key": key, "value": value})
    elif value is None:
        complain(f"{key} was never set; see: sessionctl milestone list")
    else:
        write_exact(value)
    return ExitCode.NEGATIVE if value is None else ExitCode.OK


@command.command("set", short_help="Store a value under a key.")
@click.argument("key")
@click.argument("value")
@click.option("--if-absent", is_flag=True, help="Only if there is none yet.")
@click.option("--expect", metavar="OLD", help="Only if the value is OLD until now.")
@json_option
def set_(key: str, value: str, if_absent: bool, expect: str | None, as_json: bool) -> int:
    """Store VALUE under KEY and print what is stored then. Exit code 1 if that is another value.

    \b
    Examples:
      sessionctl milestone set first_deploy_at "$(date -Is)" --if-absent
      sessionctl milestone set deploys 8 --expect 7
    """
    if if_absent and expect is not None:
        raise click.UsageError("--if-absent and --expect exclude each other")
    with connect() as client:
        milestone = client.set_milestone(key, value, if_absent=if_absent, expect=expect)
    if as_json:
        write_reply(milestone)
    elif milestone.value is not None:
        write_exact(milestone.value)
    if not milestone.stored:
        why = "has a value already" if if_absent else f"is not {expect}"
        complain(f"{key} {why}; nothing was changed")
    return ExitCode.OK if milestone.stored else ExitCode.NEGATIVE


@command.command("list", short_help="List all keys and values.")
@json_option
def list_(as_json: bool) -> None:
    """List all keys with their values, parted by a tab; with --json one object.

    Example: sessionctl milestone list --json
    """
    with connect() as client:
        milestones = client.milestones()
    if as_json:
        write_json(milestones)
        return
    for key, value in milestones.items():
        write_line(f"{escape_line(key)}\t{escape_line(value)}")
