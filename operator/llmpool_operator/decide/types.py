"""What a decision is made from and what it comes to. No I/O; time is always a parameter, Unix seconds as float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Literal

ConditionStatus = Literal["True", "False", "Unknown"]


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
class Observation:
    """What was read, and when."""

    at: float
    queues: Mapping[str, QueueBacklog | Missing]


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


@dataclass(frozen=True, slots=True)
class MetricProposal:
    """One metric's reading and what it asks for."""

    type: str
    value: Fraction | Missing
    """The reading itself: for QueueDepth the weighted sum of jobs."""
    target: Fraction
    """What one worker should have of it."""
    replicas: int | None
    """What the metric asks for. None: invalid, it asks for nothing."""
    message: str
    """One sentence with the numbers."""


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
