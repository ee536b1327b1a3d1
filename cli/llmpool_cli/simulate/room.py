"""Workers that have room for a job, in the order in which they get one."""

from __future__ import annotations

from collections import deque

from .worker import SimWorker


class Room:
    """Who claimed least recently is first: Redis serves the connection that has waited for longest."""

    def __init__(self) -> None:
        self._workers: deque[SimWorker] = deque()
        """Some may have no room any more: they fall out when they are looked at."""

    def add(self, worker: SimWorker) -> None:
        """At the end, if it has room and isn't there."""
        if worker.has_room and not worker.listed:
            worker.listed = True
            self._workers.append(worker)

    def first(self) -> SimWorker | None:
        """Remove and return the first. None: nobody has room."""
        while self._workers:
            worker = self._workers.popleft()
            worker.listed = False
            if worker.has_room:
                return worker
        return None

    def best_for(self, model: str) -> SimWorker | None:
        """The same, but one that holds the model before one that runs nothing and can load it at once.

        Last is one whose jobs must end before it can swap models.
        """
        kept: list[SimWorker] = []
        while (worker := self.first()) is not None:
            kept.append(worker)
        best = min(kept, key=lambda worker: (model not in worker.resident, bool(worker.running)), default=None)
        for worker in kept:
            if worker is not best:
                self.add(worker)
        return best
