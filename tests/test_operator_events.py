"""Which Events a pool's turns are worth: each trouble once, by HPA's names, and never a flood."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide.types import Decision, History, MetricProposal, Missing, Observation, Reason
from llmpool_operator.events import Bucket, PoolEvents
from llmpool_operator.models import ModelState
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn, Workers

AT = 1_800_000_000.0
SPEC = LLMWorkerPoolSpec.model_validate({"queues": [{"name": "q"}], "redis": {"url": "redis://r"}})
GONE = MetricProposal("QueueDepth", Missing("RedisTimeout"), Fraction(5), None, "QueueDepth is missing: RedisTimeout")
GPU_GONE = MetricProposal(
    "GPUUtilization", Missing("x"), Fraction(80), None, "GPUUtilization is missing: x", asks=False
)
READ = MetricProposal("QueueDepth", Fraction(9), Fraction(5), 2, "QueueDepth 9 at 5 a worker asks for 2")


def turn(*metrics: MetricProposal, hold: bool = False, at: float = AT, **more: Any) -> Turn:
    made = Decision(2, 2, 2, Reason.TOO_MANY_REPLICAS, "why", (), metrics, (), History(), hold=hold)
    given: dict[str, Any] = {"size": Size(2, 2, 2), "decision": made, **more}
    return Turn(at, sighting=Sighting(Observation(at, {}), Workers(2, 1, 2, 10)), **given)


def told(*turns: Turn, spec: LLMWorkerPoolSpec | None = SPEC, models: Any = ()) -> list[tuple[str, str]]:
    events = PoolEvents()
    return [(event.reason, event.message) for of in turns for event in events.of(of, spec, models)]


@pytest.mark.parametrize(
    ("of", "wanted"),
    [
        pytest.param(turn(READ), [], id="nothing"),
        pytest.param(turn(READ, resized=(1, 2)), ["SuccessfulRescale"], id="resized"),
        pytest.param(turn(READ, found=(2, 5)), ["ScaledByAnother"], id="found"),
        pytest.param(turn(GONE, hold=True), ["FailedGetExternalMetric", "FailedComputeMetricsReplicas"], id="held"),
        pytest.param(turn(READ, GONE), ["FailedGetExternalMetric"], id="one of two"),
        pytest.param(turn(READ, GPU_GONE), ["FailedGetPodsMetric"], id="gpu"),
        pytest.param(turn(READ, failure=TargetError("Forbidden", "no")), ["FailedRescale"], id="rescale"),
        pytest.param(turn(READ, failure=TargetError("Refused", "no", sized=True)), ["FailedApply"], id="apply"),
        pytest.param(
            turn(size=Missing("x"), decision=None, failure=TargetError("APIUnreachable", "no")),
            ["FailedGetScale"],
            id="not even read",
        ),
        pytest.param(turn(READ, failure=TargetError("ScaledByAnother", "hpa")), ["ScaledByAnother"], id="another"),
        pytest.param(turn(READ, size=Size(2, 2, 1, unschedulable=1)), ["Unschedulable"], id="homeless"),
    ],
)
def test_reasons(of: Turn, wanted: list[str]) -> None:
    """HPA's where it has one; ours are words that an Event can be searched by."""
    assert [reason for reason, _ in told(of)] == wanted


def test_a_rescale_says_size_and_reason() -> None:
    """In HPA's words."""
    assert told(turn(READ, resized=(1, 2))) == [("SuccessfulRescale", "New size: 2; reason: TooManyReplicas: why")]


def test_a_trouble_is_told_when_it_begins_and_when_it_comes_back() -> None:
    """Not each second while it lasts."""
    lasting = [turn(GONE, hold=True, at=AT + n) for n in range(5)]
    again = told(*lasting, turn(READ), lasting[0])
    assert [reason for reason, _ in again] == ["FailedGetExternalMetric", "FailedComputeMetricsReplicas"] * 2


def test_a_model_that_fails_is_told_once_though_reports_come_and_go() -> None:
    """While no report can be read nobody knows that it is well again."""
    events = PoolEvents()
    failed = (ModelState("big", 0, 2, "too_big: no"), ModelState("a", 2, 2))
    seen = [[event.message for event in events.of(turn(READ), SPEC, models)] for models in (failed, None, failed, ())]
    assert seen == [["big is ready on 0 of 2 workers: too_big: no"], [], [], []]


def test_a_pool_that_only_observes_tells_no_rescale() -> None:
    """Sizes that others set are what it is there to look at."""
    observing = SPEC.model_copy(update={"mode": "Observe"})
    assert told(turn(READ, resized=(1, 2), found=(2, 5)), spec=observing) == []


def test_a_flood_is_dropped_and_counted_but_troubles_are_still_told() -> None:
    """A size that changes each second fills its own bucket alone; afterwards one Event in five minutes."""
    events = PoolEvents()
    sent = [len(events.of(turn(READ, resized=(1, 2), at=AT + n), SPEC, ())) for n in range(100)]
    assert (sum(sent), events.dropped) == (25, 75)
    assert [event.reason for event in events.of(turn(GONE, at=AT + 101), SPEC, ())] == ["FailedGetExternalMetric"]
    assert len(events.of(turn(READ, resized=(1, 2), at=AT + 400), SPEC, ())) == 1


def test_a_bucket_is_full_at_first() -> None:
    """A new one gives as many as it can ever hold, and no more."""
    new, old = Bucket(), Bucket(tokens=0.0, at=AT)
    assert sum(new.take(AT) for _ in range(50)) == sum(old.take(AT + 86_400) for _ in range(50)) == 25


def test_a_clock_that_is_set_back_fills_no_bucket() -> None:
    """Nor does it empty one."""
    bucket = Bucket(tokens=1.0, at=AT)
    assert bucket.take(AT - 3_600)
    assert not bucket.take(AT - 3_599)
    assert bucket.take(AT - 3_200)


def test_a_pool_whose_spec_cannot_be_read_tells_so() -> None:
    """There is no spec to go by, and still an Event."""
    refused = replace(turn(READ), decision=None, size=Missing("x"), failure=TargetError("InvalidSpec", "queues: empty"))
    assert told(refused, spec=None, models=None) == [("InvalidSpec", "queues: empty")]
