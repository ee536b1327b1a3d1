"""A HorizontalPodAutoscaler on the queue's length: an External metric with an AverageValue, through an adapter.

The rules are those of Kubernetes 1.37 (``horizontal.go``, ``replica_calculator.go``). Where the pool gives a
``behavior``, it counts here too, by the operator's own functions, which are HPA's. Where it gives none, HPA has older
rules, which only this file has.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from llmpool_contract.pool import Scaling
from llmpool_operator.decide import record_scale, rules_of, settle_size
from llmpool_operator.decide.proposal import average_value_replicas
from llmpool_operator.decide.rules import DOWN_WINDOW
from llmpool_operator.decide.types import Bounds, History

from .deployment import scale_deployment
from .terms import PeerTerms
from .world import World

_UP_FACTOR, _UP_AT_LEAST = 2, 4
"""Without a behavior a step up ends at twice the size, or at 4 (scaleUpLimitFactor, scaleUpLimitMinimum)."""


class HpaRules:
    """One HPA: what it makes of a metric's value. It remembers what it proposed."""

    def __init__(self, scaling: Scaling, target: Fraction, lower: int) -> None:
        """``target``: what one pod should have of the metric. ``lower``: its minReplicas."""
        self._scaling = scaling
        self._target = target
        self._lower = lower
        self._rules = rules_of(scaling.behavior)
        """Of these only the tolerance, 0.1 unless given, is used where there is no behavior."""
        self._history = History()
        self._proposals: list[tuple[float, int]] = []

    def size(self, current: int, value: int, now: float) -> int:
        """One sync, of an HPA that isn't disabled."""
        if not self._lower <= current <= self._scaling.max_replicas:
            return min(max(current, self._lower), self._scaling.max_replicas)
        desired = average_value_replicas(Fraction(value), self._target, current, self._rules)
        if self._scaling.behavior is None:
            return self._limited(current, self._stabilized(current, desired, now))
        bounds = Bounds(self._lower, self._scaling.max_replicas)
        settled = settle_size(self._scaling, current, desired, self._history, now, bounds=bounds)
        self._history = record_scale(settled.history, now, settled.replicas - current)
        return settled.replicas

    def _stabilized(self, current: int, desired: int, now: float) -> int:
        """The highest proposal of the window (stabilizeRecommendation); the first sync takes the size for one."""
        if not self._proposals:
            self._proposals.append((now, current))
        self._proposals = [(at, n) for at, n in self._proposals if now - at <= DOWN_WINDOW]
        self._proposals.append((now, desired))
        return max(n for _, n in self._proposals)

    def _limited(self, current: int, wanted: int) -> int:
        """Bounds, and at most twice the size or 4 (convertDesiredReplicasWithRules)."""
        fastest = max(_UP_FACTOR * current, _UP_AT_LEAST)
        return max(min(wanted, fastest, self._scaling.max_replicas), self._lower)


class HpaPolicy:
    """HPA as it is installed."""

    def __init__(self, scaling: Scaling, target: Fraction, terms: PeerTerms) -> None:
        self._lower = scaling.min_replicas if terms.hpa_zero else max(scaling.min_replicas, 1)
        self._rules = HpaRules(scaling, target, self._lower)
        self._terms = terms

    def begin(self, world: World, phase: Callable[[float], float]) -> None:
        """Its minReplicas are there already; a sync each period."""
        world.start(self._lower, ready=True)

        def sync(now: float) -> None:
            value = late_value(world, self._terms)
            scale_deployment(world, self._rules.size(world.intended, value, now), self._terms.grace)

        world.clock.every(self._terms.hpa_sync, phase(self._terms.hpa_sync), sync)


def late_value(world: World, terms: PeerTerms) -> int:
    """What the adapter says: the queue as it was ``hpa_lag`` seconds ago, to the second."""
    seconds = world.record.seconds
    second = seconds[max(min(int(world.clock.now - terms.hpa_lag), len(seconds) - 1), 0)]
    return second.waiting + (second.in_flight if terms.count_in_flight else 0)
