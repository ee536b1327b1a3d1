"""A queue and its workers in virtual time. Policies size it; it knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from .clock import Clock
from .record import Record, Second
from .room import Room
from .terms import WorkerTerms
from .trace import Trace
from .waiting import Waiting
from .worker import SimWorker, State

_LONGEST_AFTER = 6 * 3600.0
"""Seconds after the trace's end at which a run is given up that doesn't end."""


class World:
    """Jobs arrive, wait, run and end; workers start, claim, leave and are gone."""

    def __init__(self, trace: Trace, terms: WorkerTerms, seed: int) -> None:
        self.trace = trace
        self.terms = terms
        self.clock = Clock()
        self.waiting = Waiting()
        self.workers: list[SimWorker] = []
        """Those that exist: each costs, also while it starts or leaves. Oldest first."""
        self.lost = 0
        """Jobs of dead workers whose lease hasn't ended."""
        self.in_flight = 0
        """Claimed jobs of living workers."""
        self.record = Record(len(trace))
        self._alone = [terms.alone(i, o) for i, o in zip(trace.inputs, trace.outputs, strict=True)]
        self._one_model = len(set(trace.models)) == 1
        self._speeds = terms.speeds()
        self._random = Random(f"starts {seed}")  # the n-th worker starts as fast under each policy
        self._started = 0
        self._room = Room()

    def run(self) -> Record:
        """Until the trace is over and each job has ended, or nothing ends any more."""
        arrivals, record, clock = self.trace.arrivals, self.record, self.clock
        next_job, last = 0, self.trace.span + _LONGEST_AFTER
        while clock.now < last:
            if next_job < len(arrivals) and arrivals[next_job] <= clock.next:
                clock.now = arrivals[next_job]
                self._arrive(next_job)
                next_job += 1
            elif record.ended_jobs < len(arrivals) or clock.next <= self.trace.span:
                clock.step()
            else:
                break
        clock.now = max(clock.now, self.trace.span)
        record.close(clock.now, self.workers)
        return record

    # Size

    @property
    def intended(self) -> int:
        """Workers that nobody has asked to leave."""
        return sum(worker.state is not State.LEAVING for worker in self.workers)

    def start(self, count: int, *, ready: bool = False) -> None:
        """Ask for more workers. ``ready``: they are up already."""
        for _ in range(count):
            self._started += 1
            worker = SimWorker(self._started, self.clock.now, self.terms, self._speeds)
            self.workers.append(worker)
            self.record.peak = max(self.record.peak, len(self.workers))
            jitter = self.terms.startup_jitter * self._random.uniform(-1, 1)
            self.clock.at(self.clock.now + (0.0 if ready else self.terms.startup * (1 + jitter)), self._up, worker)

    def ask_to_leave(self, worker: SimWorker, deadline: float, cut: Callable[[list[int]], None]) -> None:
        """It claims no more, finishes what it runs, and at ``deadline`` it is ended: ``cut`` gets what it still ran."""
        worker.state = State.LEAVING
        if worker.next is not None:  # it has not begun: back at once
            self._give_back([worker.next])
            if worker.loading is not None:  # then nothing runs whose end would be made void, too
                worker.version += 1
            worker.next = worker.loading = None
            self.in_flight -= 1
        if worker.running:
            self.clock.at(deadline, self._deadline, worker, deadline, cut)
            worker.deadline = deadline
        else:
            self._bury(worker)
        self._offer()

    def take_back(self, worker: SimWorker) -> None:
        """A worker that was asked to leave, and hasn't yet, stays."""
        worker.state = State.UP
        self._feed(worker)

    def look(self) -> None:
        """Take note of what there is now."""
        in_flight = self.in_flight + self.lost
        second = Second(self.clock.now, len(self.waiting), in_flight, len(self.workers), self.intended)
        self.record.seconds.append(second)

    # Jobs that came off their worker

    def give_back(self, jobs: list[int]) -> None:
        """A worker's own last act: the jobs are in the queue again at once."""
        self._give_back(jobs)
        self._offer()

    def lose(self, jobs: list[int]) -> None:
        """A worker died with these: they are in the queue again when their lease has ended."""
        self.lost += len(jobs)
        self.clock.at(self.clock.now + self.terms.lease, self._redeliver, jobs)

    def _redeliver(self, jobs: list[int]) -> None:
        self.lost -= len(jobs)
        self._give_back(jobs)
        self._offer()

    def _give_back(self, jobs: Iterable[int]) -> None:
        for job in sorted(jobs, reverse=True):  # the oldest first again
            self.waiting.put_back(job, self.trace.models[job])

    # What happens

    def _arrive(self, job: int) -> None:
        self.waiting.put(job, self.trace.models[job])
        self._offer()

    def _up(self, worker: SimWorker) -> None:
        if worker.state is State.STARTING:
            worker.state = State.UP
            worker.up_at = self.clock.now
            self._feed(worker)

    def _end(self, worker: SimWorker, version: int) -> None:
        if version != worker.version:
            return
        self.record.end(worker.end_one(self.clock.now), self.clock.now)
        self.in_flight -= 1
        began = self._feed(worker)
        if worker.running:
            if not began:
                self.clock.at(worker.next_end(), self._end, worker, worker.version)
        elif worker.state is State.LEAVING:
            self._bury(worker)
        elif worker.next is not None and worker.loading is None:
            self._load(worker)

    def _deadline(self, worker: SimWorker, deadline: float, cut: Callable[[list[int]], None]) -> None:
        if worker.state is not State.LEAVING or worker.deadline != deadline:
            return
        jobs = worker.stop_all(self.clock.now)
        self.in_flight -= len(jobs)
        self.record.cut(jobs)
        self._bury(worker)
        cut(jobs)

    def _bury(self, worker: SimWorker) -> None:
        worker.state = State.GONE
        self.record.leave(worker.born, self.clock.now)
        self.workers.remove(worker)

    # Claims

    def _offer(self) -> None:
        """Let the workers with room claim."""
        while (head := self.waiting.head()) is not None:
            worker = self._room.first() if self._one_model else self._room.best_for(head[1])
            if worker is None:
                return
            self._feed(worker)

    def _feed(self, worker: SimWorker) -> bool:
        """Claim what there is, as long as there is room. Whether a job began, so that the next end is planned."""
        began = False
        while worker.has_room and len(self.waiting):
            model = self._choose(worker)
            job = self.waiting.take(model)
            self.in_flight += 1
            if model in worker.resident:
                self._begin(worker, job, model)
                began = True
            else:
                worker.next = job
                if not worker.running:
                    self._load(worker)
        if began:
            self.clock.at(worker.next_end(), self._end, worker, worker.version)
        self._room.add(worker)
        return began

    def _choose(self, worker: SimWorker) -> str:
        """The model whose oldest job is next: one in memory, unless none waits or those have had their quantum."""
        head = self.waiting.head()
        assert head is not None
        _, model = head
        if model in worker.resident or self.clock.now - worker.held_since >= self.terms.quantum:
            return model
        resident = self.waiting.head(worker.resident)
        return model if resident is None else resident[1]

    def _begin(self, worker: SimWorker, job: int, model: str) -> None:
        worker.use(model)
        worker.begin(job, self._alone[job], self.clock.now)
        self.record.begin(job, self.clock.now)

    def _load(self, worker: SimWorker) -> None:
        assert worker.next is not None
        worker.loading = self.trace.models[worker.next]
        worker.version += 1
        self.clock.at(self.clock.now + self.terms.load, self._loaded, worker, worker.version)

    def _loaded(self, worker: SimWorker, version: int) -> None:
        if version != worker.version or worker.next is None:
            return
        job, worker.next = worker.next, None
        worker.hold(self.trace.models[job], self.clock.now)
        self._begin(worker, job, self.trace.models[job])
        self.clock.at(worker.next_end(), self._end, worker, worker.version)
        self._feed(worker)
