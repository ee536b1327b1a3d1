"""What keeps a worker from doing harm, made from its settings: breakers, chains of models, retry budget, gate."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from .breaker_types import BreakerRules, State
from .breakers import Breakers, Key
from .retry_budget import RetryBudget
from .routing import Chains
from .saturation import Limits, SaturationGate
from .settings import Settings

PROBE_GRACE_S = 60.0
"""How much longer than a job may run a probe is believed to be under way, seconds."""


def make_breakers(s: Settings, changed: Callable[[Key, State, str], None]) -> Breakers:
    """One for each model and server. ``changed`` hears of every new state, with its reason."""
    return Breakers(make_breaker_rules(s), random.random, changed, enabled=s.enable_circuit_breaker)


def make_breaker_rules(s: Settings) -> BreakerRules:
    """A model's; the registry makes a server's of them."""
    return BreakerRules(
        threshold=s.circuit_breaker_threshold,
        open_s=s.circuit_breaker_timeout / 1_000,
        open_max_s=s.circuit_breaker_max_timeout / 1_000,
        window_s=s.circuit_breaker_window / 1_000 or None,
        min_calls=s.circuit_breaker_min_calls,
        failure_rate=s.circuit_breaker_failure_rate,
        slow_call_s=_seconds(s.circuit_breaker_slow_call),
        slow_rate=s.circuit_breaker_slow_rate,
        probes=s.circuit_breaker_probes,
        probe_max_age_s=s.worker_timeout / 1_000 + PROBE_GRACE_S,
    )


def make_chains(s: Settings) -> Chains:
    """Which models a job may be asked of."""
    return Chains(s.fallbacks, s.allowed)


def make_retry_budget(s: Settings) -> RetryBudget:
    """How much of the work may be retries."""
    return RetryBudget(s.retry_budget, s.retry_budget_floor)


def make_gate(s: Settings) -> SaturationGate:
    """How many jobs run at once while the server is busy with others."""
    limits = Limits(_seconds(s.saturation_slot_wait), _seconds(s.saturation_first_token), s.saturation_waiting)
    return SaturationGate(limits, s.worker_concurrency)


async def watch_waiting(s: Settings, told: Callable[[int | None], None]) -> None:
    """Ask the model server now and then how many requests wait in it, until cancelled. ``told`` hears each answer.
    Returns at once where nobody wants to know."""
    if s.saturation_waiting is None or s.backend == "echo":
        return
    from .backends.http import HttpServer
    from .waiting_poll import WaitingPoll, exposition_of

    # Connections of its own: those of the jobs may all be in use, just when this is asked.
    server = HttpServer(s.ollama_base_url, connect_timeout_s=s.ollama_connect_timeout / 1_000, connections=1)
    async with aclosing(server):
        await WaitingPoll(partial(exposition_of, server), told).run()


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1_000
