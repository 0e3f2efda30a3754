"""`sessionctl config`: looks at and changes the daemon's settings. The one rule: it needs no daemon."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from sessionctl.editor import Editor
from sessionctl.escape import escape_line
from sessionctl.exits import ExitCode, Failure, complain
from sessionctl.installation import settings
from sessionctl.output import json_option, write_exact, write_json, write_line
from sessiond_client import paths

DRAFT_SUFFIX = ".edited"
"""Of the file beside the settings in which they are edited."""


@click.group("config", short_help="Look at and change the daemon's settings.")
def command() -> None:
    """Look at and change the settings of the daemon, which reads them when it starts.

    All but `edit` take --json.

    \b
    Examples:
      sessionctl config list
      sessionctl config set log.level debug
      sessionctl config set record.env PATH,HOME,LANG
    """


@command.command("path")
@json_option
def path_command(as_json: bool) -> None:
    """Print where the file is, or would be."""
    path = str(paths.config_path())
    write_json({"path": path}) if as_json else write_line(path)


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
@json_option
def set_command(key: str, value: str, as_json: bool) -> None:
    """Change the setting KEY. A list is written with commas, or as in TOML. Comments in the file stay.

    With --json the new value.
    """
    path = paths.config_path()
    new = settings.parse(key, value)
    settings.write(path, settings.changed(settings.read(path), path, key, new))
    if as_json:
        write_json(new)
    _remind()


@command.command("edit")
def edit_command() -> int:
    """Open the settings in $VISUAL or $EDITOR, and take them if the daemon would start with them.

    If it would not, the file stays as it was; what you wrote is kept beside it, and the next `edit` goes on
    with that.
    """
    path = paths.config_path()
    editor = Editor()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = settings.read(path)
    draft = path.with_name(f"{path.name}{DRAFT_SUFFIX}")
    if not draft.exists():
        settings.write(draft, before)
    code = editor.run(draft)
    after = settings.read(draft)
    wrong = settings.problems(after)
    if after == before or not (wrong or code):
        draft.unlink()
    if code:
        raise Failure(ExitCode.NEGATIVE, f"the editor {editor.command!r} ended with {code}")
    if wrong:
        kept = "" if after == before else f"; {path} is as it was, go on with: sessionctl config edit"
        raise Failure(ExitCode.NEGATIVE, f"the daemon would not start with this: {'; '.join(wrong)}{kept}")
    if after != before:
        settings.write(path, after)
        _remind()
    return ExitCode.OK


def _found() -> dict[str, Any]:
    """What the file sets; refused where the daemon would refuse it."""
    path = paths.config_path()
    text = settings.read(path)
    if wrong := settings.problems(text):
        raise Failure(ExitCode.NEGATIVE, f"{path}: {'; '.join(wrong)}; mend it with: sessionctl config edit")
    return settings.values(text, path)


def _toml(value: Any) -> str:
    """A value as it would stand in the file; JSON writes strings and lists of them as TOML does."""
    return escape_line(msgspec.json.format(msgspec.json.encode(value), indent=0).decode())


def _remind() -> None:
    if sys.stderr.isatty():
        complain("the daemon reads this when it starts; restart it to have it at once")
