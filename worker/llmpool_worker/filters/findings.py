"""What the rules found in one job at one stage."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from .spec import Action, Stage

log = structlog.get_logger()

Counted = Callable[[str, str, str], None]
"""(rule, action, stage), once per rule, job and stage. All three are bounded: a rules file's ids, and ``hook``, whose
actions may also be ``unavailable``. May be called from a thread."""

_QUIET = frozenset({Action.REDACT, Action.FLAG})


class RuleBlocks(Exception):
    """A rule says that this text goes nowhere. ``rule`` is its id."""

    def __init__(self, rule: str, stage: Stage) -> None:
        what = "the job's text" if stage is Stage.INPUT else "the answer"
        super().__init__(f"rule {rule} blocks {what}")
        self.rule = rule
        self.reason = str(self)
        """Never any of the text."""


class Findings:
    """Counts each rule once, gathers flags, and raises on a block. Holds no text."""

    def __init__(self, stage: Stage, job_id: str | None, counted: Counted) -> None:
        self._stage, self._job_id, self._counted = stage, job_id, counted
        self._told: set[str] = set()
        self.flags: list[str] = []
        """Ids of rules with action flag."""

    def found(self, rule: str, action: Action, *, label: str | None = None) -> None:
        """A rule found something. ``label``: what to count it as, where its id isn't bounded. Raises RuleBlocks."""
        if rule in self._told:
            return
        self._told.add(rule)
        self._counted(label or rule, action, self._stage)
        say = log.debug if action in _QUIET else log.info
        say("filter_found", rule=rule, action=str(action), stage=str(self._stage), job=self._job_id)
        if action is Action.FLAG:
            self.flags.append(rule)
        if action is Action.BLOCK:
            raise RuleBlocks(rule, self._stage)

    def hook_unavailable(self, *, goes_on: bool) -> None:
        """The hook gave no word. ``goes_on``: the job does, with a flag that says so."""
        self._counted("hook", "unavailable", self._stage)
        if goes_on:
            self.flags.append("hook_unavailable")
