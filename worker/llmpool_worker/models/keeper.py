"""A worker's part in its model server: tell what runs and waits here, hear whose jobs may be claimed, and lead if that
falls to this one. A server that nobody else uses is the same case with one member."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import ModelReport
from llmpool_contract.models import folded
from llmpool_worker.backends.base import BackendError
from llmpool_worker.clock import RedisClock
from llmpool_worker.telling.troubles import Failed

from .leader import Leader
from .places import Places
from .store import BackendStore
from .types import Plan, Synced

log = structlog.get_logger()

INTERVAL_S = 1.0
IDLE_INTERVAL_S = 3.0
"""The same while nothing runs or waits here: well within a membership."""
SOONEST_S = 0.02
"""Between two turns, however much happens, seconds."""
LEAVE_S = 2.0
STEPS = 8
"""Steps of a plan that one turn takes at most."""


class ModelKeeper:
    """One turn a second, and at once when something has happened."""

    def __init__(
        self,
        redis: Redis,
        store: BackendStore,
        clock: RedisClock,
        places: Places,
        leader: Leader | None,
        free: Callable[[], int],
        preload: tuple[str, ...],
        failed: Failed,
    ) -> None:
        self._redis, self._store, self._clock = redis, store, clock
        self.places, self._leader = places, leader
        self._free, self._failed = free, failed
        self._claim: Callable[[], None] = lambda: None
        self._wake = asyncio.Event()
        self._again_s: float | None = None
        self._env_preload = preload
        self._pool_preload: tuple[str, ...] | None = None

    @property
    def preload(self) -> tuple[str, ...]:
        """The pool's list, else the environment's."""
        return self._env_preload if self._pool_preload is None else self._pool_preload

    def claims(self, claim: Callable[[], None]) -> None:
        """Whom to tell when claims may find more than before."""
        self._claim = claim

    def pool_wishes(self, models: tuple[str, ...] | None) -> None:
        """The pool's list as of now; None: it has none. Heard without a restart."""
        folded_names = None if models is None else tuple(map(folded, models))
        if folded_names != self._pool_preload:
            self._pool_preload = folded_names
            self.soon()

    def soon(self) -> None:
        """Something has happened that the others, or the leader, should know."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            await self.turn()
            await asyncio.sleep(SOONEST_S)
            try:
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _until_next(self) -> float:
        usual = INTERVAL_S if self.places.busy else IDLE_INTERVAL_S
        return usual if self._again_s is None else min(usual, self._again_s)

    async def turn(self) -> None:
        """Tell and hear once; the leader decides, too."""
        try:
            synced = await self._sync()
            if synced.leads and self._leader is not None:
                await self._lead(synced)
        except (RedisError, OSError) as error:
            self._failed(error)

    async def _sync(self) -> Synced:
        report = self.places.report(self.preload, time.monotonic())
        synced = await self._store.sync(self._redis, report, self.places.wishes(self._free()))
        self._clock.heard(synced.now_ms)
        self._again_s = synced.again_s
        self._hear(synced.plan, synced)
        return synced

    def _hear(self, plan: Plan, synced: Synced) -> None:
        if plan.epoch != self.places.plan.epoch:
            self.soon()  # the leader waits to hear that this worker has heard
        if self.places.heard(plan, synced.held, time.monotonic()):
            self._claim()
        if self.places.gives_back:
            self.soon()  # what these places are free for is waiting

    async def _lead(self, synced: Synced) -> None:
        """Step by step, until there is nothing to do or something to wait for."""
        assert self._leader is not None
        for _ in range(STEPS):
            try:
                plan = await self._leader.turn(synced.plan, synced.members, synced.now_ms / 1_000, self.soon)
            except BackendError as error:
                plan = replace(synced.plan, away=True)
                self._tell_away(synced.plan, error)
            if synced.plan.away and not plan.away:
                log.info("model_server_answers")
            if plan == synced.plan:
                return
            if not await self._store.write(self._redis, plan):
                break
            synced = await self._sync()
            if not synced.leads:
                return
        self.soon()  # there is more to do, or somebody else has written meanwhile

    @staticmethod
    def _tell_away(plan: Plan, error: BackendError) -> None:
        if not plan.away:
            log.warning("model_server_away", code=error.code, reason=error.reason)

    @property
    def resident(self) -> list[str] | None:
        """Models in the server's memory. None: nobody knows."""
        plan = self.places.plan
        return sorted(plan.resident) if self.places.managed and plan.epoch and not plan.away else None

    def states(self) -> list[ModelReport] | None:
        """The preload list, and what has become of each model. None: this worker doesn't load any."""
        return [self._state(model) for model in self.preload] if self.places.managed and self.preload else None

    def _state(self, model: str) -> ModelReport:
        plan = self.places.plan
        if model in plan.resident:
            return ModelReport(name=model, state="ready")
        if trouble := plan.trouble.get(model):
            return ModelReport(name=model, state="failed", error=f"{trouble.code}: {trouble.reason}")
        if model in plan.without_room:
            return ModelReport(
                name=model, state="failed", error="no_room: it doesn't fit beside the others of the list"
            )
        return ModelReport(name=model, state="loading" if plan.doing == f"loading {model}" else "waiting")

    async def leave(self) -> None:
        """This worker is gone. Best effort: its membership ends by itself in seconds."""
        if self._leader is not None:
            await self._leader.aclose()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._store.leave(self._redis)
        except (RedisError, OSError) as error:
            self._failed(error)
