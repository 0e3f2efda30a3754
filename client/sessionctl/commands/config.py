"""`sessionctl config`: looks at and changes the daemon's settings. The one rule: it needs no daemon."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any

import click
import msgspec

from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, complain
from sessionctl.installation import settings
from sessionctl.output import json_option, write_exact, write_json, write_line
from sessiond_client import paths

EDITOR_DEFAULT = "vi"


@click.group("config", short_help="Look at and change the daemon's settings.")
def command() -> None:
    """Look at and change the settings of the daemon, which reads them when it starts.

    `list` and `get` take --json.

    \b
    Examples:
      sessionctl config list
      sessionctl config set log.level debug
      sessionctl config set record.env PATH,HOME,LANG
    """


@command.command("path")
def path_command() -> None:
    """Print where the file is, or would be."""
    write_line(str(paths.config_path()))


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Print every setting, its value, and whether that comes from the file."""
    found = _found()
    if as_json:
        write_json({key: found.get(key, it.default) for key, it in settings.SETTINGS.items()})
        return
    for key, it in settings.SETTINGS.items():
        origin = "set in the file" if key in found else "default"
        write_line(f"{key} = {_toml(found.get(key, it.default))}  # {it.about} ({origin})")


@command.command("get")
@click.argument("key")
@json_option
def get_command(key: str, as_json: bool) -> None:
    """Print the value of the setting KEY."""
    value = _found().get(key, settings.setting(key).default)
    settings.setting(key)
    if as_json:
        write_json(value)
    elif isinstance(value, list):
        for item in value:
            write_exact(str(item))
    else:
        write_exact(str(value))


@command.command("set")
@click.argument("key")
@click.argument("value")
def set_command(key: str, value: str) -> None:
    """Change the setting KEY. A list is written with commas, or as in TOML. Comments in the file stay."""
    path = paths.config_path()
    new = settings.parse(key, value)
    settings.write(path, settings.changed(settings.read(path), path, key, new))
    _remind()


@command.command("edit")
def edit_command() -> int:
    """Open the file in $VISUAL or $EDITOR, and check it afterwards."""
    path = paths.config_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or EDITOR_DEFAULT
    before = settings.read(path)
    try:
        code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
    except (OSError, ValueError) as error:
        raise Failure(ExitCode.NEGATIVE, f"the editor {editor!r} cannot be run: {error}") from None
    if code:
        raise Failure(ExitCode.NEGATIVE, f"the editor {editor!r} ended with {code}")
    after = settings.read(path)
    if wrong := settings.problems(after, path):
        raise Failure(ExitCode.NEGATIVE, f"the daemon would not start with this: {'; '.join(wrong)}")
    if after != before:
        _remind()
    return ExitCode.OK


def _found() -> dict[str, Any]:
    """What the file sets; refused where the daemon would refuse it."""
    path = paths.config_path()
    text = settings.read(path)
    if wrong := settings.problems(text, path):
        raise Failure(ExitCode.NEGATIVE, f"{path}: {'; '.join(wrong)}; mend it with: sessionctl config edit")
    return settings.values(text, path)


def _toml(value: Any) -> str:
    """A value as it would stand in the file; JSON writes strings and lists of them as TOML does."""
    return escape_line(msgspec.json.format(msgspec.json.encode(value), indent=0).decode())


def _remind() -> None:
    if sys.stderr.isatty():
        complain("the daemon reads this when it starts; restart it to have it at once")
