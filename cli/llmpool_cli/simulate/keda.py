"""KEDA's ScaledObject with a ``redis`` trigger: it goes from 0 to 1 and back, an HPA does the rest."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from llmpool_contract.pool import Scaling

from .deployment import scale_deployment
from .hpa import HpaRules
from .terms import PeerTerms
from .world import World


class KedaPolicy:
    """KEDA as it is installed: activation at any length above 0, no caching of metrics."""

    def __init__(self, scaling: Scaling, target: Fraction, terms: PeerTerms) -> None:
        self._min = scaling.min_replicas
        self._least = max(scaling.min_replicas, 1)
        """minReplicas of the HPA that KEDA makes: never 0."""
        self._rules = HpaRules(scaling, target, self._least)
        self._terms = terms
        self._active_at: float | None = None
        """When a poll last saw a job."""

    def begin(self, world: World, phase: Callable[[float], float]) -> None:
        """``minReplicaCount`` are there already; polls and syncs come each by their own period."""
        world.start(self._min, ready=True)
        world.clock.every(self._terms.keda_poll, phase(self._terms.keda_poll), lambda now: self._poll(world, now))
        world.clock.every(self._terms.hpa_sync, phase(self._terms.hpa_sync), lambda now: self._sync(world, now))

    def _poll(self, world: World, now: float) -> None:
        """One turn of the scale loop (``scale_scaledobjects.go``, RequestScale)."""
        current = world.intended
        if self._value(world) > 0:
            self._active_at = now
            if current == 0:
                scale_deployment(world, self._least, self._terms.grace)
        elif current > 0 and self._min == 0 and self._has_cooled_down(now):
            scale_deployment(world, 0, self._terms.grace)

    def _has_cooled_down(self, now: float) -> bool:
        return self._active_at is None or now - self._active_at > self._terms.keda_cooldown

    def _sync(self, world: World, now: float) -> None:
        """One sync of the HPA, which asks KEDA for the length as it is now. At 0 replicas it is disabled."""
        current = world.intended
        if current > 0:
            scale_deployment(world, self._rules.size(current, self._value(world), now), self._terms.grace)

    def _value(self, world: World) -> int:
        """LLEN: jobs that workers have claimed aren't in the list any more."""
        return len(world.waiting) + (world.in_flight + world.lost if self._terms.count_in_flight else 0)
