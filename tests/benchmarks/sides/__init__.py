"""The sides of the comparison: what people would use instead, each in a module of its own.

The one rule: a side is loaded only when it is wanted, and what it lacks is said with the command that
installs it.
"""

from __future__ import annotations

from importlib import import_module

from tests.benchmarks.sides.side import Missing, Side

NAMES = ("sessiond", "floor", "sqlite", "sqlite-stdlib", "ndjson", "redis", "postgresql", "nats")
"""Ours first: every other one is compared with it."""

PEERS = ("redis", "postgresql", "nats")
"""Servers of others."""

CLIENTS = "pip install -e '.[bench]'"


def load(name: str) -> type[Side]:
    """The class of a side. Raises Missing where its client library is not installed."""
    try:
        module = import_module(f"tests.benchmarks.sides.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise Missing(f"the Python module {error.name} is not installed", CLIENTS) from None
    side: type[Side] = module.SIDE
    return side
