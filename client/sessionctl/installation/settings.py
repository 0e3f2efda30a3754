"""The daemon's settings file, as the command line reads and changes it.

Owns the list of settings there are, which is the daemon's own (`sessiond/config.py`; a test holds the two
equal). The one rule: a change keeps every comment and everything else in the file, replaces it in one step,
and is never written if the daemon would refuse it.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from sessionctl.exits import ExitCode, Failure

if TYPE_CHECKING:
    import tomlkit


Value = str | bool | list[str]


class Setting(Struct, frozen=True, kw_only=True):
    """One setting: what it is for, its default, and what it may be (empty: all of the default's type)."""

    about: str
    default: Value
    choices: tuple[str, ...] = ()

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if isinstance(self.default, list):
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
            return None if right else 'it is a list of strings, such as ["PATH", "HOME"]'
        if isinstance(self.default, bool):
            return None if isinstance(value, bool) else "it is true or false"
        if not isinstance(value, str):
            return 'it is a string, such as "info"'
        return (
            f"it is one of {', '.join(self.choices)}" if self.choices and value not in self.choices else None
        )


SETTINGS: Mapping[str, Setting] = {
    "record.env": Setting(
        about="names of the environment variables that are kept with a session",
        default=["PATH", "SHELL", "HOME", "USER", "PWD", "TERM"],
    ),
    "log.level": Setting(
        about="how much the daemon logs", default="info", choices=("debug", "info", "warning", "error")
    ),
    "storage.any_file_system": Setting(
        about="keep the data also on a network file system, where the promises do not hold", default=False
    ),
}


def setting(key: str) -> Setting:
    """The setting of that name; raises `Failure` with the names there are."""
    if key not in SETTINGS:
        raise Failure(ExitCode.USAGE, f"there is no setting {key!r}; there are: {', '.join(SETTINGS)}")
    return SETTINGS[key]


def read(path: Path) -> str:
    """The text of the file, empty where there is none. Raises `Failure`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise Failure(
            ExitCode.NEGATIVE, f"{path} is no UTF-8: {error.reason} at byte {error.start}"
        ) from None


def values(text: str, path: Path) -> dict[str, Any]:
    """What the file sets, by dotted name. Raises `Failure` if it is no TOML."""
    try:
        return _values(text)
    except tomllib.TOMLDecodeError as error:
        raise Failure(ExitCode.NEGATIVE, f"{path}: {error}; mend it with: sessionctl config edit") from None


def _values(text: str) -> dict[str, Any]:
    tables = tomllib.loads(text)
    found: dict[str, Any] = {}
    for table, content in tables.items():
        if isinstance(content, dict):
            found |= {f"{table}.{name}": value for name, value in content.items()}
        else:
            found[table] = content
    return found


def problems(text: str) -> list[str]:
    """Why the daemon would not start with this file; nothing if it would."""
    try:
        found = _values(text)
    except tomllib.TOMLDecodeError as error:
        return [str(error)]
    return [
        f"{key}: there is no such setting" if key not in SETTINGS else f"{key}: {wrong}"
        for key, value in found.items()
        if key not in SETTINGS or (wrong := SETTINGS[key].problem(value)) is not None
    ]


def parse(key: str, text: str) -> Value:
    """A value as the user wrote it: TOML, or just the words. Raises `Failure` for one that is refused."""
    wanted = setting(key)
    value: Any = text
    if isinstance(wanted.default, list):
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = [word for word in text.replace(",", " ").split() if word]
    elif isinstance(wanted.default, bool):
        value = {"true": True, "false": False}.get(text, text)
    if (wrong := wanted.problem(value)) is not None:
        raise Failure(ExitCode.USAGE, f"{key} cannot be {text!r}: {wrong}")
    return cast("Value", value)


def changed(text: str, path: Path, key: str, value: Value) -> str:
    """The file's text with one setting changed. Raises `Failure` where the daemon would refuse the rest."""
    import tomlkit

    values(text, path)
    if wrong := [problem for problem in problems(text) if not problem.startswith(f"{key}: ")]:
        raise Failure(ExitCode.NEGATIVE, f"{path}: {'; '.join(wrong)}; mend it with: sessionctl config edit")
    document = tomlkit.parse(text)
    table, _, name = key.partition(".")
    if table not in document:
        _append_table(document, table)
    document[table][name] = value
    return tomlkit.dumps(document)


def write(path: Path, text: str) -> None:
    """Replace the file in one step; one that is a link stays one, and its target is replaced."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _append_table(document: tomlkit.TOMLDocument, name: str) -> None:
    import tomlkit

    if document.as_string().strip():
        document.add(tomlkit.nl())
    document.add(name, tomlkit.table())
