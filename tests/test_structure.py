"""The habits of this project that a machine can hold: sizes, names, documents that match the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import ROOT

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
BANNED_NAMES = {"utils", "helpers", "common", "manager", "misc"}
SOURCES = sorted(
    path
    for folder in ("sessiond", "client", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_says_what_it_is_and_has_short_functions(path: Path) -> None:
    content = path.read_text()

    assert content.count("\n") <= FILE_LINES_MAX
    assert path.stem not in BANNED_NAMES
    if content.strip():
        assert ast.get_docstring(ast.parse(content)), "a module says on top what it owns"
    for function in functions(path):
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < FUNCTION_LINES_MAX, function.name


def test_ci_runs_the_very_test_command_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*pytest$", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert len(commands) == 1
    assert commands[0] in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_file_a_document_names_exists(path: Path) -> None:
    text = path.read_text()
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    named = set(re.findall(r"`((?:[\w.]+/)*\w+\.(?:py|sql|service|socket))`", text))
    places = [ROOT, ROOT / "sessiond", ROOT / "sessiond" / "storage", ROOT / "client" / "sessiond_client"]
    places += [ROOT / "systemd", ROOT / "client", *(ROOT / "sessiond" / "storage").glob("*/")]

    assert [file for file in sorted(named) if not any((place / file).exists() for place in places)] == []


def test_the_documents_link_only_to_what_is_there() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_storage_document_names_every_repair_that_is_counted() -> None:
    text = (ROOT / "docs" / "storage.md").read_text()
    storage = ROOT / "sessiond" / "storage"
    code = (storage / "recovery" / "recovery.py").read_text() + (storage / "directory.py").read_text()
    counted = set(re.findall(r'counters\.add\("(\w+)"', code))
    counted |= set(re.findall(r'_rebuild\([^"]*"(\w+)"\)', code))

    assert len(counted) > 8
    assert {what for what in counted if f"`{what}`" not in text} == set()


def test_storage_document_names_every_reason_for_which_a_start_sets_a_file_aside() -> None:
    text = (ROOT / "docs" / "storage.md").read_text()
    recovery = ROOT / "sessiond" / "storage" / "recovery"
    code = (recovery / "recovery.py").read_text() + (recovery / "unknown.py").read_text()
    reasons = set(re.findall(r'(?:_set_aside\(.*, |BadFile\()f?"([\w-]+)', code))

    assert len(reasons) > 6
    assert {reason for reason in reasons if f"`{reason}" not in text} == set()


def test_storage_document_names_every_table() -> None:
    text = (ROOT / "docs" / "storage.md").read_text()
    scripts = (ROOT / "sessiond" / "storage" / "schema").glob("*.sql")
    tables = {name for script in scripts for name in re.findall(r"CREATE TABLE (\w+)", script.read_text())}

    assert {table for table in tables if f"`{table}`" not in text} == set()


def test_storage_document_lists_the_fields_of_every_line() -> None:
    from sessiond_client.wire import lines

    text = (ROOT / "docs" / "storage.md").read_text().partition("## The database")[0]
    for kind, struct in {
        "header": lines.HeaderLine,
        "event": lines.EventLine,
        "command": lines.CommandLine,
        "amend": lines.AmendLine,
        "footer": lines.FooterLine,
        "label": lines.LabelLine,
        "milestone": lines.MilestoneLine,
    }.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{kind}` |")]
        for field in struct.__struct_fields__:
            # `session` is added on the way to a follower; it is in no file.
            assert f"`{field}`" in row or (field == "session"), f"{kind}.{field}"
