"""One try at a job, and the times that it took."""

from __future__ import annotations

import time

from llmpool_contract import Timings

from .answer import Answer
from .asking import Asked
from .backends import BackendError, ErrorKind
from .failures import handling_of
from .filters.output import OutputFilter
from .held import HeldJob


class Attempt:
    """One try at a job as it goes: what was said, and when."""

    def __init__(self, output_max_bytes: int, shown: OutputFilter | None = None) -> None:
        self.answer = Answer(output_max_bytes, shown)
        self._began = self._asked_at = time.monotonic()
        self.first_token_s: float | None = None
        self.asked: Asked | None = None
        """The model that was asked last; None: none was yet."""
        self.flags: tuple[str, ...] = ()
        """Rules that the job's own text met."""
        self.cached = False

    def asks(self, asked: Asked) -> None:
        """A model is about to be asked."""
        self.asked = asked
        self._asked_at = time.monotonic()

    def failed(self, error: BackendError) -> None:
        """What the breakers learn of the model that was asked; harmless where its call has its outcome."""
        if self.asked and self.asked.permit:
            self.asked.permit.failed(time.monotonic(), handling_of(error).counts)

    def let_go(self) -> None:
        """The call is over, however it ended; harmless as above."""
        if self.asked and self.asked.permit:
            self.asked.permit.ignored(time.monotonic())

    async def whole(self) -> list[tuple[str, str]]:
        """Once the server has no more to say: (kind, text) that was held back until then. Raises BackendError."""
        if self.answer.final is None:
            raise BackendError(ErrorKind.RETRYABLE, "incomplete", "the stream has no end")
        return await self.answer.end()

    def heard(self) -> None:
        """Something came from the server."""
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self._asked_at

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
