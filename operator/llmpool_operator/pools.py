"""What the loop holds of each pool between ticks: its spec as parsed, its engine, and how its last turns went."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from llmpool_contract.pool import LLMWorkerPool, PoolError, parse_pool

from .decide import from_dict, to_dict
from .decide.types import Missing, Observation
from .engine import PoolEngine
from .kube import KubeAPI, Object
from .metrics import Metrics
from .observe import Endpoint, Wish, fault_of
from .report import PoolReporter
from .store import Key, Store, key_of
from .targets.base import Sighting, TargetError, Turn
from .targets.kubernetes import DeploymentTarget

_LONGEST_PAUSE = 15.0
"""Seconds: an API server that is back finds every pool served within this."""


@dataclass(slots=True)
class Backoff:
    """When a pool that failed is tried again. Times are monotonic seconds."""

    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float, jitter: float) -> None:
        """One more failure: wait twice as long as last time, less up to a half. ``jitter`` is 0..1."""
        pause = min(_LONGEST_PAUSE, 2.0**self.failures)
        self.failures += 1
        self.until = now + pause * (1 - jitter / 2)

    def clear(self) -> None:
        """It went well, or something changed."""
        self.failures, self.until = 0, float("-inf")


@dataclass(frozen=True, slots=True)
class Parts:
    """What every pool's record is made with."""

    api: KubeAPI
    store: Store
    metrics: Metrics
    image: str
    monotonic: Callable[[], float]


@dataclass(slots=True)
class Record:
    """One pool. ``pool`` is None while nothing can be made of its document; then ``problem`` says why."""

    key: Key
    uid: str
    born: str
    generation: int
    reporter: PoolReporter = field(init=False)
    pool: LLMWorkerPool | None = None
    problem: TargetError | None = None
    engine: PoolEngine | None = None
    target: DeploymentTarget | None = None
    backoff: Backoff = field(default_factory=Backoff)
    last: Turn | None = None
    endpoint: Endpoint | Missing | None = None
    """The Redis of the last reading."""

    @classmethod
    def of(cls, obj: Object, parts: Parts) -> Record:
        """The record of a pool that is seen for the first time."""
        metadata = obj["metadata"]
        record = cls(key_of(obj), metadata["uid"], metadata["creationTimestamp"], generation=-1)
        record.reporter = PoolReporter(
            parts.api,
            parts.store,
            parts.metrics,
            key=record.key,
            history=lambda: to_dict(record.engine.history) if record.engine else _left_by_another(obj),
            paused=lambda: record.pool.spec.paused if record.pool else None,
            monotonic=parts.monotonic,
        )
        record.adopt(obj, parts)
        return record

    def adopt(self, obj: Object, parts: Parts) -> None:
        """Take up the newest state of the document. Cheap when the spec hasn't changed."""
        if obj["metadata"]["generation"] == self.generation:
            return
        self.generation = obj["metadata"]["generation"]
        try:
            self.pool = parse_pool(obj)
        except PoolError as error:
            # The CRD refuses what is wrong; this is a document from before it did, or from a newer CRD.
            self.pool, self.problem = None, TargetError("InvalidSpec", "; ".join(error.faults))
            return
        self.problem = _problem_of(self.pool, parts.image)
        if self.problem is not None:
            self.pool = None
            return
        if self.engine is None or self.target is None:
            self.target = DeploymentTarget(
                parts.api, parts.store, self.reporter, pool=self.pool, uid=self.uid, image=parts.image
            )
            history = from_dict(_left_by_another(obj))
            self.engine = PoolEngine(self.pool.spec, self.target, history, resuming=True)
        else:
            self.engine.spec = self.pool.spec
            self.target.adopt(self.pool)

    @property
    def wish(self) -> Wish:
        """What to read of Redis."""
        assert self.pool is not None
        spec = self.pool.spec
        return Wish(self.pool.key, tuple(queue.name for queue in spec.queues), float(spec.scaling.idle_seconds))

    async def turn(self, sighting: Sighting, now: float) -> Turn:
        """The engine's turn."""
        assert self.engine is not None
        return await self.engine.turn(sighting, now)

    async def refuse(self, problem: TargetError, now: float) -> Turn:
        """A turn that only says why there is none."""
        missing = Missing(problem.reason)
        turn = Turn(now, missing, Sighting(Observation(now, {}), missing), decision=None, failure=problem)
        await self.reporter.report(turn)
        return turn

    def failed(self, now: float) -> None:
        """Wait before the next try."""
        self.backoff.failed(now, random.random())


def _problem_of(pool: LLMWorkerPool, default_image: str) -> TargetError | None:
    """Why a pool that reads well can't work all the same."""
    if fault := fault_of(pool.spec.redis.url_from(pool.metadata.namespace)):
        return TargetError("InvalidSpec", f"spec.redis.url: {fault}")
    if not (pool.spec.worker.image or default_image):
        return TargetError("NoImage", "spec.worker.image is empty and the operator has no WORKER_IMAGE")
    return None


def _left_by_another(obj: Object) -> dict[str, object]:
    history: dict[str, object] = (obj.get("status") or {}).get("history") or {}
    return history
