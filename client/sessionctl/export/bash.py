"""A bash script of the commands of a session.

The one rule: what was typed stands there as it was typed, and what went through goes through: the script
stops at the first command that fails, unless that failed when it was recorded, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from sessionctl.export.formats import Options
from sessionctl.export.recording import Recording
from sessionctl.export.shell_text import contained, tolerant, verbatim
from sessionctl.export.steps import Step, script_of

TOLD_BY = frozenset({"bash", "sh", "dash", "ksh", "mksh", "ash"})
"""Shells that read as bash does: what has succeeded in one of them was a whole command."""


def export(recording: Recording, options: Options) -> Iterator[bytes]:
    """Comment, defaults of variables, then one command after the other."""
    script = script_of(recording, options)
    head = ["#!/usr/bin/env bash", *(f"# {line}" for line in script.about), "set -e", *script.declarations()]
    yield ("\n".join(head) + "\n").encode()
    told = os.path.basename(recording.info.shell or "") in TOLD_BY
    directory: str | None = None
    for step in script.steps:
        yield ("\n" + "\n".join(_lines(step, directory, told and step.exit_code == 0)) + "\n").encode()
        directory = step.directory or directory


def _lines(step: Step, directory: str | None, is_whole: bool) -> Iterator[str]:
    if step.directory is not None and step.directory != directory:
        yield f"cd -- {step.directory}"
    if step.failed:
        yield f"# exit code {step.exit_code} when it was recorded"
    command = verbatim(step.command) if is_whole else contained(step.command)
    yield tolerant(command) if step.failed else command
