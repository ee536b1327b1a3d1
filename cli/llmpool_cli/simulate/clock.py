"""Virtual time: events in the order of their time, those of one moment in the order in which they were planned."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Seconds since the trace's beginning. It goes on from event to event."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    @property
    def next(self) -> float:
        """When the next event is. Infinity: there is none."""
        return self._events[0][0] if self._events else math.inf

    def at(self, time: float, do: Callable[..., None], *arguments: Any) -> None:
        """Call ``do`` when it is ``time``; at once, where that is over."""
        self._planned += 1
        heappush(self._events, (max(time, self.now), self._planned, do, arguments))

    def every(self, period: float, first: float, do: Callable[[float], None]) -> None:
        """Call ``do(now)`` at ``first`` and each ``period`` seconds after, for ever."""

        def tick(count: int) -> None:
            do(self.now)
            self.at(first + (count + 1) * period, tick, count + 1)

        self.at(first, tick, 0)

    def step(self) -> None:
        """Go on to the next event, and do it."""
        self.now, _, do, arguments = heappop(self._events)
        do(*arguments)
