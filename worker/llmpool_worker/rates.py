"""Rates over the last minute. Pure: time is a parameter, monotonic seconds."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0


class Rate:
    """Sums what happened per second of the window, in one bucket a second."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, float]] = deque()
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """Work has begun that will add something: the first amount must not be divided by no time."""
        if self._since is None:
            self._since = now

    def add(self, now: float, amount: float) -> None:
        """Something happened."""
        self.begin(now)
        second = int(now)
        if self._buckets and self._buckets[-1][0] == second:
            self._buckets[-1] = (second, self._buckets[-1][1] + amount)
        else:
            self._buckets.append((second, amount))
        self._forget(now)

    def per_second(self, now: float) -> float | None:
        """Mean over the window, or over the time since work began; None: none has yet."""
        if self._since is None:
            return None
        self._forget(now)
        span = max(1.0, min(WINDOW_S, now - self._since))
        return round(sum(amount for _, amount in self._buckets) / span, 3)

    def _forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] < now - WINDOW_S:
            self._buckets.popleft()
