"""A job's way through this worker: admitted, checked, run, settled, told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from redis.exceptions import RedisError

from llmpool_contract import JobType, QueueKeys, Status

from .admission import Admission, Refused, read, refusal
from .attempt import queued_s
from .held import Held, HeldJob
from .queue.types import Kind, Settlement, Verdict
from .reporter import Reporter
from .runner import Ended, Runner
from .slots import AWAY_S, Slots
from .telling import JobEvent, Teller
from .telling.troubles import Failed

log = structlog.get_logger()

RECHECK_S = 0.25


@dataclass(frozen=True, slots=True)
class Rules:
    """What is refused before a model is asked."""

    queues: dict[QueueKeys, JobType | None]
    job_max_bytes: int
    max_deliveries: int
    worker: str


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Whom a job's way touches. Made after :class:`Journeys`, which they call back."""

    admission: Admission
    runner: Runner
    reporter: Reporter
    settle: Callable[[Settlement], None]
    slot_free: Callable[[], None]
    job_delayed: Callable[[], None]
    check_failed: Failed


class Journeys:
    """All jobs between claim and settlement."""

    def __init__(self, rules: Rules, slots: Slots, held: Held, teller: Teller) -> None:
        self._rules, self._slots, self._held, self._teller = rules, slots, held, teller
        self._ended: dict[str, tuple[HeldJob, Ended | None, str | None]] = {}
        self._next: Neighbours
        self.done = 0
        """Jobs with a result or a dead letter of this worker's."""
        self.errors: dict[str, int] = {}
        """How often each error code was met."""

    def meet(self, neighbours: Neighbours) -> None:
        """Before the first claim."""
        self._next = neighbours

    async def admit(self, keys: QueueKeys, batch: list[HeldJob]) -> None:
        """Hold a claimed batch, refuse what can't run, start the rest."""
        only_type = self._rules.queues[keys]
        checkable: list[HeldJob] = []
        for held in batch:
            self._held.add(held)
            job = read(held.claim, only_type, self._rules.job_max_bytes, self._rules.max_deliveries)
            if isinstance(job, Refused):
                held.job_id = job.job_id or ""
                self._put(held, refusal(held.claim, job, self._rules.worker), code=job.code)
            else:
                held.job, held.job_id = job, job.id or held.claim.job_id
                checkable.append(held)
        if checkable:
            for held, verdict in zip(checkable, await self._verdicts(keys, checkable), strict=True):
                self._follow(held, verdict)

    async def _verdicts(self, keys: QueueKeys, batch: list[HeldJob]) -> list[Verdict]:
        """Ask until Redis answers or the leases have lapsed meanwhile."""
        lapses = batch[0].lease_until  # as of the claim: the renewals that go on meanwhile don't make this wait longer
        while time.monotonic() < lapses:
            try:
                return await self._next.admission.verdicts(keys, batch)
            except (RedisError, OSError) as error:
                self._next.check_failed(error)
            await asyncio.sleep(RECHECK_S)
        return [Verdict.LOST] * len(batch)

    def _follow(self, held: HeldJob, verdict: Verdict) -> None:
        match verdict:
            case Verdict.RUN if held.stop is not None:  # a renewal came to know more while Redis was asked
                self._end(held, self._next.runner.stopped(held))
            case Verdict.RUN if held.job is not None and self._next.admission.has_expired(held.job):
                self._put(held, self._next.runner.without_answer(held, Status.EXPIRED))
            case Verdict.RUN:
                self._slots.take()
                self._next.reporter.work_began()
                held.task = asyncio.create_task(self._next.runner.run(held))
                held.task.add_done_callback(partial(self._run_ended, held))
            case Verdict.CANCELLED:
                self._put(held, self._next.runner.without_answer(held, Status.CANCELLED))
            case Verdict.LOST:
                self._forget(held, None, "lease_lost")
            case Verdict.ANSWERED | Verdict.DUPLICATE:
                self._put(held, Settlement.dropped(held.claim, "dropped_duplicates"))

    def _run_ended(self, held: HeldJob, task: asyncio.Task[Ended]) -> None:
        """Called when a run is over, also one that was stopped before its first step."""
        held.task = None
        self._slots.give_back()
        self._next.slot_free()
        if task.cancelled():
            ended = self._next.runner.stopped(held)
        elif error := task.exception():
            # A bug of ours. Not held any more, the job comes back when its lease ends, and is poison if that goes on.
            log.error("run_broke", queue=held.claim.keys.queue, job=held.job_id, exc_info=error)
            ended = Ended(None, "internal")
        else:
            ended = task.result()
        self._end(held, ended)

    def _end(self, held: HeldJob, ended: Ended) -> None:
        if ended.settlement is None:
            self._forget(held, ended, ended.code)
            return
        if ended.settlement.postpones:
            self._slots.server_was_away(time.monotonic())
            asyncio.get_running_loop().call_later(AWAY_S, self._next.slot_free)
        else:
            self._slots.server_was_there()
        self._put(held, ended.settlement, ended)

    def _put(self, held: HeldJob, end: Settlement, ended: Ended | None = None, code: str | None = None) -> None:
        self._ended[held.claim.handle] = (held, ended, code or (ended.code if ended else None))
        self._next.settle(end)

    def settled(self, end: Settlement, done: bool) -> None:
        """A settlement was answered."""
        held, ended, code = self._ended.pop(end.claim.handle)
        self._held.discard(end.claim)
        if done and end.kind is Kind.RETRY:
            self._next.job_delayed()
        if done and end.kind in (Kind.RESULT, Kind.DEAD):
            self.done += 1
            self._next.reporter.jobs.add(time.monotonic(), 1)
        self._tell(held, ended, end.outcome if done else "lost", code, end.reason or None)

    def _forget(self, held: HeldJob, ended: Ended | None, code: str | None) -> None:
        self._held.discard(held.claim)
        self._tell(held, ended, "lost", code)

    def _tell(
        self, held: HeldJob, ended: Ended | None, outcome: str, code: str | None, reason: str | None = None
    ) -> None:
        final = ended.answer.final if ended and ended.answer else None
        if code and outcome not in ("succeeded", "cancelled", "expired"):
            self.errors[code] = self.errors.get(code, 0) + 1
        element, job = held.claim.element, held.job
        if final and final.output_tokens:
            self._next.reporter.tokens.add(time.monotonic(), final.output_tokens)
        self._teller.tell(
            JobEvent(
                queue=held.claim.keys.queue,
                job_id=held.known_id,
                handle=held.claim.handle,
                outcome=outcome,
                job_type=job.type if job else None,
                model=job.model if job else None,
                code=code,
                reason=reason,
                attempts=element.attempts,
                deliveries=element.deliveries,
                queued_s=queued_s(held),
                running_s=ended.running_s if ended else None,
                first_token_s=ended.first_token_s if ended else None,
                input_tokens=final.input_tokens if final else None,
                output_tokens=final.output_tokens if final else None,
            )
        )
