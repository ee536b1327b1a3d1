"""Each kind of metric: what it asks for, what makes it invalid, and what several of them come to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import pytest

from llmpool_contract.pool import Paused, Queue, Scaling
from llmpool_operator.decide import decide
from llmpool_operator.decide.types import (
    Decision,
    History,
    Missing,
    Observation,
    PodReading,
    QueueBacklog,
    Reason,
    ScaleEvent,
)

NOW = 1_000_000.0
OLD = History(recommendations=())
DRAIN = {"type": "DrainTime", "drainTime": {"seconds": 60}}
GPU = {"type": "GPUUtilization", "gpuUtilization": {"averageUtilization": 80}}
CEILING = {**GPU, "role": "Ceiling"}
DEPTH = {"type": "QueueDepth"}
LEVEL = {"type": "Prometheus", "prometheus": {"query": "level", "value": 2}}
SHARED = {"type": "Prometheus", "prometheus": {"query": "shared", "averageValue": 2}}
NOW_DOWN = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 10_000, "periodSeconds": 1}]},
    "scaleDown": {"stabilizationWindowSeconds": 0},
}
"""Both ways at once."""


@dataclass(frozen=True)
class Spec:
    """The part of a spec that a decision reads."""

    scaling: Scaling
    queues: list[Queue] = field(default_factory=lambda: [Queue(name="q")])
    replicas: int | None = None
    paused: Paused = "None"


def spec(*metrics: dict[str, Any], **scaling: Any) -> Spec:
    return Spec(Scaling.model_validate({"maxReplicas": 100, "metrics": list(metrics), **scaling}))


def jobs(ready: int) -> QueueBacklog:
    return QueueBacklog(ready, 0, 0, None)


def pods(*percents: float | None, ready: bool = True, at: float = NOW) -> tuple[PodReading, ...]:
    return tuple(PodReading(ready, percent, None if percent is None else at) for percent in percents)


def seen(ready: int | Missing = 0, at: float = NOW, **more: Any) -> Observation:
    return Observation(at, {"q": ready if isinstance(ready, Missing) else jobs(ready)}, **more)


def decided(of: Spec, current: int, observation: Observation, history: History = OLD, now: float = NOW) -> Decision:
    return decide(of, current, observation, history, now)


@pytest.mark.parametrize(
    ("backlog", "rate", "replicas"),
    [
        pytest.param(120, 0.5, 4, id="what-one-worker-settles-in-the-time"),
        pytest.param(121, 0.5, 5, id="rounded-up"),
        pytest.param(42, 0.7, 1, id="a-rate-is-what-it-is-written-as"),
        pytest.param(0, Missing("nobody is busy"), 0, id="no-work-asks-for-none-rate-or-not"),
        pytest.param(1, Missing("nobody is busy"), None, id="work-without-a-rate-is-invalid"),
        pytest.param(1, 0.0, None, id="a-rate-of-nothing-is-none"),
        pytest.param(1, float("nan"), None, id="not-a-number-is-no-rate"),
        pytest.param(10**12, 1e-9, 2**31 - 1, id="absurd-ends-at-int32"),
    ],
)
def test_drain_time(backlog: int, rate: float | Missing, replicas: int | None) -> None:
    """ceil(backlog / (rate x seconds)), whatever the present size; without any rate it asks for nothing."""
    proposal = decided(spec(DRAIN), 1, seen(backlog, rate=rate)).metrics[0]
    assert (proposal.replicas, proposal.invalid) == (replicas, replicas is None)


def test_the_last_known_rate_counts_while_nobody_is_busy() -> None:
    """A pool that was idle knows from the history what a worker settles, and a new rate takes its place."""
    history = decided(spec(DRAIN), 2, seen(60, rate=0.5)).history
    assert history.rate == 0.5
    decision = decided(spec(DRAIN), 2, seen(240, rate=Missing("nobody is busy")), history)
    assert (decision.desired, decision.history.rate) == (8, 0.5)
    assert decided(spec(DRAIN), 2, seen(240, rate=1.0), history).desired == 4


def test_a_new_pool_without_a_rate_starts_with_one_worker() -> None:
    """No rate was ever told, so the metric is invalid; work wakes one worker, which will tell one."""
    decision = decided(spec(DRAIN), 0, seen(500))
    assert (decision.replicas, decision.reason) == (1, Reason.FROM_ZERO)


@pytest.mark.parametrize(
    ("current", "seen_pods", "replicas"),
    [
        pytest.param(2, pods(100, 100), 3, id="ratio-times-pods"),
        pytest.param(2, pods(88, 88), 2, id="within-tolerance"),
        pytest.param(2, pods(88.9, 88.9), 2, id="cut-to-whole-percent-first"),
        pytest.param(2, pods(89, 89), 3, id="just-past-tolerance"),
        pytest.param(4, pods(20, 20, 20, 20), 1, id="down"),
        pytest.param(3, pods(100, 100, None), 3, id="missing-counts-as-idle-on-the-way-up"),
        pytest.param(3, pods(40, 40, None), 3, id="missing-counts-as-busy-on-the-way-down"),
        pytest.param(4, pods(10, 10, 10, None), 2, id="a-clear-case-goes-down-all-the-same"),
        pytest.param(3, pods(100, 100) + pods(100, ready=False), 3, id="unready-counts-as-idle-on-the-way-up"),
        pytest.param(3, pods(20, 20) + pods(100, ready=False), 1, id="unready-is-left-out-on-the-way-down"),
        pytest.param(6, pods(100, None, None, None, None, None), 6, id="a-turn-of-direction-is-none"),
        pytest.param(2, pods(None, None), None, id="no-sample"),
        pytest.param(2, pods(50, 50, ready=False), None, id="none-ready"),
        pytest.param(2, (), None, id="no-pods"),
        pytest.param(2, Missing("no reports"), None, id="not-read"),
        pytest.param(2, pods(float("nan"), -5), None, id="absurd-samples-are-none"),
    ],
)
def test_gpu_utilisation(current: int, seen_pods: tuple[PodReading, ...] | Missing, replicas: int | None) -> None:
    """HPA's rule per pod, with averageUtilization 80 and a tolerance of 10 %."""
    assert decided(spec(GPU), current, seen(1, pods=seen_pods)).metrics[0].replicas == replicas


def test_gpu_utilisation_acts_once_per_sample() -> None:
    """A sample that was taken at another size says nothing of this one: until a newer one comes the size is held."""
    history = History((), (ScaleEvent(NOW - 5, 2),), scaled_at=NOW - 5)
    held = decided(spec(GPU), 4, seen(9, pods=pods(100, 100, 100, 100, at=NOW - 5)), history)
    assert (held.desired, held.hold) == (4, False)
    assert "waits for a sample" in held.metrics[0].message
    assert held.metrics[0].age == 5
    assert decided(spec(GPU), 4, seen(9, pods=pods(100, 100, 100, 100, at=NOW - 4)), history).desired == 5


def test_an_old_event_still_makes_older_samples_old() -> None:
    """The rate policies forget a change after seconds; the time of the last one stays."""
    history = History((), (), scaled_at=NOW - 600)
    assert decided(spec(GPU), 2, seen(9, pods=pods(100, 100, at=NOW - 700)), history).desired == 2


def test_gpu_utilisation_never_wakes() -> None:
    """At zero it has no say: no work, no worker, and nothing is said to be missing."""
    decision = decided(spec(GPU), 0, seen(0, pods=()))
    assert (decision.replicas, decision.hold) == (0, False)
    assert [c.reason for c in decision.conditions if c.type == "MetricsAvailable"] == ["MetricsFound"]
    assert decided(spec(GPU), 0, seen(1, pods=())).replicas == 1


def test_an_idle_gpu_that_hums_does_not_keep_a_pool() -> None:
    """Empty for idleSeconds goes to zero, though 1 % of use asks for a worker."""
    history = History((), (), empty_since=NOW - 300)
    assert decided(spec(GPU), 3, seen(0, pods=pods(1, 1, 1)), history).replicas == 0


def test_a_query_that_asks_for_workers_keeps_them() -> None:
    """Empty queues don't end what a query asks for: at zero it would ask for it again, for ever."""
    history = History((), (), empty_since=NOW - 300)
    busy = decided(spec(DEPTH, SHARED), 3, seen(0, queries={"shared": Fraction(6)}), history)
    assert busy.replicas == 3
    idle = decided(spec(DEPTH, SHARED), 3, seen(0, queries={"shared": Fraction(0)}), history)
    assert (idle.replicas, idle.reason) == (0, Reason.IDLE_TO_ZERO)


def test_a_query_that_can_not_be_read_keeps_the_last_worker() -> None:
    """It may ask for workers: what isn't known is no emptiness, whatever the queues and other metrics say."""
    history = History((), empty_since=0.0)
    of = spec(GPU, SHARED)
    blind = decided(of, 1, seen(0, pods=pods(0), queries={"shared": Missing("PrometheusTimeout")}), history)
    assert blind.replicas == 1


@pytest.mark.parametrize(
    ("metric", "current", "value", "seen_pods", "replicas"),
    [
        pytest.param(SHARED, 3, Fraction(9), (), 5, id="average-value"),
        pytest.param(SHARED, 0, Fraction(1), (), 1, id="average-value-from-zero"),
        pytest.param(LEVEL, 4, Fraction(3), pods(0, 0, 0, 0), 6, id="value-is-the-ratio-times-ready-pods"),
        pytest.param(LEVEL, 4, Fraction(3), pods(0, 0) + pods(0, 0, ready=False), 3, id="only-ready-ones"),
        pytest.param(LEVEL, 4, Fraction(2), Missing("not read"), 4, id="within-tolerance-nobody-is-counted"),
        pytest.param(LEVEL, 4, Fraction(3), Missing("not read"), None, id="ready-pods-unknown"),
        pytest.param(LEVEL, 4, Fraction(3), (), None, id="no-pods"),
        pytest.param(LEVEL, 0, Fraction(5), (), 3, id="value-at-zero-is-the-ratio"),
        pytest.param(SHARED, 3, Fraction(-1), (), None, id="below-zero"),
        pytest.param(SHARED, 3, Fraction(10**30), (), 2**31 - 1, id="absurd-ends-at-int32"),
        pytest.param(SHARED, 3, Missing("PrometheusTimeout"), (), None, id="missing"),
    ],
)
def test_prometheus(
    metric: dict[str, Any],
    current: int,
    value: Fraction | Missing,
    seen_pods: tuple[PodReading, ...] | Missing,
    replicas: int | None,
) -> None:
    """HPA's External metric with AverageValue or Value."""
    queries = {metric["prometheus"]["query"]: value}
    decision = decided(spec(metric), current, seen(0, queries=queries, pods=seen_pods))
    assert decision.metrics[0].replicas == replicas


@pytest.mark.parametrize(
    ("ready", "replicas"),
    [pytest.param(4, 6, id="some"), pytest.param(0, 0, id="none"), pytest.param(Missing("x"), None, id="unknown")],
)
def test_ready_workers_where_nobody_reads_pods(ready: int | Missing, replicas: int | None) -> None:
    """A target that reads no pods counts who is ready; where it can't, the metric is missing."""
    queries = {LEVEL["prometheus"]["query"]: Fraction(3)}
    decision = decided(spec(LEVEL), 4, replace(seen(0, queries=queries), ready=ready))
    assert decision.metrics[0].replicas == replicas


def test_a_query_that_nobody_asked_is_missing() -> None:
    """No answer is no zero."""
    assert decided(spec(SHARED), 3, seen(0)).hold


@pytest.mark.parametrize(
    ("current", "others", "replicas", "hold"),
    [
        pytest.param(3, 40, 8, False, id="up-by-the-rest"),
        pytest.param(3, 15, 3, False, id="at-rest"),
        pytest.param(3, 5, 3, True, id="not-down"),
    ],
)
def test_one_invalid_metric_allows_up_and_not_down(current: int, others: int, replicas: int, hold: bool) -> None:
    """HPA's rule for some metrics invalid. Why it holds names the invalid one."""
    of = spec(DEPTH, SHARED, behavior=NOW_DOWN)
    decision = decided(of, current, seen(others, queries={"shared": Missing("PrometheusTimeout")}))
    assert (decision.replicas, decision.hold) == (replicas, hold)
    assert ("PrometheusTimeout" in decision.message) or not hold


def test_the_largest_of_different_metrics_counts() -> None:
    """Whoever asks for most gets it."""
    of = spec(DEPTH, DRAIN, GPU, SHARED)
    decision = decided(of, 2, seen(20, rate=0.05, pods=pods(100, 100), queries={"shared": Fraction(8)}))
    assert [proposal.replicas for proposal in decision.metrics] == [4, 7, 3, 4]
    assert decision.desired == 7


def test_a_ceiling_forbids_growth_and_asks_for_nothing() -> None:
    """Above the target the pool doesn't grow; it may shrink, and at the target it may grow."""
    of = spec(DEPTH, CEILING, behavior=NOW_DOWN)
    vetoed = decided(of, 2, seen(50, pods=pods(81, 81)))
    assert (vetoed.replicas, vetoed.desired, vetoed.reason) == (2, 10, Reason.ABOVE_CEILING)
    assert vetoed.limits[-1].startswith("AboveCeiling: 2 instead of 10: GPUUtilization (Ceiling) 81 %")
    assert decided(of, 2, seen(50, pods=pods(80, 80))).replicas == 10
    assert decided(of, 4, seen(5, pods=pods(99, 99))).replicas == 1


@pytest.mark.parametrize("missing", [Missing("no reports"), (), pods(None), pods(99, ready=False)])
def test_a_missing_ceiling_forbids_nothing(missing: tuple[PodReading, ...] | Missing) -> None:
    """It makes nothing invalid either: up and down go on."""
    of = spec(DEPTH, CEILING, behavior=NOW_DOWN)
    assert decided(of, 2, seen(50, pods=missing)).replicas == 10
    down = decided(of, 4, seen(5, pods=missing))
    assert (down.replicas, down.hold) == (1, False)
    assert [c.status for c in down.conditions if c.type == "MetricsAvailable"] == ["True"]


def test_a_ceiling_stops_neither_waking_nor_the_minimum() -> None:
    """One worker for known work, and minReplicas, are no growth that it may forbid."""
    assert decided(spec(DEPTH, CEILING), 0, seen(50, pods=pods(99))).replicas == 1
    assert decided(spec(DEPTH, CEILING, minReplicas=3), 0, seen(50, pods=pods(99))).replicas == 3
    assert decided(spec(DEPTH, CEILING, minReplicas=3), 1, seen(50, pods=pods(99))).replicas == 3


def test_pods_without_a_node_stop_growth_until_they_fit() -> None:
    """Unschedulable: nothing is asked for beyond what there is; shrinking goes on; afterwards it grows again."""
    of = spec(DEPTH, behavior=NOW_DOWN)
    stopped = decided(of, 4, seen(100, unschedulable=2))
    assert (stopped.replicas, stopped.reason, stopped.desired) == (4, Reason.UNSCHEDULABLE, 20)
    assert "2 pods wait for a node" in stopped.message
    assert [c.reason for c in stopped.conditions if c.type == "ScalingLimited"] == ["Unschedulable"]
    assert decided(of, 4, seen(10, unschedulable=2)).replicas == 2
    assert decided(of, 4, seen(100, unschedulable=0)).replicas == 20


def test_from_zero_with_a_minimum_goes_as_far_as_the_metrics_ask() -> None:
    """As HPA 1.37: metrics count at zero, and the result is minReplicas at least; without metrics it is minReplicas."""
    of = spec(DEPTH, minReplicas=3)
    assert decided(of, 0, seen(50)).replicas == 10
    assert decided(of, 0, seen(5)).replicas == 3
    idle = decided(of, 0, seen(0))
    assert (idle.replicas, idle.reason) == (3, Reason.TOO_FEW_REPLICAS)
    assert decided(of, 0, seen(Missing("gone"))).replicas == 3


def test_readings_have_ages() -> None:
    """Seconds since the queue, the query or the oldest GPU sample was read."""
    of = spec(DEPTH, GPU, SHARED)
    observation = Observation(
        NOW - 1,
        {"q": jobs(5)},
        pods=pods(50, at=NOW - 9) + pods(50, at=NOW - 3),
        queries={"shared": Fraction(1)},
        queried_at={"shared": NOW - 20},
    )
    assert [proposal.age for proposal in decided(of, 2, observation).metrics] == [1, 9, 20]
