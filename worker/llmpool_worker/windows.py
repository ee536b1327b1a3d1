"""Counts over a sliding span of time. Pure: time is a parameter, monotonic seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

BUCKETS = 60
"""Of a span. Its length is exact to one of these, and the memory stays the same however much happens."""


class SlidingCounts:
    """How often each kind of thing happened within the last ``span_s`` seconds. Kinds are numbers below ``kinds``.

    A bucket leaves whole: at ``now`` those count whose number, ``floor(at / width)``, is among the last
    :data:`BUCKETS` up to the one of ``now``.
    """

    def __init__(self, span_s: float, kinds: int) -> None:
        self._width_s, self._kinds = span_s / BUCKETS, kinds
        self._buckets: deque[tuple[int, list[int]]] = deque()
        self._totals = [0] * kinds

    def add(self, now: float, kind: int) -> None:
        """It happened once. A clock that steps back adds to the newest bucket."""
        number = self._forget(now)
        if not self._buckets or self._buckets[-1][0] < number:
            self._buckets.append((number, [0] * self._kinds))
        self._buckets[-1][1][kind] += 1
        self._totals[kind] += 1

    def totals(self, now: float) -> Sequence[int]:
        """Each kind's count. Valid until the next call."""
        self._forget(now)
        return self._totals

    def until_fewer(self, now: float, kind: int) -> float | None:
        """Seconds until the first of this kind leaves. None: there is none."""
        self._forget(now)
        oldest = next((number for number, counts in self._buckets if counts[kind]), None)
        return None if oldest is None else max(0.0, (oldest + BUCKETS) * self._width_s - now)

    def clear(self) -> None:
        """Nothing has happened."""
        self._buckets.clear()
        self._totals = [0] * self._kinds

    def _forget(self, now: float) -> int:
        number = int(now // self._width_s)
        while self._buckets and self._buckets[0][0] <= number - BUCKETS:
            _, gone = self._buckets.popleft()
            self._totals = [total - left for total, left in zip(self._totals, gone, strict=True)]
        return number
