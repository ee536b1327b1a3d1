"""How a pool sizes itself: metrics, bounds, ``behavior``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .parts import MAX_REPLICAS, Count, Part, PerWorker, Target, Tolerance, check_exactly_one, decimal

MetricType = Literal["QueueDepth", "DrainTime", "GPUUtilization", "Prometheus"]


class QueueDepth(Part):
    """Jobs, waiting and in flight, that one worker should have."""

    average_value: PerWorker = Decimal(5)


class DrainTime(Part):
    """In how many seconds the jobs that wait or run should be done, at the rate that busy workers tell."""

    seconds: Annotated[Decimal, BeforeValidator(decimal)] = Field(default=Decimal(60), gt=0, le=86_400)


class GPUUtilization(Part):
    """Percent of the time that a worker's GPUs should be busy."""

    average_utilization: int = Field(default=80, ge=1, le=100)


class PrometheusMetric(Part):
    """A query of ``spec.prometheus`` with one number as its answer: exactly one target."""

    query: str = Field(min_length=1, max_length=4096)
    average_value: Target | None = None
    """The answer is shared by all workers: what one should have of it."""
    value: Target | None = None
    """The answer is a level: what it should be."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        check_exactly_one(averageValue=self.average_value, value=self.value)
        return self


class Metric(Part):
    """One thing that asks for a size. The largest of several counts. The block of its type alone is there."""

    type: MetricType
    role: Literal["Target", "Ceiling"] = "Target"
    """``Ceiling``: asks for nothing, but forbids to grow while it is above its target. GPUUtilization alone."""
    queue_depth: QueueDepth | None = None
    drain_time: DrainTime | None = None
    gpu_utilization: GPUUtilization | None = None
    prometheus: PrometheusMetric | None = None

    @model_validator(mode="before")
    @classmethod
    def _block_of_its_type(cls, given: Any) -> Any:
        """A block that has defaults throughout may be left out."""
        if not isinstance(given, dict):
            return given
        block = _BLOCKS.get(given.get("type", ""), "")
        return {block: {}, **given} if block and block != "prometheus" else given

    @model_validator(mode="after")
    def _only_its_own_block(self) -> Self:
        blocks = {
            "queueDepth": self.queue_depth,
            "drainTime": self.drain_time,
            "gpuUtilization": self.gpu_utilization,
            "prometheus": self.prometheus,
        }
        own = _BLOCKS[self.type]
        if wrong := [name for name, block in blocks.items() if block is not None and name != own]:
            raise ValueError(f"{', '.join(wrong)}: not for type {self.type}, which has {own}")
        if blocks[own] is None:
            raise ValueError(f"{own}: missing, type {self.type} needs it")
        if self.role == "Ceiling" and self.type != "GPUUtilization":
            raise ValueError(f"role: got Ceiling with type {self.type}, allowed is Target")
        return self


_BLOCKS = {
    "QueueDepth": "queueDepth",
    "DrainTime": "drainTime",
    "GPUUtilization": "gpuUtilization",
    "Prometheus": "prometheus",
}


class Policy(Part):
    """At most ``value`` pods or percent within any ``period_seconds``."""

    type: Literal["Pods", "Percent"]
    value: Count
    period_seconds: int = Field(ge=1, le=1800)


class ScalingRules(Part):
    """One direction of ``behavior``. What is left out is filled as HPA fills it (``decide/rules.py``)."""

    stabilization_window_seconds: int | None = Field(default=None, ge=0, le=3600)
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    policies: list[Policy] | None = Field(default=None, min_length=1, max_length=16)
    tolerance: Tolerance | None = None


class Behavior(Part):
    """autoscaling/v2's ``behavior``, field for field."""

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


class Fallback(Part):
    """The size to take when no metric could be read for a while."""

    after_seconds: int = Field(default=180, ge=0, le=86_400)
    replicas: int = Field(ge=0, le=MAX_REPLICAS)


def _field(value: str, more: str = "") -> str:
    item = rf"(\*|{value}(-{value})?)(/[1-9][0-9]?)?{more}"
    return f"({item})(,({item}))*"


_DAY_OF_WEEK = "([0-7]|mon|tue|wed|thu|fri|sat|sun)"
CRON = "(?i)^{} +{} +{} +{} +{}$".format(
    _field("[0-5]?[0-9]"),
    _field("([01]?[0-9]|2[0-3])"),
    _field("(0?[1-9]|[12][0-9]|3[01])", "|L|LW"),
    _field("(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"),
    _field(_DAY_OF_WEEK, f"|{_DAY_OF_WEEK}(#[1-5]|L)"),
)
"""What each of the five fields may be. That a range goes upwards, and that such a day exists, a pattern can't say."""


def _five_fields(cron: str) -> str:
    if not re.fullmatch(CRON, cron):
        raise ValueError(
            f"got {cron!a}, wanted minute (0-59), hour (0-23), day of month (1-31), month (1-12) and day of week (0-7)"
        )
    return cron


_CRON_LETTERS = r"^[0-9A-Za-z*/,#-]+( +[0-9A-Za-z*/,#-]+){4}$"
_Cron = Annotated[str, Field(min_length=9, max_length=128, pattern=_CRON_LETTERS), AfterValidator(_five_fields)]


class Schedule(Part):
    """Other bounds from each time that ``cron`` fires on, until another schedule fires."""

    cron: _Cron
    """Five fields: minute, hour, day of month, month, day of week."""
    timezone: str = Field(default="UTC", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")
    """An IANA name."""
    min_replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    """Absent: that of ``scaling``."""
    max_replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    """Absent: that of ``scaling``."""


class Scaling(Part):
    """How the pool sizes itself."""

    min_replicas: int = Field(default=0, ge=0, le=MAX_REPLICAS)
    max_replicas: int = Field(default=10, ge=1, le=MAX_REPLICAS)
    idle_seconds: int = Field(default=300, ge=0, le=86_400)
    """How long all queues must be known to be empty before the pool goes to zero. Only with ``min_replicas`` 0."""
    metrics: list[Metric] = Field(
        default_factory=lambda: [Metric(type="QueueDepth", queueDepth=QueueDepth())],
        min_length=1,
        max_length=8,
        validate_default=False,
    )
    behavior: Behavior | None = None
    """Absent: up at once, down as HPA. Present, even if empty: HPA's defaults for what it leaves out."""
    fallback: Fallback | None = None
    """Absent: without metrics the size is held."""
    schedules: list[Schedule] = Field(default_factory=list, max_length=32)

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas: got {self.min_replicas}, allowed is maxReplicas ({self.max_replicas}) at most"
            )
        for index, schedule in enumerate(self.schedules):
            self._check_schedule(f"schedules[{index}]", schedule)
        if self.fallback is not None and self.fallback.replicas > self.max_replicas:
            raise ValueError(
                f"fallback.replicas: got {self.fallback.replicas}, allowed is maxReplicas ({self.max_replicas}) at most"
            )
        return self

    @model_validator(mode="after")
    def _something_asks_for_a_size(self) -> Self:
        if all(metric.role == "Ceiling" for metric in self.metrics):
            raise ValueError("metrics: a Ceiling asks for no size, wanted another metric beside it")
        return self

    def _check_schedule(self, at: str, schedule: Schedule) -> None:
        if schedule.min_replicas is None and schedule.max_replicas is None:
            raise ValueError(f"{at}: got neither of minReplicas and maxReplicas, wanted one or both")
        lower = self.min_replicas if schedule.min_replicas is None else schedule.min_replicas
        upper = self.max_replicas if schedule.max_replicas is None else schedule.max_replicas
        if lower > upper:
            raise ValueError(f"{at}: minReplicas {lower} is more than maxReplicas {upper}")
