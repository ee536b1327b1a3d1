"""What holds for every spec, size, backlog and history."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmpool_contract.pool import LLMWorkerPoolSpec, Scaling
from llmpool_operator.decide import decide, record_scale, settle_size
from llmpool_operator.decide.types import (
    History,
    Missing,
    Observation,
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
)
backlogs = st.builds(
    QueueBacklog,
    ready=counts,
    due=st.integers(0, 9),
    in_flight=st.integers(0, 50),
    next_due_in=st.none() | st.floats(0, 1000),
)
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
