"""A pool, its ReplicaSet, its workers and Redis' drain leases as plain numbers, with a clock that a test turns.

The operator's part in it is the real one (``act.plan``, ``act.execute``, ``act.drains``); what dies with its process is
in :class:`Operator`, the rest lives on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from llmpool_contract import WorkerReport, WorkerState
from llmpool_operator.act import drains
from llmpool_operator.act.execute import carry_out
from llmpool_operator.act.order import taken_first
from llmpool_operator.act.plan import Scene, make_plan
from llmpool_operator.decide.types import Missing
from llmpool_operator.pods import LOWEST_COST, Pod
from llmpool_operator.targets.base import TargetError

PATIENCE = 60.0
SLOTS = 4
FRESH = 5.0


def pod(name: str, **given: object) -> Pod:
    """A running, ready pod, but for what is given."""
    base = Pod(
        name=name,
        uid=f"uid-{name}",
        version=1,
        pool=("ns", "chat"),
        replica_set="rs",
        assigned=True,
        phase="Running",
        ready=True,
        ready_since=0.0,
        ever_ready=True,
        deleting=False,
        unschedulable=False,
        created=0.0,
        restarts=0,
        cost=0,
    )
    return replace(base, **given)  # type: ignore[arg-type]


def report(name: str, in_flight: int = 0, state: WorkerState = WorkerState.READY, at_ms: int = 0) -> WorkerReport:
    """What a worker tells."""
    return WorkerReport(
        worker=name, pool="ns/chat", state=state, at_ms=at_ms, in_flight=in_flight, capacity=SLOTS, queues=["q"]
    )


class Killed(BaseException):
    """The operator's process is gone."""


@dataclass
class Worker:
    """One pod and the process in it."""

    pod: Pod
    jobs: list[float] = field(default_factory=list)
    """When each will be done."""
    drain_until: float = 0.0
    """As it was last told."""
    told: WorkerReport | None = None
    silent: bool = False
    """Its reports don't come through, though it works."""

    @property
    def runs(self) -> bool:
        return self.pod.begun


@dataclass
class World:
    """Everything but the operator. ``now`` is Unix seconds and Redis' clock."""

    now: float = 1_000.0
    replicas: int = 0
    workers: dict[str, Worker] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    redis_is_there: bool = True
    cut: list[str] = field(default_factory=list)
    """Workers that were deleted with jobs that had not had their time."""
    made: int = 0

    def sync(self) -> None:
        """The ReplicaSet's turn: deletes by its own order, or makes new pods."""
        active = [worker.pod for worker in self.workers.values()]
        for gone in sorted(active, key=taken_first(lambda pod: pod.cost))[: max(0, len(active) - self.replicas)]:
            self._delete(self.workers.pop(gone.name))
        while len(self.workers) < self.replicas:
            self.made += 1
            name = f"w{self.made}"
            fresh = pod(name, assigned=False, phase="Pending", ready=False, ever_ready=False, created=self.now)
            self.workers[name] = Worker(fresh)

    def _delete(self, worker: Worker) -> None:
        began = self.drain_began.pop(worker.pod.name, None)
        had_its_time = began is not None and self.now - began >= PATIENCE
        lost = not worker.pod.ready and self.now - worker.pod.ready_since >= PATIENCE
        if worker.jobs and not had_its_time and not lost:
            self.cut.append(worker.pod.name)
        self.leases.pop(worker.pod.name, None)

    drain_began: dict[str, float] = field(default_factory=dict)
    """Since when each lease holds without a gap: the truth, which the operator only estimates."""

    def pass_time(self, seconds: float) -> None:
        """Second by second: jobs end, workers hear and tell."""
        for _ in range(round(seconds)):
            self.now += 1
            self.sync()
            for worker in self.workers.values():
                self._live(worker)
            self._note_drains()

    def _live(self, worker: Worker) -> None:
        worker.jobs = [end for end in worker.jobs if end > self.now]
        if not worker.runs or not self.redis_is_there:
            return
        state = WorkerState.READY
        if worker.drain_until > self.now:
            state = WorkerState.DRAINING if worker.jobs else WorkerState.DRAINED
        if not worker.silent or worker.told is None:
            worker.told = report(worker.pod.name, len(worker.jobs), state, int(self.now * 1000))
        worker.drain_until = self.leases.get(worker.pod.name, 0) / 1000

    def _note_drains(self) -> None:
        live = {name for name, until in self.leases.items() if until > self.now * 1000}
        self.drain_began = {name: self.drain_began.get(name, self.now) for name in live}

    def claim(self, seconds: float) -> bool:
        """Some worker takes a job, if any may. The last one made is asked first, so that idle ones stay idle."""
        for worker in reversed(self.workers.values()):
            if worker.runs and worker.drain_until <= self.now and len(worker.jobs) < SLOTS and self.redis_is_there:
                worker.jobs.append(self.now + seconds)
                return True
        return False

    def advance(self, name: str) -> None:
        """A pod's next step in life: a node, a process, readiness."""
        worker = self.workers[name]
        if not worker.pod.assigned:
            worker.pod = replace(worker.pod, assigned=True)
        elif worker.pod.phase == "Pending":
            worker.pod = replace(worker.pod, phase="Running", ready_since=self.now)
            self._live(worker)  # a worker reports as soon as it claims
        else:
            self.set_ready(name, ready=True)

    def set_ready(self, name: str, *, ready: bool) -> None:
        worker = self.workers[name]
        if worker.runs and worker.pod.ready != ready:
            ever = worker.pod.ever_ready or ready
            worker.pod = replace(worker.pod, ready=ready, ready_since=self.now, ever_ready=ever)

    @property
    def reports(self) -> dict[str, WorkerReport] | Missing:
        if not self.redis_is_there:
            return Missing("RedisUnreachable")
        told = [worker.told for worker in self.workers.values() if worker.told]
        return {one.worker: one for one in told if self.now * 1000 - one.at_ms <= FRESH * 1000}


def at_rest(world: World, wanted: int) -> bool:
    """Everybody who is wanted is there and takes jobs, nobody else is, and no mark or drain is left."""
    live = [name for name, until in world.leases.items() if until > world.now * 1000]
    idle = [name for name, worker in world.workers.items() if worker.drain_until > world.now]
    marked = [name for name, worker in world.workers.items() if worker.pod.cost != 0]
    return world.replicas == wanted == len(world.workers) and not live + idle + marked


class Operator:
    """One process. ``dies_after`` counts the writes that it still does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.drains: dict[str, drains.Drain] = {}
        self.dies_after: int | None = None
        self.waits: tuple[str, ...] = ()
        self.shrunk_to: list[tuple[int, int]] = []
        """(replicas, wanted) of each step down."""

    @property
    def scene(self) -> Scene:
        world = self.world
        return Scene(
            replicas=world.replicas,
            created=len(world.workers),
            pods=tuple(worker.pod for worker in world.workers.values()),
            reports=world.reports,
            drains=self.drains,
            redis_ms=int(world.now * 1000) if world.redis_is_there else None,
            patience=PATIENCE,
            now=world.now,
        )

    @property
    def intended(self) -> int:
        self._look()
        return self.world.replicas - self.scene.leaving

    def _look(self) -> None:
        known = {name: drain.until_ms for name, drain in self.drains.items()}
        leases = self.world.leases if self.world.redis_is_there else known
        self.drains = drains.seen(self.drains, leases, int(self.world.now * 1000))

    def turn(self, wanted: int) -> None:
        """One turn; raises :class:`Killed` where it is to die."""
        self._look()
        self.wanted = wanted
        plan = make_plan(self.scene, wanted)
        self.waits = plan.waits
        steps = carry_out(plan, self.world.replicas, self)
        with pytest.raises(StopIteration):  # nothing in it ever waits, so no event loop is needed
            steps.send(None)

    def _write(self, does: Callable[[], None]) -> None:
        if self.dies_after is not None:
            if self.dies_after == 0:
                raise Killed
            self.dies_after -= 1
        does()

    async def tell(self, hold: frozenset[str], release: frozenset[str]) -> None:
        world, now_ms = self.world, int(self.world.now * 1000)
        if not world.redis_is_there:
            raise TargetError("ConfigNotWritten", "Redis is away", sized=True)
        renewed = {
            name: now_ms + drains.LEASE_MS
            for name in hold
            if world.leases.get(name, 0) - now_ms < drains.RENEW_BELOW_MS
        }
        lifted = tuple(name for name in release if name in world.leases)
        if not renewed and not lifted:
            return

        def write() -> None:
            for name in lifted:
                del world.leases[name]
            world.leases.update(renewed)
            world._note_drains()

        self._write(write)
        self.drains = drains.told(self.drains, renewed, lifted, now_ms)

    async def mark(self, pods: tuple[Pod, ...], *, lowest: bool) -> None:
        for one in pods:
            self._write(lambda name=one.name: self._mark(name, LOWEST_COST if lowest else 0))  # type: ignore[misc]

    def _mark(self, name: str, cost: int) -> None:
        worker = self.world.workers[name]
        worker.pod = replace(worker.pod, cost=cost)

    async def scale(self, replicas: int) -> None:
        def write() -> None:
            if replicas < self.world.replicas:
                self.shrunk_to.append((replicas, self.wanted))
            self.world.replicas = replicas

        self._write(write)
