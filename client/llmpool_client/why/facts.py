"""What can be known of a job that somebody asks about. Moments are Unix ms by Redis' clock; None is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmpool_client.status import JobStatus
from llmpool_contract import JobError, Priority, WorkerReport
from llmpool_contract.mark import Note


class Where(StrEnum):
    """The place of a job's bytes."""

    READY = "ready"
    DELAYED = "delayed"
    CLAIMED = "claimed"
    BEYOND = "beyond"
    """Not among the entries that one look may go through, and there are more."""
    NOWHERE = "nowhere"
    """In none of the three: ended, unknown, or between two of them at that moment."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is, and what stands before it there."""

    where: Where
    looked_at: int = 0
    """Entries gone through."""
    priority: Priority | None = None
    """Of a ready job: its list's; of the others, the one that it was claimed from."""
    ahead: int | None = None
    """Jobs before it: in its own list, or due before it."""
    due_ms: int | None = None
    """Of a delayed job."""
    lease_end_ms: int | None = None
    """Of a claimed one. None: it has no lease, and is given one by the next worker that tends the queue."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What has happened to a job that was found, but for its attempts."""

    size: int
    """Bytes of its body."""
    deliveries: int
    """Claims that did not end cleanly, a present one included."""
    first_claimed_ms: int | None
    """None: never yet."""
    worker: str | None
    """Who holds it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What of its body matters for when it runs. Nothing else of a body is a fact here."""

    type: str | None = None
    model: str | None = None
    fallback_models: tuple[str, ...] = ()
    deadline_ms: int | None = None
    enqueued_at: float | None = None
    """Unix seconds by its producer's clock."""
    tenant: str | None = None
    fault: str | None = None
    """Why no worker will run it: field and rule, without the text."""


@dataclass(frozen=True, slots=True)
class WorkersSeen:
    """What the workers of one pool say."""

    pool: str
    fresh: tuple[WorkerReport, ...]
    """Reports of the last seconds, of workers that serve the job's queue."""
    stale: tuple[str, ...]
    """Workers of the queue that have stopped reporting."""

    def report_of(self, worker: str) -> WorkerReport | None:
        """The fresh report of one worker."""
        return next((report for report in self.fresh if report.worker == worker), None)


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Everything known of one job as of ``now_ms``."""

    id: str
    queue: str
    now_ms: int
    status: JobStatus
    place: Place
    progress: Progress | None
    """None: it was not found."""
    ready: dict[Priority, int]
    """Length of each ready list."""
    ask: Ask | None
    """None: it was not found."""
    note: Note | None
    note_fault: str | None
    """There is a note that can't be read: which field."""
    cancel_wished: bool
    model_passed_over_since_ms: int | None
    """Since when jobs of its model have been passed over, the resident ones first."""
    attempts: int | None
    """Attempts that counted; once it has ended, all."""
    error: JobError | None
    """Of its result."""
    answered_by: str | None
    """The worker that wrote the result."""
    dead_entry: str | None
    """The address of its dead letter."""
    workers: WorkersSeen | None
    """None: no pool was named."""

    @property
    def known(self) -> bool:
        """Whether there is any trace of the job in this queue."""
        return self.status is not JobStatus.UNKNOWN or self.dead_entry is not None
