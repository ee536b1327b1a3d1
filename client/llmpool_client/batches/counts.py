"""How a batch stands, decided from how its requests stand. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from llmpool_client.status import JobStatus

from .record import Batch


class BatchState(StrEnum):
    """OpenAI's words where it has one."""

    SUBMITTING = "submitting"
    """Not all of the file is pushed: somebody is at it, or was interrupted."""
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    """Every request has ended, well or not."""
    EXPIRED = "expired"
    """Every request has ended, some by the deadline."""
    CANCELLING = "cancelling"
    """Cancelled, and some jobs wait for a worker that says so."""
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing will change any more, but that results lapse."""
        return self in _ENDS


_ENDS = frozenset({BatchState.COMPLETED, BatchState.EXPIRED, BatchState.CANCELLED})


class RequestState(StrEnum):
    """How one request stands: as its job does, or one of the three that no job has."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"
    """Its body can't be a job."""
    LOST = "lost"
    """There is no trace of its job: its result has lapsed. Whether it succeeded isn't known any more."""

    @property
    def is_end(self) -> bool:
        return self not in _OPEN


_OPEN = frozenset({RequestState.QUEUED, RequestState.RUNNING, RequestState.WAITING})


def request_state(job: JobStatus) -> RequestState:
    """That of a request whose job was pushed: unknown can only mean that its result is gone."""
    return RequestState.LOST if job is JobStatus.UNKNOWN else RequestState(job.value)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of one batch; all but ``total`` add up to it."""

    total: int
    completed: int = 0
    """Succeeded, as OpenAI counts."""
    failed: int = 0
    """Refused ones among them."""
    cancelled: int = 0
    expired: int = 0
    lost: int = 0
    queued: int = 0
    running: int = 0
    waiting: int = 0
    """Between two attempts."""
    unsubmitted: int = 0

    @property
    def open(self) -> int:
        """Requests that have yet to end."""
        return self.queued + self.running + self.waiting + self.unsubmitted


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch and how it stands."""

    batch: Batch
    state: BatchState
    counts: Counts

    @property
    def succeeded(self) -> bool:
        """Whether every single request did."""
        return self.counts.completed == self.counts.total

    def facts(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self.batch) | {"state": str(self.state), "counts": asdict(self.counts)}


def decide(batch: Batch, requests: Iterable[RequestState], now_ms: int) -> BatchStatus:
    """Count and name. ``now_ms``: by Redis' clock, as the deadline is. What was never pushed ends with the batch."""
    seen = Counter(requests)
    missing = batch.total - seen.total()
    late = now_ms > batch.deadline_ms
    stopped = batch.cancelled_ms is not None
    counts = Counts(
        total=batch.total,
        completed=seen[RequestState.SUCCEEDED],
        failed=seen[RequestState.FAILED] + seen[RequestState.REFUSED],
        cancelled=seen[RequestState.CANCELLED] + (missing if stopped else 0),
        expired=seen[RequestState.EXPIRED] + (missing if late and not stopped else 0),
        lost=seen[RequestState.LOST],
        queued=seen[RequestState.QUEUED],
        running=seen[RequestState.RUNNING],
        waiting=seen[RequestState.WAITING],
        unsubmitted=0 if late or stopped else missing,
    )
    return BatchStatus(batch, _state(counts, stopped=stopped), counts)


def _state(counts: Counts, *, stopped: bool) -> BatchState:
    if stopped:
        return BatchState.CANCELLING if counts.open else BatchState.CANCELLED
    if counts.unsubmitted:
        return BatchState.SUBMITTING
    if counts.open:
        return BatchState.IN_PROGRESS
    return BatchState.EXPIRED if counts.expired else BatchState.COMPLETED
