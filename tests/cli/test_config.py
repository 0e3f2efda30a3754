"""`sessionctl config`: the settings file of the daemon."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sessionctl.installation import settings
from sessiond import config
from tests.cli.conftest import Sessionctl
from tests.running import environ_for

COMMENTED = """\
# mine
[record]  # what is kept
env = ["PATH"]   # only this

[log]
# loud, for now
level = "debug"
"""


@pytest.fixture
def sessionctl(home: Path) -> Sessionctl:
    """`sessionctl` where no daemon runs."""
    return Sessionctl(environ_for(home))


@pytest.fixture
def file(home: Path) -> Path:
    """The settings file, which is not there."""
    return home / "config" / "sessiond" / "config.toml"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_the_settings_are_those_of_the_daemon() -> None:
    tables = msgspec.json.decode(msgspec.json.encode(config.Settings()))
    daemons = {f"{table}.{name}": tables[table][name] for table in tables for name in tables[table]}

    assert {key: it.default for key, it in settings.SETTINGS.items()} == daemons
    assert settings.SETTINGS["log.level"].choices == config.LOG_LEVELS


def test_without_a_file_the_defaults_are_listed(sessionctl: Sessionctl, file: Path) -> None:
    assert sessionctl.out("config", "path") == f"{file}\n"
    assert 'log.level = "info"  # how much the daemon logs (default)' in sessionctl.out("config", "list")
    assert sessionctl.json("config", "list") == [{key: it.default for key, it in settings.SETTINGS.items()}]
    assert sessionctl.out("config", "get", "log.level") == "info\n"
    assert not file.exists()


def test_a_change_keeps_comments_and_everything_else(sessionctl: Sessionctl, file: Path) -> None:
    write(file, COMMENTED)
    file.chmod(0o640)

    sessionctl.out("config", "set", "record.env", "PATH, LANG")

    assert file.read_text() == COMMENTED.replace('["PATH"]', '["PATH", "LANG"]')
    assert file.stat().st_mode & 0o777 == 0o640
    assert sessionctl.out("config", "get", "record.env") == "PATH\nLANG\n"
    assert [it.name for it in file.parent.iterdir()] == [file.name]


def test_a_change_goes_through_a_link(sessionctl: Sessionctl, file: Path, home: Path) -> None:
    target = home / "dotfiles.toml"
    target.write_text(COMMENTED)
    file.parent.mkdir(parents=True)
    file.symlink_to(target)

    sessionctl.out("config", "set", "log.level", "error")

    assert file.is_symlink()
    assert 'level = "error"' in target.read_text()


def test_what_was_set_is_what_the_daemon_reads(sessionctl: Sessionctl, file: Path) -> None:
    sessionctl.out("config", "set", "log.level", "warning")
    sessionctl.out("config", "set", "record.env", '["HOME", "A b"]')

    read = config.read_settings(file)
    assert read == config.Settings(
        record=config.RecordSettings(env=("HOME", "A b")), log=config.LogSettings(level="warning")
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("log.level", "loud", "it is one of debug, info, warning, error"),
        ("log.colour", "red", "there is no setting 'log.colour'; there are: record.env, log.level"),
        ("record.env", "[1, 2]", "it is a list of strings"),
    ],
)
def test_what_the_daemon_would_refuse_is_refused(
    sessionctl: Sessionctl, file: Path, key: str, value: str, told: str
) -> None:
    result = sessionctl("config", "set", key, value)

    assert result.returncode == 2
    assert told in result.stderr.decode()
    assert not file.exists()


@pytest.mark.parametrize("broken", ["[log\n", "[log]\nlevel = 3\n", "[lag]\nlevel = 'info'\n", "log = 1\n"])
def test_a_broken_file_is_told_of_and_not_changed(sessionctl: Sessionctl, file: Path, broken: str) -> None:
    write(file, broken)

    for arguments in (("list",), ("get", "record.env"), ("set", "record.env", "PATH")):
        result = sessionctl("config", *arguments)
        assert result.returncode == 1
        assert "mend it with: sessionctl config edit" in result.stderr.decode()

    assert file.read_text() == broken


def test_a_wrong_value_can_be_set_right(sessionctl: Sessionctl, file: Path) -> None:
    write(file, "[log]\nlevel = 'loud'  # oops\n")

    sessionctl.out("config", "set", "log.level", "info")

    assert file.read_text() == '[log]\nlevel = "info"  # oops\n'


def test_edit_opens_the_editor_and_checks_what_it_left(
    sessionctl: Sessionctl, file: Path, home: Path
) -> None:
    editor = home / "editor"
    editor.write_text('#!/bin/sh\nprintf "%s" "$TEXT" > "$1"\n')
    editor.chmod(0o755)

    good = sessionctl("config", "edit", VISUAL=str(editor), TEXT='[log]\nlevel = "error"\n')
    bad = sessionctl("config", "edit", EDITOR=str(editor), TEXT="[log]\nlevel = 5\n")
    missing = sessionctl("config", "edit", EDITOR="/nonexistent/editor")

    assert good.returncode == 0
    assert bad.returncode == 1
    assert b"the daemon would not start with this: log.level: it is a string" in bad.stderr
    assert missing.returncode == 1
    assert b"cannot be started" in missing.stderr
    assert file.read_text() == '[log]\nlevel = "error"\n'
    assert f"{file} is as it was, go on with: sessionctl config edit".encode() in bad.stderr


def test_what_edit_refused_is_where_the_next_one_goes_on(
    sessionctl: Sessionctl, file: Path, home: Path
) -> None:
    write(file, COMMENTED)
    editor = home / "editor"
    editor.write_text('#!/bin/sh\ncp "$1" "$HOME/seen"; [ -z "$TEXT" ] || printf "%s" "$TEXT" > "$1"\n')
    editor.chmod(0o755)

    sessionctl("config", "edit", EDITOR=str(editor), TEXT="[log]\nlevel = 5\n")
    assert file.read_text() == COMMENTED
    again = sessionctl("config", "edit", EDITOR=str(editor), TEXT="[log]\nlevel = 'debug'\n")

    assert (home / "seen").read_text() == "[log]\nlevel = 5\n"
    assert again.returncode == 0
    assert file.read_text() == "[log]\nlevel = 'debug'\n"
    assert [it.name for it in file.parent.iterdir()] == [file.name]
    sessionctl("config", "edit", EDITOR=str(editor))
    assert [it.name for it in file.parent.iterdir()] == [file.name]


def test_a_broken_file_is_named_once_with_one_advice(sessionctl: Sessionctl, file: Path) -> None:
    write(file, "[log\n")

    told = sessionctl("config", "list").stderr.decode()

    assert (told.count(str(file)), told.count("mend it with")) == (1, 1)


def test_path_and_set_have_json(sessionctl: Sessionctl, file: Path) -> None:
    assert sessionctl.json("config", "path") == [{"path": str(file)}]
    assert sessionctl.json("config", "set", "record.env", "PATH, LANG") == [["PATH", "LANG"]]
