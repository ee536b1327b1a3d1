"""How long what failed is left alone."""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST_PAUSE = 15.0
"""Seconds: an API server that is back finds every pool served within this."""


@dataclass(slots=True)
class Backoff:
    """When a pool that failed is tried again. Times are monotonic seconds."""

    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float, jitter: float) -> None:
        """One more failure: wait twice as long as last time, less up to a half. ``jitter`` is 0..1."""
        pause = min(_LONGEST_PAUSE, 2.0**self.failures)
        self.failures += 1
        self.until = now + pause * (1 - jitter / 2)

    def clear(self) -> None:
        """It went well, or something changed."""
        self.failures, self.until = 0, float("-inf")
