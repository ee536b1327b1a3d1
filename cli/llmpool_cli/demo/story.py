"""What has happened so far. The stage writes it, the screens and the summary read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmpool_client import DeadLetter, QueueState, Reset, Result, StreamEvent, Text
from llmpool_contract import Status, WorkerReport, WorkerState
from llmpool_operator.decide.types import Missing
from llmpool_operator.targets.base import Turn

from .burst import Burst
from .figures import token_rate

CRASHES_TO_GIVE_UP = 3


@dataclass(frozen=True, slots=True)
class News:
    """Something worth a line: a change of size with its reason, or what happened to a worker."""

    at: float
    """Seconds since the beginning."""
    what: str
    """``2 -> 4``, or empty."""
    reason: str
    message: str


@dataclass(slots=True)
class Story:
    """One run of the demo. Times are seconds since its beginning."""

    burst: Burst
    now: float = 0.0
    submitted_at: float | None = None
    answered_at: float | None = None
    """When the latest result came."""
    results: dict[str, Result] = field(default_factory=dict)
    dead: tuple[DeadLetter, ...] = ()
    queue: QueueState | None = None
    reports: Mapping[str, WorkerReport] = field(default_factory=dict)
    path: list[int] = field(default_factory=lambda: [0])
    """The sizes that the pool was given, one after the other."""
    existing: int = 0
    """Worker processes that are there, those that drain included."""
    news: list[News] = field(default_factory=list)
    streams: dict[str, str] = field(default_factory=dict)
    """Job id -> its text so far, in the order in which they began."""
    crashes: int = 0
    timed_out: bool = False

    def turned(self, turn: Turn) -> None:
        """Take note of one turn of the operator's engine."""
        if not isinstance(turn.size, Missing):
            self.existing = turn.size.existing
        # Nothing where Redis can't be read: then all workers are unknown.
        self.reports = {} if isinstance(turn.sighting.reports, Missing) else turn.sighting.reports
        decision = turn.decision
        if decision is not None and turn.resized is not None:
            before, after = turn.resized
            self.path.append(after)
            self.news.append(News(self.now, f"{before} -> {after}", decision.reason, decision.message))
        if turn.failure is not None:
            self.news.append(News(self.now, "", turn.failure.reason, turn.failure.message))

    def crashed(self, note: str) -> None:
        """Take note of a worker that ended by itself."""
        self.crashes += 1
        self.news.append(News(self.now, "", "WorkerEnded", note))

    def answered(self, result: Result) -> None:
        """Take note of a job's end."""
        self.results[result.id] = result
        self.answered_at = self.now

    def streamed(self, job_id: str, event: StreamEvent) -> None:
        """Take note of a piece of text; a new attempt voids what came before it."""
        match event:
            case Text(text=text):
                self.streams[job_id] = self.streams.get(job_id, "") + text
            case Reset():
                self.streams[job_id] = ""

    @property
    def lost(self) -> int:
        """Submitted jobs that have neither a result nor a dead letter (yet)."""
        if self.submitted_at is None:
            return self.burst.size
        buried = {letter.job_id for letter in self.dead}
        missing = [job_id for job_id in self.burst.ids if job_id not in self.results and job_id not in buried]
        return len(missing) + (not any(letter.body == self.burst.malformed for letter in self.dead))

    @property
    def at_zero(self) -> bool:
        """Whether the pool was sized to zero and its last process is gone."""
        return self.path[-1] == 0 and self.existing == 0

    @property
    def over(self) -> bool:
        """Whether every job has ended and the pool is back at zero."""
        return self.lost == 0 and self.at_zero

    @property
    def hopeless(self) -> bool:
        """Whether the workers die without having answered anything."""
        return self.crashes >= CRASHES_TO_GIVE_UP and not self.results

    @property
    def succeeded(self) -> list[Result]:
        """The results with an answer."""
        return [result for result in self.results.values() if result.status is Status.SUCCEEDED]

    @property
    def expired(self) -> int:
        """Jobs that nobody began in time."""
        return sum(result.status is Status.EXPIRED for result in self.results.values())

    @property
    def tokens_per_s(self) -> float | None:
        """Of all answers so far. None: not known."""
        return token_rate(self.succeeded, self.submitted_at, self.answered_at)

    @property
    def queued(self) -> int:
        """Jobs that wait, for a worker or for another attempt."""
        return self.queue.ready + self.queue.due + self.queue.delayed if self.queue else 0

    @property
    def in_flight(self) -> int:
        """Jobs that workers hold."""
        return self.queue.in_flight if self.queue else 0

    @property
    def unseen(self) -> tuple[int, int]:
        """(starting, ending): worker processes that don't report, not yet or no more."""
        live = sum(report.state in (WorkerState.STARTING, WorkerState.READY) for report in self.reports.values())
        starting = max(0, self.path[-1] - live)
        return starting, max(0, self.existing - len(self.reports) - starting)

    @property
    def watched(self) -> str | None:
        """The stream to show: the oldest one that still runs, else the last that ended."""
        running = [job_id for job_id in self.streams if job_id not in self.results]
        return next(iter(running), next(reversed(self.streams), None))
