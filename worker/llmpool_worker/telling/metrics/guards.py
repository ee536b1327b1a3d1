"""Guards: breakers, retry budget, cache, content rules, saturation."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from llmpool_worker.telling.events import BreakerChange

from .labels import MOST_RULES, NAN, FirstLabels, KnownLabels

SERVER = "(server)"
"""The model label of a breaker for the whole model server."""
_STATES = {"closed": 0, "half_open": 1, "open": 2}


class GuardMetrics:
    """What keeps the pool, its users and its server from harm, and how often it had to."""

    def __init__(self, registry: CollectorRegistry, models: KnownLabels) -> None:
        self._models, self._rules = models, FirstLabels(most=MOST_RULES)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"llm_worker_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"llm_worker_{name}", text, labels, registry=registry)

        self._state = gauge("breaker_state", "0 closed, 1 half-open, 2 open.", "model")
        self._failures = gauge(
            "breaker_failure_ratio", "Failures among a breaker's latest calls, 0..1; no series: too few calls.", "model"
        )
        self._changes = counter("breaker_transitions", "By the state that was entered.", "model", "state")
        self._refusals = counter("breaker_refusals", "Attempts that an open breaker didn't let through.", "model")
        self._budget = gauge("retry_budget_ratio", "What is left of the pool's retry budget, 0..1.")
        self._budget.set(NAN)
        self._no_budget = counter("retries_refused", "Retries that the pool's budget had no room for.", "queue")
        self._cache = counter("cache_lookups", "By what came of them: hit, miss or error.", "result")
        self._verdicts = counter("filter_verdicts", "Content rules that matched.", "rule", "action", "side")
        self._limit = gauge("saturation_limit", "Jobs that the saturation gate lets run at once.")
        self._limit.set(NAN)

    def breaker_changed(self, change: BreakerChange) -> None:
        """A breaker took another state."""
        model = self._breaker(change.model)
        self._changes.labels(model, change.state).inc()
        self._state.labels(model).set(_STATES[change.state])
        self.breaker_rate(change.model, change.failure_ratio)

    def breaker_rate(self, model: str | None, failure_ratio: float | None) -> None:
        """The share of a breaker's latest calls that failed, 0..1; None: too few calls to say."""
        label = self._breaker(model)
        if failure_ratio is not None:
            self._failures.labels(label).set(failure_ratio)
        else:
            self._failures.remove(label)

    def breaker_refused(self, model: str | None) -> None:
        """An attempt wasn't made."""
        self._refusals.labels(self._breaker(model)).inc()

    def retry_budget(self, left: float) -> None:
        """What is left of it, 0..1."""
        self._budget.set(left)

    def retry_refused(self, queue: str) -> None:
        """The budget had no room for a retry."""
        self._no_budget.labels(queue).inc()

    def cache(self, result: str, answers: int = 1) -> None:
        """Lookups and what was kept: hit, miss, stored, too_large, full or error."""
        self._cache.labels(result).inc(answers)

    def rule_matched(self, rule: str, action: str, side: str) -> None:
        """A content rule's verdict. ``action``: block, redact, flag, shadow; ``side``: input or output."""
        self._verdicts.labels(self._rules.of(rule), action, side).inc()

    def saturation(self, limit: int) -> None:
        """How many jobs the gate lets run."""
        self._limit.set(limit)

    def _breaker(self, model: str | None) -> str:
        return SERVER if model is None else self._models.of(model)
