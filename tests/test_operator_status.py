"""What a status says, when it is written, and what its conditions' times mean."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from llmpool_contract import WorkerReport, WorkerState
from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_contract.report import ModelReport
from llmpool_operator import status as statuses
from llmpool_operator.conditions import merge
from llmpool_operator.decide.types import (
    Bounds,
    Decision,
    Finding,
    History,
    MetricProposal,
    Missing,
    Observation,
    QueueBacklog,
    Reason,
)
from llmpool_operator.gpu import GPU
from llmpool_operator.models import ModelState
from llmpool_operator.status_parts import MAX_SENTENCE, MAX_SENTENCES
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn, Workers

AT = 1_800_000_000.0
TWO = Size(2, 2, 2)
CRD = Path(__file__).parents[1] / "crds" / "llmworkerpools.yaml"
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


def metric(value: Any, replicas: int | None = 2, **more: Any) -> MetricProposal:
    message = f"QueueDepth {value} asks for {replicas}"
    return MetricProposal("QueueDepth", value, Fraction(5), replicas, message, **more)


def turn(at: float = AT, size: Size | Missing = TWO, queues: Any = None, **more: Any) -> Turn:
    seen = {key: more.pop(key) for key in ("reports", "gpu") if key in more}
    sighting = Sighting(Observation(at, QUEUES if queues is None else queues), Workers(2, 1, 2, 10), **seen)
    given: dict[str, Any] = {"decision": decision(2), **more}
    return Turn(at, size, sighting, **given)


def spec(**more: Any) -> LLMWorkerPoolSpec:
    given = {"queues": [{"name": "q"}], "redis": {"url": "redis://r"}, **more}
    return LLMWorkerPoolSpec.model_validate(given)


def build(previous: dict[str, Any], of: Turn, models: Any = None, **more: Any) -> dict[str, Any]:
    """``more``: fields of the spec."""
    return statuses.build(
        previous, of, name="chat", generation=3, spec=spec(**more), models=models, history={"events": []}
    )


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
        pytest.param(turn(size=Size(3, 3, 2, unschedulable=1)), ("True", "WorkersReady"), id="one too many homeless"),
        pytest.param(turn(size=Size(2, 2, 1, unschedulable=1)), ("True", "Unschedulable"), id="one homeless"),
        pytest.param(turn(size=Size(2, 2, 0, unschedulable=2)), ("False", "Unschedulable"), id="all homeless"),
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
    assert condition(status, "AbleToScale") == ("True", "SucceededRescale")
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


def test_a_pool_that_only_observes_says_so() -> None:
    """Ready is about looking, not about what another autoscaler makes of the Deployment."""
    status = build({}, turn(size=Size(4, 4, 0)), mode="Observe")
    assert condition(status, "Ready") == ("True", "Observing")
    message = next(c["message"] for c in status["conditions"] if c["type"] == "Ready")
    assert message == "observing 4 workers, 0 ready; this pool would have 2; nothing is changed"


def test_a_decision_is_written_with_its_way() -> None:
    """Numbers, limits, and each metric's reading, target and proposal; roles are the spec's."""
    made = replace(
        decision(3),
        desired=9,
        stabilized=7,
        limits=("ScaleUpLimit: 3 instead of 7",),
        metrics=(metric(Fraction(89, 2), 9), metric(Missing("away"), None), metric(Fraction(80), None, age=4.0)),
    )
    gpu = {"type": "GPUUtilization", "role": "Ceiling"}
    status = build({}, turn(decision=made), scaling={"metrics": [{"type": "QueueDepth"}] * 2 + [gpu]})
    assert status["decision"] == {
        "at": "2027-01-15T08:00:00Z",
        "desired": 9,
        "stabilized": 7,
        "replicas": 3,
        "reason": "DesiredWithinRange",
        "message": "why",
        "limits": ["ScaleUpLimit: 3 instead of 7"],
    }
    read, away, ceiling = status["metrics"]
    assert (read["value"], read["target"], read["replicas"], read["role"]) == (44.5, 5, 9, "Target")
    assert away["missing"] == "away"
    assert not {"value", "replicas", "at"} & away.keys()
    assert (ceiling["role"], ceiling["at"]) == ("Ceiling", "2027-01-15T07:59:56Z")


def test_bounds_are_there_while_a_schedule_rules() -> None:
    """With the schedule as the spec has it; the spec's own bounds are in the spec."""
    schedules = {"schedules": [{"cron": "0 8 * * 1-5", "timezone": "Europe/Berlin", "minReplicas": 2}]}
    ruled = replace(decision(2), bounds=Bounds(2, 10, "schedules[0]"))
    status = build({}, turn(decision=ruled), scaling=schedules)
    assert status["bounds"] == {
        "minReplicas": 2,
        "maxReplicas": 10,
        "schedule": "schedules[0]: 0 8 * * 1-5 Europe/Berlin",
    }
    assert "bounds" not in build(status, turn(decision=replace(decision(2), bounds=Bounds(0, 10))))


def test_numbers_that_stay_write_nothing_though_time_goes_on() -> None:
    """When a reading was made is no news by itself; it goes along with the next write."""
    quiet = replace(decision(2), metrics=(metric(Fraction(9), 2),))
    written = build({}, turn(decision=quiet))
    later = build(written, turn(at=AT + 600, decision=quiet))
    assert later["decision"]["at"] != written["decision"]["at"]
    assert not statuses.is_due(written, later, since=600.0)
    busier = replace(decision(2), metrics=(metric(Fraction(10), 2),))
    assert statuses.is_due(written, build(written, turn(decision=busier)), since=statuses.COUNTERS_EVERY)


def test_drains_and_waits() -> None:
    """A worker that begins to drain is written at once, what is waited for as counts are."""
    written = build({}, turn())
    assert (written["draining"], "waits" in written) == (0, False)
    draining = build(written, turn(draining=1, waits=("w1 drains until 08:10",)))
    assert (draining["draining"], draining["waits"]) == (1, ["w1 drains until 08:10"])
    assert statuses.is_due(written, draining, since=0.0)
    other = build(draining, turn(draining=1, waits=("w1 drains until 08:11",)))
    assert not statuses.is_due(draining, other, since=1.0)
    assert statuses.as_patch(draining, build(draining, turn()))["waits"] is None


def test_gpu_is_whole_percent_and_only_what_is_known() -> None:
    """The column wants a whole number; a memory that nobody tells is left out, never zero."""
    told = turn(gpu=GPU(0.734, None, 24 * 1024**3, "workers", AT, shared=False))
    assert build({}, told)["gpu"] == {"utilization": 73, "memoryTotalBytes": 24 * 1024**3, "source": "workers"}
    assert "gpu" not in build({}, turn())


def report(**states: tuple[str, str | None]) -> WorkerReport:
    models = [ModelReport(name=name, state=state, error=error) for name, (state, error) in states.items()]
    return WorkerReport(
        worker="w", pool="p", state=WorkerState.READY, at_ms=0, in_flight=0, capacity=5, queues=[], models=models
    )


@pytest.mark.parametrize(
    ("reports", "wanted"),
    [
        pytest.param({}, "Unknown", id="no workers"),
        pytest.param(Missing("away"), "Unknown", id="no reports"),
        pytest.param({"w": report(a=("ready", None))}, "True", id="ready"),
        pytest.param({"w": report(a=("loading", None))}, "False", id="loading"),
        pytest.param({"w": report(a=("failed", "too_big: no"))}, "False", id="failed"),
    ],
)
def test_models_ready(reports: Any, wanted: str) -> None:
    """At zero nothing is known of models; else each worker that should have one must."""
    made = statuses.build(
        {},
        turn(reports=reports),
        name="chat",
        generation=1,
        spec=spec(models={"preload": ["a"]}),
        models=None,
        history={"events": []},
    )
    assert condition(made, "ModelsReady")[0] == wanted


def test_each_model_is_told() -> None:
    """By name, with how many workers have it, and why one hasn't."""
    status = build({}, turn(), [ModelState("a", 2, 2), ModelState("b", 0, 2, "too_big: no")])
    assert status["models"] == [
        {"name": "a", "ready": 2, "total": 2},
        {"name": "b", "ready": 0, "total": 2, "error": "too_big: no"},
    ]


def test_the_largest_status_is_what_the_crd_allows() -> None:
    """Whatever comes in, lists and sentences keep to their bounds, and absurd readings to what JSON can hold."""
    long = "x" * 10_000
    most = replace(
        decision(2),
        reason=Reason.PAUSED,
        message=long,
        limits=(long,) * 100,
        bounds=Bounds(1, 2, f"schedules[{long}]"),
        metrics=(*[metric(Fraction(10) ** 40, 2**31 - 1)] * 7, metric(Missing(long), None)),
    )
    status = build(
        {},
        turn(decision=most, waits=(long,) * 100, gpu=GPU(1.0, 1, 2, "prometheus", AT, shared=True), resized=(1, 2)),
        [ModelState("m" * 256, 1, 2, long)] * 32,
    )
    assert len(status["waits"]) == MAX_SENTENCES
    assert len(status["models"][0]["error"]) == MAX_SENTENCE
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    closed = closed_schema(schema["properties"]["status"])
    jsonschema.validate(json.loads(json.dumps(status, allow_nan=False)), closed)


def closed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every field it doesn't name forbidden: the API server would drop those."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: closed_schema(of) for name, of in schema["properties"].items()}
        closed["additionalProperties"] = False
    if "items" in schema:
        closed["items"] = closed_schema(schema["items"])
    return closed
