"""One job, from an accepted claim to its settlement."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from llmpool_contract import Job, JobError, Status
from llmpool_contract.mark import Note

from .answer import unanswered
from .asking import Asked, Asker, NotNow
from .attempt import Attempt, timings
from .backends import BackendError, ErrorKind
from .backends.base import Event, Final
from .cache import Cache
from .clock import RedisClock
from .filters import Blocked, Filters
from .held import HeldJob, Stop
from .policy import Fate, RetryPolicy, fate_of
from .queue.types import Settlement
from .streams import Streams, StreamWriter
from .watchdog import Watchdog

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
    final: Final | None = None
    """The server's own word at the end of a whole answer."""
    first_token_s: float | None = None
    running_s: float = 0.0
    asked: Asked | None = None
    """The model that was asked last; None: none was."""
    flags: tuple[str, ...] = ()


class _TimeUp(Exception):
    """The job's own time is over."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


_OUT_OF_TIME = BackendError(ErrorKind.PERMANENT, "timeout", "the job's time is over")


class Runner:
    """Runs jobs: looks at what they ask, asks a model, looks at what it answers."""

    def __init__(
        self,
        asker: Asker,
        cache: Cache | None,
        filters: Filters,
        streams: Streams,
        clock: RedisClock,
        limits: RunLimits,
        retry: RetryPolicy,
        worker: str,
    ) -> None:
        self._asker, self._cache, self._filters, self._streams, self._clock = asker, cache, filters, streams, clock
        self._limits, self._retry, self._worker = limits, retry, worker

    async def run(self, held: HeldJob) -> Ended:
        """Ask the model and decide what becomes of the job. Being stopped from outside is an ending like any other."""
        shown = self._filters.output(_job(held), held.claim.keys.queue)
        attempt = Attempt(self._limits.output_max_bytes, shown)
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
        # Calls for embed jobs are shared, and have that limit for themselves.
        request_end = end if job.type == "embed" else now + self._limits.request_s
        try:
            async with Watchdog(min(end, request_end)) as watchdog:
                job = await self._looked_at(held, job, attempt)
                async with aclosing(self._events(held, job, attempt)) as events:
                    async for event in events:
                        attempt.heard()
                        watchdog.move(min(end, request_end, loop.time() + self._limits.stall_s))
                        if (piece := attempt.answer.take(event)) and writer:
                            writer.add(*piece)
                watchdog.move(end)
                for held_back in await attempt.whole():
                    if writer:
                        writer.add(*held_back)
        except TimeoutError:
            if loop.time() >= end:
                raise _TimeUp(status) from None
            stalled = BackendError(ErrorKind.RETRYABLE, "backend_stalled", "no answer in time")
            attempt.failed(stalled)
            raise stalled from None
        except BackendError as error:
            attempt.failed(error)  # also our own word on an answer: too large, without an end
            raise
        finally:
            attempt.let_go()

    def _events(self, held: HeldJob, job: Job, attempt: Attempt) -> AsyncGenerator[Event]:
        def ask(asked: Job) -> AsyncGenerator[Event]:
            return self._asker.events(held, asked, attempt.asks)

        if self._cache is None or not job.cache:
            return ask(job)
        return self._cache.events(held.claim.keys, job, ask, lambda: attempt.asked.model if attempt.asked else None)

    async def _looked_at(self, held: HeldJob, job: Job, attempt: Attempt) -> Job:
        """The job as it may go to a model. Raises BackendError ``filtered`` and ``filter_unavailable``."""
        verdict = await self._filters.input(job, held.claim.keys.queue)
        if isinstance(verdict, Blocked):
            raise BackendError(ErrorKind.PERMANENT, "filtered", verdict.reason)
        attempt.flags = verdict.flags
        return verdict.job

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
        final = attempt.answer.final if error is None else None
        return self._end(attempt, settlement, code, final)

    @staticmethod
    def _end(attempt: Attempt, settlement: Settlement | None, code: str | None, final: Final | None = None) -> Ended:
        return Ended(settlement, code, final, attempt.first_token_s, attempt.running_s, attempt.asked, attempt.flags)

    def postponed(self, held: HeldJob, error: BackendError) -> Ended:
        """The end of a run that doesn't even begin now, at no cost."""
        fate, delay_ms = fate_of(error, held.claim.element.attempts, self._retry, random.random())
        return Ended(self._later(held, error, fate, delay_ms), error.code)

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
        return self._end(attempt, settlement, code) if attempt else Ended(settlement, code)

    def _answered(self, held: HeldJob, attempt: Attempt) -> Settlement:
        job = _job(held)
        times = timings(held, attempt)
        model = attempt.asked.model if attempt.asked else job.model
        result = attempt.answer.succeeded(held.job_id, job, held.claim, model, times, self._worker, attempt.flags)
        tokens = attempt.answer.final.tokens if attempt.answer.final else 0
        return Settlement.answered(held.claim, result, streamed=job.stream, tenant=job.tenant or "", tokens=tokens)

    def _failed(self, held: HeldJob, attempt: Attempt, error: BackendError) -> Settlement:
        fate, delay_ms = fate_of(error, held.claim.element.attempts, self._retry, random.random())
        return self._bury(held, attempt, error) if fate is Fate.BURY else self._later(held, error, fate, delay_ms)

    def _later(self, held: HeldJob, error: BackendError, fate: Fate, delay_ms: int) -> Settlement:
        """Back to the delayed jobs, with a note for those who ask why it waits (``llmpool why``)."""
        now_ms, counts = self._clock.now_ms(), fate is Fate.RETRY
        note = Note(
            code=error.code,
            reason=error.reason[:2_000],
            at_ms=now_ms,
            due_ms=now_ms + delay_ms,
            attempts=held.claim.element.attempts + counts,
            waits_for=error.waits_for if isinstance(error, NotNow) else None,
        )
        told = note.to_json().decode()
        return Settlement.retried(held.claim, held.job_id, delay_ms, counts=counts, reason=error.reason, note=told)

    def _bury(self, held: HeldJob, attempt: Attempt, error: BackendError) -> Settlement:
        result = unanswered(
            held.job_id,
            held.claim,
            Status.FAILED,
            self._worker,
            error=JobError(code=error.code, message=error.message),
            job=held.job,
            timings=timings(held, attempt),
            attempts=held.claim.element.attempts + (attempt.asked is not None),
        )
        return Settlement.buried(held.claim, error.code, error.reason, result, streamed=_job(held).stream)

    def without_answer(self, held: HeldJob, status: Status, attempt: Attempt | None = None) -> Settlement:
        """A result for a job that nobody wants answered any more: cancelled or expired."""
        job = _job(held)
        asked = 0 if attempt is None or attempt.asked is None else 1
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
