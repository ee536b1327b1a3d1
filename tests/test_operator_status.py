"""What a status says, when it is written, and what its conditions' times mean."""

from typing import Any

import pytest

from llmpool_operator import status as statuses
from llmpool_operator.conditions import merge
from llmpool_operator.decide.types import (
    Decision,
    Finding,
    History,
    Missing,
    Observation,
    QueueBacklog,
    Reason,
)
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn, Workers

AT = 1_800_000_000.0
TWO = Size(2, 2, 2)
QUEUES = {"q": QueueBacklog(ready=3, due=1, in_flight=2, next_due_in=None)}


def decision(replicas: int, *, able: str = "ReadyForNewScale", limited: str = "False") -> Decision:
    findings = (
        Finding("ScalingActive", "True", "ValidMetricFound", "fine"),
        Finding("AbleToScale", "True", able, "fine"),
        Finding("ScalingLimited", "True" if limited == "True" else "False", "TooManyReplicas", "fine"),
        Finding("MetricsAvailable", "True", "MetricsFound", "fine"),
    )
    return Decision(
        replicas, replicas, replicas, Reason.DESIRED_WITHIN_RANGE, "why", (), (), findings, History(), hold=False
    )


def turn(at: float = AT, size: Size | Missing = TWO, queues: Any = None, **more: Any) -> Turn:
    sighting = Sighting(Observation(at, QUEUES if queues is None else queues), Workers(2, 1, 2, 10))
    given: dict[str, Any] = {"decision": decision(2), **more}
    return Turn(at, size, sighting, **given)


def build(previous: dict[str, Any], of: Turn) -> dict[str, Any]:
    return statuses.build(previous, of, name="chat", generation=3, paused="None", history={"events": []})


def condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in status["conditions"] if c["type"] == kind)


@pytest.mark.parametrize(
    ("of", "wanted"),
    [
        pytest.param(turn(), ("True", "WorkersReady"), id="all ready"),
        pytest.param(turn(size=Size(2, 2, 1)), ("True", "WorkersStarting"), id="some ready"),
        pytest.param(turn(size=Size(2, 2, 0)), ("False", "NoWorkerReady"), id="none ready"),
        pytest.param(turn(size=Size(0, 0, 0), decision=decision(0)), ("True", "ScaledToZero"), id="zero"),
        pytest.param(turn(size=Missing("Gone"), decision=None), ("Unknown", "Gone"), id="unknown"),
        pytest.param(turn(failure=TargetError("Forbidden", "no")), ("False", "Forbidden"), id="failure"),
    ],
)
def test_ready(of: Turn, wanted: tuple[str, str]) -> None:
    """Ready is about workers that take jobs; a pool at zero that should be there is ready."""
    assert condition(build({}, of), "Ready") == wanted


def test_transition_times_move_only_on_change() -> None:
    """A condition's time is the time it changed its mind, not the time it was looked at."""
    first = merge([], [Finding("Ready", "True", "A", "1")], at=AT, generation=1)
    same = merge(first, [Finding("Ready", "True", "B", "2")], at=AT + 100, generation=2)
    changed = merge(same, [Finding("Ready", "False", "C", "3")], at=AT + 200, generation=2)
    assert same[0]["lastTransitionTime"] == first[0]["lastTransitionTime"] == "2027-01-15T08:00:00Z"
    assert (same[0]["reason"], same[0]["message"], same[0]["observedGeneration"]) == ("B", "2", 2)
    assert changed[0]["lastTransitionTime"] == "2027-01-15T08:03:20Z"


def test_a_failure_outweighs_the_decision_without_flapping() -> None:
    """AbleToScale is False while acting fails, and keeps its time from turn to turn."""
    failing = {"failure": TargetError("Forbidden", "no")}
    first = build({}, turn(**failing))
    second = build(first, turn(at=AT + 50, **failing))
    found = [c for c in second["conditions"] if c["type"] == "AbleToScale"]
    assert [(c["status"], c["lastTransitionTime"]) for c in found] == [("False", "2027-01-15T08:00:00Z")]


def test_counts_are_written_every_few_seconds_alone() -> None:
    """A changing backlog doesn't write each second; a changing size writes at once; nothing new writes never."""
    written = build({}, turn())
    busier = build(written, turn(queues={"q": QueueBacklog(9, 0, 0, None)}))
    assert not statuses.is_due(written, busier, since=1.0)
    assert statuses.is_due(written, busier, since=statuses.COUNTERS_EVERY)
    assert statuses.is_due(written, build(written, turn(resized=(1, 2))), since=0.0)
    assert statuses.is_due(written, build(written, turn(size=Size(2, 2, 1))), since=0.0)
    assert not statuses.is_due(written, build(written, turn(at=AT + 600)), since=600.0)


def test_what_follows_the_backlog_is_written_as_counts_are() -> None:
    """A busy pool is stabilised and limited by turns, each second another: no reason for a write each second."""
    written = build({}, turn())
    held = build(written, turn(decision=decision(2, able="ScaleDownStabilized", limited="True")))
    assert not statuses.is_due(written, held, since=1.0)
    assert statuses.is_due(written, held, since=statuses.COUNTERS_EVERY)
    failing = build(written, turn(failure=TargetError("Forbidden", "no")))
    assert statuses.is_due(written, failing, since=0.0)


def test_a_turn_without_a_decision_claims_none() -> None:
    """Where a pool is refused, an earlier turn's metrics and scaling are no longer said to be there."""
    refused = build(build({}, turn()), turn(decision=None, failure=TargetError("AmbiguousQueue", "older")))
    assert condition(refused, "ScalingActive") == ("False", "AmbiguousQueue")
    assert condition(refused, "MetricsAvailable") == ("Unknown", "AmbiguousQueue")
    assert condition(refused, "Ready") == ("False", "AmbiguousQueue")


def test_a_size_that_came_about_is_the_desired_one() -> None:
    """An apply that failed doesn't hide that the size is as decided, and that sizing works."""
    failure = TargetError("Refused", "apply: no", sized=True)
    status = build({}, turn(decision=decision(5), resized=(2, 5), failure=failure))
    assert status["desiredReplicas"] == 5
    assert condition(status, "AbleToScale") == ("True", "ReadyForNewScale")
    assert condition(status, "Ready") == ("False", "Refused")


def test_a_sum_over_some_queues_is_no_sum() -> None:
    """Where one queue is missing, the backlog of the pool is not known, and the old number goes."""
    written = build({}, turn())
    assert (written["queued"], written["inFlight"], written["busy"]) == (4, 2, 1)
    partly = build(written, turn(queues={**QUEUES, "p": Missing("away")}))
    assert "queued" not in partly
    assert statuses.as_patch(written, partly)["queued"] is None


def test_a_patch_carries_what_changed_and_null_for_what_went() -> None:
    """Merge patches merge objects: a history's field that is gone is nulled too."""
    written = {"replicas": 2, "queued": 4, "selector": "s", "history": {"events": [], "emptySince": 5.0}}
    wanted = {"replicas": 3, "selector": "s", "history": {"events": []}}
    assert statuses.as_patch(written, wanted) == {
        "replicas": 3,
        "queued": None,
        "history": {"events": [], "emptySince": None},
    }


def test_sizes_outlive_a_turn_that_does_not_know_them() -> None:
    """`kubectl get` goes on showing the last known size while the API is in trouble."""
    written = build({}, turn())
    unknown = build(written, turn(size=Missing("Gone"), decision=None))
    assert (unknown["replicas"], unknown["readyReplicas"], unknown["desiredReplicas"]) == (2, 2, 2)
