"""The entry point: finds the subcommand, imports it, and turns whatever it raises into an exit code.

Owns the tables of subcommands. The one rule: nothing but click is imported before a subcommand is chosen, so
that `--version`, `--help` and completion stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from sessionctl import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SECTIONS = {
    "Record": {
        "record": "Record a command or a shell under a terminal.",
        "start": "Begin a session and print its id.",
        "append": "Add events to a session.",
        "end": "End a session.",
        "init": "Print the hooks that record a shell's commands.",
    },
    "Look": {
        "list": "List sessions, newest first (also: ls).",
        "show": "Show a session and its events.",
        "tail": "Show the last events of a session, and follow it.",
        "last": "Print the id of the newest session.",
        "search": "Find events by their text, and sessions by name, tag and label.",
        "replay": "Play a recorded terminal, or run recorded commands again.",
        "diff": "Compare the commands of two sessions.",
        "summary": "Show what a session amounted to.",
        "stats": "Show totals over all sessions.",
    },
    "Name and keep": {
        "rename": "Give a session another name.",
        "tag": "Add and remove tags, and list them.",
        "label": "Let a label stand for a session, remove it, list all.",
        "milestone": "Keep a value under a key, get it, list all.",
        "fork": "Begin a session that goes on from another one.",
        "copy": "Copy a session under another name.",
        "edit": "Edit the commands of a session, as a session of their own.",
        "delete": "Put sessions into the trash, or remove them for good.",
        "restore": "Take a session out of the trash.",
    },
    "Exchange": {
        "export": "Write a session in another format.",
        "import": "Turn histories and recordings into sessions.",
    },
    "The installation": {
        "status": "Show how the daemon is.",
        "verify": "Compare every line of database and files.",
        "doctor": "Check that everything is as it should be.",
        "config": "Look at and change the daemon's settings.",
        "completions": "Print the completions of a shell.",
        "man": "Show or write the manual pages.",
    },
}
COMMANDS = {name: summary for section in SECTIONS.values() for name, summary in section.items()}
ALIASES = {"ls": "list"}
ELSEWHERE = {
    "alias": "label",
    "cat": "show",
    "history": "search",
    "play": "replay",
    "resume": "show",
    "rm": "delete",
    "sessions": "list",
    "share": "export -F json",
    "stop": "end",
    "tags": "tag list",
}
"""What other programs call it."""

EPILOG = """\b
SESSION is an id, the beginning or end of one, a label, a name, or
  @last, @0   the newest session; @1 the one before, and so on
  .           the session that this shell is recorded in

\b
Exit codes: 0 ok, 1 negative result, 2 wrong usage, 3 the daemon cannot be
reached, 4 not found, 130 interrupted, 141 whoever read the output went away.
`record` ends as its command does.
"""


class Commands(click.Group):
    """A group that knows its subcommands by name and imports only the one that is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command = import_module(f"sessionctl.commands.{name}").command
        return cast("click.Command", command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = name in COMMANDS or name in ALIASES or name.startswith("-")
        if not known and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = ELSEWHERE.get(name) or next(iter(get_close_matches(name, COMMANDS, n=1)), None)
            meant = f"did you mean {near}?" if near else "see: sessionctl --help"
            ctx.fail(f"there is no command {name!r}; {meant}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete from the table: no command needs to be imported for its name."""
        from click.shell_completion import CompletionItem

        fitting = [(name, text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=text) for name, text in fitting), *options]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Interruptions and broken pipes are told here; click has its own ideas of them."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if error.ctx is None and (command := self.get_command(ctx, ctx.invoked_subcommand or "")):
                # Of an option without its value click does not say whose it is.
                error.ctx = click.Context(command, info_name=ctx.invoked_subcommand, parent=ctx)
            raise
        except (KeyboardInterrupt, BrokenPipeError) as error:
            from sessionctl.exits import explain

            raise click.exceptions.Exit(explain(error)) from None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in section.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"sessionctl {__version__}")
        ctx.exit()


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Record sessions of shells, agents and programs, and look at them.

    Example: sessionctl record -- make test
    """


def main() -> NoReturn:
    """Run `sessionctl` and leave the process with its exit code."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = _run(lambda: cli.main(prog_name="sessionctl", standalone_mode=False))
    code = _run(sys.stdout.flush) or code
    # Nothing is left to do, and taking the modules apart one by one costs milliseconds.
    os._exit(code)


def _run(step: Callable[[], Any]) -> int:
    try:
        return int(step() or 0)
    except SystemExit as done:  # click has completed a word: nothing to explain, so nothing is loaded for it
        return done.code if isinstance(done.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the last place: everything becomes an exit code
        from sessionctl.exits import explain

        return explain(error)


def _open_missing_streams() -> None:
    """With 0, 1 or 2 closed, the next file opened would take its place and get what is meant for the user.

    What stands in for standard output takes nothing, so that whoever writes to it is told.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
