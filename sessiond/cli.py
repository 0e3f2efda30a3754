"""The `sessiond` command: `serve`, `check`, `rebuild` and `version`.

The one rule: a person at a terminal sees one clear line for whatever goes wrong, never a traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import click

from sessiond import __version__
from sessiond.errors import EXIT_STORAGE, DataGone, Refused, StartupRefused, StorageFailed

LOOKING_AFTER = ("check", "rebuild")


class _Commands(click.Group):
    """Imports those that look after the data when they are called; what is refused becomes a line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LOOKING_AFTER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LOOKING_AFTER:
            return cast("click.Command", import_module(f"sessiond.commands.{cmd_name}").command)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StartupRefused as refusal:
            click.echo(f"sessiond: {refusal}", err=True)
            sys.exit(refusal.exit_code)
        except StorageFailed as failure:
            click.echo(f"sessiond: {failure}", err=True)
            sys.exit(EXIT_STORAGE)
        except Refused as refusal:
            click.echo(f"sessiond: {refusal.message}", err=True)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sessiond")
def main() -> None:
    """The flight recorder's daemon. `sessionctl` talks to it.

    \b
    Example:
      sessiond serve
    """


@main.command()
@click.option(
    "--data-dir", type=click.Path(readable=False, path_type=Path), help="Where the recordings are kept."
)
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="Where to listen.")
def serve(data_dir: Path | None, socket_path: Path | None) -> None:
    """Record until SIGTERM or SIGINT; a second signal stops at once.

    Exits with 0 when stopped, 70 when the disk failed (start it again), 75 when another daemon has the
    socket or the data, 78 when the configuration or the data directory is refused. After three failures of
    the disk within a minute it only reads, for a minute, and then exits with 70 to be started again.

    \b
    Example:
      sessiond serve --data-dir /tmp/demo/data --socket /tmp/demo/run/sessiond.sock
    """
    from sessiond import config, daemon, log  # noqa: PLC0415 - `sessiond version` needs none of it
    from sessiond.storage.directory import mark_suspect  # noqa: PLC0415 - as above

    try:
        loaded = config.load(os.environ, data_dir, socket_path)
        log.configure(loaded.settings.log.level)
        sys.exit(daemon.serve(loaded))
    except StorageFailed as failure:
        if isinstance(failure, DataGone):
            advice = "nobody was answered since; put it back if you can, and start it again"
        else:
            advice = "whatever was acknowledged is safe, start it again"
            with suppress(OSError):  # told below; without the mark the next start looks as at any other
                mark_suspect(loaded.data_dir)
        click.echo(f"sessiond: {failure}; {advice}", err=True)
        sys.stderr.flush()
        # The threads may hang in the kernel with the disk; nobody is to be answered any more.
        os._exit(EXIT_STORAGE)


@main.command()
def version() -> None:
    """Print the version, and that of SQLite.

    \b
    Example:
      sessiond version
    """
    import apsw  # noqa: PLC0415 - only here

    click.echo(f"sessiond {__version__} (SQLite {apsw.sqlite_lib_version()})")
