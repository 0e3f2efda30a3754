"""The daemon's log: one line a record on stderr, JSON unless a person is watching.

The one rule: recorded text never gets here; records carry ids, counts, paths and reasons as fields. A path
may be called anything: what a terminal would obey, or is no UTF-8, is escaped.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec

from sessiond.clock import time_text

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: _encodable(value) for key, value in vars(record).items() if key not in _STANDARD}


def _encodable(value: Any) -> Any:
    """What stands for a byte of a name that is no UTF-8 has no encoding of its own."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _shown(value: Any) -> str:
    """On one line, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in str(value))


class JsonFormatter(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        fields = {
            "at": time_text(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            fields["exception"] = _encodable(self.formatException(record.exc_info))
        return msgspec.json.encode(fields, enc_hook=str).decode()


class PlainFormatter(logging.Formatter):
    """A line for a person: level, what happened, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        fields = "".join(f" {key}={_shown(value)}" for key, value in _fields(record).items())
        text = f"sessiond: {record.levelname.lower()}: {record.getMessage()}{fields}"
        return f"{text}\n{_encodable(self.formatException(record.exc_info))}" if record.exc_info else text


def configure(level: str) -> None:
    """Send the daemon's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter() if sys.stderr.isatty() else JsonFormatter())
    logger = logging.getLogger("sessiond")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
