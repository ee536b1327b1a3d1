"""Which models the scripted Ollama has in memory, by the rules of the real one's scheduler (its server/sched.go).

A request for a model in memory goes straight to it, and waits for one of its parallel slots. Any other waits in one
line: loads are serial, each first waits for room, and the room is made by the model that stays shortest and is idle,
or becomes idle. Options of the runner that differ from those of the load are a load of their own.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.support.ollama_script import Script
from tests.support.ollama_seen import Seen

DEFAULT_STAY_S = 300.0
RUNNER_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")


class LoadFailedError(Exception):
    """The model doesn't fit."""


class Told(Protocol):
    """Whose script it is, and whose seen."""

    script: Script
    seen: Seen


@dataclass
class Runner:
    """A model in memory."""

    model: str
    options: tuple[Any, ...]
    slots: asyncio.Semaphore
    stay_s: float = DEFAULT_STAY_S
    users: int = 0
    in_slots: int = 0
    leaving: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Waits:
    """What a request waited for: for its model, and then for a slot. Seconds."""

    load_s: float
    slot_s: float


class Scheduler:
    """The models in memory, and who may use them."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._runners: dict[str, Runner] = {}
        self._line = asyncio.Lock()

    @property
    def loaded(self) -> list[str]:
        return sorted(self._runners)

    def in_slots(self, model: str) -> int:
        runner = self._runners.get(model)
        return runner.in_slots if runner else 0

    @asynccontextmanager
    async def slot(self, model: str, options: Mapping[str, Any] | None) -> AsyncIterator[Waits]:
        """A slot of the model, loaded where it isn't. LoadFailedError where that can't be."""
        began = time.monotonic()
        runner = await self._take(model, options)
        loaded = time.monotonic()
        try:
            async with runner.slots:
                runner.in_slots += 1
                try:
                    yield Waits(loaded - began, time.monotonic() - loaded)
                finally:
                    runner.in_slots -= 1
        finally:
            self._release(runner)

    async def load(self, model: str, options: Mapping[str, Any] | None, keep_alive_s: float | None) -> None:
        """A command to load; a stay that is given counts from now on, for everybody."""
        runner = await self._take(model, options)
        if keep_alive_s is not None:
            runner.leaving = False
            runner.stay_s = keep_alive_s if keep_alive_s >= 0 else math.inf
        self._release(runner)

    def unload(self, model: str) -> None:
        """A command to unload: at once, or when the last request has ended."""
        if runner := self._runners.get(model):
            runner.leaving = True
            self._leave_if_idle(runner)

    async def _take(self, model: str, options: Mapping[str, Any] | None) -> Runner:
        wanted = tuple((options or {}).get(name) for name in RUNNER_OPTIONS)
        runner = self._fitting(model, wanted)
        if runner is None:
            async with self._line:
                runner = self._fitting(model, wanted) or await self._loaded(model, wanted)
        runner.users += 1
        runner.idle.clear()
        return runner

    def _fitting(self, model: str, wanted: tuple[Any, ...]) -> Runner | None:
        runner = self._runners.get(model)
        return runner if runner and runner.options == wanted else None

    async def _loaded(self, model: str, wanted: tuple[Any, ...]) -> Runner:
        script = self._told.script
        with self._told.seen.loading(model, script.max_loaded):
            if model in self._runners:
                await self._put_out(self._runners[model], "reload")
            while len(self._runners) >= script.max_loaded:
                await self._put_out(self._victim(), "evict")
            await asyncio.sleep(script.load_s)
            if model in script.load_fails:
                raise LoadFailedError
        parallel = script.num_parallel if "completion" in script.models.get(model, ("completion",)) else 1
        runner = self._runners[model] = Runner(model, wanted, asyncio.Semaphore(parallel))
        return runner

    def _victim(self) -> Runner:
        by_stay = sorted(self._runners.values(), key=lambda runner: (runner.stay_s, runner.model))
        return next((runner for runner in by_stay if not runner.users), by_stay[0])

    async def _put_out(self, runner: Runner, why: str) -> None:
        """Once it is idle. Until then it takes new requests: a steady stream of them keeps everybody waiting."""
        while runner.users:
            await runner.idle.wait()
        if self._runners.get(runner.model) is runner:
            del self._runners[runner.model]
            self._told.seen.left(runner.model, why)

    def _release(self, runner: Runner) -> None:
        runner.users -= 1
        if not runner.users:
            runner.idle.set()
            self._leave_if_idle(runner)

    def _leave_if_idle(self, runner: Runner) -> None:
        if runner.leaving and not runner.users and self._runners.get(runner.model) is runner:
            del self._runners[runner.model]
            self._told.seen.left(runner.model, "unload")
