"""What the user can set: read here and nowhere else, from the environment, a file and the command line.

The file is TOML at `$XDG_CONFIG_HOME/sessiond/config.toml`. The one rule: a setting that is not understood
stops the daemon with one clear line; nothing is guessed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sessiond.errors import StartupRefused
from sessiond_client import paths
from sessiond_client.wire.messages import RECORDED_ENV_DEFAULT


class RecordSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[record]`: `env` names the environment variables that are kept with a session."""

    env: tuple[str, ...] = RECORDED_ENV_DEFAULT


class LogSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[log]`: `level` is one of debug, info, warning, error."""

    level: str = "info"


class StorageSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[storage]`: `any_file_system` allows the data also where the promises do not hold."""

    any_file_system: bool = False


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The configuration file."""

    record: RecordSettings = RecordSettings()
    log: LogSettings = LogSettings()
    storage: StorageSettings = StorageSettings()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the daemon is told from outside."""

    data_dir: Path
    socket_path: Path
    settings: Settings
    environ: Mapping[str, str]


LOG_LEVELS = ("debug", "info", "warning", "error")


def load(environ: Mapping[str, str], data_dir: Path | None, socket_path: Path | None) -> Config:
    """The configuration; what is given here wins over the environment. Raises StartupRefused."""
    return Config(
        data_dir=(data_dir or paths.data_dir(environ)).absolute(),
        socket_path=(socket_path or paths.socket_path(environ)).absolute(),
        settings=read_settings(paths.config_path(environ)),
        environ=environ,
    )


def read_settings(path: Path) -> Settings:
    """The settings in a file, or the defaults where there is none."""
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupRefused(f"cannot read {path}: {error}", "make it readable or remove it") from None
    try:
        settings = msgspec.convert(tomllib.loads(content), Settings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise StartupRefused(f"{path}: {error}", "docs/operating.md lists the settings") from None
    if settings.log.level not in LOG_LEVELS:
        raise StartupRefused(
            f"{path}: log.level is {settings.log.level!r}", f"use one of {', '.join(LOG_LEVELS)}"
        )
    return settings
