"""The leader's hands: reads the server, takes the steps that are decided, and says what every worker may claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from llmpool_contract.models import folded
from llmpool_worker.backends.base import BackendError, ErrorKind, LocalModel, PullProgress, ResidentModel

from .deciding import NOTHING, Facts, Rules, Step, longest, next_step, preload_without_room
from .fit import Fits
from .types import MemberReport, Plan, Trouble

log = structlog.get_logger()

GONE_WITHIN_S = 10.0
"""How long an unloaded model is waited for; Ollama gives its memory back within 5 s (server/sched.go)."""
READ_S = 5.0
"""What a look at the server may take, seconds: the worker's own membership goes on only between looks."""
GONE_POLL_S = 0.05
TROUBLE_S = (5.0, 120.0)
"""First and longest time for which a model that couldn't be loaded isn't tried again, seconds; doubles."""
UNAVAILABLE_S = 1.0
"""After a load that a busy server refused, seconds."""


class Server(Protocol):
    """The part of a backend that manages models."""

    async def models(self) -> list[LocalModel]: ...
    async def resident(self) -> list[ResidentModel]: ...
    async def load(self, model: str) -> None: ...
    async def unload(self, model: str) -> None: ...
    def pull(self, model: str) -> AsyncGenerator[PullProgress]: ...


@dataclass(frozen=True, slots=True)
class LeaderRules:
    """Seconds, and what may be downloaded."""

    deciding: Rules
    load_timeout_s: float
    may_pull: Callable[[str], bool]


class Told(Protocol):
    """Who hears of loads and unloads."""

    def loaded(self, model: str, seconds: float, code: str | None) -> None: ...
    def unloaded(self, model: str, reason: str) -> None: ...


@dataclass(slots=True)
class _Memory:
    """What a leader remembers between its turns; a new one begins without."""

    used: dict[str, float] = field(default_factory=dict)
    opened: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    load_again: float = 0.0


class Leader:
    """Acts for all workers of one server. One step at a time; a load or an unload goes on beside the turns."""

    def __init__(self, server: Server, rules: LeaderRules, fits: Fits, told: Told) -> None:
        self._server, self._rules, self._fits, self._told = server, rules, fits, told
        self._memory = _Memory()
        self._acting: asyncio.Task[Plan] | None = None
        self._known_files = False

    @property
    def acts(self) -> bool:
        """Whether a load or an unload is under way."""
        return self._acting is not None

    async def turn(self, plan: Plan, members: Mapping[str, MemberReport], now: float, done: Callable[[], None]) -> Plan:
        """What the plan should be now; itself where nothing changes. ``done`` is called when an act has ended and the
        next turn will find what it came to. Raises BackendError where the server can't be read."""
        if self._acting is not None and not self._acting.done():
            return plan
        resident = await self._read()
        plan = replace(plan, doing="")  # also what a leader was doing that is gone
        if self._acting is not None:
            acted, self._acting = self._acting.result(), None
            plan = replace(plan, ours=acted.ours, trouble=acted.trouble, target=acted.target)
        plan = replace(plan, away=False, resident=resident, trouble=_still(plan.trouble, now))
        facts = self._facts(plan, members, now)
        plan = replace(plan, without_room=preload_without_room(facts, self._fits))
        step = next_step(facts, self._rules.deciding, self._fits)
        if step is NOTHING and (model := self._to_keep(facts)):
            return self._begin(self._keep(model, plan), "", plan, done)
        return self._take(step, plan, now, done)

    def _to_keep(self, facts: Facts) -> str | None:
        """A model of the preload list whose stay, which ends with the last worker's, should begin anew."""
        idle_s = self._rules.deciding.idle_s
        if idle_s is None:
            return None
        for model in facts.preload:
            if model in facts.ours and facts.now - self._memory.kept.setdefault(model, facts.now) >= idle_s / 2:
                self._memory.kept[model] = facts.now
                return model
        return None

    async def _keep(self, model: str, plan: Plan) -> Plan:
        try:
            async with asyncio.timeout(self._rules.load_timeout_s):
                await self._server.load(model)
        except (TimeoutError, BackendError) as error:
            log.warning("keep_failed", model=model, error=type(error).__name__)
        return plan

    async def _read(self) -> frozenset[str]:
        """What is resident. A server that takes the question and never answers is as good as away."""
        try:
            async with asyncio.timeout(READ_S):
                return await self._look()
        except TimeoutError:
            raise BackendError(ErrorKind.RETRYABLE, "backend_stalled", "no answer to what is in memory") from None

    async def _look(self) -> frozenset[str]:
        if not self._known_files:
            self._fits.on_disk({folded(model.name): model.size_bytes for model in await self._server.models()})
            self._known_files = True
        resident = {folded(model.name): model.size_bytes for model in await self._server.resident()}
        self._fits.seen(resident)
        return frozenset(resident)

    def _facts(self, plan: Plan, members: Mapping[str, MemberReport], now: float) -> Facts:
        in_flight: dict[str, int] = {}
        for member in members.values():
            for model, units in member.in_flight.items():
                in_flight[model] = in_flight.get(model, 0) + units
        memory = self._memory
        for model in {*in_flight, *(m for m in plan.resident if m not in memory.used)}:
            memory.used[model] = now
        memory.opened = {model: memory.opened.get(model, now) for model in plan.opened}
        asked = longest(report.demand for report in members.values())
        # Who still asks for a model that was just opened hasn't looked for its jobs since.
        at_work = frozenset().union(*(member.at_work for member in members.values())) | (asked.keys() & plan.opened)
        return Facts(
            now=now,
            resident=plan.resident,
            opened=memory.opened,
            target=plan.target,
            demand={model: since for model, since in asked.items() if model not in plan.opened},
            at_work=at_work,
            in_flight=in_flight,
            settled=all(member.epoch >= plan.epoch for member in members.values()),
            used=memory.used,
            preload=tuple(dict.fromkeys(model for member in members.values() for model in member.preload)),
            trouble=frozenset(plan.trouble),
            ours=plan.ours & plan.resident,
        )

    def _take(self, step: Step, plan: Plan, now: float, done: Callable[[], None]) -> Plan:
        """The plan after a step; what takes time is begun."""
        if step.aim is not None:
            log.info("model_wanted", model=step.aim, reason=step.reason)
            return replace(plan, target=step.aim)
        if step.open or step.shut or step.drop_aim:
            opened = (plan.opened | step.open) - step.shut
            return replace(plan, opened=opened, target=None if step.drop_aim else plan.target)
        if step.load is not None and now >= self._memory.load_again:
            return self._begin(self._load(step.load, plan, now), f"loading {step.load}", plan, done)
        if step.unload is not None:
            self._told.unloaded(step.unload, step.reason)
            return self._begin(self._unload(step.unload, plan), f"unloading {step.unload}", plan, done)
        return plan

    def _begin(self, act: Coroutine[Any, Any, Plan], doing: str, plan: Plan, done: Callable[[], None]) -> Plan:
        self._acting = asyncio.create_task(act)
        self._acting.add_done_callback(lambda _: done())
        return replace(plan, doing=doing)

    async def _load(self, model: str, plan: Plan, now: float) -> Plan:
        """Load on a long call of its own, and learn from what is resident then."""
        loop = asyncio.get_running_loop()
        began, before = loop.time(), plan.resident
        log.info("loading", model=model, beside=sorted(before))
        try:
            after = await self._resident_with(model)
        except BackendError as error:
            return self._failed(model, plan, error, now + loop.time() - began, loop.time() - began)
        self._memory.failures.pop(model, None)
        self._memory.used[model] = now + loop.time() - began
        self._fits.loaded(model, before, after)
        self._told.loaded(model, loop.time() - began, None)
        log.info("loaded", model=model, seconds=round(loop.time() - began, 3), resident=sorted(after))
        return replace(plan, ours=plan.ours | {model})

    async def _resident_with(self, model: str) -> frozenset[str]:
        """Load it; what is resident then. Raises BackendError where it isn't among that."""
        try:
            async with asyncio.timeout(self._rules.load_timeout_s):
                await self._load_or_pull(model)
                after = frozenset(folded(found.name) for found in await self._server.resident())
        except TimeoutError:
            reason = "the model was not loaded within MODEL_LOAD_TIMEOUT"
            raise BackendError(ErrorKind.RETRYABLE, "load_failed", reason) from None
        if model not in after:
            raise BackendError(ErrorKind.RETRYABLE, "load_failed", "loaded, and yet it is not in memory")
        return after

    async def _load_or_pull(self, model: str) -> None:
        try:
            await self._server.load(model)
        except BackendError as error:
            if error.code != "model_not_found" or not self._rules.may_pull(model):
                raise
            log.info("pulling", model=model)
            async for _ in self._server.pull(model):
                pass
            await self._server.load(model)

    def _failed(self, model: str, plan: Plan, error: BackendError, now: float, took_s: float) -> Plan:
        """Its jobs are told, or go on to a fallback; it is tried again later."""
        self._told.loaded(model, took_s, error.code)
        if error.kind is ErrorKind.UNAVAILABLE:
            self._memory.load_again = now + UNAVAILABLE_S
            return plan
        failures = self._memory.failures.get(model, 0)
        self._memory.failures[model] = failures + 1
        wait = min(TROUBLE_S[0] * 2.0**failures, TROUBLE_S[1])
        log.warning("load_failed", model=model, code=error.code, reason=error.reason, again_in_s=wait)
        trouble = Trouble(error.code, error.reason, now + wait)
        return replace(plan, target=None, trouble={**plan.trouble, model: trouble})

    async def _unload(self, model: str, plan: Plan) -> Plan:
        log.info("unloading", model=model)
        try:
            async with asyncio.timeout(GONE_WITHIN_S):
                await self._server.unload(model)
                while model in {folded(found.name) for found in await self._server.resident()}:  # noqa: ASYNC110
                    await asyncio.sleep(GONE_POLL_S)  # the server tells nobody
        except (TimeoutError, BackendError) as error:
            log.warning("unload_failed", model=model, reason=str(error) or "it is still there")
        return replace(plan, ours=plan.ours - {model})

    async def aclose(self) -> None:
        """Leave what is under way to the next leader."""
        if self._acting is not None:
            self._acting.cancel()
            await asyncio.wait({self._acting})


def _still(trouble: Mapping[str, Trouble], now: float) -> dict[str, Trouble]:
    return {model: told for model, told in trouble.items() if now < told.until}
