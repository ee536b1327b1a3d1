"""What each metric asks for, before all limits (``replica_calculator.go``)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from llmpool_contract.pool import Metric, PrometheusMetric

from .gpu import ceiled, group, utilization_replicas
from .rules import BothRules
from .types import MetricProposal, Missing, Reading


def propose(metric: Metric, reading: Reading, current: int, rules: BothRules) -> MetricProposal:
    """The proposal of one metric. A reading that isn't whole proposes nothing."""
    match metric.type:
        case "QueueDepth":
            assert metric.queue_depth is not None
            return _per_worker(metric, reading, Fraction(metric.queue_depth.average_value), current, rules)
        case "DrainTime":
            return _drain_time(metric, reading, current, rules)
        case "GPUUtilization":
            return _ceiling(metric, reading) if metric.role == "Ceiling" else _gpu(metric, reading, current, rules)
        case "Prometheus":
            assert metric.prometheus is not None
            if metric.prometheus.average_value is not None:
                return _per_worker(metric, reading, Fraction(metric.prometheus.average_value), current, rules)
            return _level(metric, metric.prometheus, reading, current, rules)


def _per_worker(
    metric: Metric, reading: Reading, target: Fraction, current: int, rules: BothRules, of: str = ""
) -> MetricProposal:
    """External with AverageValue: the value is shared by all workers."""
    value = reading.value
    if isinstance(value, Missing):
        return _invalid(metric, reading, target, value)
    replicas = average_value_replicas(value, target, current, rules)
    kept = ", within tolerance" if replicas == current != ceiled(value / target) else ""
    message = f"{metric.type} {show(value)} at {show(target)} a worker{of} asks for {replicas}{kept}"
    return MetricProposal(metric.type, value, target, replicas, message, reading.age)


def _drain_time(metric: Metric, reading: Reading, current: int, rules: BothRules) -> MetricProposal:
    """As many workers as settle the backlog within the time: AverageValue, with what one worker settles as target."""
    assert metric.drain_time is not None
    seconds = Fraction(metric.drain_time.seconds)
    if reading.value == 0:
        message = f"{metric.type}: no work asks for 0"
        return MetricProposal(metric.type, Fraction(0), seconds, 0, message, reading.age)
    if isinstance(reading.rate, Missing):
        missing = reading.value if isinstance(reading.value, Missing) else reading.rate
        return _invalid(metric, reading, seconds, missing)
    target = Fraction(Decimal(repr(reading.rate))) * seconds
    of = f" ({reading.rate:.4g} jobs/s in {show(seconds)} s)"
    return _per_worker(metric, reading, target, current, rules, of)


def _gpu(metric: Metric, reading: Reading, current: int, rules: BothRules) -> MetricProposal:
    """Resource with averageUtilization. Acts once per new sample: what was sampled at another size is waited out."""
    assert metric.gpu_utilization is not None
    percent = metric.gpu_utilization.average_utilization
    target = Fraction(percent)
    if current == 0:  # nothing runs, so nothing is used: only work wakes a pool
        message = f"{metric.type} has no say at 0"
        return MetricProposal(metric.type, reading.value, target, None, message, reading.age, asks=False)
    if isinstance(reading.pods, Missing):
        return _invalid(metric, reading, target, reading.pods)
    fresh = group(reading.pods, since=reading.scaled_at)
    if not fresh.samples and group(reading.pods).samples:
        message = f"{metric.type} asks for {current}: it waits for a sample that was taken after the last change"
        return MetricProposal(metric.type, reading.value, target, current, message, reading.age)
    replicas = utilization_replicas(fresh, percent, current, rules)
    if isinstance(replicas, Missing):
        return _invalid(metric, reading, target, replicas)
    assert fresh.average is not None
    message = f"{metric.type} {show(fresh.average)} % at {percent} % asks for {replicas}{_others(reading)}"
    return MetricProposal(metric.type, fresh.average, target, replicas, message, reading.age)


def _others(reading: Reading) -> str:
    assert not isinstance(reading.pods, Missing)
    groups = group(reading.pods, since=reading.scaled_at)
    told = [f"{count} {word}" for count, word in ((groups.missing, "missing"), (groups.unready, "unready")) if count]
    return f" (pods: {len(groups.samples)} sampled, {', '.join(told)})" if told else ""


def _ceiling(metric: Metric, reading: Reading) -> MetricProposal:
    """Asks for nothing; above its target the pool may not grow. Missing, it forbids nothing."""
    assert metric.gpu_utilization is not None
    target = Fraction(metric.gpu_utilization.average_utilization)
    value = reading.value
    if isinstance(value, Missing):
        message = f"{metric.type} (Ceiling) is missing, so it forbids nothing: {value.reason}"
        return MetricProposal(metric.type, value, target, None, message, asks=False)
    above = value > target
    message = f"{metric.type} (Ceiling) {show(value)} % at {show(target)} % {'forbids' if above else 'allows'} to grow"
    return MetricProposal(metric.type, value, target, None, message, reading.age, asks=False, forbids_growth=above)


def _level(metric: Metric, block: PrometheusMetric, reading: Reading, current: int, rules: BothRules) -> MetricProposal:
    """External with Value: the ratio times the ready pods."""
    assert block.value is not None
    target, value = Fraction(block.value), reading.value
    if isinstance(value, Missing):
        return _invalid(metric, reading, target, value)
    replicas = value_replicas(value, target, current, reading.ready, rules)
    if isinstance(replicas, Missing):
        return _invalid(metric, reading, target, replicas)
    message = f"{metric.type} {show(value)} at {show(target)} asks for {replicas}"
    return MetricProposal(metric.type, value, target, replicas, message, reading.age)


def _invalid(metric: Metric, reading: Reading, target: Fraction, why: Missing) -> MetricProposal:
    value = reading.value if isinstance(reading.value, Missing) else why
    return MetricProposal(metric.type, value, target, None, f"{metric.type} is missing: {why.reason}")


def average_value_replicas(value: Fraction, target: Fraction, current: int, rules: BothRules) -> int:
    """GetExternalPerPodMetricReplicas: within tolerance ``current``, else ``ceil(value / target)``.

    The tolerance compares floats, as HPA does; at 0 replicas there is none.
    """
    if current > 0 and rules.tolerates(float(value / (target * current))):
        return current
    return ceiled(value / target)


def value_replicas(
    value: Fraction, target: Fraction, current: int, ready: int | Missing, rules: BothRules
) -> int | Missing:
    """GetExternalMetricReplicas: at 0 ``ceil(ratio)``; within tolerance ``current``; else ratio times ready pods."""
    if current == 0:
        return ceiled(value / target)
    ratio = float(value / target)
    if rules.tolerates(ratio):
        return current
    return ready if isinstance(ready, Missing) else ceiled(ratio * ready)


def show(value: Fraction) -> str:
    """A number for people: whole ones without a point."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"
