"""A pool's object, as the API server or a file has it, read as an explanation. Needs no Redis, and no cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmpool_contract.pool import LLMWorkerPoolSpec, PoolError, parse_pool
from llmpool_operator.decide.types import Missing

from .advice import advice_for
from .freshness import Leader, freshness
from .page import (
    Decided,
    Explanation,
    GPULine,
    MetricLine,
    ModelLine,
    Problem,
    Rules,
    Sizes,
    Step,
)
from .problems import problems
from .times import seconds_of
from .waiting import waits


def explain(pool: Mapping[str, Any], *, now: float, leader: Leader | Missing | None = None) -> Explanation:
    """The page of one pool.

    Args:
        pool: the object with its status; a status that isn't there or has only some of its fields is fine.
        now: Unix seconds.
        leader: who holds the operators' Lease. Missing: why that isn't known. None: nobody asked.
    """
    metadata, status = pool["metadata"], pool.get("status") or {}
    namespace, name = metadata.get("namespace") or "default", metadata["name"]
    spec, faults = _spec(pool)
    sizes = _sizes(status)
    return Explanation(
        namespace=namespace,
        name=name,
        summary=_summary(sizes, spec),
        freshness=freshness(pool, leader, now),
        sizes=sizes,
        decision=_decided(status),
        rules=None if spec is None else _rules(status, spec),
        metrics=tuple(_metric(metric, now) for metric in status.get("metrics") or ()),
        waits=tuple(waits(status, spec, now)),
        models=tuple(_model(model) for model in status.get("models") or ()),
        gpu=_gpu(status.get("gpu")),
        problems=(*_unreadable(faults, namespace, name), *problems(status, namespace=namespace, name=name)),
    )


def _spec(pool: Mapping[str, Any]) -> tuple[LLMWorkerPoolSpec | None, tuple[str, ...]]:
    try:
        return parse_pool({key: value for key, value in pool.items() if key != "status"}).spec, ()
    except PoolError as error:
        return None, error.faults


def _unreadable(faults: tuple[str, ...], namespace: str, name: str) -> Iterator[Problem]:
    if faults:
        advice = advice_for("InvalidSpec", "", namespace=namespace, name=name)
        yield Problem("Spec", "InvalidSpec", "; ".join(faults), None, advice)


def _sizes(status: Mapping[str, Any]) -> Sizes:
    names = ("replicas", "readyReplicas", "desiredReplicas", "busy", "draining", "queued", "inFlight")
    return Sizes(*(status.get(name) for name in names))


def _summary(sizes: Sizes, spec: LLMWorkerPoolSpec | None) -> str:
    """The size in one line; what isn't known isn't mentioned, but for the size itself."""
    if sizes.replicas is None:
        return "an unknown number of workers"
    facts = [
        ("{} asked for", sizes.desired),
        ("{} ready", sizes.ready),
        ("{} busy", sizes.busy),
        ("{} draining", sizes.draining or None),
        ("jobs waiting: {}", sizes.queued),
        ("running: {}", sizes.in_flight),
    ]
    known = ", ".join(text.format(value) for text, value in facts if value is not None)
    workers = f"{sizes.replicas} worker" if sizes.replicas == 1 else f"{sizes.replicas} workers"
    observed = " (observed only)" if spec is not None and spec.mode == "Observe" else ""
    return f"{workers}{observed}: {known}" if known else f"{workers}{observed}"


def _decided(status: Mapping[str, Any]) -> Decided | None:
    decision = status.get("decision")
    if not decision or any(decision.get(field) is None for field in ("desired", "stabilized", "replicas")):
        return None
    return Decided(decision.get("reason") or "", decision.get("message") or "", decision.get("at"), _steps(decision))


_WINDOWS = ("ScaleUpStabilized", "ScaleDownStabilized", "IdleToZero")
"""Reasons of limits that belong to the stabilisation windows, or to what takes their place."""


def _steps(decision: Mapping[str, Any]) -> tuple[Step, ...]:
    limits = tuple(str(limit) for limit in decision.get("limits") or ())
    before = tuple(limit for limit in limits if limit.partition(":")[0] == "Fallback")
    by_windows = tuple(limit for limit in limits if limit.partition(":")[0] in _WINDOWS)
    after = tuple(limit for limit in limits if limit not in (*before, *by_windows))
    reason, message = decision.get("reason"), decision.get("message")
    if not after and decision["replicas"] != decision["stabilized"]:
        after = (f"{reason}: {message}",)
    asked = _FIRST.get(reason or "", "what the metrics ask for")
    return (
        Step(asked, decision["desired"], before),
        Step("after the stabilisation windows", decision["stabilized"], by_windows),
        Step("after rate policies, bounds and pauses", decision["replicas"], after),
    )


_FIRST = {
    "MetricsMissing": "the size as it was, since no metric counts",
    "ManualReplicas": "the size by hand",
}


def _rules(status: Mapping[str, Any], spec: LLMWorkerPoolSpec) -> Rules:
    scaling, ruling = spec.scaling, status.get("bounds") or {}
    lower = ruling.get("minReplicas", scaling.min_replicas)
    upper = ruling.get("maxReplicas", scaling.max_replicas)
    schedule = ruling.get("schedule")
    return Rules(
        min_replicas=lower,
        max_replicas=upper,
        schedule=schedule,
        fixed_replicas=spec.replicas,
        idle_seconds=scaling.idle_seconds,
        paused=spec.paused,
        mode=spec.mode,
        sentences=tuple(_rule_sentences(spec, lower, upper, schedule)),
    )


def _rule_sentences(spec: LLMWorkerPoolSpec, lower: int, upper: int, schedule: str | None) -> Iterator[str]:
    if spec.mode == "Observe":
        yield "spec.mode is Observe: sizes are decided and told, and nothing is changed"
    if spec.replicas is not None:
        yield f"spec.replicas is {spec.replicas}: a size by hand, autoscaling is off until `llmpool resume`"
        return
    source = f"the schedule {schedule}" if schedule else "spec.scaling"
    yield f"from {lower} to {upper} workers, by {source}"
    if lower == 0:
        yield f"to zero after {spec.scaling.idle_seconds} s without a job, waiting, running or soon due"
    if spec.scaling.fallback is not None:
        fallback = spec.scaling.fallback
        yield f"{fallback.replicas} workers after {fallback.after_seconds} s without any metric"
    if spec.paused != "None":
        yield f"spec.paused is {spec.paused}: {_PAUSES[spec.paused]}"


_PAUSES = {"All": "the size stays as it is", "ScaleIn": "the pool doesn't shrink", "ScaleOut": "the pool doesn't grow"}


def _metric(metric: Mapping[str, Any], now: float) -> MetricLine:
    at = seconds_of(metric.get("at"))
    return MetricLine(
        type=metric["type"],
        role=metric.get("role") or "Target",
        value=metric.get("value"),
        missing=metric.get("missing"),
        target=metric.get("target"),
        replicas=metric.get("replicas"),
        message=metric.get("message") or "",
        at=metric.get("at"),
        age_seconds=None if at is None else round(now - at, 3),
    )


def _model(model: Mapping[str, Any]) -> ModelLine:
    return ModelLine(model["name"], model.get("ready") or 0, model.get("total") or 0, model.get("error"))


def _gpu(gpu: Mapping[str, Any] | None) -> GPULine | None:
    if not gpu:
        return None
    return GPULine(
        gpu.get("utilization"), gpu.get("memoryUsedBytes"), gpu.get("memoryTotalBytes"), gpu.get("source") or "workers"
    )
