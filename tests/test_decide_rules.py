"""Stabilisation, rate policies and bounds, case for case as Kubernetes 1.37's horizontal.go has them."""

from __future__ import annotations

from typing import Any

import pytest

from llmpool_contract.pool import Behavior, Policy, Scaling
from llmpool_operator.decide import rules_of, settle_size
from llmpool_operator.decide.limits import net_change, scale_down_limit, scale_up_limit
from llmpool_operator.decide.rules import Rules
from llmpool_operator.decide.stabilize import stabilize
from llmpool_operator.decide.types import History, Reason, Recommendation, ScaleEvent

NOW = 0.0


def pods(value: int, period: int = 60) -> dict[str, Any]:
    return {"type": "Pods", "value": value, "periodSeconds": period}


def percent(value: int, period: int = 60) -> dict[str, Any]:
    return {"type": "Percent", "value": value, "periodSeconds": period}


def rules(*policies: dict[str, Any], select: Any = "Max") -> Rules:
    return Rules(0, select, tuple(Policy.model_validate(policy) for policy in policies), 0.1)


def changes(*pairs: tuple[float, int]) -> tuple[ScaleEvent, ...]:
    """(age, change)"""
    return tuple(ScaleEvent(NOW - age, change) for age, change in pairs)


def test_defaults_of_a_present_behavior_are_hpa_s() -> None:
    """autoscaling/v2 defaults.go: up max(4 pods, 100 %) per 15 s without a window; down 100 % per 15 s with 300 s."""
    both = rules_of(Behavior())
    assert (both.up.window, both.up.select, both.up.tolerance) == (0, "Max", 0.1)
    assert [(p.type, p.value, p.period_seconds) for p in both.up.policies] == [("Pods", 4, 15), ("Percent", 100, 15)]
    assert (both.down.window, both.down.select, both.down.tolerance) == (300, "Max", 0.1)
    assert [(p.type, p.value, p.period_seconds) for p in both.down.policies] == [("Percent", 100, 15)]


def test_the_overlay_is_per_field_and_policies_are_one_field() -> None:
    """A given list replaces the default list as a whole; what isn't given stays; a window of 0 is given."""
    given = Behavior.model_validate(
        {"scaleUp": {"policies": [pods(1)]}, "scaleDown": {"stabilizationWindowSeconds": 0}}
    )
    both = rules_of(given)
    assert [(p.type, p.value) for p in both.up.policies] == [("Pods", 1)]
    assert (both.up.select, both.up.window) == ("Max", 0)
    assert (both.down.window, len(both.down.policies)) == (0, 1)


@pytest.mark.parametrize(
    ("current", "policies", "select", "events", "limit"),
    [
        pytest.param(1, [pods(4), percent(100)], "Max", (), 5, id="behavior-default-from-1"),
        pytest.param(10, [pods(4), percent(100)], "Max", (), 20, id="percent-wins"),
        pytest.param(10, [pods(4), percent(100)], "Min", (), 14, id="min-is-the-smallest-change"),
        pytest.param(10, [pods(4)], "Disabled", (), 10, id="disabled"),
        pytest.param(3, [percent(10)], "Max", (), 4, id="percent-is-rounded-up"),
        pytest.param(100, [percent(10)], "Max", (), 111, id="hpa-s-float-100-times-1.1"),
        pytest.param(0, [percent(100)], "Max", (), 0, id="percent-of-nothing"),
        pytest.param(10, [pods(4)], "Max", changes((30, 3)), 11, id="added-within-the-period-counts"),
        pytest.param(10, [pods(4)], "Max", changes((60, 3)), 14, id="an-event-as-old-as-the-period-is-over"),
        pytest.param(10, [pods(4)], "Max", changes((30, 6)), 8, id="may-come-out-below-current"),
        pytest.param(10, [pods(4)], "Max", changes((30, -5)), 19, id="removed-gives-back"),
        pytest.param(10, [percent(50)], "Max", changes((30, 4), (20, -2)), 12, id="both-directions-net-out"),
        pytest.param(10, [pods(4, 15), pods(9, 60)], "Max", changes((30, 6)), 14, id="each-policy-its-own-period"),
        pytest.param(10, [pods(4, 15), pods(9, 60)], "Min", changes((30, 6)), 13, id="min-over-periods"),
    ],
)
def test_scale_up_limit(
    current: int, policies: list[dict[str, Any]], select: str, events: tuple[ScaleEvent, ...], limit: int
) -> None:
    """calculateScaleUpLimitWithScalingRules: start of period + value, or ceil(start x (1 + value/100))."""
    assert scale_up_limit(rules(*policies, select=select), current, events, NOW) == limit


@pytest.mark.parametrize(
    ("current", "policies", "select", "events", "limit"),
    [
        pytest.param(10, [percent(100)], "Max", (), 0, id="behavior-default"),
        pytest.param(10, [pods(4), percent(50)], "Max", (), 5, id="max-is-the-largest-change"),
        pytest.param(10, [pods(4), percent(50)], "Min", (), 6, id="min-is-the-smallest-change"),
        pytest.param(10, [pods(4)], "Disabled", (), 10, id="disabled"),
        pytest.param(5, [percent(50)], "Max", (), 2, id="percent-is-cut-off"),
        pytest.param(100, [percent(90)], "Max", (), 9, id="hpa-s-float-100-times-0.1"),
        pytest.param(10, [pods(4)], "Max", changes((30, -3)), 9, id="removed-within-the-period-counts"),
        pytest.param(10, [pods(4)], "Max", changes((30, 3)), 3, id="added-is-taken-off-the-start"),
        pytest.param(10, [pods(4)], "Max", changes((60, -3)), 6, id="an-event-as-old-as-the-period-is-over"),
        pytest.param(10, [pods(4)], "Max", changes((30, -6)), 12, id="may-come-out-above-current"),
        pytest.param(2, [pods(4)], "Max", (), -2, id="below-zero-before-the-bounds"),
    ],
)
def test_scale_down_limit(
    current: int, policies: list[dict[str, Any]], select: str, events: tuple[ScaleEvent, ...], limit: int
) -> None:
    """calculateScaleDownLimitWithBehaviors: start of period - value, or trunc(start x (1 - value/100))."""
    assert scale_down_limit(rules(*policies, select=select), current, events, NOW) == limit


def test_net_change_counts_both_directions_within_the_period() -> None:
    """An event counts while its age is below the period, not at it."""
    assert net_change(changes((59.9, 5), (60, 100), (0, -2)), 60, NOW) == 3


@pytest.mark.parametrize(
    ("current", "desired", "up", "down", "recent", "stable"),
    [
        pytest.param(5, 8, 0, 300, [], 8, id="no-window-up"),
        pytest.param(5, 8, 60, 300, [(30, 6)], 6, id="up-takes-the-lowest"),
        pytest.param(5, 8, 60, 300, [(60, 6)], 8, id="as-old-as-the-window-is-over"),
        pytest.param(5, 8, 60, 300, [(30, 2)], 5, id="a-lower-one-blocks-growth-but-does-not-shrink"),
        pytest.param(5, 2, 0, 300, [(200, 4)], 4, id="down-takes-the-highest"),
        pytest.param(5, 2, 0, 300, [(200, 9)], 5, id="a-higher-one-blocks-shrinking-but-does-not-grow"),
        pytest.param(5, 2, 0, 0, [(0, 9)], 2, id="window-0-forgets-even-the-present-moment"),
        pytest.param(5, 5, 60, 300, [(1, 1), (2, 9)], 5, id="at-rest-nothing-moves-it"),
        pytest.param(9, 3, 300, 300, [(10, 4), (20, 7)], 7, id="both-windows"),
    ],
)
def test_stabilization_is_an_envelope(
    current: int, desired: int, up: int, down: int, recent: list[tuple[float, int]], stable: int
) -> None:
    """The size moves only as far as all proposals of the direction's window agree (PR 97348)."""
    both = rules_of(
        Behavior.model_validate(
            {"scaleUp": {"stabilizationWindowSeconds": up}, "scaleDown": {"stabilizationWindowSeconds": down}}
        )
    )
    recommendations = [Recommendation(NOW - age, replicas) for age, replicas in recent]
    assert stabilize(both, current, desired, recommendations, NOW).replicas == stable


@pytest.mark.parametrize(
    ("current", "desired", "scaling", "replicas", "reason"),
    [
        pytest.param(1, 99, {}, 10, Reason.TOO_MANY_REPLICAS, id="max"),
        pytest.param(1, 99, {"behavior": {}}, 5, Reason.SCALE_UP_LIMIT, id="rate-up"),
        pytest.param(8, 99, {"behavior": {}}, 10, Reason.TOO_MANY_REPLICAS, id="max-before-rate"),
        pytest.param(5, 99, {"behavior": {}}, 10, Reason.TOO_MANY_REPLICAS, id="rate-and-max-alike-is-max"),
        pytest.param(8, 1, {"minReplicas": 4}, 4, Reason.TOO_FEW_REPLICAS, id="min"),
        pytest.param(
            8, 1, {"behavior": {"scaleDown": {"policies": [pods(2)]}}}, 6, Reason.SCALE_DOWN_LIMIT, id="rate-down"
        ),
        pytest.param(8, 0, {}, 0, Reason.DESIRED_WITHIN_RANGE, id="zero-where-min-is-zero"),
        pytest.param(4, 4, {}, 4, Reason.DESIRED_WITHIN_RANGE, id="at-rest"),
    ],
)
def test_bounds_and_reasons(current: int, desired: int, scaling: dict[str, Any], replicas: int, reason: Reason) -> None:
    """convertDesiredReplicasWithBehaviorRate: the size, and the reason that HPA gives for it."""
    settled = settle_size(Scaling.model_validate(scaling), current, desired, History(()), NOW)
    assert (settled.replicas, settled.reason) == (replicas, reason)


def test_settle_size_seeds_only_a_first_decision() -> None:
    """No history at all holds the present size for the down window; an empty one holds nothing."""
    scaling = Scaling()
    assert settle_size(scaling, 8, 1, History(None), NOW).replicas == 8
    assert settle_size(scaling, 8, 1, History(()), NOW).replicas == 1


def test_the_example_of_the_filter() -> None:
    """Current 10, desired 15, a proposal of 12 within the up window, 3 added within the period: 12, then the rate."""
    behavior = {"scaleUp": {"stabilizationWindowSeconds": 60, "policies": [pods(4, 60)]}}
    scaling = Scaling.model_validate({"maxReplicas": 50, "behavior": behavior})
    history = History((Recommendation(NOW - 12.5, 12),), changes((30, 3)))
    settled = settle_size(scaling, 10, 15, history, NOW)
    assert (settled.stabilized, settled.replicas, settled.reason) == (12, 11, Reason.SCALE_UP_LIMIT)
