"""Calls to Redis that failed: each counted, and told without drowning what else there is to tell."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from .metrics import Metrics

log = structlog.get_logger()

QUIET_S = 10.0
"""After a line about one purpose, its further failures are only counted, seconds."""

Failed = Callable[[Exception], None]


class Troubles:
    """One per process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def of(self, purpose: str) -> Failed:
        """A callback for one purpose (claim, renew, ...)."""

        def failed(error: Exception) -> None:
            self._metrics.redis_errors.labels(purpose).inc()
            self._tell(purpose, error, time.monotonic())

        return failed

    def _tell(self, purpose: str, error: Exception, now: float) -> None:
        self._since[purpose] = self._since.get(purpose, 0) + 1
        if now - self._told.get(purpose, -QUIET_S) < QUIET_S:
            return
        # Redis' own words name hosts, keys and commands, never values.
        told = f"{type(error).__name__}: {error}"[:200]
        log.warning("redis_call_failed", purpose=purpose, error=told, failures=self._since.pop(purpose))
        self._told[purpose] = now
