"""What a worker tells its pool, about once a second."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _within(low: float, high: float) -> Callable[[Any], Any]:
    """A number outside these bounds, NaN included, is no reading: None. What is no number goes on unread."""

    def check(given: Any) -> Any:
        if isinstance(given, int | float) and not low <= given <= high:  # NaN is within no bounds
            return None
        return given

    return check


_Share = Annotated[float | None, BeforeValidator(_within(0, 1))]
_PerSecond = Annotated[float | None, BeforeValidator(_within(0, 1e6))]
_Cores = Annotated[float | None, BeforeValidator(_within(0, 1e5))]
_Bytes = Annotated[int | None, BeforeValidator(_within(0, 2**60))]
_Jobs = Annotated[int, Field(ge=0, le=1_000_000)]


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """Claims nothing new and finishes what it has."""
    DRAINED = "drained"
    """Holds nothing, and its last claim call has returned: it may be ended."""


class GPUReport(BaseModel):
    """One GPU as NVML tells it. A reading the card doesn't give is None, never zero."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    index: int
    name: str
    utilization: _Share = None
    """Fraction of the sample period in which a kernel ran, 0..1. Busy time, not load."""
    memory_used_bytes: _Bytes = None
    memory_total_bytes: _Bytes = None


class ModelReport(BaseModel):
    """One model that a worker should hold, or tried to."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    state: str
    """``ready``, ``loading``, ``waiting`` or ``failed``."""
    error: str | None = None
    """Why it failed: a code of ours, and words of ours."""


class WorkerReport(BaseModel):
    """One worker's state, the value of its field in ``{pool:NS/NAME}:workers``.

    Unknown fields are ignored, so that an older operator reads a newer worker. Missing readings are None, and so are
    absurd ones (NaN, negative, beyond all machines); an absurd count of jobs makes the whole report unreadable.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    worker: str
    pool: str
    state: WorkerState
    at_ms: int = Field(ge=0, le=2**53)
    """When this was written, Unix ms by Redis' clock."""
    in_flight: _Jobs
    capacity: _Jobs
    queues: list[str]
    done: int = 0
    """Jobs this process has settled since it started, whatever their status."""
    jobs_per_second: _PerSecond = None
    """Settled jobs, averaged over the last minute of work."""
    tokens_per_second: _PerSecond = None
    resident_models: list[str] | None = None
    """Models in the server's memory. None: not known, or the server doesn't tell."""
    models: list[ModelReport] | None = None
    """The preload list, and what has become of each."""
    cpu: _Cores = None
    """Cores in use by this process, 1.0 is one whole core."""
    memory_bytes: _Bytes = None
    gpus: list[GPUReport] | None = None
    version: str = ""

    def is_fresh(self, now_ms: int, ttl_ms: int = 5_000) -> bool:
        """Whether this says anything about now: a worker without a fresh report is unknown, not idle.

        One from the future, written before Redis' clock was set back, says nothing either: it would never grow old.
        """
        return abs(now_ms - self.at_ms) <= ttl_ms
