"""How far a check or a rebuild is, for a person who waits.

The one rule: it is drawn on a terminal only, on standard error, and only for what takes longer than a second;
only then is rich loaded.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sessiond.clock import Clock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

AFTER_SECONDS = 1.0


class Progress:
    """Shows how much of `total` is done. Use it as a context manager."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._wanted = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def show(self, doing: str, done: int, total: int) -> None:
        """What is being done, and how far it is."""
        if not self._wanted or self._clock.monotonic() - self._began < AFTER_SECONDS:
            return
        if self._bar is None:
            self._draw(doing)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None, description=doing)

    def clear(self) -> None:
        """Take the bar away, so that something else can be said."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def _draw(self, doing: str) -> None:
        from rich.console import Console  # noqa: PLC0415 - only for who waits
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(doing, total=None)
        self._bar.start()
