"""The whole decision: metrics, short cuts, zero, pauses, what is missing, and the conditions that tell of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide import decide, record_scale
from llmpool_operator.decide.types import (
    Decision,
    History,
    Missing,
    Observation,
    QueueBacklog,
    Reason,
    Recommendation,
    ScaleEvent,
)

NOW = 1_000_000.0


def pool(scaling: dict[str, Any] | None = None, **spec: Any) -> LLMWorkerPoolSpec:
    """A spec with one queue q, unless told otherwise."""
    document = {"queues": [{"name": "q"}], "redis": {"url": "redis://r:6379/0"}, "scaling": scaling or {}, **spec}
    return LLMWorkerPoolSpec.model_validate(document)


def jobs(ready: int = 0, due: int = 0, in_flight: int = 0, next_due_in: float | None = None) -> QueueBacklog:
    return QueueBacklog(ready, due, in_flight, next_due_in)


def seen(at: float = NOW, **queues: QueueBacklog | Missing) -> Observation:
    return Observation(at, queues)


OLD = History(recommendations=())
"""Not the first decision, and nothing in any window."""


def condition(decision: Decision, kind: str) -> tuple[str, str]:
    return next((c.status, c.reason) for c in decision.conditions if c.type == kind)


@pytest.mark.parametrize(
    ("current", "backlog", "desired"),
    [
        pytest.param(2, jobs(ready=120), 24, id="ceil-of-sum-over-target"),
        pytest.param(2, jobs(ready=121), 25, id="rounded-up"),
        pytest.param(1, jobs(ready=5, due=3, in_flight=3), 3, id="ready-due-and-in-flight-count"),
        pytest.param(10, jobs(ready=55), 10, id="tolerance-up-inclusive"),
        pytest.param(10, jobs(ready=56), 12, id="just-past-tolerance-up"),
        pytest.param(10, jobs(ready=45), 10, id="tolerance-down-inclusive"),
        pytest.param(10, jobs(ready=44), 9, id="just-past-tolerance-down"),
        pytest.param(0, jobs(ready=1), 1, id="no-tolerance-at-zero"),
        pytest.param(3, jobs(), 0, id="empty-asks-for-zero"),
    ],
)
def test_queue_depth_is_hpa_s_average_value(current: int, backlog: QueueBacklog, desired: int) -> None:
    """QueueDepth proposes as an External metric with AverageValue does (autoscaling/v2, replica_calculator.go)."""
    decision = decide(pool({"maxReplicas": 100}), current, seen(q=backlog), OLD, NOW)
    assert decision.desired == desired
    assert decision.metrics[0].replicas == desired


def test_weights_are_exact() -> None:
    """Twenty-five embeddings of weight 0.2 are five jobs and not a little more: nobody starts for a rounding error."""
    spec = pool(queues=[{"name": "a", "weight": 0.2}, {"name": "b"}])
    decision = decide(spec, 0, seen(a=jobs(ready=25), b=jobs()), OLD, NOW)
    assert decision.metrics[0].value == Fraction(5)
    assert decision.desired == 1


def test_a_quantity_string_is_a_target_too() -> None:
    """``averageValue: 500m``, as the API server may write it, is half a job for each worker."""
    spec = pool({"metrics": [{"type": "QueueDepth", "queueDepth": {"averageValue": "500m"}}]})
    assert decide(spec, 0, seen(q=jobs(ready=3)), OLD, NOW).desired == 6


def test_the_largest_metric_counts() -> None:
    """Of several metrics the largest proposal is taken, as HPA does."""
    metrics = [{"type": "QueueDepth", "queueDepth": {"averageValue": n}} for n in (10, 2, 5)]
    assert decide(pool({"metrics": metrics}), 1, seen(q=jobs(ready=10)), OLD, NOW).desired == 5


def test_without_behavior_the_pool_grows_at_once() -> None:
    """Our default: a step of the queue is answered in one decision, up to maxReplicas."""
    decision = decide(pool({"maxReplicas": 64}), 1, seen(q=jobs(ready=1000)), OLD, NOW)
    assert decision.replicas == 64
    assert decision.reason == Reason.TOO_MANY_REPLICAS
    assert condition(decision, "ScalingLimited") == ("True", "TooManyReplicas")


@pytest.mark.parametrize(
    ("behavior", "replicas"),
    [
        pytest.param(None, 64, id="absent-at-once"),
        pytest.param({}, 5, id="empty-is-hpa-s-behavior-default"),
        pytest.param({"scaleDown": {"tolerance": 0}}, 5, id="one-direction-fills-the-other"),
        pytest.param({"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}, 2, id="given"),
        pytest.param({"scaleUp": {"selectPolicy": "Min"}}, 2, id="min-of-the-default-policies"),
    ],
)
def test_a_given_behavior_fills_as_hpa_s(behavior: dict[str, Any] | None, replicas: int) -> None:
    """From 1: HPA's behavior default is max(+4, +100 %), hence 5; any given part keeps the defaults of the rest."""
    scaling = {"maxReplicas": 64} | ({} if behavior is None else {"behavior": behavior})
    assert decide(pool(scaling), 1, seen(q=jobs(ready=1000)), OLD, NOW).replicas == replicas


def test_down_takes_the_highest_proposal_of_five_minutes() -> None:
    """The down window defaults to HPA's 300 s, and the reason says which proposal holds the size up."""
    history = History((Recommendation(NOW - 299, 7), Recommendation(NOW - 100, 4)))
    decision = decide(pool(), 9, seen(q=jobs(ready=5)), history, NOW)
    assert (decision.desired, decision.stabilized, decision.replicas) == (1, 7, 7)
    assert decision.reason == Reason.SCALE_DOWN_STABILIZED
    assert condition(decision, "AbleToScale") == ("True", "ScaleDownStabilized")
    assert condition(decision, "ScalingLimited") == ("False", "DesiredWithinRange")


def test_the_first_decision_seeds_the_history_with_the_present_size() -> None:
    """A fresh operator that finds 8 workers and an empty queue keeps them for the down window, as HPA does."""
    decision = decide(pool(), 8, seen(q=jobs(ready=1)), History(), NOW)
    assert decision.replicas == 8
    later = decide(pool(), 8, seen(NOW + 300, q=jobs(ready=1)), decision.history, NOW + 300)
    assert later.replicas == 1


@pytest.mark.parametrize(
    ("current", "scaling", "replicas", "reason"),
    [
        pytest.param(12, {"maxReplicas": 10}, 10, Reason.TOO_MANY_REPLICAS, id="above-max"),
        pytest.param(1, {"minReplicas": 3}, 3, Reason.TOO_FEW_REPLICAS, id="below-min"),
        pytest.param(0, {"minReplicas": 3}, 3, Reason.TOO_FEW_REPLICAS, id="zero-below-min"),
    ],
)
def test_short_cuts_pass_metrics_and_behavior(
    current: int, scaling: dict[str, Any], replicas: int, reason: Reason
) -> None:
    """Outside the bounds the size goes back to them at once, even with nothing known and scaling disabled."""
    stop = {"scaleUp": {"selectPolicy": "Disabled"}, "scaleDown": {"selectPolicy": "Disabled"}}
    decision = decide(pool(scaling | {"behavior": stop}), current, seen(q=Missing("gone")), OLD, NOW)
    assert (decision.replicas, decision.reason, decision.hold) == (replicas, reason, False)


@pytest.mark.parametrize("current", [0, 1, 7])
@pytest.mark.parametrize(
    "observation",
    [
        pytest.param(seen(q=Missing("RedisUnreachable")), id="said-to-be-missing"),
        pytest.param(seen(), id="not-there"),
    ],
)
def test_missing_holds(observation: Observation, current: int) -> None:
    """A queue that can't be read is never taken for an empty one: the size stays, whatever it is."""
    decision = decide(pool(), current, observation, History((), (), NOW - 9999), NOW)
    assert (decision.replicas, decision.hold, decision.reason) == (current, True, Reason.METRICS_MISSING)
    assert condition(decision, "ScalingActive") == ("False", "MetricsMissing")
    assert condition(decision, "MetricsAvailable") == ("False", "MetricsMissing")
    assert "queue q" in decision.message


def test_one_missing_queue_makes_the_sum_unknown() -> None:
    """A sum over queues of which one is unknown is unknown: at 2 workers it holds, however long the other queue is."""
    spec = pool(queues=[{"name": "a"}, {"name": "b"}])
    decision = decide(spec, 2, seen(a=jobs(ready=500), b=Missing("WrongType")), OLD, NOW)
    assert (decision.replicas, decision.hold) == (2, True)


def test_any_known_work_wakes_a_pool_at_zero() -> None:
    """From zero one known job is enough, past a missing queue, a slow policy and an up window."""
    behavior = {"scaleUp": {"stabilizationWindowSeconds": 600, "selectPolicy": "Disabled"}}
    spec = pool({"behavior": behavior}, queues=[{"name": "a"}, {"name": "b"}])
    history = History((Recommendation(NOW - 1, 0),))
    for unknown in (Missing("WrongType"), jobs()):
        decision = decide(spec, 0, seen(a=jobs(ready=1), b=unknown), history, NOW)
        assert (decision.replicas, decision.reason, decision.hold) == (1, Reason.FROM_ZERO, False)


@pytest.mark.parametrize(
    "backlog",
    [
        pytest.param(jobs(ready=1), id="ready"),
        pytest.param(jobs(due=1), id="due"),
        pytest.param(jobs(in_flight=1), id="claimed-by-a-dead-worker"),
    ],
)
def test_nothing_is_stranded_at_zero(backlog: QueueBacklog) -> None:
    """Jobs that are due and claims whose worker has died wake a pool at zero, as ready ones do."""
    assert decide(pool(), 0, seen(q=backlog), OLD, NOW).replicas == 1


def test_from_zero_goes_as_far_as_the_metrics_ask() -> None:
    """The first decision after zero isn't one worker but what the backlog needs, since the default has no up limit."""
    assert decide(pool(), 0, seen(q=jobs(ready=34)), OLD, NOW).replicas == 7


def test_at_zero_without_work_it_stays() -> None:
    """Jobs due later wake nobody now."""
    decision = decide(pool(), 0, seen(q=jobs(next_due_in=5)), OLD, NOW)
    assert (decision.replicas, decision.reason) == (0, Reason.DESIRED_WITHIN_RANGE)


IDLE = History((Recommendation(NOW - 1, 4),), (), empty_since=NOW - 300)


def test_idleness_goes_to_zero_past_the_window() -> None:
    """Known to be empty for idleSeconds: 0 takes the place of the down window, whatever it remembers."""
    decision = decide(pool(), 4, seen(q=jobs()), IDLE, NOW)
    assert (decision.replicas, decision.stabilized, decision.reason) == (0, 0, Reason.IDLE_TO_ZERO)


@pytest.mark.parametrize(
    ("scaling", "backlog", "history"),
    [
        pytest.param({}, jobs(), History((), (), NOW - 299), id="not-long-enough"),
        pytest.param({}, jobs(), History((), (), None), id="just-begun"),
        pytest.param({}, jobs(next_due_in=300), IDLE, id="a-job-is-due-within-idle-seconds"),
        pytest.param({}, jobs(in_flight=1), IDLE, id="a-job-in-flight"),
        pytest.param({"minReplicas": 1}, jobs(), IDLE, id="min-replicas-1"),
    ],
)
def test_the_last_worker_stays(scaling: dict[str, Any], backlog: QueueBacklog, history: History) -> None:
    """Nothing but the zero rule ends the last worker, not even a down window of 0."""
    now_down = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    decision = decide(pool(scaling | {"behavior": now_down}), 4, seen(q=backlog), history, NOW)
    assert decision.replicas == 1


def test_a_job_due_after_idle_seconds_does_not_keep_the_pool() -> None:
    """Only what comes due within idleSeconds is worth waiting for."""
    assert decide(pool(), 4, seen(q=jobs(next_due_in=300.5)), IDLE, NOW).replicas == 0


def test_scale_down_policies_hold_on_the_way_to_zero() -> None:
    """One pod a minute means one pod a minute, idle or not; and Disabled means never."""
    policies = [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    spec = pool({"behavior": {"scaleDown": {"policies": policies}}})
    decision = decide(spec, 4, seen(q=jobs()), IDLE, NOW)
    assert (decision.replicas, decision.reason) == (3, Reason.SCALE_DOWN_LIMIT)
    history = record_scale(decision.history, NOW, -1)
    assert decide(spec, 3, seen(NOW + 59, q=jobs()), history, NOW + 59).replicas == 3
    assert decide(spec, 3, seen(NOW + 60, q=jobs()), history, NOW + 60).replicas == 2
    never = pool({"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}})
    assert decide(never, 4, seen(q=jobs()), IDLE, NOW).replicas == 4


def test_emptiness_must_be_known_without_a_gap() -> None:
    """A reading that is missing starts the idle time anew: nobody knows what came by meanwhile."""
    history = decide(pool(), 1, seen(q=jobs()), OLD, NOW).history
    assert history.empty_since == NOW
    history = decide(pool(), 1, seen(NOW + 1, q=Missing("RedisTimeout")), history, NOW + 1).history
    assert history.empty_since is None
    history = decide(pool(), 1, seen(NOW + 2, q=jobs()), history, NOW + 2).history
    assert decide(pool(), 1, seen(NOW + 301, q=jobs()), history, NOW + 301).replicas == 1
    assert decide(pool(), 1, seen(NOW + 302, q=jobs()), history, NOW + 302).replicas == 0


def test_a_size_by_hand_is_taken_as_it_is() -> None:
    """spec.replicas is fixed: no metric, bound or window changes it, and it says that autoscaling is off."""
    for wanted in (0, 3, 50):
        decision = decide(pool(replicas=wanted), 2, seen(q=Missing("gone")), OLD, NOW)
        assert (decision.replicas, decision.reason, decision.hold) == (wanted, Reason.MANUAL_REPLICAS, False)
        assert condition(decision, "ScalingActive") == ("False", "ManualReplicas")


def test_after_a_size_by_hand_autoscaling_starts_from_what_it_finds() -> None:
    """Proposals from before the manual size are forgotten; the size that was set by hand holds for the down window."""
    history = decide(pool(replicas=9), 2, seen(q=jobs()), OLD, NOW).history
    decision = decide(pool(), 9, seen(q=jobs(ready=1)), history, NOW + 1)
    assert decision.replicas == 9


@pytest.mark.parametrize(
    ("paused", "current", "backlog", "replicas"),
    [
        pytest.param("All", 3, jobs(ready=100), 3, id="all-does-not-grow"),
        pytest.param("All", 3, jobs(ready=1), 3, id="all-does-not-shrink"),
        pytest.param("All", 0, jobs(ready=1), 0, id="all-does-not-wake"),
        pytest.param("All", 30, jobs(ready=1), 30, id="all-stays-above-max"),
        pytest.param("ScaleOut", 3, jobs(ready=100), 3, id="scale-out-does-not-grow"),
        pytest.param("ScaleOut", 0, jobs(ready=1), 0, id="scale-out-does-not-wake"),
        pytest.param("ScaleOut", 3, jobs(ready=1), 1, id="scale-out-shrinks"),
        pytest.param("ScaleIn", 3, jobs(ready=1), 3, id="scale-in-does-not-shrink"),
        pytest.param("ScaleIn", 3, jobs(ready=20), 4, id="scale-in-grows"),
        pytest.param("ScaleIn", 0, jobs(ready=1), 1, id="scale-in-wakes"),
    ],
)
def test_a_pause_stops_its_direction_only(paused: str, current: int, backlog: QueueBacklog, replicas: int) -> None:
    """All keeps the size, ScaleIn keeps it from shrinking, ScaleOut from growing; a pause goes before waking."""
    decision = decide(pool(paused=paused), current, seen(q=backlog), OLD, NOW)
    assert decision.replicas == replicas
    assert (decision.reason == Reason.PAUSED) == (replicas == current)
    expected = ("False", "Paused") if paused == "All" else ("True", "ValidMetricFound")
    assert condition(decision, "ScalingActive") == expected


def test_a_pause_blocks_idleness_too() -> None:
    """ScaleIn paused: an idle pool keeps its workers."""
    assert decide(pool(paused="ScaleIn"), 4, seen(q=jobs()), IDLE, NOW).replicas == 4


def test_what_a_decision_tells() -> None:
    """The message has the numbers, the limits name each thing that changed the size, in order."""
    scaling = {"maxReplicas": 100, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 60}}}
    history = History((Recommendation(NOW - 30, 12),), (ScaleEvent(NOW - 5, 4),))
    decision = decide(pool(scaling), 8, seen(q=jobs(ready=100)), history, NOW)
    # Start of the period: 8 - 4 = 4 pods, so the policies allow max(4 + 4, 4 * 2) = 8.
    assert (decision.desired, decision.stabilized, decision.replicas) == (20, 12, 8)
    assert [line.partition(":")[0] for line in decision.limits] == ["ScaleUpStabilized", "ScaleUpLimit"]
    assert decision.reason == Reason.SCALE_UP_LIMIT
    assert "QueueDepth 100 at 5 a worker asks for 20" in decision.message
