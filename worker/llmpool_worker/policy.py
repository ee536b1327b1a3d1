"""What a failure comes to. Pure: chance is a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .backends.base import BackendError, ErrorKind

POSTPONE_MS = 2_000
"""Wait before a full or absent server is asked again, ms, jittered to half as much again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Full jitter (AWS Architecture Blog, "Exponential Backoff and Jitter"): uniform over [0, min(cap, base * 2^n])."""

    max_retries: int
    base_ms: int
    cap_ms: int

    def delay_ms(self, retries: int, chance: float) -> int:
        """Wait before retry number ``retries`` (counted from 0). ``chance``: uniform in [0, 1)."""
        ceiling = min(self.cap_ms, self.base_ms * 2 ** min(retries, 40))
        return int(chance * ceiling)


class Fate(StrEnum):
    """What to do with a job whose attempt failed."""

    RETRY = "retry"
    POSTPONE = "postpone"
    BURY = "bury"


def fate_of(error: BackendError, attempts: int, policy: RetryPolicy, chance: float) -> tuple[Fate, int]:
    """(what to do, delay in ms). ``attempts``: counted failures before this one."""
    match error.kind:
        case ErrorKind.PERMANENT:
            return Fate.BURY, 0
        case ErrorKind.UNAVAILABLE:
            wait = POSTPONE_MS if error.retry_after_s is None else int(error.retry_after_s * 1_000)
            return Fate.POSTPONE, int(wait * (1 + chance / 2))
    if attempts >= policy.max_retries:
        return Fate.BURY, 0
    delay = policy.delay_ms(attempts, chance)
    return Fate.RETRY, delay if error.retry_after_s is None else max(delay, int(error.retry_after_s * 1_000))
