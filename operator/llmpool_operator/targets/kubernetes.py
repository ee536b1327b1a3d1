"""A pool's Deployment: created once, applied when it should look different, sized by its scale subresource alone, and
made smaller only by pods that have no work left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from llmpool_contract.labels import MANAGER
from llmpool_contract.pool import LLMWorkerPool, Metric
from llmpool_operator.act import drains
from llmpool_operator.act.config import ConfigWriter, Message, message, name_taken, taken_by_another
from llmpool_operator.act.execute import carry_out
from llmpool_operator.act.plan import Scene, make_plan
from llmpool_operator.act.rivals import QUIET, Rivals, scaler_of
from llmpool_operator.act.scene import gpu_readings, rollout_of, unsettled_of
from llmpool_operator.decide.types import Missing, PodReading
from llmpool_operator.deployment import build
from llmpool_operator.kube import KubeAPI, Object
from llmpool_operator.observe import Endpoint
from llmpool_operator.pods import Pod
from llmpool_operator.store import Store

from .base import Found, Resized, Sighting, Size, TargetError, Turn
from .deployment_calls import DeploymentCalls, replicas_of, told


class Reporter(Protocol):
    """Takes a turn to where the pool's owner looks."""

    async def report(self, turn: Turn) -> None:
        """Write status and events where they are due."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the targets of all Deployments act with."""

    api: KubeAPI
    store: Store
    configs: ConfigWriter
    image: str
    """Of pools that name none."""


@dataclass(slots=True)
class _View:
    """What one turn sees, and goes on from."""

    sighting: Sighting
    now: float
    deployment: Object | None = None
    scene: Scene | None = None


class DeploymentTarget:
    """Acts on one pool's Deployment, from what the store knows of it. ``endpoint`` gives the pool's Redis."""

    def __init__(
        self,
        tools: Tools,
        reporter: Reporter,
        *,
        pool: LLMWorkerPool,
        uid: str,
        endpoint: Callable[[], Endpoint | Missing | None],
    ) -> None:
        self._tools = tools
        self._reporter = reporter
        self._uid = uid
        self._endpoint = endpoint
        self._key = pool.metadata.namespace, pool.metadata.name
        self._calls = DeploymentCalls(tools.api, tools.store, key=self._key, uid=uid)
        self._intended = (pool.status or {}).get("desiredReplicas") or 0
        """The last size known: what a Deployment that somebody deleted comes back with."""
        self._asked: int | None = None
        """The replicas that were last asked for or found."""
        self._drains: dict[str, drains.Drain] = {}
        self._clock_ahead = 0.0
        """Redis' clock minus ours, seconds, at the last reading."""
        self._rivals = Rivals()
        self._view: _View
        self.adopt(pool)

    def adopt(self, pool: LLMWorkerPool) -> None:
        """Take a changed spec."""
        self._pool = pool
        self._wanted = build(pool, self._uid, default_image=self._tools.image)
        self._reads_pods = any(_is_of_pods(metric) for metric in pool.spec.scaling.metrics)

    async def size(self, sighting: Sighting, now: float) -> Size | Missing:
        """As the watch last told; drains as the sighting has them."""
        self._refuse_taken(sighting)
        self._view = _View(sighting, now)
        held = self._calls.held
        if held is None:
            self._drains, self._asked = {}, None
            return Size(intended=self._intended, existing=0, ready=0)
        self._calls.refuse_foreign(held)
        if held["metadata"].get("deletionTimestamp"):
            return Missing("DeploymentIsBeingDeleted")
        self._look_at_drains(sighting, now)
        found = self._notice(held, now)
        scene = self._scene(held)
        self._view.deployment, self._view.scene = held, scene
        self._intended = max(0, scene.replicas - scene.leaving)
        status = held.get("status") or {}
        return Size(
            self._intended,
            existing=status.get("replicas") or 0,
            ready=status.get("readyReplicas") or 0,
            found=found,
            unschedulable=sum(pod.unschedulable and pod.active for pod in self._tools.store.pods.of(self._key)),
            pods=self._readings(sighting),
        )

    async def resize(self, replicas: int) -> Resized:
        """Create, apply, tell, mark, scale: each only where it is needed."""
        held, scene = self._view.deployment, self._view.scene
        if held is None or scene is None:
            made = await self._calls.create(self._wanted, replicas)
            self._asked = self._intended = replicas_of(made)
            return Resized(self._intended)
        rival = self._rivals.at(self._view.now).rival
        if rival is not None:
            raise _scaled_by(rival)
        try:
            return await self._change(held, scene, replicas)
        except TargetError as error:
            if error.reason == "Gone":
                # Deleted while no watch looked: the next turn makes a new one.
                self._tools.store.saw_deployment(held, deleted=True)
            raise

    async def _change(self, held: Object, scene: Scene, replicas: int) -> Resized:
        problem: TargetError | None = None
        try:
            applied = await self._calls.apply(held, self._wanted, self._view.now)
        except TargetError as error:
            problem = error  # a size must not wait for a manifest
        else:
            if replicas_of(applied) != scene.replicas:  # somebody else's size: the next turn takes it up
                return Resized(self._intended, draining=scene.leaving)
            if applied is not held:
                held, scene = applied, self._scene(applied)
        self._view.deployment = held
        if self._pool.spec.replicas is None and self._pool.spec.paused in ("All", "ScaleIn"):
            replicas = max(replicas, scene.replicas)  # what drains goes on: its worker is still asked for
        plan = make_plan(scene, replicas)
        try:
            fault = await carry_out(plan, scene.replicas, self)
        except TargetError as error:
            if self._left() == max(0, scene.replicas - scene.leaving):
                raise
            fault = error
        # A conflict is somebody else's newer state: the watch brings it, and the next turn applies to that.
        if problem is not None and problem.reason != "Conflict" and (fault is None or fault.sized):
            fault = TargetError(problem.reason, problem.message, sized=True)
        self._intended = self._left()
        return Resized(
            self._intended,
            draining=self._leaving(),
            waits=plan.waits,
            failure=fault,
            given_up=plan.given_up if replicas_of(self._view.deployment) < scene.replicas else 0,
        )

    async def report(self, turn: Turn) -> None:
        """Status and events."""
        await told("report", self._reporter.report(turn))

    # What a plan is carried out with.

    async def tell(self, hold: frozenset[str], release: frozenset[str]) -> None:
        """Write to the workers what they don't know yet. Where Redis can't be read, nothing is written either."""
        sighting, endpoint = self._view.sighting, self._endpoint()
        if isinstance(sighting.config, Missing) or sighting.redis_ms is None or not isinstance(endpoint, Endpoint):
            return
        writer = self._tools.configs
        news = message(
            sighting.config,
            sighting.redis_ms,
            uid=self._uid,
            preload=tuple(self._pool.spec.models.preload),
            hold=hold,
            release=release,
            transition=writer.transition(),
        )
        if news is not None:
            self._remember(news, await writer.write(endpoint, self._pool.key, news))

    async def mark(self, pods: tuple[Pod, ...], *, lowest: bool) -> None:
        """The pods' deletion costs."""
        await self._calls.mark(pods, lowest=lowest)

    async def scale(self, replicas: int) -> None:
        """The Deployment's replicas."""
        assert self._view.deployment is not None
        self._view.deployment = await self._calls.scale(self._view.deployment, replicas)
        self._asked = replicas

    # What is seen and remembered.

    def _refuse_taken(self, sighting: Sighting) -> None:
        config, redis_ms = sighting.config, sighting.redis_ms
        if not isinstance(config, Missing) and redis_ms is not None and taken_by_another(config, redis_ms, self._uid):
            raise name_taken(self._pool.key)

    def _look_at_drains(self, sighting: Sighting, now: float) -> None:
        if not isinstance(sighting.config, Missing) and sighting.redis_ms is not None:
            self._clock_ahead = sighting.redis_ms / 1000 - now
            if self._drains or sighting.config.drains:
                self._drains = drains.seen(self._drains, sighting.config.drains, sighting.redis_ms)
        elif self._drains:  # nobody renews them now: they hold until they lapse
            known = {worker: drain.until_ms for worker, drain in self._drains.items()}
            self._drains = drains.seen(self._drains, known, int((now + self._clock_ahead) * 1000))

    def _remember(self, news: Message, now_ms: int) -> None:
        until = now_ms + drains.LEASE_MS
        self._drains = drains.told(self._drains, dict.fromkeys(news.hold, until), news.release, now_ms)

    def _notice(self, held: Object, now: float) -> Found | None:
        """Take up replicas that are not what we asked for. What another operator asked for is as good as our own."""
        before, self._asked = self._asked, replicas_of(held)
        if before is None or before == self._asked:
            return None
        manager = scaler_of(held)
        if manager == MANAGER:
            return None
        self._rivals = self._rivals.changed(manager, now)
        return Found(before, self._asked, manager)

    def _scene(self, held: Object) -> Scene:
        shelf, sighting = self._tools.store.pods, self._view.sighting
        pods = shelf.of(self._key) if shelf.listed else Missing("PodsNotListed")
        return Scene(
            replicas=replicas_of(held),
            created=(held.get("status") or {}).get("replicas") or 0,
            pods=pods,
            reports=sighting.reports,
            drains=self._drains,
            redis_ms=None if isinstance(sighting.config, Missing) else sighting.redis_ms,
            patience=float(self._pool.spec.worker.drain_seconds),
            now=self._view.now,
            rollout=rollout_of(held, pods),
            unsettled=unsettled_of(held),
        )

    def _leaving(self) -> int:
        """Workers that drain and are still asked for, by what has been done until now."""
        assert self._view.deployment is not None
        return self._scene(self._view.deployment).leaving if self._drains else 0

    def _left(self) -> int:
        """The intended size, likewise."""
        assert self._view.deployment is not None
        return max(0, replicas_of(self._view.deployment) - self._leaving())

    def _readings(self, sighting: Sighting) -> tuple[PodReading, ...] | Missing:
        if not self._reads_pods:
            return Missing("not read")
        if not self._tools.store.pods.listed:
            return Missing("PodsNotListed")
        return gpu_readings(self._tools.store.pods.of(self._key), sighting, self._drains)


def _is_of_pods(metric: Metric) -> bool:
    """Whether a metric goes by single pods: their GPUs, or how many are ready without those that drain."""
    return metric.type == "GPUUtilization" or (metric.prometheus is not None and metric.prometheus.value is not None)


def _scaled_by(rival: str) -> TargetError:
    text = (
        f"{rival} sets the Deployment's replicas, too: remove that autoscaler, or give this pool mode Observe; it goes "
        f"on {QUIET / 60:.0f} minutes after {rival}'s last change"
    )
    return TargetError("ScaledByAnother", text)
