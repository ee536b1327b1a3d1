"""A model server, a queue and workers in virtual time: the worker's own model parts, all around them played.

Redis and the server answer after a lag; jobs sleep. What must never happen is written down in ``World.wrong``.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from llmpool_worker.backends.base import LocalModel, ResidentModel
from llmpool_worker.clock import RedisClock
from llmpool_worker.models.deciding import Rules
from llmpool_worker.models.fit import Fits, Memory
from llmpool_worker.models.keeper import ModelKeeper
from llmpool_worker.models.leader import Leader, LeaderRules
from llmpool_worker.models.places import Places
from llmpool_worker.models.types import MemberReport, Plan, Synced

WINDOW = 64
LOOK_S = 0.2
BEGIN_S = 1_000.0
"""The loop's clock begins at 0, Redis' here: never mistaken for one another."""


def now_s() -> float:
    """By the played Redis' clock."""
    return BEGIN_S + asyncio.get_running_loop().time()


@dataclass
class Server:
    """Holds ``room`` models. A load that finds no room pushes out an idle model, else a busy one: that is wrong."""

    room: int
    load_s: float
    resident_since: dict[str, float] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    loads: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def models(self) -> list[LocalModel]:
        return []

    async def resident(self) -> list[ResidentModel]:
        return [ResidentModel(name, None) for name in self.resident_since]

    async def load(self, model: str) -> None:
        if model in self.resident_since:
            return  # its stay begins anew, no more
        self.loads.append(model)
        while len(self.resident_since) >= self.room:
            victim = min(self.resident_since, key=lambda m: (self.running[m] > 0, self.resident_since[m]))
            if self.running[victim]:
                self.wrong.append(f"{victim} was pushed out at work for {model}")
            del self.resident_since[victim]
        await asyncio.sleep(self.load_s)
        self.resident_since[model] = now_s()

    async def unload(self, model: str) -> None:
        if self.running[model]:
            self.wrong.append(f"{model} was unloaded at work")
        await asyncio.sleep(0.05)
        self.resident_since.pop(model, None)

    async def run(self, model: str, seconds: float) -> None:
        """A job."""
        if model not in self.resident_since:
            self.wrong.append(f"a job of {model} came while it wasn't there")
        self.running[model] += 1
        await asyncio.sleep(seconds)
        if model not in self.resident_since:
            self.wrong.append(f"{model} went away under its job")
        self.running[model] -= 1


@dataclass
class Job:
    """Seconds."""

    model: str
    takes_s: float


@dataclass
class Queue:
    """One list, taken from as the claim script does it where no tenants are named."""

    jobs: list[Job] = field(default_factory=list)
    waiting: dict[str, float] = field(default_factory=dict)
    longest_wait: dict[str, float] = field(default_factory=dict)
    """Model -> seconds from its first job passed over until none is any more, at most: from there by age."""

    def claim(self, units: int, caps: dict[str, int]) -> tuple[list[Job], dict[str, int], frozenset[str], bool]:
        """(jobs, models passed over -> since when, models that may have more, whether units ran out)."""
        taken, passed, more, caps = list[Job](), set[str](), set[str](), dict(caps)
        for job in self.jobs[:WINDOW]:
            if len(taken) == units:
                more.add(job.model)
            elif caps.get(job.model, 0) > 0:
                caps[job.model] -= 1
                taken.append(job)
            elif job.model in caps:
                more.add(job.model)
            else:
                passed.add(job.model)
        for job in taken:
            self.jobs.remove(job)
        now = now_s()
        for model in caps.keys() & self.waiting.keys():
            waited = now - self.waiting.pop(model)
            self.longest_wait[model] = max(waited, self.longest_wait.get(model, 0.0))
        for model in passed:
            self.waiting.setdefault(model, now)
        full = len(taken) == units
        since = {model: int(self.waiting[model] * 1_000) for model in passed}
        return taken, since, frozenset(more) if full else frozenset(), full


class Meeting:
    """Where workers meet, as ``sync.lua`` and ``plan.lua`` have it, but for limits, which are tried on a real Redis."""

    def __init__(self) -> None:
        self.plan, self.members = Plan(), dict[str, MemberReport]()
        self.leader: str | None = None
        self.listeners: list[Callable[[], None]] = []

    def gone(self, worker: str) -> None:
        """It left, or its membership has ended."""
        self.members.pop(worker, None)
        if self.leader == worker:
            self.leader = None
        self.news()

    def news(self) -> None:
        for heard in self.listeners:
            heard()


class Store:
    """One worker's calls to it; each takes a lag there and one back."""

    def __init__(self, meeting: Meeting, worker: str, lag: Callable[[], float]) -> None:
        self._meeting, self._worker, self._lag = meeting, worker, lag

    async def sync(self, redis: object, report: MemberReport, wishes: object) -> Synced:
        await asyncio.sleep(self._lag())
        at = self._meeting
        barrier = at.plan.target and not at.plan.doing and self._worker != at.leader
        if self._worker not in at.members or (barrier and at.members[self._worker] != report):
            at.news()
        at.members[self._worker] = report
        at.leader = at.leader or self._worker
        leads = at.leader == self._worker
        synced = Synced(int(now_s() * 1_000), leads, at.plan, {}, dict(at.members) if leads else {})
        await asyncio.sleep(self._lag())
        return synced

    async def write(self, redis: object, plan: Plan) -> int:
        await asyncio.sleep(self._lag())
        at = self._meeting
        written = at.leader == self._worker and at.plan.epoch == plan.epoch
        if written:
            at.plan = replace(plan, epoch=plan.epoch + 1)
            at.news()
        await asyncio.sleep(self._lag())
        return at.plan.epoch if written else 0

    async def leave(self, redis: object) -> None:
        self._meeting.gone(self._worker)


class Worker:
    """Claims, runs and reports."""

    def __init__(self, name: str, world: "World", slots: int, preload: tuple[str, ...]) -> None:
        self.name, self._world, self.slots, self.running = name, world, slots, 0
        self.places = Places(managed=True, batch=1, limit_of=lambda model: None, refused=lambda model: False)
        rules = LeaderRules(world.rules, 600.0, lambda model: False)
        told = SimpleNamespace(loaded=lambda *_: None, unloaded=lambda *_: None)
        leader = Leader(world.server, rules, Fits(world.memory), told)  # type: ignore[arg-type]
        store: Any = Store(world.meeting, name, world.lag)
        redis: Any = None
        clock = RedisClock()
        self.keeper = ModelKeeper(redis, store, clock, self.places, leader, lambda: self.free, preload, _never)
        self.keeper.claims(self.wake)
        self._wake = asyncio.Event()
        world.meeting.listeners.append(self.keeper.soon)

    @property
    def free(self) -> int:
        return self.slots - self.running

    def wake(self) -> None:
        """There may be something to claim."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run())
            while True:
                self._wake.clear()
                if self.free and await self._claim(group):
                    continue
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _claim(self, group: asyncio.TaskGroup) -> bool:
        caps = self.places.caps(self.free)
        assert caps is not None
        self.places.claim_begins()
        await asyncio.sleep(self._world.lag())
        jobs, passed, more, full = self._world.queue.claim(self.free, dict(caps))
        await asyncio.sleep(self._world.lag())
        for job in jobs:
            self.places.began(job.model, 1)
            self.running += 1
            group.create_task(self._run(job))
        if self.places.looked("q", passed, more, full=full):
            self.keeper.soon()
        if self.places.claim_ends():
            self.keeper.soon()
        return full

    async def _run(self, job: Job) -> None:
        await self._world.server.run(job.model, job.takes_s)
        self.running -= 1
        if self.places.ended(job.model, 1):
            self.keeper.soon()
        self._world.done += 1
        self.wake()


class World:
    """All of it."""

    def __init__(self, rules: Rules, memory: Memory, *, room: int, load_s: float, lag_s: float, seed: int) -> None:
        self.rules, self.memory = rules, memory
        self.server, self.queue, self.meeting = Server(room, load_s), Queue(), Meeting()
        self.workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self.done = 0
        self.work_s = 0.0
        chance = random.Random(seed)
        self.lag: Callable[[], float] = lambda: chance.uniform(0.0, lag_s)

    def start(self, name: str, slots: int, preload: tuple[str, ...] = ()) -> None:
        """One more worker."""
        worker = Worker(name, self, slots, preload)
        self.workers[name] = worker, asyncio.create_task(worker.run())

    def push(self, job: Job) -> None:
        """A job comes."""
        self.queue.jobs.append(job)
        self.work_s += job.takes_s
        for worker, _ in self.workers.values():
            worker.wake()

    async def until_done(self, jobs: int, within_s: float) -> float:
        """Seconds until so many are done. Raises TimeoutError."""
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(within_s):
            while self.done < jobs:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return asyncio.get_running_loop().time() - began

    async def stop(self) -> None:
        """Kill all."""
        for _, task in self.workers.values():
            task.cancel()
        await asyncio.wait([task for _, task in self.workers.values()])


def _never(error: Exception) -> None:
    raise error
