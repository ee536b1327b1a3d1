"""What holds for every spec, size, backlog and history."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmpool_contract.pool import LLMWorkerPoolSpec, Paused, Queue, Scaling
from llmpool_operator.decide import decide, record_scale, settle_size
from llmpool_operator.decide.types import (
    History,
    Missing,
    Observation,
    PodReading,
    QueueBacklog,
    Recommendation,
    ScaleEvent,
)

NOW = 10_000.0
counts = st.integers(0, 300)
policies = st.fixed_dictionaries(
    {"type": st.sampled_from(["Pods", "Percent"]), "value": st.integers(1, 150), "periodSeconds": st.integers(1, 1800)}
)
directions = st.fixed_dictionaries(
    {},
    optional={
        "stabilizationWindowSeconds": st.integers(0, 3600),
        "selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]),
        "policies": st.lists(policies, min_size=1, max_size=4),
        "tolerance": st.floats(0, 2).map(lambda x: round(x, 3)),
    },
)
behaviors = st.none() | st.fixed_dictionaries({}, optional={"scaleUp": directions, "scaleDown": directions})
histories = st.builds(
    History,
    recommendations=st.none()
    | st.lists(st.builds(Recommendation, at=st.floats(NOW - 4000, NOW), replicas=counts), max_size=20).map(tuple),
    events=st.lists(
        st.builds(ScaleEvent, at=st.floats(NOW - 2000, NOW), change=st.integers(-50, 50).filter(bool)), max_size=20
    ).map(tuple),
    empty_since=st.none() | st.floats(NOW - 1000, NOW),
    blind_since=st.none() | st.floats(NOW - 1000, NOW),
    scaled_at=st.none() | st.floats(NOW - 1000, NOW),
    rate=st.none() | st.floats(0.01, 10),
)
backlogs = st.builds(
    QueueBacklog,
    ready=counts,
    due=st.integers(0, 9),
    in_flight=st.integers(0, 50),
    next_due_in=st.none() | st.floats(0, 1000),
)
METRICS: list[dict[str, Any]] = [
    {"type": "QueueDepth"},
    {"type": "DrainTime"},
    {"type": "Prometheus", "prometheus": {"query": "shared", "averageValue": 3}},
    {"type": "Prometheus", "prometheus": {"query": "level", "value": 3}},
    {"type": "GPUUtilization"},
    {"type": "GPUUtilization", "role": "Ceiling"},
]
answers = st.just(Missing("no answer")) | st.fractions(-10, 1000) | st.just(Fraction(10**20))
percents = st.none() | st.floats(0, 100) | st.sampled_from([float("nan"), float("inf"), -1.0, 1e12])
seen_pods = st.just(Missing("not read")) | st.lists(
    st.builds(PodReading, st.booleans(), percents, st.none() | st.floats(NOW - 100, NOW)), max_size=5
).map(tuple)
rates = st.just(Missing("nobody is busy")) | st.floats(0.001, 100) | st.sampled_from([0.0, float("nan"), float("inf")])
readings = st.just(QueueBacklog(0, 0, 0, None)) | backlogs | st.just(Missing("gone"))


@st.composite
def scalings(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.integers(0, 20))
    scaling = {"minReplicas": low, "maxReplicas": draw(st.integers(max(low, 1), 100)), "idleSeconds": 300}
    behavior = draw(behaviors)
    return scaling if behavior is None else {**scaling, "behavior": behavior}


def spec_of(scaling: dict[str, Any], paused: str = "None") -> LLMWorkerPoolSpec:
    return LLMWorkerPoolSpec.model_validate(
        {
            "queues": [{"name": "a"}, {"name": "b", "weight": 0.2}],
            "redis": {"url": "redis://r:6379/0"},
            "scaling": scaling,
            "paused": paused,
        }
    )


@given(scalings(), counts, readings, readings, histories)
def test_never_outside_the_bounds(
    scaling: dict[str, Any], current: int, a: QueueBacklog | Missing, b: QueueBacklog | Missing, history: History
) -> None:
    """Whatever is seen, the size is within minReplicas and maxReplicas."""
    decision = decide(spec_of(scaling), current, Observation(NOW, {"a": a, "b": b}), history, NOW)
    assert scaling["minReplicas"] <= decision.replicas <= scaling["maxReplicas"]


@given(scalings(), counts, readings, histories)
def test_missing_never_shrinks_and_never_zeroes(
    scaling: dict[str, Any], current: int, other: QueueBacklog | Missing, history: History
) -> None:
    """With any queue unknown, a size within the bounds never goes down, whatever the history remembers."""
    current = min(max(current, scaling["minReplicas"]), scaling["maxReplicas"])
    decision = decide(spec_of(scaling), current, Observation(NOW, {"a": Missing("gone"), "b": other}), history, NOW)
    assert decision.replicas == current or (current == 0 and not isinstance(other, Missing))
    assert decision.replicas >= current
    assert decision.history.empty_since is None


@given(scalings(), counts, readings, readings, histories)
def test_zero_only_when_everything_is_known_to_be_empty(
    scaling: dict[str, Any], current: int, a: QueueBacklog | Missing, b: QueueBacklog | Missing, history: History
) -> None:
    """A pool with a worker goes to zero only on known and lasting emptiness; a pool at zero stays only without work."""
    decision = decide(spec_of(scaling), current, Observation(NOW, {"a": a, "b": b}), history, NOW)
    work = [0 if isinstance(x, Missing) else x.work for x in (a, b)]
    if current > 0 and decision.replicas == 0:
        assert not isinstance(a, Missing)
        assert not isinstance(b, Missing)
        assert sum(work) == 0
        assert history.empty_since is not None
        assert NOW - history.empty_since >= 300
    if current == 0 and sum(work) > 0:
        assert decision.replicas >= 1


@given(scalings(), counts, counts, histories)
def test_no_reversal(scaling: dict[str, Any], current: int, desired: int, history: History) -> None:
    """Limits slow a move down or stop it, but never turn it round: up stays up, down stays down."""
    current = min(max(current, scaling["minReplicas"]), scaling["maxReplicas"])
    settled = settle_size(Scaling.model_validate(scaling), current, desired, history, NOW)
    if desired >= current:
        assert current <= settled.replicas <= max(desired, current)
    else:
        # Down to the desired size at most, but for a minReplicas above it.
        assert max(min(desired, current), 0) <= settled.replicas <= current


@given(scalings(), counts, readings, readings, histories, st.sampled_from(["All", "ScaleIn", "ScaleOut"]))
def test_a_pause_is_a_pause(
    scaling: dict[str, Any],
    current: int,
    a: QueueBacklog | Missing,
    b: QueueBacklog | Missing,
    history: History,
    paused: str,
) -> None:
    """No direction that is paused ever moves, not even back into the bounds."""
    decision = decide(spec_of(scaling, paused), current, Observation(NOW, {"a": a, "b": b}), history, NOW)
    if paused in ("All", "ScaleIn"):
        assert decision.replicas >= current
    if paused in ("All", "ScaleOut"):
        assert decision.replicas <= current


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), min_size=1, max_size=40))
def test_a_day_in_the_life(steps: list[tuple[int, int]]) -> None:
    """Over any course of the backlog, second by second, a pool shrinks no further than the highest proposal of the last
    300 s, and the end of all work ends at zero."""
    spec = spec_of({"maxReplicas": 50})
    history, current, now = History(), 0, NOW
    proposals: list[tuple[float, int]] = []

    def tick(ready: int) -> None:
        nonlocal history, current, now
        now += 1
        seen = Observation(now, {"a": QueueBacklog(ready, 0, 0, None), "b": QueueBacklog(0, 0, 0, None)})
        decision = decide(spec, current, seen, history, now)
        proposals.append((now, decision.desired))
        if 0 < decision.replicas < current:
            assert decision.replicas >= min(max(d for at, d in proposals if now - at < 300), current)
        history = record_scale(decision.history, now, decision.replicas - current)
        current = decision.replicas

    for ready, seconds in steps:
        for _ in range(seconds):
            tick(ready)
    for _ in range(301):
        tick(0)
    assert current == 0


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, Any], Observation]:
    """A scaling with several metrics, perhaps a fallback, and what is seen: sound, missing or absurd."""
    scaling = draw(scalings())
    chosen = draw(st.lists(st.sampled_from(METRICS[:5]), min_size=1, max_size=4, unique_by=str))
    scaling["metrics"] = chosen + draw(st.sampled_from([[], METRICS[5:]]))
    if draw(st.booleans()):
        scaling["fallback"] = {"afterSeconds": 60, "replicas": draw(st.integers(0, scaling["maxReplicas"]))}
    queries = {"shared": draw(answers), "level": draw(answers)}
    observation = Observation(
        NOW,
        {"a": draw(readings)},
        draw(rates),
        draw(seen_pods),
        queries,
        unschedulable=draw(st.sampled_from([0, 0, 2])),
    )
    return scaling, observation


class Pool:
    """The part of a spec that a decision reads; the document's own check of roles is not this test's subject."""

    def __init__(self, scaling: dict[str, Any]) -> None:
        self.replicas = None
        self.queues = [Queue(name="a")]
        self.scaling = Scaling.model_validate(scaling)
        self.paused: Paused = "None"


@settings(max_examples=120)
@given(worlds(), counts, histories)
def test_whatever_is_seen_the_size_is_within_the_bounds(
    world: tuple[dict[str, Any], Observation], current: int, history: History
) -> None:
    """No metric, however absurd, and no fallback takes a pool outside of minReplicas and maxReplicas."""
    scaling, observation = world
    decision = decide(Pool(scaling), current, observation, history, NOW)
    assert scaling["minReplicas"] <= decision.replicas <= scaling["maxReplicas"]
    assert decision.desired >= 0
    assert decision.stabilized >= 0


@settings(max_examples=120)
@given(worlds(), counts, histories)
def test_no_scale_down_while_a_metric_is_invalid(
    world: tuple[dict[str, Any], Observation], current: int, history: History
) -> None:
    """Unless the fallback says so; and to zero only when the queue is known to be empty."""
    scaling, observation = world
    current = min(max(current, scaling["minReplicas"]), scaling["maxReplicas"])
    decision = decide(Pool(scaling), current, observation, history, NOW)
    fallback = any(line.startswith("Fallback") for line in decision.limits)
    if any(proposal.invalid for proposal in decision.metrics) and not fallback:
        assert decision.replicas >= current
    if decision.replicas == 0 < current:
        backlog = observation.queues["a"]
        assert isinstance(backlog, QueueBacklog)
        assert backlog.work == 0


@settings(max_examples=120)
@given(worlds(), counts, histories)
def test_vetoes_stop_growth_alone(world: tuple[dict[str, Any], Observation], current: int, history: History) -> None:
    """With a pod that waits for a node, or a Ceiling exceeded, nothing grows beyond the minimum, but zero wakes."""
    scaling, observation = world
    decision = decide(Pool(scaling), current, observation, history, NOW)
    vetoed = observation.unschedulable > 0 or any(proposal.forbids_growth for proposal in decision.metrics)
    if vetoed:
        assert decision.replicas <= max(current, scaling["minReplicas"], 1 if current == 0 else 0)


@given(scalings(), counts, counts, counts, histories)
def test_more_work_never_means_fewer_workers(
    scaling: dict[str, Any], current: int, less: int, more: int, history: History
) -> None:
    """With all else alike. Tolerance apart: within it the size stays, and just past it HPA rounds up."""
    less, more = sorted((less, more))
    scaling["behavior"] = {
        **scaling.get("behavior", {}),
        "scaleUp": {**scaling.get("behavior", {}).get("scaleUp", {}), "tolerance": 0},
        "scaleDown": {**scaling.get("behavior", {}).get("scaleDown", {}), "tolerance": 0},
    }
    spec = spec_of(scaling)
    sizes = [
        decide(
            spec,
            current,
            Observation(NOW, {"a": QueueBacklog(ready, 0, 0, None), "b": QueueBacklog(0, 0, 0, None)}),
            history,
            NOW,
        ).replicas
        for ready in (less, more)
    ]
    assert sizes[0] <= sizes[1]
