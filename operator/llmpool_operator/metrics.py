"""The operator's Prometheus metrics. No other file but :mod:`.pool_series` knows Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llmpool_contract.pool import LLMWorkerPoolSpec

from .pool_series import PoolCollector
from .store import Key
from .targets.base import Turn
from .version import own_version

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHORT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_PERIODS = (0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 5, 10, 30)


class Metrics:
    """Fed by the loop after each turn and tick. ``clock`` gives Unix seconds, that of the turns."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = registry = CollectorRegistry()
        self._pools = Gauge("llm_operator_pools", "Pools known", registry=registry)
        self._leader = Gauge("llm_operator_leader", "1 while this process leads, else 0", registry=registry)
        self._decisions = _ByLabel("llm_operator_decisions_total", "Decisions by their reason", "reason", registry)
        self._rescales = _ByLabel("llm_operator_rescales_total", "Changes of a pool's size", "direction", registry)
        self._given_up = Counter(
            "llm_operator_drains_given_up_total",
            "Workers let go with their time to drain over: what they still ran goes back to the queue",
            registry=registry,
        )
        self._errors = _ByLabel("llm_operator_errors_total", "Turns and calls that failed, by kind", "kind", registry)
        self._events = _ByLabel(
            "llm_operator_events_total", "Kubernetes Events by what became of them", "outcome", registry
        )
        self._period = _seconds(
            "llm_operator_sync_period_seconds", "Between two decisions of one pool, seconds", _PERIODS, registry
        )
        self._turn = _seconds(
            "llm_operator_reconcile_seconds", "One pool's turn, its reading included, seconds", _SHORT, registry
        )
        self._tick = _seconds("llm_operator_tick_seconds", "One round over all pools, seconds", _SHORT, registry)
        self._round = Gauge(
            "llm_operator_round_period_seconds",
            "What a round over all pools is spread over, seconds: a tick, or longer where there are too many",
            registry=registry,
        )
        self._read = _seconds(
            "llm_operator_redis_read_seconds", "One reading of a Redis for all its pools, seconds", _SHORT, registry
        )
        self._calls = Counter(
            "llm_operator_api_requests_total",
            "Calls to the API server; code 0: no answer",
            ("verb", "resource", "code"),
            registry=registry,
        )
        self._series = PoolCollector(clock)
        registry.register(self._series)
        info = Gauge("llm_operator_info", "1, with what this operator is", ("version",), registry=registry)
        info.labels(own_version()).set(1)

    def round(self, seconds: float, period: float, pools: int) -> None:
        """One round is over: it took so long, of the period that it is spread over."""
        self._tick.observe(seconds)
        self._round.set(period)
        self._pools.set(pools)

    def turn(self, key: Key, turn: Turn, seconds: float | None = None, spec: LLMWorkerPoolSpec | None = None) -> None:
        """One pool's turn is over. ``seconds``: what it took, if measured; ``spec``: its spec, if it can be read."""
        if seconds is not None:
            self._turn.observe(seconds)
        if turn.failure is not None:
            self.error(turn.failure.reason)
        if turn.decision is not None:
            self._decisions.inc(turn.decision.reason)
        if turn.resized is not None:
            before, after = turn.resized
            self._rescales.inc("up" if after > before else "down")
        self._given_up.inc(turn.given_up)
        period = self._series.of(key).take(turn, spec)
        if period is not None:
            self._period.observe(period)

    def leads(self, leading: Callable[[], bool]) -> None:
        """Whom to ask whether this process leads, at each scrape."""
        self._leader.set_function(leading)

    def error(self, kind: str) -> None:
        """Something failed; kinds are few and fixed words."""
        self._errors.inc(kind)

    def event(self, outcome: str, count: int = 1) -> None:
        """Events that were ``sent``, ``failed``, or ``dropped`` as too many."""
        self._events.inc(outcome, count)

    def api_call(self, verb: str, resource: str, code: int) -> None:
        """A call to the API server has ended. ``resource`` may have a subresource after a ``/``."""
        self._calls.labels(verb, resource, str(code)).inc()

    def redis_read(self, seconds: float) -> None:
        """One reading of a Redis is over, well or not."""
        self._read.observe(seconds)

    def forget(self, key: Key) -> None:
        """A pool is gone: its series end."""
        self._series.forget(key)

    def render(self) -> bytes:
        """The text format. Takes a while with thousands of pools, and may be called from a thread."""
        return generate_latest(self.registry)


class _ByLabel:
    """A counter with one label, whose children are looked up in a plain dict: it is fed thousands of times a second."""

    def __init__(self, name: str, help_text: str, label: str, registry: CollectorRegistry) -> None:
        self._counter = Counter(name, help_text, (label,), registry=registry)
        self._children: dict[str, Counter] = {}

    def inc(self, value: str, count: int = 1) -> None:
        child = self._children.get(value)
        if child is None:
            child = self._children[value] = self._counter.labels(value)
        child.inc(count)


def _seconds(name: str, help_text: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(name, help_text, buckets=buckets, registry=registry)
