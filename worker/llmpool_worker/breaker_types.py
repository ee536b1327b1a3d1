"""What circuit breakers are told, and what they tell. Times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

JITTER = 0.1
"""By which part of itself an open time is lengthened at most, so that workers don't probe in step. Never shortened."""


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long. Durations in seconds, rates from 0 to 1; None: that rule is off."""

    threshold: int = 5
    """Failures in a row that open it."""
    open_s: float = 60.0
    open_max_s: float = 600.0
    """Each opening without a close in between is twice as long as the last, up to this."""
    window_s: float | None = 300.0
    min_calls: int = 20
    """Fewer in the window than this say nothing."""
    failure_rate: float = 0.5
    slow_call_s: float | None = None
    slow_rate: float = 0.8
    probes: int = 1
    """Calls that may be under way while half-open, and must all be good."""
    probe_max_age_s: float = 3_600.0
    """After this a probe counts as lost, and its place is free. Longer than any call may take."""

    def open_time_s(self, reopenings: int, chance: float) -> float:
        """How long to stay open. ``chance``: uniform in [0, 1)."""
        grown = self.open_s * 2.0 ** min(reopenings, 40)
        return min(grown, max(self.open_s, self.open_max_s)) * (1 + JITTER * chance)

    def judged(self, duration_s: float) -> Outcome:
        """A success that took so long."""
        slow = self.slow_call_s is not None and duration_s > self.slow_call_s
        return Outcome.SLOW if slow else Outcome.SUCCESS


class State(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    """By somebody's hand, until that hand lets go."""


class Outcome(IntEnum):
    """How a call ended, for a breaker. The first three are also what its window counts."""

    SUCCESS = 0
    SLOW = 1
    """A success that took too long."""
    FAILURE = 2
    IGNORED = 3
    """Says nothing of the server: cancelled, filtered, refused, or turned away because it was full."""


@dataclass(frozen=True, slots=True)
class Open:
    """No call may begin now. ``until``: when to ask again, monotonic seconds."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a breaker knows, to be shown. None: there is nothing to tell it by."""

    state: State
    reason: str
    """Why it isn't closed; empty where it is."""
    consecutive: int
    """Failures since the last success."""
    calls: int | None
    """Within the window; None: none is kept."""
    failure_rate: float | None
    slow_rate: float | None
    wait_s: float | None
    """Until a probe may go."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls within a window, by how they ended."""

    calls: int
    failed: int
    slow: int

    @classmethod
    def of(cls, totals: Sequence[int]) -> Tally:
        """From counts by outcome."""
        good, slow, failed = totals
        return cls(good + slow + failed, failed, slow)
