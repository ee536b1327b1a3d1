"""The fallback's size: when metrics stay away for long enough."""

from __future__ import annotations

from typing import Any

import pytest

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide import decide, from_dict, resumed, rules_of, to_dict
from llmpool_operator.decide.types import Decision, History, Missing, Observation, QueueBacklog, Reason, Recommendation

NOW = 1_000_000.0
GONE = Missing("RedisUnreachable")


def pool(fallback: dict[str, Any] | None, queues: tuple[str, ...] = ("q",), **scaling: Any) -> LLMWorkerPoolSpec:
    given = {} if fallback is None else {"fallback": fallback}
    return LLMWorkerPoolSpec.model_validate(
        {"queues": [{"name": name} for name in queues], "redis": {"url": "redis://r"}, "scaling": {**given, **scaling}}
    )


def blind(
    spec: LLMWorkerPoolSpec, current: int, seconds: float, recommendations: tuple[Recommendation, ...] = ()
) -> Decision:
    """A decision after some seconds without any metric."""
    history = History(recommendations, blind_since=NOW - seconds)
    return decide(spec, current, Observation(NOW, {"q": GONE}), history, NOW)


AFTER_A_MINUTE = pool({"afterSeconds": 60, "replicas": 4})


@pytest.mark.parametrize(
    ("current", "seconds", "replicas", "reason"),
    [
        pytest.param(2, 59.9, 2, Reason.METRICS_MISSING, id="not-yet"),
        pytest.param(2, 60, 4, Reason.FALLBACK, id="up"),
        pytest.param(9, 60, 4, Reason.FALLBACK, id="down"),
        pytest.param(4, 60, 4, Reason.FALLBACK, id="there"),
        pytest.param(0, 60, 4, Reason.FALLBACK, id="from-zero"),
        pytest.param(12, 60, 10, Reason.TOO_MANY_REPLICAS, id="back-to-the-bounds-first"),
    ],
)
def test_after_its_time_the_fallback_is_the_desired_size(
    current: int, seconds: float, replicas: int, reason: Reason
) -> None:
    """Before it the size is held. The reason, a limit and ScalingActive say that it is the fallback's."""
    decision = blind(AFTER_A_MINUTE, current, seconds)
    assert (decision.replicas, decision.reason) == (replicas, reason)
    if reason == Reason.FALLBACK:
        assert decision.hold is False
        assert decision.limits[0].startswith("Fallback: ")
        assert [(c.status, c.reason) for c in decision.conditions if c.type == "ScalingActive"] == [
            ("False", "Fallback")
        ]


def test_it_goes_the_way_of_every_size() -> None:
    """Windows and policies hold for it: what was proposed lately keeps the pool up, and a slow policy stays slow."""
    kept = blind(AFTER_A_MINUTE, 9, 60, (Recommendation(NOW - 100, 7),))
    assert (kept.desired, kept.replicas, kept.reason) == (4, 7, Reason.SCALE_DOWN_STABILIZED)
    slow = {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    slowly = blind(pool({"afterSeconds": 60, "replicas": 4}, behavior=slow), 1, 60)
    assert (slowly.replicas, slowly.reason) == (2, Reason.SCALE_UP_LIMIT)
    assert slowly.limits[0].startswith("Fallback: ")


def test_it_never_ends_the_last_worker() -> None:
    """A fallback of 0 is 1 where there is one: only known emptiness ends the last worker."""
    decision = blind(pool({"afterSeconds": 0, "replicas": 0}), 3, 0)
    assert decision.replicas == 1
    assert blind(pool({"afterSeconds": 0, "replicas": 0}), 0, 0).replicas == 0


def test_blindness_begins_and_ends_with_the_metrics() -> None:
    """One metric that can be read ends it; the next gap is counted anew."""
    history = History(())
    spec = AFTER_A_MINUTE
    history = decide(spec, 2, Observation(NOW, {"q": GONE}), history, NOW).history
    assert history.blind_since == NOW
    history = decide(spec, 2, Observation(NOW + 30, {"q": GONE}), history, NOW + 30).history
    assert history.blind_since == NOW
    history = decide(spec, 2, Observation(NOW + 31, {"q": QueueBacklog(9, 0, 0, None)}), history, NOW + 31).history
    assert history.blind_since is None


def test_known_work_at_zero_wakes_before_the_fallback_is_due() -> None:
    """One queue is unknown, so the sum is; a job in the other wakes the pool all the same."""
    spec = pool({"afterSeconds": 600, "replicas": 4}, queues=("q", "r"))
    seen = Observation(NOW, {"q": GONE, "r": QueueBacklog(1, 0, 0, None)})
    decision = decide(spec, 0, seen, History(()), NOW)
    assert (decision.replicas, decision.reason) == (1, Reason.FROM_ZERO)


def test_without_a_fallback_the_size_is_held_for_ever() -> None:
    """A day without metrics changes nothing."""
    decision = blind(pool(None), 7, 86_400)
    assert (decision.replicas, decision.hold) == (7, True)


def test_a_restart_forgets_no_blindness_and_hurries_nothing() -> None:
    """The time goes on over a restart; the way down begins with the present size as the last proposal."""
    left = to_dict(History((Recommendation(NOW - 500, 9),), blind_since=NOW - 55))
    history = resumed(from_dict(left), 9, NOW, rules_of(None))
    assert history.blind_since == NOW - 55
    later = decide(AFTER_A_MINUTE, 9, Observation(NOW + 5, {"q": GONE}), history, NOW + 5)
    assert (later.desired, later.replicas) == (4, 9)


def test_a_clock_that_was_set_back_starts_it_anew() -> None:
    """Blindness that begins in the future counts from now."""
    decision = blind(AFTER_A_MINUTE, 2, -500)
    assert decision.history.blind_since == NOW
