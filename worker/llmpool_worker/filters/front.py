"""What the worker asks: may this job go to the model, and what of the answer may be shown?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from llmpool_contract import Job
from llmpool_worker.backends.base import BackendError, ErrorKind

from .file import RulesFile
from .findings import Counted, Findings, RuleBlocks
from .hook import Hook, HookFailed
from .output import OutputFilter, Rest
from .rules import Rules
from .scanner import Scanner
from .spec import Action, Stage
from .texts import Collected, changed_job

log = structlog.get_logger()

THREADS = 2
RELOAD_S = 5.0
"""How often the rules file is looked at, seconds."""
SMALL_JOB = 8_192
"""Characters. Longer texts are looked at in a thread: RE2 gives up the interpreter's lock while it searches."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Passed:
    """The job may go to the model, as it is here."""

    job: Job
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """The job fails for good, ``filtered``. The reason names the rule, never the text."""

    rule: str
    reason: str


def uncounted(_rule: str, _action: str, _stage: str) -> None:
    """Counts nothing."""


class Filters:
    """Rules, then analyzers, then the hook, which so sees what is already redacted."""

    def __init__(self, rules: RulesFile | None = None, hook: Hook | None = None, counted: Counted = uncounted) -> None:
        self._file, self._hook, self._counted = rules, hook, counted
        self._idle = rules is None and hook is None
        self._threads = None if self._idle else ThreadPoolExecutor(THREADS, "filters")

    @classmethod
    def none(cls) -> Filters:
        """Lets everything pass."""
        return cls()

    async def run(self) -> None:
        """Look at the rules file now and then, until cancelled. Returns at once where there is none."""
        while self._file is not None:
            await asyncio.sleep(RELOAD_S)
            await self.turn()

    async def turn(self) -> None:
        """Take a changed rules file. Attempts under way keep the rules that they began with."""
        if self._file is not None:
            await self._in_thread(self._file.turn)

    async def aclose(self) -> None:
        """Close the hook's connections and the threads."""
        if self._hook:
            await self._hook.aclose()
        if self._threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def input(self, job: Job, queue: str) -> Passed | Blocked:
        """Look at what a job asks. Raises BackendError ``filter_unavailable`` where a closed hook gives no word."""
        if self._idle:
            return Passed(job)
        rules = self._rules(Stage.INPUT, job, queue)
        hook = self._hook_on(Stage.INPUT)
        if not rules and not hook:
            return Passed(job)
        findings = Findings(Stage.INPUT, job.id, self._counted)
        try:
            if rules:
                scanner = Scanner(rules, findings)
                job = await self._scanned(scanner, _size(job), lambda: changed_job(job, scanner.whole))
            if hook:
                collected = Collected()
                changed_job(job, collected.take)
                others = await self._asked(hook, Stage.INPUT, job, collected.texts, findings)
                job = changed_job(job, collected.put_back(others)) if others is not None else job
        except RuleBlocks as block:
            return Blocked(block.rule, block.reason)
        return Passed(job, tuple(findings.flags))

    def output(self, job: Job, queue: str) -> OutputFilter | None:
        """For one attempt's answer. None: nobody wants to look at it."""
        if self._idle or job.type == "embed":
            return None
        rules = self._rules(Stage.OUTPUT, job, queue)
        hook = self._hook_on(Stage.OUTPUT)
        if not rules and not hook:
            return None
        findings = Findings(Stage.OUTPUT, job.id, self._counted)
        scanner = Scanner(rules, findings)

        async def finish(rest: Rest) -> Rest:
            if rules.analyzed:
                rest = await self._in_thread(partial(rest.changed, scanner.analyzed))
            if hook is None:
                return rest
            collected = Collected()
            rest.changed(collected.take)
            others = await self._asked(hook, Stage.OUTPUT, job, collected.texts, findings)
            return rest if others is None else rest.changed(collected.put_back(others))

        return OutputFilter(scanner, findings, finish if rules.analyzed or hook else None)

    def _rules(self, stage: Stage, job: Job, queue: str) -> Rules:
        return self._file.now.of(stage, job, queue) if self._file else Rules()

    def _hook_on(self, stage: Stage) -> Hook | None:
        return self._hook if self._hook and stage in self._hook.settings.on else None

    async def _asked(
        self, hook: Hook, stage: Stage, job: Job, texts: list[str], findings: Findings
    ) -> list[str] | None:
        """The texts that take the others' place, None: they stay. Raises RuleBlocks and BackendError."""
        if not texts:
            return None
        try:
            verdict = await hook.ask(stage, job, texts)
        except HookFailed as error:
            self._without_hook(hook, stage, job, error, findings)
            return None
        if verdict.action != "allow":
            findings.found(verdict.name, Action(verdict.action), label="hook")
        return verdict.texts if verdict.action == "redact" else None

    def _without_hook(self, hook: Hook, stage: Stage, job: Job, error: HookFailed, findings: Findings) -> None:
        goes_on = hook.settings.fails_open
        findings.hook_unavailable(goes_on=goes_on)
        log.warning("filter_hook_failed", stage=str(stage), job=job.id, error=str(error), goes_on=goes_on)
        if goes_on:
            return
        # Before the model nothing was done, and waiting is free. After it the answer is lost, and asking the model
        # again and again for nothing isn't: that costs attempts.
        kind = ErrorKind.UNAVAILABLE if stage is Stage.INPUT else ErrorKind.RETRYABLE
        raise BackendError(kind, "filter_unavailable", f"the filter hook gave no word: {error}") from None

    async def _scanned(self, scanner: Scanner, size: int, work: Callable[[], T]) -> T:
        return await self._in_thread(work) if scanner.rules.analyzed or size > SMALL_JOB else work()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _size(job: Job) -> int:
    """Characters of its text, about: enough to tell a small job."""
    collected = Collected()
    changed_job(job, collected.take)
    return sum(map(len, collected.texts))
