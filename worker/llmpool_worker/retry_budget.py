"""How much of the work may be retries. Pure: time is a parameter, monotonic seconds.

When everything fails, retries multiply the load on what is failing already. As in Finagle's ``RetryBudget`` each job
pays a part of a retry in, each retry takes a whole one out, what was paid in expires, and a small rate is free so that
a quiet worker retries too. Counted, not summed: a fifth five times over is exactly one.

Over any time, ``retries <= ratio * jobs + floor * (time + window)``, give or take one bucket of the window. Each worker
keeps its own: what holds for each holds for their sum.
"""

from __future__ import annotations

from enum import IntEnum

from .windows import SlidingCounts

WINDOW_S = 60.0
"""How long what a job paid in is good for, and a retry held against it, seconds."""
_ROUNDING = 1e-9


class _Kind(IntEnum):
    JOB = 0
    RETRY = 1


class RetryBudget:
    """``ratio``: retries per job, 0 to 1. ``floor_per_s``: retries a second that are free."""

    def __init__(self, ratio: float, floor_per_s: float, window_s: float = WINDOW_S) -> None:
        self._ratio, self._free, self._window_s = ratio, floor_per_s * window_s, window_s
        self._counts = SlidingCounts(window_s, kinds=len(_Kind))
        self.refused = 0
        """Retries that had to wait."""

    def deposit(self, now: float) -> None:
        """A job's first attempt begins."""
        self._counts.add(now, _Kind.JOB)

    def allow(self, now: float) -> bool:
        """Whether a retry may begin now; if so, it is taken as begun."""
        if self.balance(now) < 1 - _ROUNDING:
            self.refused += 1
            return False
        self._counts.add(now, _Kind.RETRY)
        return True

    def balance(self, now: float) -> float:
        """Retries that may begin now. Negative where the jobs that paid for them have left the window first."""
        jobs, retries = self._counts.totals(now)
        return self._ratio * jobs + self._free - retries

    def wait_s(self, now: float) -> float:
        """A hint after a refusal: seconds until the oldest retry is forgotten. New jobs may make it shorter."""
        left_s = self._counts.until_fewer(now, _Kind.RETRY)
        return self._window_s if left_s is None else left_s
