"""One job, from an accepted claim to its settlement."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from llmpool_contract import Job, JobError, Status

from .answer import Answer, unanswered
from .attempt import Attempt, timings
from .backends import Backend, BackendError, ErrorKind, ask
from .clock import RedisClock
from .held import HeldJob, Stop
from .policy import Fate, RetryPolicy, fate_of
from .queue.types import Settlement
from .streams import Streams, StreamWriter

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Seconds, but for the bytes."""

    timeout_s: float
    """WORKER_TIMEOUT: one attempt, whatever it does."""
    request_s: float
    """OLLAMA_TIMEOUT: one attempt's request; what it leaves unsaid is retried."""
    stall_s: float
    output_max_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run came to, for the settler and for those who are told. ``settlement`` None: the job isn't ours."""

    settlement: Settlement | None
    code: str | None = None
    answer: Answer | None = None
    first_token_s: float | None = None
    running_s: float = 0.0


class _TimeUp(Exception):
    """The job's own time is over."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


_OUT_OF_TIME = BackendError(ErrorKind.PERMANENT, "timeout", "the job's time is over")


class Runner:
    """Runs jobs on one backend."""

    def __init__(
        self, backend: Backend, streams: Streams, clock: RedisClock, limits: RunLimits, retry: RetryPolicy, worker: str
    ) -> None:
        self._backend, self._streams, self._clock = backend, streams, clock
        self._limits, self._retry, self._worker = limits, retry, worker

    async def run(self, held: HeldJob) -> Ended:
        """Ask the model and decide what becomes of the job. Being stopped from outside is an ending like any other."""
        attempt = Attempt(self._limits.output_max_bytes)
        writer = self._streams.open(held) if held.job and held.job.stream else None
        try:
            await self._ask(held, attempt, writer)
            if writer:
                await writer.finish()
            return self._ended(held, attempt, None)
        except (BackendError, _TimeUp) as error:
            return self._ended(held, attempt, error)
        except asyncio.CancelledError:
            if held.stop is None:
                raise
            return self.stopped(held, attempt)
        except Exception:
            # An answer of a shape nobody thought of, or a bug of ours, costs this job an attempt and no other anything.
            log.exception("run_failed", queue=held.claim.keys.queue, job=held.job_id)
            return self._ended(held, attempt, BackendError(ErrorKind.RETRYABLE, "internal", "unexpected answer or bug"))

    async def _ask(self, held: HeldJob, attempt: Attempt, writer: StreamWriter | None) -> None:
        """Stream the answer under one watchdog, moved by each event: the job's own end, or the server's next stall."""
        job = _job(held)
        loop = asyncio.get_running_loop()
        now = loop.time()
        end, status = self._time_limit(held, job, now)
        request_end = now + self._limits.request_s
        try:
            async with asyncio.timeout_at(min(end, request_end)) as watchdog:
                async with aclosing(ask(self._backend, job, job.model)) as events:
                    async for event in events:
                        attempt.heard()
                        watchdog.reschedule(min(end, request_end, loop.time() + self._limits.stall_s))
                        if (piece := attempt.answer.take(event)) and writer:
                            writer.add(*piece)
        except TimeoutError:
            if loop.time() >= end:
                raise _TimeUp(status) from None
            raise BackendError(ErrorKind.RETRYABLE, "backend_stalled", "no answer in time") from None
        if attempt.answer.final is None:
            raise BackendError(ErrorKind.RETRYABLE, "incomplete", "the stream has no end")

    def _time_limit(self, held: HeldJob, job: Job, now: float) -> tuple[float, Status]:
        """(end by the loop's clock, what the job is when it comes). The client's deadline expires; a limit fails."""
        limit_s = self._limits.timeout_s
        if job.timeout_ms is not None:
            limit_s = min(limit_s, job.timeout_ms / 1_000)
        end = now - (time.monotonic() - held.claimed_at) + limit_s
        if job.deadline is not None:
            deadline = now + (job.deadline - self._clock.now_ms()) / 1_000
            if deadline <= end:
                return deadline, Status.EXPIRED
        return end, Status.FAILED

    def _ended(self, held: HeldJob, attempt: Attempt, error: BackendError | _TimeUp | None) -> Ended:
        match error:
            case None:
                settlement, code = self._answered(held, attempt), None
            case _TimeUp(status=Status.EXPIRED):
                settlement, code = self.without_answer(held, Status.EXPIRED, attempt), "expired"
            case _TimeUp():
                settlement, code = self._bury(held, attempt, _OUT_OF_TIME), "timeout"
            case BackendError():
                settlement, code = self._failed(held, attempt, error), error.code
        answer = attempt.answer if error is None else None
        return Ended(settlement, code, answer, attempt.first_token_s, attempt.running_s)

    def stopped(self, held: HeldJob, attempt: Attempt | None = None) -> Ended:
        """The end of a run that was stopped from outside. ``attempt`` None: before the model was asked."""
        settlement: Settlement | None = None
        match held.stop:
            case Stop.CANCELLED:
                settlement, code = self.without_answer(held, Status.CANCELLED, attempt), "cancelled"
            case Stop.DRAIN:
                settlement, code = Settlement.released(held.claim, held.job_id), "drain"
            case _:
                code = "lease_lost"
        first, running = (attempt.first_token_s, attempt.running_s) if attempt else (None, 0.0)
        return Ended(settlement, code, None, first, running)

    def _answered(self, held: HeldJob, attempt: Attempt) -> Settlement:
        job = _job(held)
        times = timings(held, attempt)
        result = attempt.answer.succeeded(held.job_id, job, held.claim, job.model, times, self._worker)
        return Settlement.answered(held.claim, result, streamed=job.stream)

    def _failed(self, held: HeldJob, attempt: Attempt, error: BackendError) -> Settlement:
        fate, delay_ms = fate_of(error, held.claim.element.attempts, self._retry, random.random())
        match fate:
            case Fate.BURY:
                return self._bury(held, attempt, error)
            case Fate.RETRY | Fate.POSTPONE:
                counts = fate is Fate.RETRY
                return Settlement.retried(held.claim, held.job_id, delay_ms, counts=counts, reason=error.reason)

    def _bury(self, held: HeldJob, attempt: Attempt, error: BackendError) -> Settlement:
        result = unanswered(
            held.job_id,
            held.claim,
            Status.FAILED,
            self._worker,
            error=JobError(code=error.code, message=error.message),
            job=held.job,
            timings=timings(held, attempt),
            attempts=held.claim.element.attempts + 1,
        )
        return Settlement.buried(held.claim, error.code, error.reason, result, streamed=_job(held).stream)

    def without_answer(self, held: HeldJob, status: Status, attempt: Attempt | None = None) -> Settlement:
        """A result for a job that nobody wants answered any more: cancelled or expired."""
        job = _job(held)
        asked = 0 if attempt is None else 1
        times = timings(held, attempt) if attempt else None
        result = unanswered(
            held.job_id,
            held.claim,
            status,
            self._worker,
            job=job,
            timings=times,
            attempts=held.claim.element.attempts + asked,
        )
        return Settlement.answered(held.claim, result, streamed=job.stream)


def _job(held: HeldJob) -> Job:
    if held.job is None:
        raise RuntimeError("a job that could not be read was run")
    return held.job
