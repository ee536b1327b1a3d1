"""What the loop holds of each pool between ticks: its spec as parsed, its engine, and how its last turns went."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from llmpool_contract.pool import LLMWorkerPool, PoolError, parse_pool

from .act.config import ConfigWriter
from .backoff import Backoff
from .decide import fault_in_schedules, from_dict, to_dict
from .decide.types import Missing, Observation
from .engine import PoolEngine
from .kube import KubeAPI, Object
from .metrics import Metrics
from .observe import Endpoint, Wish, fault_of
from .outbox import Outbox
from .report import PoolReporter
from .sightings import wish_of
from .store import Key, Store, key_of
from .targets.base import Sighting, TargetError, Turn
from .targets.kubernetes import DeploymentTarget, Tools
from .targets.observed import ObservedTarget

_NOTHING = Wish("", (), 0.0)


@dataclass(frozen=True, slots=True)
class Parts:
    """What every pool's record is made with."""

    api: KubeAPI
    store: Store
    metrics: Metrics
    outbox: Outbox
    configs: ConfigWriter
    image: str
    monotonic: Callable[[], float]

    @property
    def tools(self) -> Tools:
        """What Deployments are acted on with."""
        return Tools(self.api, self.store, self.configs, self.image)


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
    target: DeploymentTarget | ObservedTarget | None = None
    backoff: Backoff = field(default_factory=Backoff)
    last: Turn | None = None
    wish: Wish = _NOTHING
    """What to read for the pool."""
    endpoint: Endpoint | Missing | None = None
    """The Redis of the last reading."""

    @classmethod
    def of(cls, obj: Object, parts: Parts) -> Record:
        """The record of a pool that is seen for the first time."""
        metadata = obj["metadata"]
        record = cls(key_of(obj), metadata["uid"], metadata["creationTimestamp"], generation=-1)
        left = _left_by_another(obj)
        record.reporter = PoolReporter(
            parts.api,
            parts.store,
            parts.metrics,
            parts.outbox,
            key=record.key,
            history=lambda: to_dict(record.engine.history) if record.engine else left,
            spec=lambda: record.pool.spec if record.pool else None,
            monotonic=parts.monotonic,
        )
        record.adopt(obj, parts)
        return record

    def adopt(self, obj: Object, parts: Parts) -> bool:
        """Take up the newest state of the document. Cheap when the spec hasn't changed; gives whether it has."""
        if obj["metadata"]["generation"] == self.generation:
            return False
        self.generation = obj["metadata"]["generation"]
        self._read(obj, parts)
        return True

    def _read(self, obj: Object, parts: Parts) -> None:
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
        self.wish = wish_of(self.pool)
        if self.engine is None or self.target is None or self._changes_mode(self.pool):
            self.target = self._target(self.pool, parts)
            history = self.engine.history if self.engine else from_dict(_left_by_another(obj))
            self.engine = PoolEngine(self.pool.spec, self.target, history, resuming=True)
        else:
            self.engine.spec = self.pool.spec
            self.target.adopt(self.pool)

    def _changes_mode(self, pool: LLMWorkerPool) -> bool:
        return isinstance(self.target, ObservedTarget) != (pool.spec.mode == "Observe")

    def _target(self, pool: LLMWorkerPool, parts: Parts) -> DeploymentTarget | ObservedTarget:
        if pool.spec.mode == "Observe":
            return ObservedTarget(parts.api, self.reporter, pool=pool, monotonic=parts.monotonic)
        return DeploymentTarget(parts.tools, self.reporter, pool=pool, uid=self.uid, endpoint=lambda: self.endpoint)

    def forget(self, parts: Parts) -> None:
        """The pool is gone: so is what its workers were told."""
        if isinstance(self.endpoint, Endpoint) and isinstance(self.target, DeploymentTarget):
            parts.configs.forget(self.endpoint, "/".join(self.key), self.uid)

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
    if fault := fault_in_schedules(pool.spec.scaling):
        return TargetError("InvalidSpec", f"spec.{fault}")
    if not (pool.spec.worker.image or default_image) and pool.spec.mode == "Active":
        return TargetError("NoImage", "spec.worker.image is empty and the operator has no WORKER_IMAGE")
    return None


def _left_by_another(obj: Object) -> dict[str, object]:
    history: dict[str, object] = (obj.get("status") or {}).get("history") or {}
    return history
