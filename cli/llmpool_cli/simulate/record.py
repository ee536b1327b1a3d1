"""What a run leaves behind: for each job when it first began and ended, for each second what was there."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from .worker import SimWorker


@dataclass(slots=True)
class Second:
    """One look at the world."""

    at: float
    waiting: int
    in_flight: int
    replicas: int
    """Workers that exist, starting and leaving ones included."""
    intended: int


@dataclass(slots=True)
class Record:
    """Times are seconds since the trace's beginning; NaN: it didn't happen."""

    jobs: int
    started: array[float] = field(init=False)
    """The first time that each job began."""
    ended: array[float] = field(init=False)
    runs: array[int] = field(init=False)
    """How often each job began."""
    order: list[int] = field(default_factory=list)
    """Jobs as they began for the first time."""
    ended_jobs: int = 0
    cuts: int = 0
    """Runs that a worker's end cut off."""
    worker_seconds: float = 0.0
    peak: int = 0
    """The most workers that existed at once."""
    ups: int = 0
    downs: int = 0
    """How often the intended size grew and shrank."""
    seconds: list[Second] = field(default_factory=list)
    finished_at: float = math.nan

    def __post_init__(self) -> None:
        self.started = array("d", [math.nan]) * self.jobs
        self.ended = array("d", [math.nan]) * self.jobs
        self.runs = array("l", [0]) * self.jobs

    def begin(self, job: int, now: float) -> None:
        """A job runs."""
        self.runs[job] += 1
        if self.runs[job] == 1:
            self.started[job] = now
            self.order.append(job)

    def end(self, job: int, now: float) -> None:
        """A job is done."""
        self.ended[job] = now
        self.ended_jobs += 1

    def cut(self, jobs: list[int]) -> None:
        """These ran, and were cut off."""
        self.cuts += len(jobs)

    def leave(self, born: float, now: float) -> None:
        """A worker is gone: it has cost from its birth to now."""
        self.worker_seconds += now - born

    def resized(self, change: int) -> None:
        """The intended size changed by so much."""
        self.ups += change > 0
        self.downs += change < 0

    def close(self, now: float, workers: Iterable[SimWorker]) -> None:
        """The run is over; what still lives has cost until now."""
        self.finished_at = now
        for worker in workers:
            self.leave(worker.born, now)
