"""From an observation to what each metric is computed from. Absurd numbers are Missing, never negative sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from llmpool_contract.pool import Metric, Queue

from .gpu import group
from .types import History, Missing, Observation, PodReading, Reading, Wanted

_MOST = Fraction(2**63 - 1, 1000)
"""HPA counts in thousandths, in an int64: no number is larger."""


def readings(spec: Wanted, seen: Observation, history: History, now: float) -> tuple[Reading, ...]:
    """One reading for each of the pool's metrics, in their order. ``now`` is what ages are measured from."""
    return tuple(_reading(metric, spec.queues, seen, history, now) for metric in spec.scaling.metrics)


def _reading(metric: Metric, queues: Sequence[Queue], seen: Observation, history: History, now: float) -> Reading:
    age = max(0.0, now - seen.at)
    match metric.type:
        case "QueueDepth":
            return Reading(weighted_backlog(queues, seen), age)
        case "DrainTime":
            return Reading(weighted_backlog(queues, seen), age, rate=known_rate(seen, history))
        case "GPUUtilization":
            return gpu_reading(seen.pods, None if metric.role == "Ceiling" else history.scaled_at, now)
        case "Prometheus":
            assert metric.prometheus is not None
            query = metric.prometheus.query
            asked = max(0.0, now - seen.queried_at.get(query, seen.at))
            return Reading(sane(seen.queries.get(query, Missing("not read"))), asked, ready=ready_pods(seen))


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
    return sane(total)


def known_rate(seen: Observation, history: History) -> float | Missing:
    """The rate now, else the last known one."""
    if not isinstance(seen.rate, Missing) and is_rate(seen.rate):
        return seen.rate
    if history.rate is not None:
        return history.rate
    return seen.rate if isinstance(seen.rate, Missing) else Missing(f"a rate of {seen.rate:g} jobs/s is none")


def is_rate(rate: float) -> bool:
    """Whether a number can be jobs per second."""
    return math.isfinite(rate) and rate > 0


def gpu_reading(pods: tuple[PodReading, ...] | Missing, scaled_at: float | None, now: float) -> Reading:
    """The average percent of the samples that count: of ready pods, taken after the size last changed."""
    if isinstance(pods, Missing):
        return Reading(pods, pods=pods, scaled_at=scaled_at)
    average = group(pods, since=scaled_at).average
    if average is None:
        average = group(pods).average  # old ones: still worth being told
    times = [pod.sampled_at for pod in pods if pod.ready and pod.gpu_percent is not None and pod.sampled_at is not None]
    return Reading(
        Missing("no ready pod has a sample" if pods else "there are no pods") if average is None else average,
        max(0.0, now - min(times)) if times else None,
        pods=pods,
        scaled_at=scaled_at,
    )


def ready_pods(seen: Observation) -> int | Missing:
    """How many are ready: by the pods, else by what the target counts. None at all is no answer, as in HPA."""
    if not isinstance(seen.pods, Missing):
        return sum(pod.ready for pod in seen.pods) if seen.pods else Missing("there are no pods")
    if isinstance(seen.ready, Missing):
        return Missing(f"the ready pods can't be counted: {seen.ready.reason}")
    return seen.ready


def sane(value: Fraction | Missing) -> Fraction | Missing:
    """Refuse what is below zero; hold at HPA's largest number what is above it."""
    if isinstance(value, Missing) or 0 <= value <= _MOST:
        return value
    return _MOST if value > 0 else Missing(f"a value below zero: {float(value):.6g}")
