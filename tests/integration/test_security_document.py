"""docs/security.md says what the code says: each limit has its value, each place and each test is there."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.running import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text()
PACKAGES = {"wire": "sessiond_client."}
SOURCES = [ROOT, ROOT / "sessiond", ROOT / "client", ROOT / "client" / "sessiond_client"]


def rows(first_head: str) -> list[list[str]]:
    """The cells of every table whose first column has this head."""
    tables = re.findall(rf"(?ms)^\| {first_head} \|.*?(?=^$)", DOCUMENT)
    return [
        [cell.strip() for cell in row.strip("|").split(" | ")]
        for table in tables
        for row in table.splitlines()[2:]
    ]


LIMITS = rows("Name")
THREATS = rows("threat")


@pytest.mark.parametrize(("name", "value", "where"), LIMITS, ids=[row[0].strip("`") for row in LIMITS])
def test_a_limit_has_the_value_of_its_constant(name: str, value: str, where: str) -> None:
    dotted = where.strip("`").removesuffix(".py").replace("/", ".")
    module = importlib.import_module(PACKAGES.get(dotted.partition(".")[0], "sessiond.") + dotted)

    assert getattr(module, name.strip("`")) == float(value)


def test_every_limit_that_a_control_names_has_its_row() -> None:
    named = {name for row in THREATS for name in re.findall(r"`([A-Z_]+(?:_MAX|_SECONDS))`", row[1])}

    assert named == {row[0].strip("`") for row in LIMITS}


@pytest.mark.parametrize("row", THREATS, ids=[row[0] for row in THREATS])
def test_a_control_is_where_it_is_said_to_be_and_has_its_test(row: list[str]) -> None:
    _, _, where, held_by = row

    for path in re.findall(r"`([^`]+)`", where):
        assert any((source / path).is_file() for source in SOURCES), path
    tests = re.findall(r"`([^`]+)`", held_by)
    assert tests
    for path in tests:
        assert (ROOT / path).is_file(), path
