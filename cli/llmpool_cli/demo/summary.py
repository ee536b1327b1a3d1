"""What the run came to, and whether it went well."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .figures import percentile, waits_of
from .story import Story


@dataclass(frozen=True, slots=True)
class Summary:
    """The object that ``--json`` prints. None: nothing was measured."""

    submitted: int
    succeeded: int
    expired: int
    dead: int
    lost: int
    """Jobs without a result or dead letter."""
    replicas_max: int
    replicas_end: int
    """Worker processes that are left."""
    scale_path: tuple[int, ...]
    wait_p50_s: float | None
    """From submission to claim, of the jobs that succeeded."""
    wait_p95_s: float | None
    tokens_per_s: float | None
    """Tokens of all answers, over the time from the first claim to the last result."""
    redis: str
    model: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def summarize(story: Story, redis: str, model: str) -> Summary:
    """Add it all up."""
    waits = waits_of(story.succeeded)
    return Summary(
        submitted=story.burst.size if story.submitted_at is not None else 0,
        succeeded=len(story.succeeded),
        expired=story.expired,
        dead=len(story.dead),
        lost=story.lost if story.submitted_at is not None else 0,
        replicas_max=max(story.path),
        replicas_end=max(story.path[-1], story.existing),
        scale_path=tuple(story.path),
        wait_p50_s=percentile(waits, 50),
        wait_p95_s=percentile(waits, 95),
        tokens_per_s=story.tokens_per_s,
        redis=redis,
        model=model,
    )


def failure(summary: Summary, *, timed_out_s: float | None = None) -> str | None:
    """Why the run did not go well, in one line. None: it did."""
    faults = []
    if not summary.submitted:
        faults.append("nothing was submitted")
    if summary.lost:
        faults.append(f"{summary.lost} of {summary.submitted} jobs have neither a result nor a dead letter")
    if summary.replicas_max <= 1:
        faults.append(f"the pool never grew above {summary.replicas_max}")
    if summary.replicas_end:
        faults.append(f"the pool ended with {summary.replicas_end} workers instead of none")
    if summary.submitted and not summary.lost and (summary.expired, summary.dead) != (1, 1):
        faults.append(
            f"{summary.succeeded} of {summary.submitted - 2} jobs succeeded, {summary.expired} expired and "
            f"{summary.dead} became dead letters, where it should have been one of each"
        )
    if timed_out_s is not None:
        faults.insert(0, f"not done within {timed_out_s:g} s (--timeout)")
    return "; ".join(faults) or None


def rows(summary: Summary) -> list[tuple[str, str]]:
    """The summary for people."""
    s = summary
    return [
        ("submitted", str(s.submitted)),
        ("succeeded", str(s.succeeded)),
        ("expired", f"{s.expired}  (one had a deadline that nobody could keep)"),
        ("dead letters", f"{s.dead}  (one was not JSON)"),
        ("lost", str(s.lost)),
        ("workers", " -> ".join(map(str, s.scale_path))),
        ("wait for a worker", f"p50 {_seconds(s.wait_p50_s)}, p95 {_seconds(s.wait_p95_s)}"),
        ("tokens/s", "unknown" if s.tokens_per_s is None else f"{s.tokens_per_s:g}  (all workers together)"),
        ("redis", s.redis),
        ("model", s.model),
    ]


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"
