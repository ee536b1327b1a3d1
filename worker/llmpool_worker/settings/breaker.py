"""When a model or a server that fails is left alone, and for how long."""

from __future__ import annotations

from pydantic import BaseModel, Field

from llmpool_contract import env

from .units import HOUR_MS

_D = env.DEFAULTS


class BreakerSettings(BaseModel):
    """Circuit breakers: one for each model, one for whether the server can be reached."""

    enable_circuit_breaker: bool = bool(_D[env.ENABLE_CIRCUIT_BREAKER])
    """A model that fails isn't asked for a while: its jobs go to their next fallback, or wait at no cost of an
    attempt. `false`: every job is tried"""
    circuit_breaker_threshold: int = Field(default=int(_D[env.CIRCUIT_BREAKER_THRESHOLD]), ge=1, le=10_000)
    """[failures] Failures of a model in a row that open its breaker. A full server, a missing model, refused requests
    and cancelled jobs are no failures"""
    circuit_breaker_timeout: int = Field(default=int(_D[env.CIRCUIT_BREAKER_TIMEOUT]), ge=100, le=24 * HOUR_MS)
    """How long it stays open before a probe, lengthened by up to a tenth, and doubled each time that a probe fails. A
    server that can't be reached is asked sooner: after 5 s at first, and at the latest after this"""
    circuit_breaker_max_timeout: int = Field(default=600_000, ge=100, le=24 * HOUR_MS)
    """The most that doubling makes of it. Never less than `CIRCUIT_BREAKER_TIMEOUT`"""
    circuit_breaker_window: int = Field(default=300_000, ge=0, le=24 * HOUR_MS)
    """[ms] How far back rates are looked at: minutes, since a model answers few calls in one. 0: rates open nothing"""
    circuit_breaker_min_calls: int = Field(default=20, ge=1, le=1_000_000)
    """[calls] Fewer calls than this in the window say nothing"""
    circuit_breaker_failure_rate: float = Field(default=0.5, ge=0.01, le=1)
    """Failures among the window's calls that open it too, where successes in between keep the row short"""
    circuit_breaker_slow_call: int | None = Field(default=None, ge=1, le=24 * HOUR_MS)
    """[ms] A call whose answer begins later than this is slow. Unset: none is, since only you know how long your
    model's load and your longest prompt take"""
    circuit_breaker_slow_rate: float = Field(default=0.8, ge=0.01, le=1)
    """Slow calls among the window's calls that open it, if `CIRCUIT_BREAKER_SLOW_CALL` is set"""
    circuit_breaker_probes: int = Field(default=1, ge=1, le=100)
    """[calls] Calls that may probe at the same time, and must all succeed to close it. One is enough to tell, and more
    would only tie up slots behind a server that may still be ill"""
