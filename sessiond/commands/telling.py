"""What a check or a rebuild found and did, as lines for people or as JSON.

The one rule: what names a file is shown escaped; it may be called anything.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from sessiond_client.wire.messages import Fault

FAULTS_FOUND = 1
"""The exit code of a check that found something."""

UNITS = ("KiB", "MiB", "GiB", "TiB")


def tell(kind: str, fields: dict[str, Any]) -> None:
    """One JSON object on one line."""
    click.echo(msgspec.json.encode({"type": kind, **fields}).decode())


def tell_fault(found: Fault, *, as_json: bool) -> None:
    """One fault: where it is, what it is, and what mends it."""
    if as_json:
        tell("fault", msgspec.structs.asdict(found))
        return
    where = found.path if found.offset is None else f"{found.path}, byte {found.offset}"
    click.echo(f"{found.code}  {shown(where)}")
    whose = "" if found.session is None else f"session {found.session}: "
    click.echo(f"    {shown(whose + found.message)}")
    click.echo(f"    -> {shown(found.repair)}")


def shown(text: str) -> str:
    """Text on one line, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def number(count: int, what: str) -> str:
    """`1 session`, `1 000 sessions`."""
    return f"{count:,} {what}".replace(",", " ") + ("" if count == 1 else "s")


def size(count: int) -> str:
    """About how many bytes."""
    if count < 1024:
        return number(count, "byte")
    amount = float(count)
    for unit in UNITS:
        amount /= 1024
        if amount < 1024 or unit == UNITS[-1]:
            break
    return f"{amount:.1f} {unit}"
