"""docs/operating.md says what the code says: variables, settings, exit codes, file names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from sessionctl.exits import ExitCode
from sessiond import cli, config, errors
from sessiond.daemon import STOP_SECONDS_MAX
from sessiond.distrust import READ_ONLY_SECONDS
from sessiond.failures import FAILURES_MAX, FILE_NAME, WINDOW_SECONDS
from sessiond.storage.directory import DATABASE_NAME, INDEX_NAME, SUSPECT_NAME
from sessiond_client import paths

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "operating.md").read_text()
SOURCES = [*(ROOT / "sessiond").rglob("*.py"), *(ROOT / "client").rglob("*.py")]
OURS = (
    r"(?:SESSIOND_\w+|SESSIONCTL_\w+|XDG_\w+|NO_COLOR|CLICOLOR\w*|PAGER|"
    r"NOTIFY_SOCKET|WATCHDOG_\w+|LISTEN_\w+)"
)


def rows(first_head: str) -> list[list[str]]:
    """The cells of the table whose first column has this head."""
    match = re.search(rf"(?ms)^\| {re.escape(first_head)} \|.*?(?=^$)", DOCUMENT)
    assert match, first_head
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in match[0].splitlines()[2:]]


def code_block(language: str) -> str:
    match = re.search(rf"(?ms)^```{language}\n(.*?)^```$", DOCUMENT)
    assert match, language
    return match[1]


def test_every_environment_variable_is_documented_and_no_other() -> None:
    read = {name for path in SOURCES for name in re.findall(rf'"({OURS})"', path.read_text())}
    documented = {name for row in rows("Variable") for name in re.findall(r"`(\w+)`", row[0])}

    assert documented == read


def test_every_setting_is_documented_with_its_default() -> None:
    documented = tomllib.loads(code_block("toml"))

    assert documented == msgspec.json.decode(msgspec.json.encode(config.Settings()))
    assert all(level in code_block("toml") for level in config.LOG_LEVELS)


def test_the_exit_codes_of_the_daemon_are_documented_and_no_others() -> None:
    ours = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}

    assert {int(row[0]) for row in rows("`sessiond serve`")} == {0, 2} | ours
    assert cli.serve.help
    assert all(str(code) in cli.serve.help for code in ours)


def test_the_exit_codes_of_the_command_line_are_documented_and_no_others() -> None:
    assert [int(row[0]) for row in rows("`sessionctl`")] == sorted(ExitCode)


@pytest.mark.parametrize("name", [DATABASE_NAME, SUSPECT_NAME, INDEX_NAME])
def test_the_files_in_the_data_directory_are_documented(name: str) -> None:
    data_dir = paths.data_dir({"HOME": "/home/u"}).relative_to("/home/u")

    assert f"`~/{data_dir / name}`" in [row[0] for row in rows("Path")]


def test_when_the_daemon_only_reads_is_documented() -> None:
    assert {1: "first", 2: "second", 3: "third"}[
        FAILURES_MAX
    ] + f" failure of the disk itself within {WINDOW_SECONDS:.0f} s" in DOCUMENT
    assert f"After {READ_ONLY_SECONDS:.0f} s the daemon exits with 70" in DOCUMENT
    assert f"`$XDG_RUNTIME_DIR/sessiond/{FILE_NAME}`" in [row[0] for row in rows("Path")]


def test_the_time_to_stop_is_documented() -> None:
    assert f"in {STOP_SECONDS_MAX:.0f} s at most" in DOCUMENT


def test_the_drop_in_replaces_what_the_unit_starts() -> None:
    drop_in = code_block("ini")

    assert drop_in.splitlines()[:2] == ["[Service]", "ExecStart="]
    assert "ExecStart=%h/.local/bin/sessiond serve\n" in (ROOT / "systemd" / "sessiond.service").read_text()
