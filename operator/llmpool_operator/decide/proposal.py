"""What each metric asks for, before all limits (``replica_calculator.go``, GetExternalPerPodMetricReplicas)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from llmpool_contract.pool import Metric, Queue

from .rules import BothRules
from .types import MetricProposal, Missing, Observation

MAX_INT32 = 2_147_483_647
"""HPA's bound on a proposal."""


def propose(
    metric: Metric, queues: Sequence[Queue], seen: Observation, current: int, rules: BothRules
) -> MetricProposal:
    """The proposal of one metric. A reading that isn't whole proposes nothing."""
    target = Fraction(metric.queue_depth.average_value)
    value = weighted_backlog(queues, seen)
    if isinstance(value, Missing):
        return MetricProposal(metric.type, value, target, None, f"{metric.type} is missing: {value.reason}")
    replicas = average_value_replicas(value, target, current, rules)
    kept = ", within tolerance" if replicas == current != _ceil(value / target) else ""
    message = f"{metric.type} {show(value)} at {show(target)} a worker asks for {replicas}{kept}"
    return MetricProposal(metric.type, value, target, replicas, message)


def weighted_backlog(queues: Sequence[Queue], seen: Observation) -> Fraction | Missing:
    """Jobs that wait, are due or are in flight, each times its queue's weight.

    Exact, so that five jobs of weight 0.2 are one job and not a little more. One queue unknown: all unknown.
    """
    total = Fraction(0)
    for queue in queues:
        reading = seen.queues.get(queue.name, Missing("not read"))
        if isinstance(reading, Missing):
            return Missing(f"queue {queue.name}: {reading.reason}")
        total += Fraction(queue.weight) * reading.work
    return total


def average_value_replicas(value: Fraction, target: Fraction, current: int, rules: BothRules) -> int:
    """An External metric's AverageValue rule: within tolerance ``current``, else ``ceil(value / target)``.

    The tolerance compares floats, as HPA does; at 0 replicas there is none.
    """
    if current > 0:
        ratio = float(value / (target * current))
        if 1.0 - rules.down.tolerance <= ratio <= 1.0 + rules.up.tolerance:
            return current
    return _ceil(value / target)


def _ceil(value: Fraction) -> int:
    return min(math.ceil(value), MAX_INT32)


def show(value: Fraction) -> str:
    """A number for people: whole ones without a point."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"
