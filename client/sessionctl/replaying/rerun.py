"""Recorded commands, run again one by one.

Owns the order in which a command is judged: --from, --skip, --skip-pattern, then --dry-run, --step, whether
it is destructive, and after a failure what to do. The one rule: nothing destructive runs unless somebody has
said that it may.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from msgspec import Struct

from sessionctl.escape import escape
from sessionctl.exits import complain
from sessionctl.host import unicode_text
from sessionctl.output import Colour, counted, painted
from sessionctl.replaying.danger import Dangers
from sessionctl.terminal.signals import EndingSignals

ANSWERS_MAX = 20
"""After so many answers that are none, a question is taken as answered with `abort`."""

NAMED_MAX = 10
"""How many destructive commands are named before nothing is run."""


class Policy(StrEnum):
    """What happens to destructive commands. `abort`: with one among what would run, nothing runs."""

    SKIP = "skip"
    ABORT = "abort"
    ALLOW = "allow"


class Answer(StrEnum):
    """What a user can say; each is told by its first letter, but abort is `q` and continue `c`."""

    RUN = "run"
    SKIP = "skip"
    ABORT = "abort"
    ALL = "all"
    CONTINUE = "continue"
    RETRY = "retry"


_KEYS = {
    "r": Answer.RUN,
    "s": Answer.SKIP,
    "q": Answer.ABORT,
    "a": Answer.ALL,
    "c": Answer.CONTINUE,
    "t": Answer.RETRY,
}


class Step(Struct, frozen=True):
    """One recorded command."""

    index: int
    command: str
    cwd: str | None


class Planned(Struct, kw_only=True, frozen=True):
    """What `--dry-run --json` says of a command."""

    index: int
    command: str
    cwd: str | None
    destructive: str | None


class Summary(Struct, kw_only=True):
    """How it went. `denied` are those of the skipped that were not run because they are destructive."""

    session: str
    total: int
    executed: int = 0
    skipped: int = 0
    denied: int = 0
    failed: int = 0
    aborted: bool = False
    planned: list[Planned] | None = None

    def __str__(self) -> str:
        denied = f" ({self.denied} destructive)" if self.denied else ""
        text = f"{counted(self.total, 'command')}: {self.executed} executed, {self.skipped} skipped{denied}"
        return f"{text}, {self.failed} failed" + (", aborted" if self.aborted else "")


class Wanted(NamedTuple):
    """Which commands: from an index on, but not these indexes, nor what matches these globs."""

    first: int = 0
    skip: frozenset[int] = frozenset()
    globs: Sequence[str] = ()

    def admits(self, step: Step) -> bool:
        """Whether it is one of them."""
        if step.index < self.first or step.index in self.skip:
            return False
        return not any(fnmatchcase(step.command, glob) for glob in self.globs)


class Shell(Protocol):
    """What runs a command."""

    def run(self, command: str, recorded_cwd: str | None) -> int:
        """The exit code."""


class Questions:
    """Asks on standard error and reads answers from standard input, a line each; its end means abort."""

    def __init__(self, signals: EndingSignals) -> None:
        self._signals = signals

    def ask(self, question: str, answers: Sequence[Answer]) -> Answer:
        """One of `answers`."""
        keys = {key: answer for key, answer in _KEYS.items() if answer in answers}
        words: Mapping[str, Answer] = {**{answer.value: answer for answer in answers}, **keys}
        choices = ", ".join(f"{answer} ({key})" for key, answer in keys.items())
        for _ in range(ANSWERS_MAX):
            sys.stderr.write(f"{question} {choices}? ")
            sys.stderr.flush()
            with self._signals.heeded():
                line = sys.stdin.readline()
            if not line:
                break
            if line.strip().lower() in words:
                return words[line.strip().lower()]
        return Answer.ABORT


class Aborted(Exception):  # noqa: N818 - a decision, no error
    """The user, or the policy, has ended it."""


class Rerun:
    """Goes through the steps. `steps` gives them anew each time; `questions` None: nobody can be asked."""

    def __init__(
        self,
        steps: Callable[[], Iterator[Step]],
        wanted: Wanted,
        dangers: Dangers,
        policy: Policy | None,
        questions: Questions | None,
        shell: Shell,
        *,
        colours: bool = False,
    ) -> None:
        self._steps = steps
        self._wanted = wanted
        self._dangers = dangers
        self._policy = policy
        self._questions = questions
        self._shell = shell
        self._colours = colours

    def plan(self, summary: Summary) -> Iterator[Planned]:
        """What would run, and what about it is destructive."""
        for step in self._steps():
            if self._wanted.admits(step):
                destructive = self._dangers.of(step.command)
                text = unicode_text(step.command)
                yield Planned(index=step.index, command=text, cwd=step.cwd, destructive=destructive)
            else:
                summary.skipped += 1

    def run(self, summary: Summary, *, stepwise: bool = False) -> None:
        """Run them, counting in `summary`; interrupted or not, that says how far it came."""
        try:
            if self._policy is Policy.ABORT:
                self._scan(summary)
            for step in self._steps():
                if not self._wanted.admits(step):
                    summary.skipped += 1
                    continue
                if stepwise:
                    answer = self._ask_step(step)
                    stepwise = answer is not Answer.ALL
                    if answer is Answer.SKIP:
                        summary.skipped += 1
                        continue
                if self._may_run(step, summary):
                    self._execute(step, summary)
        except Aborted:
            summary.aborted = True
        except KeyboardInterrupt:
            summary.aborted = True
            raise

    def _scan(self, summary: Summary) -> None:
        """Before anything runs: is there anything destructive among what would?"""
        found = [planned for planned in self.plan(Summary(session="", total=0)) if planned.destructive]
        if not found:
            return
        summary.denied = len(found)
        for planned in found[:NAMED_MAX]:
            complain(f"[{planned.index}] {planned.destructive}: {planned.command}")
        are = "is" if len(found) == 1 else "are"
        complain(f"nothing was run: {len(found)} of the commands {are} destructive (see: --danger-policy)")
        raise Aborted

    def _ask_step(self, step: Step) -> Answer:
        assert self._questions is not None  # noqa: S101 - --step needs a terminal
        self._announce(step)
        answers = (Answer.RUN, Answer.SKIP, Answer.ABORT, Answer.ALL)
        return _unless_aborted(self._questions.ask("this command:", answers))

    def _may_run(self, step: Step, summary: Summary) -> bool:
        destructive = None if self._policy is Policy.ALLOW else self._dangers.of(step.command)
        if destructive is None:
            return True
        if self._policy is None and self._questions is not None:
            self._announce(step)
            answers = (Answer.RUN, Answer.SKIP, Answer.ABORT)
            answer = _unless_aborted(self._questions.ask(f"this {destructive}:", answers))
            if answer is Answer.RUN:
                return True
        else:
            self._announce(step)
            complain(f"[{step.index}] not run: this {destructive}")
        summary.skipped += 1
        summary.denied += 1
        return False

    def _execute(self, step: Step, summary: Summary) -> None:
        """Run it, again if the user says so; it counts as failed if its last run failed."""
        summary.executed += 1
        while True:
            self._announce(step)
            code = self._shell.run(step.command, step.cwd)
            if code == 0:
                return
            complain(f"[{step.index}] failed: exit code {code}")
            answer = self._ask_failed()
            if answer is not Answer.RETRY:
                summary.failed += 1
                _unless_aborted(answer)
                return

    def _ask_failed(self) -> Answer:
        if self._questions is None:
            return Answer.CONTINUE
        return self._questions.ask("what now:", (Answer.CONTINUE, Answer.ABORT, Answer.RETRY))

    def _announce(self, step: Step) -> None:
        """The command as it will be run; what controls a terminal in it is shown, not done."""
        head = f"[{step.index}] $ "
        lines = escape(step.command).split("\n")
        text = ("\n" + " " * len(head)).join(lines)
        sys.stderr.write(painted(head, Colour.DIM, self._colours) + text + "\n")
        sys.stderr.flush()


def _unless_aborted(answer: Answer) -> Answer:
    if answer is Answer.ABORT:
        raise Aborted
    return answer
