"""The same cases through our code and through HPA's rules stated a second time, from Kubernetes 1.37's Go source.

The second statement is written the Go way on purpose: int32, floats, one loop per function, no sharing with ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmpool_contract.pool import Behavior, Scaling
from llmpool_operator.decide import rules_of, settle_size
from llmpool_operator.decide.gpu import group, utilization_replicas
from llmpool_operator.decide.proposal import average_value_replicas, value_replicas
from llmpool_operator.decide.types import History, Missing, PodReading, Recommendation, ScaleEvent

NOW = 1_000_000.0
MAX_INT32, MIN_INT32 = 2**31 - 1, -(2**31)


@dataclass
class GoRules:
    """HPAScalingRules after defaults.go."""

    window: int
    select: str
    policies: list[tuple[str, int, int]]
    tolerance: float


def go_defaults(behavior: dict[str, Any]) -> tuple[GoRules, GoRules]:
    """SetDefaults_HorizontalPodAutoscalerBehavior, and the controller's own flags."""
    up = GoRules(0, "Max", [("Pods", 4, 15), ("Percent", 100, 15)], 0.1)
    down = GoRules(300, "Max", [("Percent", 100, 15)], 0.1)
    for rules, given_ in ((up, behavior.get("scaleUp") or {}), (down, behavior.get("scaleDown") or {})):
        rules.select = given_.get("selectPolicy", rules.select)
        rules.window = given_.get("stabilizationWindowSeconds", rules.window)
        if "policies" in given_:
            rules.policies = [(p["type"], p["value"], p["periodSeconds"]) for p in given_["policies"]]
        if "tolerance" in given_:
            rules.tolerance = round(given_["tolerance"] * 1000) * 1e-3
    return up, down


def go_change(period: int, events: list[tuple[float, int]]) -> int:
    """getReplicasChangePerPeriod; events are (time, change above zero)."""
    return sum(change for at, change in events if at > NOW - period)


def go_limit_up(current: int, ups: list[Any], downs: list[Any], rules: GoRules) -> int:
    """calculateScaleUpLimitWithScalingRules"""
    if rules.select == "Disabled":
        return current
    result = MAX_INT32 if rules.select == "Min" else MIN_INT32
    for kind, value, period in rules.policies:
        start = current - go_change(period, ups) + go_change(period, downs)
        proposed = start + value if kind == "Pods" else math.ceil(float(start) * (1 + float(value) / 100))
        result = min(result, proposed) if rules.select == "Min" else max(result, proposed)
    return result


def go_limit_down(current: int, ups: list[Any], downs: list[Any], rules: GoRules) -> int:
    """calculateScaleDownLimitWithBehaviors"""
    if rules.select == "Disabled":
        return current
    result = MIN_INT32 if rules.select == "Min" else MAX_INT32
    for kind, value, period in rules.policies:
        start = current - go_change(period, ups) + go_change(period, downs)
        proposed = start - value if kind == "Pods" else int(float(start) * (1 - float(value) / 100))
        result = max(result, proposed) if rules.select == "Min" else min(result, proposed)
    return result


def go_stabilize(up: GoRules, down: GoRules, current: int, desired: int, recs: list[Any]) -> tuple[int, str]:
    """stabilizeRecommendationWithBehaviors, and the reason that its caller makes of it."""
    low = high = desired
    for at, replicas in recs:
        if at > NOW - up.window:
            low = min(replicas, low)
        if at > NOW - down.window:
            high = max(replicas, high)
    size = current
    if size < low:
        size = low
    if size > high:
        size = high
    if size == desired:
        return size, "ReadyForNewScale"
    return size, "ScaleUpStabilized" if desired >= current else "ScaleDownStabilized"


def go_convert(
    up: GoRules, down: GoRules, current: int, desired: int, low: int, high: int, events: list[tuple[float, int]]
) -> tuple[int, str]:
    """convertDesiredReplicasWithBehaviorRate"""
    ups = [(at, change) for at, change in events if change > 0]
    downs = [(at, -change) for at, change in events if change < 0]
    if desired > current:
        limit = max(go_limit_up(current, ups, downs, up), current)
        most, reason = (limit, "ScaleUpLimit") if high > limit else (high, "TooManyReplicas")
        if desired > most:
            return most, reason
    elif desired < current:
        limit = min(go_limit_down(current, ups, downs, down), current)
        least, reason = (limit, "ScaleDownLimit") if low < limit else (low, "TooFewReplicas")
        if desired < least:
            return least, reason
    return desired, "DesiredWithinRange"


def go_is_within(ratio: float, up: GoRules, down: GoRules) -> bool:
    return 1.0 - down.tolerance <= ratio <= 1.0 + up.tolerance


def go_per_pod(usage: int, target: int, current: int, up: GoRules, down: GoRules) -> int:
    """GetExternalPerPodMetricReplicas, in thousandths"""
    ratio = math.inf if current == 0 else float(usage) / (float(target) * float(current))
    if current == 0 and usage == 0:
        ratio = math.nan
    if go_is_within(ratio, up, down):
        return current
    return min(math.ceil(float(usage) / float(target)), MAX_INT32)


def go_usage_ratio(usage: int, target: int, current: int, ready: int, up: GoRules, down: GoRules) -> int:
    """getUsageRatioReplicaCount, in thousandths"""
    ratio = float(usage) / float(target)
    if current == 0:
        return math.ceil(ratio)
    return current if go_is_within(ratio, up, down) else min(math.ceil(ratio * float(ready)), MAX_INT32)


def go_resource(pods: list[tuple[str, int]], target: int, current: int, up: GoRules, down: GoRules) -> int | None:
    """GetResourceReplicas; pods are (ready | missing | unready, thousandths of a percent), each requests 100 %."""
    metrics = {n: value for n, (group_, value) in enumerate(pods) if group_ == "ready"}
    missing = [n for n, (group_, _) in enumerate(pods) if group_ == "missing"]
    unready = [n for n, (group_, _) in enumerate(pods) if group_ == "unready"]
    if not metrics:
        return None

    def ratio_of() -> float:
        return float(sum(metrics.values()) * 100 // (100_000 * len(metrics))) / float(target)

    ratio, ready = ratio_of(), len(metrics)
    up_with_unready = bool(unready) and ratio > 1.0
    if not up_with_unready and not missing:
        return current if go_is_within(ratio, up, down) else math.ceil(ratio * float(ready))
    if missing and ratio < 1.0:
        metrics.update(dict.fromkeys(missing, max(100, target) * 1000))
    elif missing and ratio > 1.0:
        metrics.update(dict.fromkeys(missing, 0))
    if up_with_unready:
        metrics.update(dict.fromkeys(unready, 0))
    again = ratio_of()
    if go_is_within(again, up, down) or (ratio < 1.0 and again > 1.0) or (ratio > 1.0 and again < 1.0):
        return current
    replicas = math.ceil(again * float(len(metrics)))
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        return current
    return replicas


ages = st.sampled_from([0, 1, 15, 60, 300, 3600]) | st.floats(0, 4000)
sizes = st.sampled_from([0, 1, 2, 10]) | st.integers(0, 300)
policies = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Pods", "Percent"]),
        "value": st.sampled_from([1, 4, 10, 50, 90, 100, 101]) | st.integers(1, 2000),
        "periodSeconds": st.sampled_from([1, 15, 60, 1800]),
    }
)
directions = st.fixed_dictionaries(
    {},
    optional={
        "stabilizationWindowSeconds": st.sampled_from([0, 1, 15, 60, 300, 3600]),
        "selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]),
        "policies": st.lists(policies, min_size=1, max_size=4),
        "tolerance": st.integers(0, 2000).map(lambda thousandths: thousandths / 1000),
    },
)
behaviors = st.fixed_dictionaries({}, optional={"scaleUp": directions, "scaleDown": directions})


@settings(max_examples=200)
@given(
    behaviors,
    sizes,
    sizes | st.just(MAX_INT32),
    st.tuples(st.integers(0, 50), st.integers(1, 300)).map(lambda pair: (min(pair), max(pair))),
    st.lists(st.tuples(ages, sizes), max_size=6),
    st.lists(st.tuples(ages, st.integers(-60, 60).filter(bool)), max_size=6),
)
def test_stabilisation_rate_and_bounds_are_hpa_s(
    behavior: dict[str, Any],
    current: int,
    desired: int,
    bounds: tuple[int, int],
    recommendations: list[tuple[float, int]],
    events: list[tuple[float, int]],
) -> None:
    """Sizes and reasons after the metrics, for any behavior and any history, within the bounds and outside of them."""
    low, high = bounds
    up, down = go_defaults(behavior)
    recs = [(NOW - age, replicas) for age, replicas in recommendations]
    changes = [(NOW - age, change) for age, change in events]
    stable, able = go_stabilize(up, down, current, desired, recs)
    replicas, reason = go_convert(up, down, current, stable, low, high, changes)
    scaling = Scaling.model_validate({"minReplicas": low, "maxReplicas": high, "behavior": behavior})
    history = History(tuple(Recommendation(*r) for r in recs), tuple(ScaleEvent(*e) for e in changes))
    settled = settle_size(scaling, current, desired, history, NOW)
    assert (settled.stabilized, settled.able.reason) == (stable, able)
    assert (settled.replicas, settled.limited.reason) == (replicas, reason)
    assert settled.limited.status == str(replicas != stable)


@st.composite
def values(draw: st.DrawFn) -> tuple[int, int, int]:
    """Usage and target in thousandths, and the size: often on the edge of a tolerance or of a whole number."""
    current, target = draw(sizes), draw(st.sampled_from([100, 1000, 5000]) | st.integers(1, 10**6))
    edge = draw(st.integers(0, 3000).map(lambda thousandths: target * max(current, 1) * thousandths // 1000))
    usage = draw(st.sampled_from([0, edge, edge + 1]) | st.integers(0, 10**16))
    return usage, target, current


@settings(max_examples=200)
@given(behaviors, values(), st.integers(0, 300))
def test_external_metrics_are_hpa_s(behavior: dict[str, Any], of: tuple[int, int, int], ready: int) -> None:
    """AverageValue and Value, with tolerances to the last bit of a float."""
    usage, target, current = of
    up, down = go_defaults(behavior)
    rules, value, per = rules_of(Behavior.model_validate(behavior)), Fraction(usage, 1000), Fraction(target, 1000)
    assert average_value_replicas(value, per, current, rules) == go_per_pod(usage, target, current, up, down)
    if usage < 10**10:  # above it Go's conversion at 0 replicas depends on the machine
        expected = go_usage_ratio(usage, target, current, ready, up, down)
        assert value_replicas(value, per, current, ready, rules) == min(expected, MAX_INT32)


@settings(max_examples=200)
@given(
    behaviors,
    st.lists(
        st.tuples(
            st.sampled_from(["ready", "ready", "ready", "missing", "unready"]),
            st.sampled_from([0, 50_000, 80_000, 100_000]) | st.integers(0, 100_000),
        ),
        max_size=12,
    ),
    st.sampled_from([50, 80, 100]) | st.integers(1, 100),
    st.integers(1, 15),
)
def test_utilisation_per_pod_is_hpa_s(
    behavior: dict[str, Any], pods: list[tuple[str, int]], target: int, current: int
) -> None:
    """Missing and unready pods, whole percent, no turn of direction."""
    up, down = go_defaults(behavior)
    seen = [PodReading(kind != "unready", None if kind == "missing" else value / 1000) for kind, value in pods]
    ours = utilization_replicas(group(seen), target, current, rules_of(Behavior.model_validate(behavior)))
    assert (None if isinstance(ours, Missing) else ours) == go_resource(pods, target, current, up, down)
