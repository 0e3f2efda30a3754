"""The formats there are, and where each is made.

Owns their names. The one rule: a module is imported only when its format is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

from msgspec import Struct

from sessionctl.exits import ExitCode, Failure
from sessionctl.export.recording import Recording


class Options(Struct, kw_only=True, frozen=True):
    """What the user chose besides the format. `parameters` and `detect` are for scripts."""

    cast_version: int = 3
    parameters: dict[str, str] = {}
    detect: bool = False


class Format(Struct, frozen=True):
    """One format; `script`: made of the commands of a session."""

    module: str
    summary: str
    function: str = "export"
    script: bool = False

    def chunks(self, recording: Recording, options: Options) -> Iterator[bytes]:
        """The session in this format; each chunk ends with a whole line, or a part of a very long one."""
        made = getattr(import_module(f"sessionctl.export.{self.module}"), self.function)
        return cast("Iterator[bytes]", made(recording, options))


FORMATS = {
    "ndjson": Format("ndjson", "the session's file, version 3, byte for byte"),
    "rec": Format("rec", "version 2 of the file, as the rec tool writes it: commands only"),
    "json": Format("share", "one JSON object with all events, to share"),
    "cast": Format("cast", "asciicast, for asciinema and its player"),
    "txt": Format("plain", "what was on the terminal, as plain text"),
    "md": Format("markdown", "a transcript in Markdown"),
    "html": Format("webpage", "one page with player and transcript, for any browser, offline"),
    "bash": Format("bash", "a script of the commands", script=True),
    "makefile": Format("makefile", "a Makefile, one target a command", script=True),
    "dockerfile": Format("dockerfile", "a Dockerfile, one RUN a command", script=True),
    "github-action": Format("pipeline", "a GitHub Actions workflow", "github_action", script=True),
    "gitlab-ci": Format("pipeline", "a GitLab CI pipeline", "gitlab_ci", script=True),
    "circleci": Format("pipeline", "a CircleCI configuration", "circleci", script=True),
}
ALIASES = {"markdown": "md", "asciicast": "cast", "text": "txt"}


ENDINGS = {
    ".cast": "cast",
    ".htm": "html",
    ".html": "html",
    ".json": "json",
    ".jsonl": "ndjson",
    ".md": "md",
    ".mk": "makefile",
    ".ndjson": "ndjson",
    ".sh": "bash",
    ".txt": "txt",
}
NAMES = {
    "makefile": "makefile",
    "gnumakefile": "makefile",
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    ".gitlab-ci.yml": "gitlab-ci",
}
"""What make, Docker and GitLab look for, in small letters."""


def format_for(path: Path) -> str | None:
    """The format that a file's name stands for; None if it stands for none."""
    *_, above, folder, name = ("", "", *path.absolute().parts)
    if name in {"config.yml", "config.yaml"} and folder == ".circleci":
        return "circleci"
    if (above, folder) == (".github", "workflows") and path.suffix in {".yml", ".yaml"}:
        return "github-action"
    return NAMES.get(name.lower()) or ENDINGS.get(path.suffix.lower())


def format_named(name: str) -> Format:
    """The format of this name. Raises `Failure`, with the nearest name there is."""
    wanted = name.lower()
    found = FORMATS.get(ALIASES.get(wanted, wanted))
    if found is not None:
        return found
    from difflib import get_close_matches

    near = get_close_matches(wanted, [*FORMATS, *ALIASES], n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise Failure(ExitCode.USAGE, f"there is no format {name!r}; {meant}There are: {', '.join(FORMATS)}")
