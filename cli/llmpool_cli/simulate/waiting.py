"""The queue, by model: first in, first out within each, and the oldest of all is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Waiting:
    """Jobs that wait. Each has a place; those that come back get places before all others."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[int, int]]] = {}
        """Model -> (place, job)."""
        self._count = 0
        self._last = 0
        self._first = 0

    def __len__(self) -> int:
        return self._count

    def put(self, job: int, model: str) -> None:
        """At the end."""
        self._last += 1
        self._count += 1
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = deque()
        queue.append((self._last, job))

    def put_back(self, job: int, model: str) -> None:
        """At the front."""
        self._first -= 1
        self._count += 1
        self._queues.setdefault(model, deque()).appendleft((self._first, job))

    def head(self, models: Iterable[str] | None = None) -> tuple[int, str] | None:
        """The oldest job of these models (None: of all), and its model. None: there is none."""
        best: tuple[int, int, str] | None = None
        for model in self._queues if models is None else models:
            queue = self._queues.get(model)
            if queue and (best is None or queue[0][0] < best[0]):
                best = (*queue[0], model)
        return None if best is None else best[1:]

    def take(self, model: str) -> int:
        """Remove the oldest job of a model that has one."""
        queue = self._queues[model]
        self._count -= 1
        job = queue.popleft()[1]
        if not queue:  # so that looking for the head costs by the models that wait, not by all that ever did
            del self._queues[model]
        return job
