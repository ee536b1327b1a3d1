"""What a decision is made from and what it comes to. No I/O; time is always a parameter, Unix seconds as float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Literal, Protocol

from llmpool_contract.pool import Paused, Queue, Scaling

ConditionStatus = Literal["True", "False", "Unknown"]


MAX_INT32 = 2_147_483_647
"""HPA's bound on a proposal."""


class Reason(StrEnum):
    """Why a size is what it is: HPA's names where HPA has one, then ours."""

    DESIRED_WITHIN_RANGE = "DesiredWithinRange"
    SCALE_UP_LIMIT = "ScaleUpLimit"
    TOO_MANY_REPLICAS = "TooManyReplicas"
    SCALE_DOWN_LIMIT = "ScaleDownLimit"
    TOO_FEW_REPLICAS = "TooFewReplicas"
    READY_FOR_NEW_SCALE = "ReadyForNewScale"
    SCALE_UP_STABILIZED = "ScaleUpStabilized"
    SCALE_DOWN_STABILIZED = "ScaleDownStabilized"
    VALID_METRIC_FOUND = "ValidMetricFound"
    FROM_ZERO = "FromZero"
    IDLE_TO_ZERO = "IdleToZero"
    MANUAL_REPLICAS = "ManualReplicas"
    PAUSED = "Paused"
    FALLBACK = "Fallback"
    ABOVE_CEILING = "AboveCeiling"
    UNSCHEDULABLE = "Unschedulable"
    METRICS_FOUND = "MetricsFound"
    METRICS_MISSING = "MetricsMissing"


@dataclass(frozen=True, slots=True)
class Missing:
    """A reading that couldn't be had. Never zero."""

    reason: str


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """One queue at one moment, in jobs."""

    ready: int
    """The lengths of the three ready lists, summed."""
    due: int
    """Delayed jobs that are due now but not yet moved to a ready list."""
    in_flight: int
    """Claimed jobs; those whose lease has expired are among them until somebody reaps them."""
    next_due_in: float | None
    """Seconds until the next delayed job that isn't due yet. None: there is none."""

    @property
    def work(self) -> int:
        """All jobs that need a worker now."""
        return self.ready + self.due + self.in_flight


@dataclass(frozen=True, slots=True)
class PodReading:
    """One pod of the pool: what a per-pod metric is made from (``replica_calculator.go``, groupPods)."""

    ready: bool
    """Running and Ready. One that isn't counts as using nothing when that could make the pool grow."""
    gpu_percent: float | None = None
    """Utilisation of its GPUs, 0..100, averaged over them. None: no sample."""
    sampled_at: float | None = None
    """Unix seconds of the sample."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was read, and when. What a pool's metrics don't ask for stays Missing."""

    at: float
    queues: Mapping[str, QueueBacklog | Missing]
    rate: float | Missing = Missing("no worker has told its rate")
    """Jobs per second that one busy worker settles."""
    pods: tuple[PodReading, ...] | Missing = Missing("not read")
    """Pods that are neither being deleted nor failed, draining ones left out."""
    ready: int | Missing = Missing("not read")
    """Workers that are ready, where nobody reads the pods."""
    queries: Mapping[str, Fraction | Missing] = field(default_factory=dict)
    """Prometheus query -> its one value."""
    queried_at: Mapping[str, float] = field(default_factory=dict)
    """Prometheus query -> Unix seconds of its value. One that isn't there: ``at``."""
    unschedulable: int = 0
    """Pods of the pool that the scheduler can't place."""


class Wanted(Protocol):
    """The part of a pool's spec that a decision is made from: ``LLMWorkerPoolSpec`` has it."""

    @property
    def replicas(self) -> int | None:
        """A size by hand."""

    @property
    def queues(self) -> list[Queue]:
        """Whose jobs count, and how much."""

    @property
    def scaling(self) -> Scaling:
        """Metrics, bounds, behavior."""

    @property
    def paused(self) -> Paused:
        """What may not be done."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sizes that are allowed at all."""

    lower: int
    upper: int
    source: str = "scaling"
    """Where they come from: ``scaling``, or the schedule that rules (``schedules[1]``)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one metric is computed from. Fields that its type doesn't use stay as they are here."""

    value: Fraction | Missing
    """Weighted jobs, the query's answer, or the average percent of the samples."""
    age: float | None = None
    """Seconds since the oldest sample in it was taken. None: there is none, or nobody knows."""
    rate: float | Missing = Missing("no worker has told its rate")
    """DrainTime: jobs per second that one busy worker settles, now or when it was last known."""
    pods: tuple[PodReading, ...] | Missing = Missing("not read")
    """GPUUtilization: what the average is made from."""
    ready: int | Missing = Missing("not read")
    """Prometheus with ``value``: the pods that are ready."""
    scaled_at: float | None = None
    """When the size last changed, Unix seconds: an older sample tells of another size."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the queues say together, apart from any metric: what the zero rules go by."""

    work: bool
    """A queue is known to have a job."""
    empty: bool
    """All queues are known, and none has a job."""
    due_soon: bool
    """A delayed job is due within ``idleSeconds``, or nobody knows."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A raw proposal of the metrics, before stabilisation."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change of the intended size: positive up, negative down, never 0."""

    at: float
    change: int


@dataclass(frozen=True, slots=True)
class History:
    """What the next decision must remember of the earlier ones (``history.py`` writes and reads it)."""

    recommendations: tuple[Recommendation, ...] | None = None
    """Oldest first. None: there was no decision yet, so the first one seeds it with the current size."""
    events: tuple[ScaleEvent, ...] = ()
    """Oldest first."""
    empty_since: float | None = None
    """Since when every queue is known to be empty, without a gap in the knowing. None: not empty, or not known."""
    blind_since: float | None = None
    """Since when no metric could be read. None: one could."""
    scaled_at: float | None = None
    """When the size last changed. ``events`` forgets that sooner than a GPU is sampled."""
    rate: float | None = None
    """The last known rate of a busy worker, jobs per second. None: none was ever told."""


@dataclass(frozen=True, slots=True)
class MetricProposal:
    """One metric's reading and what it asks for."""

    type: str
    value: Fraction | Missing
    """The reading itself: for QueueDepth and DrainTime the weighted sum of jobs, for GPUUtilization percent."""
    target: Fraction
    """What one worker should have of it, in the unit of ``value``. DrainTime without a rate: its seconds."""
    replicas: int | None
    """What the metric asks for. None: invalid, or it asks for nothing (``asks``)."""
    message: str
    """One sentence with the numbers."""
    age: float | None = None
    """Seconds since the oldest sample in ``value`` was taken. None: there is none."""
    asks: bool = True
    """False: it has no say in the size now. A Ceiling never has, GPUUtilization not at zero."""
    forbids_growth: bool = False
    """A Ceiling that is exceeded."""

    @property
    def invalid(self) -> bool:
        """It should ask for a size, and can't."""
        return self.asks and self.replicas is None


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its transition time, which only the writer of the status knows."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What stabilisation, rate policies and bounds made of a desired size."""

    stabilized: int
    replicas: int
    reason: Reason
    message: str
    limits: tuple[str, ...]
    """One sentence for each thing that changed the number on its way, in order: ``Reason: what it did``."""
    able: Finding
    """The condition AbleToScale."""
    limited: Finding
    """The condition ScalingLimited."""
    history: History


@dataclass(frozen=True, slots=True)
class Decision:
    """The size a pool should have, and everything that tells why."""

    replicas: int
    """The size to have now."""
    desired: int
    """What the metrics ask for, before all limits; the current size where they say nothing."""
    stabilized: int
    """``desired`` after the stabilisation windows, before rate policies and bounds."""
    reason: Reason
    message: str
    """One line with the numbers."""
    limits: tuple[str, ...]
    metrics: tuple[MetricProposal, ...]
    conditions: tuple[Finding, ...]
    """ScalingActive, AbleToScale, ScalingLimited, MetricsAvailable."""
    history: History
    """To be handed to the next decision. Where the size changes, after ``record_scale``."""
    hold: bool
    """Nothing is known well enough to move: the size stays, whatever it is."""
    bounds: Bounds = Bounds(0, 0, "none")
    """minReplicas and maxReplicas as they are now, and which schedule made them so."""
