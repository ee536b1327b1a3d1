"""Breakers' changes, to metrics, logs and channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import structlog

from llmpool_worker.breaker_types import State
from llmpool_worker.breakers import Key

from .channels import Channels
from .events import BreakerChange, BreakerState
from .metrics import Metrics

log = structlog.get_logger()


def tell_of_breakers(metrics: Metrics, channels: Channels) -> Callable[[Key, State, str], None]:
    """A callback for each new state."""

    def changed(key: Key, state: State, reason: str) -> None:
        shown = "open" if state is State.FORCED_OPEN else state.value
        change = BreakerChange(key.model, cast("BreakerState", shown), None)
        metrics.guards.breaker_changed(change)
        channels.breaker_changed(change)
        say = log.info if state is State.CLOSED else log.warning
        say("breaker", model=key.model, state=state.value, reason=reason)

    return changed
