"""The operator: its own engine and decisions, once a second, and its way of shrinking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide.types import Missing, Observation, QueueBacklog
from llmpool_operator.engine import PoolEngine
from llmpool_operator.targets.base import Sighting, Size
from llmpool_operator.targets.simulation import SimulationTarget, turn_at_once

from .worker import SimWorker, State
from .world import World

TICK = 1.0
"""Seconds from turn to turn of the operator's loop."""
_RATE_TURNS = 60
"""A worker's rate is that of its last minute of work."""
_NOTHING = QueueBacklog(0, 0, 0, None)


class PoolPolicy:
    """Looks, decides and acts through a :class:`PoolEngine`, as the operator does."""

    def __init__(self, spec: LLMWorkerPoolSpec) -> None:
        self._spec = spec
        self._wants_rate = any(metric.type == "DrainTime" for metric in spec.scaling.metrics)
        self._work: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_RATE_TURNS + 1)
        """At each turn: jobs ended so far, and seconds that workers were busy so far."""

    def begin(self, world: World, phase: Callable[[float], float]) -> None:
        """``minReplicas`` are there already; a turn each second."""
        size = self._spec.scaling.min_replicas if self._spec.replicas is None else self._spec.replicas
        world.start(size, ready=True)
        engine = PoolEngine(self._spec, SimulationTarget(DrainingFleet(world)))

        def turn(now: float) -> None:
            moment = world.trace.begins + now
            turn_at_once(engine, self._sighting(world, moment), moment)

        world.clock.every(TICK, phase(TICK), turn)

    def _sighting(self, world: World, moment: float) -> Sighting:
        """All jobs are in the pool's first queue."""
        backlog = QueueBacklog(len(world.waiting), 0, world.in_flight + world.lost, None)
        first, *others = (queue.name for queue in self._spec.queues)
        queues = {first: backlog, **dict.fromkeys(others, _NOTHING)}
        return Sighting(Observation(moment, queues, self._rate(world)), Missing("not simulated"))

    def _rate(self, world: World) -> float | Missing:
        if not self._wants_rate:
            return Missing("not asked for")
        busy = sum(bool(worker.running) for worker in world.workers)
        self._work.append((world.record.ended_jobs, self._work[-1][1] + busy))
        (jobs, seconds), (jobs_now, seconds_now) = self._work[0], self._work[-1]
        if jobs_now == jobs or seconds_now == seconds:
            return Missing("no job has ended within a minute of work")
        return (jobs_now - jobs) / ((seconds_now - seconds) * TICK)


class DrainingFleet:
    """Shrinks by drains, which end nothing, and takes them back when it grows again."""

    def __init__(self, world: World) -> None:
        self._world = world

    def size(self) -> Size:
        """Draining workers still exist, but aren't intended."""
        world = self._world
        ready = sum(worker.state is State.UP for worker in world.workers)
        return Size(world.intended, existing=len(world.workers), ready=ready)

    def resize(self, replicas: int) -> None:
        """Have so many that nobody asked to leave."""
        change = replicas - self._world.intended
        if change == 0:
            return
        self._world.record.resized(change)
        if change > 0:
            self._grow(change)
        else:
            self._shrink(-change)

    def _grow(self, count: int) -> None:
        """Those that still drain first, the last to be asked first: they have the most left to do."""
        leaving = [worker for worker in self._world.workers if worker.state is State.LEAVING]
        leaving.sort(key=lambda worker: worker.deadline or 0.0, reverse=True)
        for worker in leaving[:count]:
            self._world.take_back(worker)
        self._world.start(count - len(leaving[:count]))

    def _shrink(self, count: int) -> None:
        world = self._world
        staying = [worker for worker in world.workers if worker.state is not State.LEAVING]
        for worker in sorted(staying, key=_victims_first)[:count]:
            world.ask_to_leave(worker, world.clock.now + world.terms.drain, world.give_back)


def _victims_first(worker: SimWorker) -> tuple[bool, int, int]:
    """Those that start, then the least loaded; the newest among equals."""
    return worker.state is State.UP, worker.in_flight, -worker.number
