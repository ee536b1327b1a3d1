"""One worker: jobs that share it, and the models it holds. Times are seconds since the trace's beginning."""

from __future__ import annotations

from enum import Enum
from heapq import heappop, heappush

from .terms import WorkerTerms


class State(Enum):
    """How a worker stands."""

    STARTING = "starting"
    UP = "up"
    LEAVING = "leaving"
    """Takes no more jobs, finishes what it has."""
    GONE = "gone"


class SimWorker:
    """Jobs share the worker equally: each has had the same service since it began.

    So one number, ``served``, tells how much a job got that is here from the beginning, and a job is done when that
    number has grown by what the job needs. Starting or ending one job touches no other.
    """

    __slots__ = (
        "at",
        "born",
        "deadline",
        "held_since",
        "listed",
        "loading",
        "next",
        "number",
        "resident",
        "running",
        "served",
        "speeds",
        "state",
        "terms",
        "up_at",
        "version",
    )

    def __init__(self, number: int, born: float, terms: WorkerTerms, speeds: list[float]) -> None:
        self.number = number
        self.born = born
        self.terms = terms
        self.speeds = speeds
        self.state = State.STARTING
        self.up_at: float | None = None
        self.deadline: float | None = None
        """When it is ended at the latest, once it was asked to leave."""
        self.running: list[tuple[float, int]] = []
        """A heap of (``served`` at the end, job)."""
        self.served = 0.0
        self.at = born
        """When ``served`` was that."""
        self.version = 0
        """Grows with each change that makes an expected end, or a load's, void."""
        self.resident: list[str] = []
        """Models in memory, the longest unused first."""
        self.held_since = born
        """When the last load ended."""
        self.loading: str | None = None
        self.next: int | None = None
        """A claimed job that waits until what runs has ended and its model is in memory."""
        self.listed = False
        """Whether it stands in the list of workers with room."""

    @property
    def has_room(self) -> bool:
        """Whether it would claim a job now."""
        return self.state is State.UP and self.next is None and len(self.running) < self.terms.concurrency

    @property
    def in_flight(self) -> int:
        """Claimed jobs."""
        return len(self.running) + (self.next is not None)

    def begin(self, job: int, alone: float, now: float) -> None:
        """Run a job that would take ``alone`` seconds by itself."""
        self._serve(now)
        heappush(self.running, (self.served + alone, job))
        self.version += 1

    def end_one(self, now: float) -> int:
        """The job that is done at ``now``, which :meth:`next_end` said."""
        self.served, job = heappop(self.running)
        self.at = now
        self.version += 1
        return job

    def next_end(self) -> float:
        """When the next of its jobs will be done, if none comes before."""
        return self.at + (self.running[0][0] - self.served) / self.speeds[len(self.running)]

    def stop_all(self, now: float) -> list[int]:
        """Give up all that runs, in no order."""
        self._serve(now)
        jobs = [job for _, job in self.running]
        self.running.clear()
        self.version += 1
        return jobs

    def use(self, model: str) -> None:
        """Take note that a resident model was used last just now."""
        if self.resident[-1] != model:
            self.resident.remove(model)
            self.resident.append(model)

    def hold(self, model: str, now: float) -> None:
        """A load has ended: the model takes the place of the one that was unused for longest."""
        self.loading = None
        self.held_since = now
        self.resident.append(model)
        del self.resident[: -self.terms.models_in_memory]

    def _serve(self, now: float) -> None:
        self.served += (now - self.at) * self.speeds[len(self.running)]
        self.at = now
