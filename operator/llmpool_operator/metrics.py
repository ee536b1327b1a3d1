"""The operator's Prometheus metrics. No other file knows Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .store import Key
from .targets.base import Size, Turn

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TICK_BUCKETS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)


class Metrics:
    """Fed by the loop after each turn and tick."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("namespace", "pool")
        self._pools = Gauge("llm_operator_pools", "Pools known", registry=self._registry)
        self._decisions = Counter(
            "llm_operator_decisions_total", "Decisions by their reason", ("reason",), registry=self._registry
        )
        self._errors = Counter(
            "llm_operator_errors_total", "Turns and calls that failed, by kind", ("kind",), registry=self._registry
        )
        self._tick = Histogram(
            "llm_operator_tick_seconds", "One pass over all pools", buckets=_TICK_BUCKETS, registry=self._registry
        )
        self._current = Gauge("llm_operator_replicas", "Workers asked for", labels, registry=self._registry)
        self._ready = Gauge("llm_operator_ready_replicas", "Workers ready", labels, registry=self._registry)
        self._desired = Gauge(
            "llm_operator_desired_replicas", "Workers that the metrics ask for", labels, registry=self._registry
        )
        self._rescales = Counter(
            "llm_operator_rescales_total", "Changes of a pool's size", ("direction",), registry=self._registry
        )

    def tick(self, seconds: float, pools: int) -> None:
        """One pass is over."""
        self._tick.observe(seconds)
        self._pools.set(pools)

    def turn(self, key: Key, turn: Turn) -> None:
        """One pool's turn is over."""
        if turn.failure is not None:
            self.error(turn.failure.reason)
        if turn.decision is not None:
            self._decisions.labels(turn.decision.reason).inc()
            self._desired.labels(*key).set(turn.decision.desired)
        if turn.resized is not None:
            before, after = turn.resized
            self._rescales.labels("up" if after > before else "down").inc()
        if isinstance(turn.size, Size):
            self._current.labels(*key).set(turn.size.intended if turn.resized is None else turn.resized[1])
            self._ready.labels(*key).set(turn.size.ready)

    def error(self, kind: str) -> None:
        """Something failed; kinds are few and fixed words."""
        self._errors.labels(kind).inc()

    def forget(self, key: Key) -> None:
        """A pool is gone: its series end."""
        for gauge in (self._current, self._ready, self._desired):
            gauge.remove(*key)

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)
