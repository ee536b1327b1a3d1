"""One try at a job, and the times that it took."""

from __future__ import annotations

import time

from llmpool_contract import Timings

from .answer import Answer
from .held import HeldJob


class Attempt:
    """One try at a job as it goes: what was said, and when."""

    def __init__(self, output_max_bytes: int) -> None:
        self.answer = Answer(output_max_bytes)
        self._began = time.monotonic()
        self.first_token_s: float | None = None

    def heard(self) -> None:
        """Something came from the server."""
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self._began

    @property
    def running_s(self) -> float:
        """Since the request."""
        return time.monotonic() - self._began


def queued_s(held: HeldJob) -> float | None:
    """Seconds from ``enqueued_at`` to the first claim. Clocks differ, so a negative wait is none; None: not told."""
    job = held.job
    if job is None or job.enqueued_at is None:
        return None
    return max(0.0, held.claim.element.first_claimed_ms / 1_000 - job.enqueued_at)


def timings(held: HeldJob, attempt: Attempt) -> Timings:
    """What a result says of this attempt."""
    first = attempt.first_token_s
    waited = queued_s(held)
    return Timings(
        queued=None if waited is None else round(waited, 6),
        running=round(attempt.running_s, 6),
        first_token=None if first is None else round(first, 6),
    )
