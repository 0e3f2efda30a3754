"""`sessionctl export`: a session in the format of another program.

The one rule: what is written is whole or, in a file, not there at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from sessionctl.connection import connect
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, complain
from sessionctl.export.destination import write_to_file, write_to_stdout
from sessionctl.export.formats import FORMATS, Options, format_for, format_named
from sessionctl.export.progress import progress_bar
from sessionctl.export.recording import Recording
from sessionctl.options import completed, session_argument
from sessionctl.output import write_json
from sessionctl.reference import resolve

STDOUT = "-"
FORMAT_DEFAULT = "ndjson"


@click.command("export", short_help="Write a session in another format.")
@session_argument()
@click.option(
    "-F",
    "--format",
    "format_name",
    shell_complete=completed("export_formats"),
    help="One of the formats below (default: by the name of FILE, else ndjson).",
)
@click.option("-o", "--output", default=STDOUT, metavar="FILE", help="Where to (default: standard output).")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--json", "as_json", is_flag=True, help="With FILE: print what was written as a JSON object.")
@click.option(
    "--cast-version",
    type=click.Choice(["2", "3"]),
    default="3",
    help="Of asciicast; asciinema 2 reads only 2.",
)
@click.option(
    "--param",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Scripts: put VALUE where a command has {{NAME}}.",
)
@click.option(
    "--parameterize", is_flag=True, help="Scripts: make variables of the recorded home, user and host."
)
def command(
    session: str,
    format_name: str | None,
    output: str,
    force: bool,
    as_json: bool,
    cast_version: str,
    pairs: tuple[str, ...],
    parameterize: bool,
) -> None:
    """Write SESSION in another format.

    \b
    Formats:
      %(formats)s

    The scripts are made of the session's commands; check one before you run it. With --param or
    --parameterize every {{NAME}} in a command must have a value.

    \b
    Examples:
      sessionctl export nightly > nightly.ndjson
      sessionctl export @last -o demo.html
      sessionctl export setup -F bash --parameterize --param VERSION=1.2 -o setup.sh
    """
    if as_json and output == STDOUT:
        raise click.UsageError("--json is for -o FILE: standard output has the export")
    seen = None if format_name or output == STDOUT else format_for(Path(output))
    name = format_name or seen or FORMAT_DEFAULT
    chosen = format_named(name)
    if (pairs or parameterize) and not chosen.script:
        scripts = ", ".join(name for name, entry in FORMATS.items() if entry.script)
        raise Failure(ExitCode.USAGE, f"--param and --parameterize are for scripts: {scripts}")
    options = Options(cast_version=int(cast_version), parameters=_parameters(pairs), detect=parameterize)
    with connect() as client:
        info = resolve(client, session)
        with progress_bar(info.next_seq, escape_line(info.name), output == STDOUT) as progress:
            chunks = chosen.chunks(Recording(client, info, progress), options)
            _write(output, chunks, force)
    if output != STDOUT and not (format_name or seen):
        complain(f"{output} is written as {name}, for its name says no format; -F chooses another")
    if as_json:
        path = Path(output).absolute()
        write_json({"session": info.ulid, "format": name, "path": str(path), "bytes": path.stat().st_size})


def _parameters(pairs: tuple[str, ...]) -> dict[str, str]:
    if not pairs:
        return {}
    from sessionctl.export.parameters import parsed

    return parsed(pairs)


def _write(output: str, chunks: Iterator[bytes], force: bool) -> None:
    if output == STDOUT:
        write_to_stdout(chunks)
    else:
        write_to_file(Path(output), chunks, force=force)


# The list of formats has its one place, in `formats`.
_TABLE = "\n".join(f"  {name:<14} {entry.summary}" for name, entry in FORMATS.items())
command.help = cleandoc(command.help or "").replace("  %(formats)s", _TABLE)
