"""The rule for utilisation per pod (``replica_calculator.go``, GetResourceReplicas, with a request of 100 % each)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from .rules import BothRules
from .types import MAX_INT32, Missing, PodReading

_ALL_OF_IT = 100
"""Percent that a pod without a sample is taken to use when the others would make the pool shrink."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods as HPA groups them."""

    samples: tuple[Fraction, ...]
    """Percent, of ready pods."""
    missing: int
    """Ready pods without a sample."""
    unready: int
    """Pods that aren't ready. Their samples don't count."""

    @property
    def average(self) -> Fraction | None:
        """Percent. None: there is no sample."""
        return sum(self.samples, Fraction(0)) / len(self.samples) if self.samples else None


def group(pods: Sequence[PodReading], *, since: float | None = None) -> Groups:
    """Group them; a sample that wasn't taken after ``since`` is none."""
    ready = [pod for pod in pods if pod.ready]
    samples = tuple(
        Fraction(Decimal(repr(pod.gpu_percent)))
        for pod in ready
        if pod.gpu_percent is not None and _is_sane(pod.gpu_percent) and _is_after(pod.sampled_at, since)
    )
    return Groups(samples, missing=len(ready) - len(samples), unready=len(pods) - len(ready))


def utilization_replicas(groups: Groups, target: int, current: int, rules: BothRules) -> int | Missing:
    """What the samples ask for.

    Pods of which nothing is known count against the move that the others ask for: on the way up as idle, on the way
    down as busy. A move that they turn round is none.
    """
    samples, missing, unready = list(groups.samples), groups.missing, groups.unready
    if not samples:
        return Missing("no ready pod has a sample" if missing or unready else "there are no pods")
    ratio = _ratio(samples, target)
    up_with_unready = unready > 0 and ratio > 1
    if not up_with_unready and not missing:
        return current if rules.tolerates(ratio) else ceiled(ratio * len(samples))
    if ratio < 1:
        samples += [Fraction(max(_ALL_OF_IT, target))] * missing
    elif ratio > 1:
        samples += [Fraction(0)] * (missing + unready)
    again = _ratio(samples, target)
    if rules.tolerates(again) or (ratio < 1 < again) or (again < 1 < ratio):
        return current
    replicas = ceiled(again * len(samples))
    if (again < 1 and replicas > current) or (again > 1 and replicas < current):
        return current
    return replicas


def _ratio(samples: Sequence[Fraction], target: int) -> float:
    """HPA cuts the average to whole percent before it compares."""
    return (sum(samples, Fraction(0)) // len(samples)) / target


def ceiled(value: Fraction | float) -> int:
    """A proposal in whole workers, within HPA's bound."""
    return min(math.ceil(value), MAX_INT32)


def _is_sane(percent: float) -> bool:
    return math.isfinite(percent) and percent >= 0


def _is_after(sampled_at: float | None, since: float | None) -> bool:
    return since is None or (sampled_at is not None and sampled_at > since)
