"""One line of ``llmpool decide``: reading it, and what the operator's own code makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from llmpool_contract.faults import faults_of
from llmpool_contract.pool import MAX_REPLICAS, Metric, Paused, Queue, Scaling
from llmpool_contract.pool.parts import Part, check_exactly_one, decimal
from llmpool_contract.pool.scaling import MetricType
from llmpool_operator.decide import Known, bounds_at, conclude, fault_in_schedules, settle_size
from llmpool_operator.decide.limits import not_limited
from llmpool_operator.decide.readings import gpu_reading, sane
from llmpool_operator.decide.types import (
    MAX_INT32,
    Backlog,
    Bounds,
    Decision,
    History,
    MetricProposal,
    Missing,
    PodReading,
    Reading,
    Reason,
    Recommendation,
    ScaleEvent,
    Settled,
)
from llmpool_operator.decide.zero import watch_emptiness

_LATEST = 10.0**11
"""The last moment that ``now`` may be, Unix seconds: calendars end soon after."""

LINE_MAX_BYTES = 1_048_576
"""A longer line is refused unread."""

Number = Annotated[Decimal, BeforeValidator(decimal)]
Size = Annotated[int, Field(ge=0, le=MAX_INT32)]
Age = Annotated[float, Field(ge=0, le=_LATEST)]


class BadCase(ValueError):
    """A line that can't be decided, with what is wrong with it."""


class PodEntry(Part):
    """One pod of a per-pod metric."""

    value: Number | None = None
    """Percent. Absent: no sample."""
    missing: bool = False
    unready: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.value is None and not self.missing and not self.unready:
            raise ValueError("got none of value, missing and unready, wanted one")
        if self.value is not None and self.missing:
            raise ValueError("got both of value and missing, wanted one")
        return self


class MetricEntry(Part):
    """What one metric reads now."""

    type: MetricType
    value: Number | None = None
    """Jobs, percent of every pod, or the query's answer."""
    missing: str | None = Field(default=None, max_length=1024)
    """Why there is none."""
    rate: Annotated[Number, Field(gt=0, le=10**9)] | None = None
    """DrainTime: jobs per second that one busy worker settles."""
    pods: list[PodEntry] | None = Field(default=None, max_length=MAX_REPLICAS)
    """GPUUtilization: in place of ``value``."""
    age: Age = 0.0
    """Seconds since the sample was taken."""

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
        check_exactly_one(value=self.value, missing=self.missing, pods=self.pods)
        if self.rate is not None and self.type != "DrainTime":
            raise ValueError(f"rate: not for type {self.type}, only for DrainTime")
        if self.pods is not None and self.type != "GPUUtilization":
            raise ValueError(f"pods: not for type {self.type}, only for GPUUtilization")
        return self


class RecommendationEntry(Part):
    """An earlier raw proposal."""

    age: Age
    replicas: Size


class EventEntry(Part):
    """An earlier change of the size."""

    age: Age
    change: int = Field(ge=-MAX_INT32, le=MAX_INT32)


class Case(Part):
    """One line, but for its ``scaling``."""

    current: Size
    now: float = Field(default=0.0, ge=0, le=_LATEST)
    metrics: list[MetricEntry] | None = None
    desired: Size | None = None
    recommendations: list[RecommendationEntry] | None = None
    """Absent: the first decision, which ``current`` seeds."""
    events: list[EventEntry] = Field(default_factory=list)
    empty_for: Age | None = None
    """How long all queues are known to be empty."""
    blind_for: Age | None = None
    """How long no metric could be read."""
    unschedulable: Size = 0
    ready_pods: Size | None = None
    """Absent: all of ``current``."""
    scaling: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        check_exactly_one(metrics=self.metrics, desired=self.desired)
        return self


@dataclass(frozen=True, slots=True)
class _Spec:
    """The part of a pool's spec that a decision is made from."""

    scaling: Scaling
    replicas: int | None = None
    queues: list[Queue] = field(default_factory=list)
    paused: Paused = "None"


def parse(line: bytes | None) -> tuple[Scaling, Case]:
    """Read one line. None: it was too long to be read.

    Raises:
        BadCase: with all that is wrong.
    """
    if line is None:
        raise BadCase(f"the line is longer than {LINE_MAX_BYTES} bytes")
    try:
        document = json.loads(line.decode(), parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise BadCase("not JSON that can be read: nested too deep") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and int's own limit of digits
        raise BadCase(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadCase(f"got {_kind(document)}, wanted an object")
    try:
        case = Case.model_validate(document)
    except ValidationError as error:
        raise BadCase("; ".join(faults_of(error, Case))) from None
    scaling, fault = _scaling(json.dumps(case.scaling))
    if scaling is None:
        raise BadCase(fault)
    return scaling, case


def answer(read: tuple[Scaling, Case]) -> dict[str, Any]:
    """What the operator decides, with HPA's names.

    Raises:
        BadCase: an entry of ``metrics`` belongs to no metric.
    """
    scaling, case = read
    history, bounds = _history(case), bounds_at(scaling, case.now)
    if case.desired is not None:
        return _told(case.desired, settle_size(scaling, case.current, case.desired, history, case.now), bounds)
    readings = tuple(_readings(scaling.metrics, case, history))
    backlog = _backlog(scaling.metrics, readings, case)
    history = watch_emptiness(history, backlog, case.now)
    known = Known(readings, backlog, case.unschedulable)
    decision = conclude(_Spec(scaling), case.current, known, history, case.now)
    return _told(decision.desired, decision, bounds, decision.metrics)


def _told(
    desired: int, outcome: Decision | Settled, bounds: Bounds, metrics: Sequence[MetricProposal] = ()
) -> dict[str, Any]:
    """The reason is that of the last limit which changed the number: stabilisation, rate, bounds, in this order."""
    if outcome.limits:
        reason, _, message = outcome.limits[-1].partition(": ")
    elif outcome.reason == Reason.METRICS_MISSING:
        reason, message = outcome.reason, outcome.message
    else:
        reason, message = Reason.DESIRED_WITHIN_RANGE, not_limited(outcome.replicas, bounds)
    asked = "" if reason == Reason.METRICS_MISSING else "; ".join(metric.message for metric in metrics)
    return {
        "desired": desired,
        "stabilized": outcome.stabilized,
        "replicas": outcome.replicas,
        "reason": str(reason),
        "message": f"{message} ({asked})" if asked else message,
        "limits": list(outcome.limits),
    }


@lru_cache(maxsize=256)
def _scaling(text: str) -> tuple[Scaling | None, str]:
    """The real model, and what is wrong. Most lines of a file have the same one."""
    try:
        scaling = Scaling.model_validate(json.loads(text))
    except ValidationError as error:
        return None, "; ".join(f"scaling.{fault}" for fault in faults_of(error, Scaling))
    fault = fault_in_schedules(scaling)
    return (scaling, "") if fault is None else (None, fault)


def _history(case: Case) -> History:
    recommendations = case.recommendations
    events = sorted(((case.now - e.age, e.change) for e in case.events if e.change), key=lambda pair: pair[0])
    return History(
        recommendations=None
        if recommendations is None
        else tuple(Recommendation(case.now - r.age, r.replicas) for r in sorted(recommendations, key=lambda r: -r.age)),
        events=tuple(ScaleEvent(at, change) for at, change in events),
        empty_since=None if case.empty_for is None else case.now - case.empty_for,
        blind_since=None if case.blind_for is None else case.now - case.blind_for,
        scaled_at=events[-1][0] if events else None,
    )


def _readings(metrics: Sequence[Metric], case: Case, history: History) -> list[Reading]:
    """The k-th entry of a type is the reading of the k-th metric of that type. A metric without an entry is missing."""
    places: dict[MetricType, list[int]] = {}
    for place, metric in enumerate(metrics):
        places.setdefault(metric.type, []).append(place)
    found = [Reading(Missing("not given"), pods=Missing("not given")) for _ in metrics]
    for index, entry in enumerate(case.metrics or ()):
        left = places.get(entry.type)
        if not left:
            raise BadCase(f"metrics[{index}]: one {entry.type} more than scaling.metrics has")
        found[left.pop(0)] = _reading(entry, case, history)
    return found


def _reading(entry: MetricEntry, case: Case, history: History) -> Reading:
    if entry.missing is not None:
        why = Missing(entry.missing or "missing")
        return Reading(why, pods=why)
    if entry.type == "GPUUtilization":
        return gpu_reading(_pods(entry, case), history.scaled_at, case.now)
    assert entry.value is not None
    return Reading(
        sane(Fraction(entry.value)),
        entry.age,
        rate=Missing("no rate was given") if entry.rate is None else float(entry.rate),
        ready=case.current if case.ready_pods is None else case.ready_pods,
    )


def _pods(entry: MetricEntry, case: Case) -> tuple[PodReading, ...]:
    at = case.now - entry.age
    if entry.pods is None:
        assert entry.value is not None
        # A size above what maxReplicas can be is cut to it, whatever is used.
        return (PodReading(True, float(entry.value), at),) * min(case.current, MAX_REPLICAS + 1)
    return tuple(PodReading(not pod.unready, None if pod.value is None else float(pod.value), at) for pod in entry.pods)


def _backlog(metrics: Sequence[Metric], readings: Sequence[Reading], case: Case) -> Backlog:
    """What the entries about jobs say of the queues; without any, ``emptyFor`` alone does."""
    values = [r.value for m, r in zip(metrics, readings, strict=True) if m.type in ("QueueDepth", "DrainTime")]
    return Backlog(
        work=any(not isinstance(value, Missing) and value > 0 for value in values),
        empty=all(value == 0 for value in values) if values else case.empty_for is not None,
        due_soon=False,
    )


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)[:40]!a} is there twice")
    return document


def _kind(value: Any) -> Literal["a list", "a text", "null", "a boolean", "a number"]:
    match value:
        case list():
            return "a list"
        case str():
            return "a text"
        case None:
            return "null"
        case bool():
            return "a boolean"
        case _:
            return "a number"
