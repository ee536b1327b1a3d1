"""`llmpool explain`'s page: made from a pool's object alone, in words that say what to do."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from llmpool_operator.decide.types import Missing, Reason
from llmpool_operator.explain import Leader, advice, explain, lines
from llmpool_operator.explain.advice import _ADVICE, advice_for
from llmpool_operator.explain.times import ago, seconds_of, span
from llmpool_operator.targets.base import TargetError
from llmpool_operator.targets.deployment_calls import _REASONS
from tests.test_documents import section

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
ALIVE = Leader("op-1", NOW - 2, 15)
SPEC = {"queues": [{"name": "llm-chat"}], "redis": {"url": "redis://r"}}
DECISION = {
    "at": "2027-01-15T07:59:50Z",
    "desired": 9,
    "stabilized": 9,
    "replicas": 5,
    "reason": "TooManyReplicas",
    "message": "5 instead of 9: more than maxReplicas",
    "limits": ["TooManyReplicas: 5 instead of 9: more than maxReplicas"],
}
METRIC = {
    "type": "QueueDepth",
    "role": "Target",
    "value": 44.5,
    "target": 5,
    "replicas": 9,
    "message": "QueueDepth 44.5 at 5 a worker asks for 9",
    "at": "2027-01-15T07:59:50Z",
}
STATUS = {
    "observedGeneration": 2,
    "replicas": 5,
    "readyReplicas": 5,
    "desiredReplicas": 5,
    "busy": 3,
    "queued": 40,
    "inFlight": 5,
    "decision": DECISION,
    "metrics": [METRIC],
}


def pool(status: Any = None, spec: Any = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "llmpool.dev/v1alpha1",
        "kind": "LLMWorkerPool",
        "metadata": {"name": "chat", "namespace": "lms", "generation": 2, **metadata},
        "spec": SPEC if spec is None else {**SPEC, **spec},
        "status": STATUS if status is None else status,
    }


def written(at: str) -> dict[str, Any]:
    """A pool whose status was written then."""
    return pool({**STATUS, "decision": {**DECISION, "at": at}})


LEFT, OLD = written("2027-01-15T07:56:41Z"), written("2027-01-15T07:54:00Z")


def text_of(obj: dict[str, Any], leader: Leader | Missing | None = ALIVE, now: float = NOW) -> str:
    return "\n".join(line.text for line in lines(explain(obj, now=now, leader=leader)))


def condition(kind: str, status: str, reason: str, message: str = "words") -> dict[str, str]:
    moment = "2027-01-15T07:30:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": moment}


def test_the_page_begins_with_the_size_and_its_reason() -> None:
    """Size, reason, trust: the first three lines answer most questions."""
    first, second, third, *_ = text_of(pool()).splitlines()
    assert first == "lms/chat has 5 workers: 5 asked for, 5 ready, 3 busy, jobs waiting: 40, running: 5"
    assert second == "TooManyReplicas: 5 instead of 9: more than maxReplicas"
    assert third == "the status was written 10 s ago, and is as operator op-1 sees it now: it writes what changes"


def test_each_metric_is_a_row_and_a_sentence() -> None:
    """Reading, target, proposal and age; what is missing says so, and has no number."""
    away = {
        "type": "DrainTime",
        "role": "Target",
        "missing": "away",
        "target": 60,
        "message": "DrainTime is missing: away",
    }
    shown = text_of(pool({**STATUS, "metrics": [METRIC, away]}))
    assert re.search(r"QueueDepth +Target +44\.5 +5 +9 +10 s ago", shown)
    assert re.search(r"DrainTime +Target +missing +60 +- +-", shown)
    assert "DrainTime is missing: away" in shown


@pytest.mark.parametrize(
    ("decision", "wanted"),
    [
        pytest.param({}, ["9  what the metrics", "9  after the stab", "5  after rate", "TooManyR"], id="bounds"),
        pytest.param(
            {"desired": 2, "stabilized": 5, "limits": ["ScaleDownStabilized: 5 instead of 2: the highest"]},
            ["2  what the metrics", "5  after the stab", "ScaleDownStabilized: 5 instead of 2", "5  after rate"],
            id="window",
        ),
        pytest.param(
            {"desired": 1, "stabilized": 0, "replicas": 1, "reason": "FromZero", "message": "work", "limits": []},
            ["1  after rate policies, bounds and pauses", "FromZero: work"],
            id="from zero",
        ),
        pytest.param(
            {"desired": 5, "stabilized": 5, "reason": "MetricsMissing", "limits": []},
            ["5  the size as it was, since no metric counts"],
            id="held",
        ),
        pytest.param({"reason": "ManualReplicas", "limits": []}, ["the size by hand"], id="by hand"),
        pytest.param(
            {"limits": ["Fallback: 2 after 180 s", "ScaleUpLimit: 5 instead of 9"]},
            ["9  what", "Fallback: 2 after 180 s", "9  after the stab", "5  after rate", "ScaleUpLimit: 5 ins"],
            id="fallback",
        ),
    ],
)
def test_how_the_size_came_about(decision: dict[str, Any], wanted: list[str]) -> None:
    """The number at each point of its way, and under it what changed it there, in that order."""
    shown = text_of(pool({**STATUS, "decision": {**DECISION, **decision}})).partition("How the size came about")[2]
    places = [shown.find(part) for part in wanted]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("spec", "status", "wanted"),
    [
        pytest.param({}, {}, "from 0 to 10 workers, by spec.scaling", id="bounds"),
        pytest.param({}, {}, "to zero after 300 s without a job", id="zero"),
        pytest.param(
            {},
            {"bounds": {"minReplicas": 2, "maxReplicas": 5, "schedule": "schedules[0]: 0 8 * * * UTC"}},
            "from 2 to 5 workers, by the schedule schedules[0]: 0 8 * * * UTC",
            id="schedule",
        ),
        pytest.param({"replicas": 3}, {}, "spec.replicas is 3: a size by hand", id="by hand"),
        pytest.param({"paused": "ScaleIn"}, {}, "spec.paused is ScaleIn: the pool doesn't shrink", id="paused"),
        pytest.param({"mode": "Observe"}, {}, "spec.mode is Observe", id="observing"),
        pytest.param({"scaling": {"fallback": {"replicas": 2}}}, {}, "2 workers after 180 s without", id="fallback"),
    ],
)
def test_rules(spec: dict[str, Any], status: dict[str, Any], wanted: str) -> None:
    """What the spec allows and forbids now."""
    assert wanted in text_of(pool({**STATUS, **status}, spec))


EMPTY = {"history": {"events": [], "emptySince": NOW - 60, "recommendations": [{"at": NOW - 100, "replicas": 5}]}}
LOWER = {"decision": {**DECISION, "desired": 2}}


@pytest.mark.parametrize(
    ("status", "spec", "wanted"),
    [
        pytest.param(EMPTY, {}, "to zero at 2027-01-15T08:04:00Z (in 4 min)", id="idle"),
        pytest.param(
            {**LOWER, "history": {"events": [], "recommendations": [{"at": NOW - 100, "replicas": 5}]}},
            {},
            "scale-down window: 2 at 2027-01-15T08:03:20Z at the earliest (in 3 min 20 s)",
            id="window",
        ),
        pytest.param({"readyReplicas": 2}, {}, "workers that start: 2 of 5 workers are ready", id="starting"),
        pytest.param({"draining": 2}, {}, "2 workers drain before a scale-in", id="draining"),
        pytest.param({"draining": 2, "waits": ["w1 drains"]}, {}, "w1 drains", id="told"),
    ],
)
def test_waits(status: dict[str, Any], spec: dict[str, Any], wanted: str) -> None:
    """Countdowns follow from what the status remembers; the rest is what the operator told."""
    assert wanted in text_of(pool({**STATUS, **status}, spec)).partition("Waits for")[2]


@pytest.mark.parametrize(
    ("status", "spec"),
    [
        pytest.param(EMPTY, {"scaling": {"minReplicas": 1}}, id="never zero"),
        pytest.param(EMPTY, {"replicas": 5}, id="by hand"),
        pytest.param(EMPTY, {"paused": "All"}, id="paused"),
        pytest.param({**EMPTY, "desiredReplicas": 0, "readyReplicas": 0}, {}, id="at zero"),
    ],
)
def test_no_countdown_without_an_end(status: dict[str, Any], spec: dict[str, Any]) -> None:
    """A pool that won't shrink by itself waits for nothing."""
    assert "Waits for" not in text_of(pool({**STATUS, **status}, spec))


def test_the_earlier_way_down_is_told() -> None:
    """Idleness goes past the window: a window that ends later holds nothing up."""
    history = {"events": [], "emptySince": NOW - 290, "recommendations": [{"at": NOW - 10, "replicas": 5}]}
    waits = explain(pool({**STATUS, **LOWER, "history": history}), now=NOW).waits
    assert len(waits) == 1
    assert "idle countdown" in waits[0]


@pytest.mark.parametrize(
    ("obj", "leader", "stale", "wanted"),
    [
        pytest.param(pool(), ALIVE, False, "as operator op-1 sees it now", id="alive"),
        pytest.param(LEFT, Leader("op-1", NOW - 200, 15), True, "not renewed its Lease for 3 min 20 s", id="dead"),
        pytest.param(pool(), Leader("op-1", NOW - 25, 10), True, "not renewed its Lease for 25 s", id="just dead"),
        pytest.param(pool(), Leader("op-1", NOW - 200, 15), False, "by another operator than the", id="outlived"),
        pytest.param(pool(), Leader(None, NOW - 200, 1), False, "by another operator than the", id="after its return"),
        pytest.param(pool(), Leader("op-1", None, 15), False, "by another operator than the", id="no time in it"),
        pytest.param(OLD, Leader("op-1", NOW - 9_000, 15), True, "nobody sizes this pool now", id="both long dead"),
        pytest.param(pool(), Leader(None, NOW, 15), True, "no operator holds the Lease", id="given back"),
        pytest.param(pool(), Missing("no right"), False, "can't be told: no right", id="not known"),
        pytest.param(pool(), None, False, "the status was written 10 s ago", id="file"),
        pytest.param(pool({}), ALIVE, True, "no operator has looked at this pool", id="no status"),
        pytest.param(pool(generation=3), ALIVE, True, "is of generation 3, and the operator has seen 2", id="old"),
        pytest.param(
            pool(
                managedFields=[
                    {"manager": "llmpool-operator", "subresource": "status", "time": "2027-01-15T07:59:57Z"},
                    {"manager": "kubectl", "time": "2027-01-15T08:00:00Z"},
                ]
            ),
            ALIVE,
            False,
            "written 3 s ago",
            id="the api server's note",
        ),
    ],
)
def test_freshness(obj: dict[str, Any], leader: Any, stale: bool, wanted: str) -> None:
    """A page that nobody keeps up says so: a dead operator's status looks as alive as any."""
    page = explain(obj, now=NOW, leader=leader)
    assert wanted in page.freshness.sentence
    assert page.freshness.stale == stale
    assert page.freshness.sentence.startswith("STALE") == (stale and bool(obj["status"]) and "generation" not in wanted)


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        pytest.param([condition("Ready", "True", "WorkersReady")], [], id="all well"),
        pytest.param([condition("ScalingActive", "False", "ManualReplicas")], [], id="wished"),
        pytest.param([condition("AbleToScale", "False", "Forbidden")], ["Forbidden"], id="forbidden"),
        pytest.param([condition("Ready", "True", "Unschedulable")], ["Unschedulable"], id="homeless"),
        pytest.param([condition("ModelsReady", "False", "Loading")], [], id="models on their way"),
        pytest.param([condition("ModelsReady", "False", "ModelFailed")], ["ModelFailed"], id="a model that fails"),
        pytest.param(
            [condition("Ready", "False", "AmbiguousQueue"), condition("ScalingActive", "False", "AmbiguousQueue")],
            ["AmbiguousQueue"],
            id="said once",
        ),
        pytest.param(
            [condition("MetricsAvailable", "False", "MetricsMissing", "queue q: RedisTimeout at r:6379")],
            ["MetricsMissing"],
            id="redis",
        ),
    ],
)
def test_problems(conditions: list[dict[str, str]], wanted: list[str]) -> None:
    """What keeps the pool from what it should do, each with what to do about it; what was asked for is none."""
    found = explain(pool({**STATUS, "conditions": conditions}), now=NOW).problems
    assert [problem.reason for problem in found] == wanted
    assert all(problem.advice for problem in found)


def test_advice_names_this_pool_s_pods() -> None:
    """A command in it can be pasted."""
    [found] = explain(pool({"conditions": [condition("Ready", "False", "NoWorkerReady")]}), now=NOW).problems
    assert found.advice is not None
    assert "kubectl -n lms describe pods -l llmpool.dev/pool=chat" in found.advice
    assert all("{" not in text.format(namespace="a", name="b") for text in _ADVICE.values())


def test_advice_is_about_the_cause_where_a_reason_hides_it() -> None:
    """What to do about a hash that can't be written depends on what Redis said."""
    told = "the workers can't be told anything: RedisTimeout at r:6379"
    assert advice_for("ConfigNotWritten", told, namespace="a", name="b") == _ADVICE["RedisTimeout"]
    assert advice_for("ConfigNotWritten", "why", namespace="a", name="b") == _ADVICE["ConfigNotWritten"]


OPERATOR = Path(advice.__file__).parents[1]
WORDED = (
    "missing",
    "prometheus",
    "promql",
    "credentials",
    "sightings",
    "readers",
    "reports",
    "pools",
    "reconciler",
    "act/config",
    "targets/*",
)
"""Modules whose reasons end up in a status."""
WITHOUT_ADVICE = {
    "AlreadyExists",  # the API server's word, which is looked for
    "PrometheusNotYetRead",  # gone within seconds
    "RedisNoLongerUsed",  # gone with the next turn
    "ScaleIn",  # a value of spec.paused
    "WorkerNotStarted",  # of `llmpool local`, whose terminal has the cause; there is no status
}


def reasons_in(source: Path) -> set[str]:
    """The fixed words of a module: each text that begins with a word in CamelCase, and nothing or a place after it."""
    texts = [node.value for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Constant)]
    found = (re.match(r"((?:API|[A-Z][a-z]+)[A-Z]\w*)(?:$|:| at | has )", str(text)) for text in texts)
    return {match[1] for match in found if match}


def test_every_reason_has_advice() -> None:
    """Each word that a status may give as the cause of a trouble, but for a few, says what to do."""
    sources = [source for pattern in WORDED for source in OPERATOR.glob(f"{pattern}.py")]
    words = set().union(*(reasons_in(source) for source in sources), _REASONS.values())
    assert words >= {
        "SecretNotFound",
        "PoolConfigUnreadable",
        "NoSuchDeployment",
        "PrometheusStale",
        "RedisMoved",
        "Gone",
    }
    assert words - _ADVICE.keys() <= WITHOUT_ADVICE


def test_documents_name_every_reason() -> None:
    """docs/operator.md has each reason of a decision's conditions, and each refusal of a Deployment."""
    named = set(re.findall(r"`(\w+)`", section("docs/operator.md", "Conditions")))
    refusals = set(re.findall(r"``([A-Z]\w+)``", TargetError.__doc__ or "")) - {"WorkerNotStarted"}
    unseen = {Reason.FROM_ZERO}  # a decision's reason, of no condition
    assert named >= {*map(str, set(Reason) - unseen), *refusals, "NoSuchDeployment"}


def test_a_spec_that_cannot_be_read_is_a_problem() -> None:
    """A document from before the CRD, or from a newer one: the rest is explained all the same."""
    page = explain(pool(spec={"queues": []}), now=NOW)
    assert page.rules is None
    assert (page.problems[0].reason, page.sizes.replicas) == ("InvalidSpec", 5)
    assert "queues" in page.problems[0].message


@pytest.mark.parametrize("status", [{}, {"conditions": []}, {"decision": {"desired": 1}}, {"gpu": {}, "metrics": []}])
def test_a_status_with_holes_is_no_error(status: dict[str, Any]) -> None:
    """An older operator's status has fewer fields; what isn't known isn't made up."""
    page = explain(pool(status), now=NOW)
    assert page.summary == "an unknown number of workers"
    assert page.decision is None


def test_json_has_every_field_whatever_is_known() -> None:
    """Programs find the same keys in each page, in camelCase, null for what isn't known."""
    full, bare = explain(pool(), now=NOW).to_json(), explain(pool({}), now=NOW).to_json()
    assert full.keys() == bare.keys()
    assert list(full) == [
        "namespace",
        "name",
        "summary",
        "freshness",
        "sizes",
        "decision",
        "rules",
        "metrics",
        "waits",
        "models",
        "gpu",
        "problems",
    ]
    assert full["sizes"]["inFlight"] == 5
    assert full["metrics"][0]["ageSeconds"] == 10.0
    assert bare["decision"] is None
    assert full["decision"]["steps"][2]["sentences"] == DECISION["limits"]


def test_models_and_gpu() -> None:
    """Where each model is and why it isn't elsewhere; how busy the GPUs are, and who says so."""
    models = [{"name": "a", "ready": 2, "total": 2}, {"name": "b", "ready": 0, "total": 2, "error": "too_big: no"}]
    gpu = {"utilization": 73, "memoryUsedBytes": 10 * 1024**3, "memoryTotalBytes": 24 * 1024**3, "source": "prometheus"}
    shown = text_of(pool({**STATUS, "models": models, "gpu": gpu}))
    assert "a  2/2 ready" in shown
    assert "b  0/2 ready  too_big: no" in shown
    assert "busy 73 % of the time, 10.0 of 24.0 GiB in use (told by Prometheus)" in shown


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (185, "3 min 5 s"), (7_620, "2 h 7 min"), (100_800, "1 d 4 h")],
)
def test_spans(seconds: float, wanted: str) -> None:
    """Two units at most, none that is zero."""
    assert span(seconds) == wanted
    assert ago(seconds or 5) == f"{wanted if seconds else '5 s'} ago"


@pytest.mark.parametrize("text", [None, "", "yesterday", 5])
def test_what_is_no_time_is_none(text: Any) -> None:
    """A status is data from outside."""
    assert seconds_of(text) is None
