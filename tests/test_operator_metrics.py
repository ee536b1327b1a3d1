"""The operator's metrics: what is counted, what isn't known has no series, and all of them are in the docs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

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
from llmpool_operator.kube import _resource
from llmpool_operator.metrics import Metrics
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn, Workers
from tests.test_documents import bare, section, table

AT = 1_800_000_000.0
KEY = ("lms", "chat")
POOL = "namespace=lms,pool=chat"


def metric(kind: str, value: Any, **more: Any) -> MetricProposal:
    return MetricProposal(kind, value, Fraction(5), 2, "words", **more)


def turn(at: float = AT, **more: Any) -> Turn:
    metrics = (metric("QueueDepth", Fraction(9)), metric("GPUUtilization", Fraction(80), age=4.0))
    made = Decision(2, 3, 2, Reason.TOO_MANY_REPLICAS, "why", (), metrics, (), History(), hold=False)
    sighting = Sighting(Observation(at, {}), Workers(2, 1, 2, 10))
    given: dict[str, Any] = {"size": Size(2, 4, 1), "decision": made, "sighting": sighting, **more}
    return Turn(at, **given)


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as Prometheus' own parser reads it, `name{label=value,...}` -> value; not when each began."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in (s for s in family.samples if not s.name.endswith("_created")):
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def ages(decisions: Mapping[float, Sequence[MetricProposal]], now: float) -> dict[str, float]:
    """Metric type -> its age at ``now``, after decisions with these metrics; all in seconds after AT."""
    metrics = Metrics(lambda: AT + now)
    for at, proposals in decisions.items():
        made = turn(at=AT + at)
        assert made.decision is not None
        metrics.turn(KEY, replace(made, decision=replace(made.decision, metrics=tuple(proposals))))
    head = f"llm_operator_metric_age_seconds{{{POOL},type="
    return {key.removeprefix(head)[:-1]: value for key, value in samples(metrics).items() if key.startswith(head)}


def test_a_pool_s_sizes() -> None:
    """Asked for, there, ready, draining, and what the metrics want."""
    metrics = Metrics(lambda: AT)
    metrics.turn(KEY, turn(draining=1, resized=(2, 5)), 0.01)
    found = samples(metrics)
    names = ("replicas", "current_replicas", "ready_replicas", "draining_replicas", "desired_replicas")
    assert [found[f"llm_operator_{name}{{{POOL}}}"] for name in names] == [5, 4, 1, 1, 3]
    assert found["llm_operator_rescales_total{direction=up}"] == 1
    assert found["llm_operator_decisions_total{reason=TooManyReplicas}"] == 1
    assert found["llm_operator_reconcile_seconds_sum"] == 0.01


def test_a_pool_s_bounds_queues_and_conditions() -> None:
    """Bounds as they are now, queues that could be read, conditions that are True or False."""
    metrics = Metrics(lambda: AT)
    queues = {"llm-chat": QueueBacklog(3, 1, 2, None), "llm-embed": Missing("x")}
    made = turn(sighting=Sighting(Observation(AT, queues), Workers(2, 1, 2, 10)))
    assert made.decision is not None
    able = Finding("AbleToScale", "False", "BackOff", "words"), Finding("ScalingLimited", "Unknown", "x", "words")
    metrics.turn(KEY, replace(made, decision=replace(made.decision, bounds=Bounds(1, 9), conditions=able)))
    found = samples(metrics)
    assert (found[f"llm_operator_min_replicas{{{POOL}}}"], found[f"llm_operator_max_replicas{{{POOL}}}"]) == (1, 9)
    assert {key: value for key, value in found.items() if key.startswith("llm_operator_queue_jobs")} == {
        f"llm_operator_queue_jobs{{{POOL},queue=llm-chat,state={state}}}": jobs
        for state, jobs in (("ready", 3), ("due", 1), ("in_flight", 2))
    }
    assert {key: value for key, value in found.items() if key.startswith("llm_operator_pool_condition")} == {
        f"llm_operator_pool_condition{{condition={kind},{POOL}}}": value
        for kind, value in (("Ready", 1), ("AbleToScale", 0))
    }


def test_drains_that_were_given_up_are_counted() -> None:
    """Each worker that had to go while it still held work."""
    metrics = Metrics(lambda: AT)
    metrics.turn(KEY, turn(given_up=2))
    metrics.turn(KEY, turn())
    assert samples(metrics)["llm_operator_drains_given_up_total"] == 2


def test_a_metric_s_age_grows_while_it_is_missing() -> None:
    """Since the last sample, by type; one that was never read ages too, from the first decision that missed it."""
    away = metric("QueueDepth", Missing("x")), metric("GPUUtilization", Missing("x")), metric("DrainTime", Missing("x"))
    read = metric("QueueDepth", Fraction(9)), metric("GPUUtilization", Fraction(80), age=4.0)
    wanted = {"QueueDepth": 20, "GPUUtilization": 24, "DrainTime": 10}
    assert ages({0: read, 10: away, 15: away}, now=20) == wanted


@pytest.mark.parametrize(
    ("decisions", "wanted"),
    [
        pytest.param(
            {0: [metric("QueueDepth", Fraction(1)), metric("Prometheus", Fraction(1))], 9: [metric("QueueDepth", 1)]},
            {"QueueDepth": 1},
            id="a type that the spec has no more",
        ),
        pytest.param(
            {
                0: [metric("Prometheus", Fraction(1)), metric("Prometheus", Fraction(1))],
                9: [metric("Prometheus", Missing("x")), metric("Prometheus", Fraction(1))],
            },
            {"Prometheus": 10},
            id="the longest of a type",
        ),
        pytest.param(
            {0: [metric("GPUUtilization", Fraction(1))], 9: [metric("GPUUtilization", Missing("x"), asks=False)]},
            {},
            id="no say in the size",
        ),
        pytest.param(
            {
                0: [metric("GPUUtilization", Fraction(1))],
                5: [metric("GPUUtilization", Missing("x"), asks=False)],
                9: [metric("GPUUtilization", Missing("x"))],
            },
            {"GPUUtilization": 1},
            id="a say again",
        ),
    ],
)
def test_ages_are_of_the_metrics_that_size_the_pool_now(
    decisions: dict[float, list[MetricProposal]], wanted: dict[str, float]
) -> None:
    """An alarm on them is about what counts, and ends with it."""
    assert ages(decisions, now=10) == wanted


def test_a_size_that_is_not_known_any_more_has_no_series() -> None:
    """The last known one would look alive; how old the metrics are goes on being told."""
    metrics = Metrics(lambda: AT + 5)
    metrics.turn(KEY, turn())
    metrics.turn(KEY, turn(at=AT + 1, size=Missing("x"), decision=None))
    found = {key for key in samples(metrics) if POOL in key}
    assert found == {
        f"llm_operator_metric_age_seconds{{{POOL},type={kind}}}" for kind in ("QueueDepth", "GPUUtilization")
    }


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        pytest.param([0], (0, 0), id="first"),
        pytest.param([0, 1, 3], (2, 3), id="three"),
        pytest.param([0, -5, -4], (1, 1), id="clock set back"),
    ],
)
def test_the_period_is_between_decisions_of_one_pool(times: list[float], wanted: tuple[int, float]) -> None:
    """What users feel: how long a pool went without a decision, not how long a pass took."""
    metrics = Metrics(lambda: AT)
    for at in times:
        metrics.turn(KEY, turn(at=AT + at))
        metrics.turn(("lms", f"other{at}"), turn(at=AT + at))
    found = samples(metrics)
    count, total = found["llm_operator_sync_period_seconds_count"], found["llm_operator_sync_period_seconds_sum"]
    assert (count, total) == wanted


def test_a_turn_that_knows_nothing_has_no_sizes() -> None:
    """An unknown size is no zero, what is False is told, and the failure is counted by its kind."""
    metrics = Metrics(lambda: AT)
    metrics.turn(KEY, turn(size=Missing("x"), decision=None, failure=TargetError("Forbidden", "no")))
    found = samples(metrics)
    conditions = {key: value for key, value in found.items() if POOL in key}
    assert conditions == {
        f"llm_operator_pool_condition{{condition={kind},{POOL}}}": 0
        for kind in ("Ready", "ScalingActive", "AbleToScale")
    }
    assert found["llm_operator_errors_total{kind=Forbidden}"] == 1


def test_a_pool_that_is_gone_has_no_series() -> None:
    """Also one that never had any."""
    metrics = Metrics(lambda: AT)
    metrics.turn(KEY, turn())
    metrics.forget(KEY)
    metrics.forget(("lms", "never"))
    assert not [key for key in samples(metrics) if POOL in key]


def test_calls_readings_events_and_leadership() -> None:
    """Calls by what they are of, readings by their time, Events by what became of them."""
    metrics = Metrics(lambda: AT)
    metrics.api_call("patch", "deployments/scale", 200)
    metrics.api_call("patch", "deployments/scale", 0)
    metrics.redis_read(0.5)
    metrics.event("dropped", 3)
    metrics.round(0.1, 1.0, 7)
    leading = [False]
    metrics.leads(lambda: leading[0])
    assert samples(metrics)["llm_operator_leader"] == 0
    leading[0] = True
    found = samples(metrics)
    assert found["llm_operator_api_requests_total{code=200,resource=deployments/scale,verb=patch}"] == 1
    assert found["llm_operator_api_requests_total{code=0,resource=deployments/scale,verb=patch}"] == 1
    assert found["llm_operator_redis_read_seconds_sum"] == 0.5
    assert found["llm_operator_events_total{outcome=dropped}"] == 3
    assert (found["llm_operator_pools"], found["llm_operator_leader"]) == (7, 1)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/api/v1/namespaces/a/pods", "pods"),
        ("/api/v1/namespaces/a", "namespaces"),
        ("/api/v1/pods", "pods"),
        ("/apis/apps/v1/namespaces/a/deployments/b/scale", "deployments/scale"),
        ("/apis/llmpool.dev/v1alpha1/namespaces/a/llmworkerpools/b/status", "llmworkerpools/status"),
        ("/apis/llmpool.dev/v1alpha1/llmworkerpools", "llmworkerpools"),
        ("/apis/coordination.k8s.io/v1/leases?fieldSelector=x/y", "leases"),
    ],
)
def test_a_resource_has_no_names_in_it(path: str, wanted: str) -> None:
    """Labels are as few as the kinds that are called, however many objects there are."""
    assert _resource(path) == wanted


def test_documents_list_every_metric() -> None:
    """docs/operator.md has each metric of the registry with its type, labels and help, in the code's order."""
    rows = table(section("docs/operator.md", "Metrics"), "Metric")
    written = [(bare(r["Metric"]), r["Type"], r["Labels"].replace("`", ""), r["Meaning"]) for r in rows]
    found = []
    for collector in dict.fromkeys(Metrics().registry._names_to_collectors.values()):
        for family in collector.describe():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            found.append((name, family.type, ", ".join(labels), family.documentation))
    assert written == found
    assert all(name.startswith("llm_operator_") for name, *_ in found)
