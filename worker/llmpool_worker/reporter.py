"""Telling the pool about this worker each second, and hearing whether the pool wants it to drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import GPUReport, PoolKeys, WorkerReport, WorkerState

from .clock import RedisClock
from .models.keeper import ModelKeeper
from .queue.store import QueueStore, Wished
from .rates import Rate
from .telling.troubles import Failed

log = structlog.get_logger()

INTERVAL_S = 1.0
LEAVE_S = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the worker knows of itself."""

    state: WorkerState
    in_flight: int
    capacity: int
    done: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker tells of itself and never changes."""

    pool: str
    worker: str
    queues: list[str]
    version: str


class Reporter:
    """Writes one field of the pool's hash. Redis answering it is also what readiness rests on."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        clock: RedisClock,
        identity: Identity,
        snapshot: Callable[[], Snapshot],
        drain: Callable[[int | None], None],
        models: ModelKeeper,
        gpus: Callable[[float], list[GPUReport] | None],
        failed: Failed,
    ) -> None:
        self._redis, self._store, self._clock = redis, store, clock
        self._identity, self._keys = identity, PoolKeys(identity.pool)
        self._snapshot, self._drain, self._failed = snapshot, drain, failed
        self._models, self._gpus = models, gpus
        self._process = psutil.Process()
        self.jobs, self.tokens = Rate(), Rate()
        self.cpu: float | None = None
        self.memory_bytes: int | None = None
        self._silent = False
        self.heard_at: float | None = None
        """Monotonic seconds at Redis' last answer; None: never yet."""

    async def run(self) -> None:
        """Until cancelled."""
        self._process.cpu_percent()  # psutil's first reading is the reference of the next
        while True:
            await self.turn()
            await asyncio.sleep(INTERVAL_S)

    async def turn(self) -> None:
        """Read this process, write the report, pass on what the pool asks."""
        self.cpu = self._process.cpu_percent() / 100
        self.memory_bytes = self._process.memory_info().rss
        try:
            if not self._clock.known:
                seconds, micros = await self._redis.time()
                self._clock.heard(seconds * 1_000 + micros // 1_000)
            wished = await self._write(self.report().model_dump_json(exclude_none=True))
        except (RedisError, OSError) as error:
            self._failed(error)
            self._silent = True
            return
        if self._silent:
            log.info("redis_answers")
        self._silent = False
        self.heard_at = time.monotonic()
        self._clock.heard(wished.now_ms)
        self._drain(wished.drain_until_ms)
        self._models.pool_wishes(wished.preload)

    def work_began(self) -> None:
        """A job has started."""
        self.jobs.begin(time.monotonic())
        self.tokens.begin(time.monotonic())

    def report(self) -> WorkerReport:
        """What is true now."""
        snapshot, now = self._snapshot(), time.monotonic()
        return WorkerReport(
            worker=self._identity.worker,
            pool=self._keys.pool,
            state=snapshot.state,
            at_ms=self._clock.now_ms(),
            in_flight=snapshot.in_flight,
            capacity=snapshot.capacity,
            queues=self._identity.queues,
            done=snapshot.done,
            jobs_per_second=self.jobs.per_second(now),
            tokens_per_second=self.tokens.per_second(now),
            resident_models=self._models.resident,
            models=self._models.states(),
            gpus=self._gpus(now),
            cpu=self.cpu,
            memory_bytes=self.memory_bytes,
            version=self._identity.version,
        )

    async def leave(self) -> None:
        """Take the report away: this worker is gone. Best effort, a stale report says the same in seconds."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._write("")
        except (RedisError, OSError) as error:
            self._failed(error)

    async def _write(self, text: str) -> Wished:
        return await self._store.report(self._redis, self._keys, text, first=self.heard_at is None)
