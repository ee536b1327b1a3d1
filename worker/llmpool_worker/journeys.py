"""A job's way through this worker: admitted, checked, run, settled, told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from redis.exceptions import RedisError

from llmpool_contract import Job, QueueKeys, Status
from llmpool_contract.models import folded

from .admission import Admission, Refused, Rules, read, refusal
from .asking import model_not_open
from .backends.base import input_texts
from .held import Held, HeldJob
from .models.places import Places
from .queue.types import Kind, Settlement, Verdict
from .reporter import Reporter
from .runner import Ended, Runner
from .slots import AWAY_S, Slots
from .telling import Teller
from .telling.of_job import event_of
from .telling.troubles import Failed

log = structlog.get_logger()

RECHECK_S = 0.25
SERVER_AWAY = frozenset({"backend_unreachable", "backend_busy"})
"""Codes of a server that took nothing: the next job would fare no better."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Whom a job's way touches. Made after :class:`Journeys`, which they call back."""

    admission: Admission
    runner: Runner
    reporter: Reporter
    places: Places
    embeds_coming: set[str]
    """Handles of embed jobs that run and haven't asked for their vectors yet."""
    now_s: Callable[[], float]
    """Unix seconds by Redis' clock."""
    models_changed: Callable[[], None]
    """The leader of the model server should hear from this worker."""
    saw: Callable[[Ended], None]
    """What a run showed of the server."""
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
        checkable: list[HeldJob] = []
        for held in batch:
            self._held.add(held)
            job = read(held.claim, self._rules)
            if isinstance(job, Refused):
                held.job_id = job.job_id or ""
                self._put(held, refusal(held.claim, job, self._rules.worker), code=job.code)
            else:
                self._count(held, job)
                checkable.append(held)
        if checkable:
            for held, verdict in zip(checkable, await self._verdicts(keys, checkable), strict=True):
                self._follow(held, verdict)

    def _count(self, held: HeldJob, job: Job) -> None:
        """From now on its model has a job here."""
        held.job, held.job_id = job, job.id or held.claim.job_id
        held.model, held.units = folded(job.model), units_of(job, self._slots.batch)
        self._next.places.met(held.model)
        self._next.places.began(held.model, held.units)

    def _uncount(self, held: HeldJob) -> None:
        """No more: it has ended, or never ran."""
        if self._next.places.ended(held.model, held.units):
            self._next.models_changed()

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
        if verdict is Verdict.RUN and (ended := self._not_now(held)) is None:
            self._start(held)
            return
        self._uncount(held)
        match verdict:
            case Verdict.RUN:
                assert ended is not None
                self._end(held, ended)
            case Verdict.CANCELLED:
                self._put(held, self._next.runner.without_answer(held, Status.CANCELLED))
            case Verdict.LOST:
                self._forget(held, None, "lease_lost")
            case Verdict.ANSWERED | Verdict.DUPLICATE:
                self._put(held, Settlement.dropped(held.claim, "dropped_duplicates"))

    def _not_now(self, held: HeldJob) -> Ended | None:
        """Why a job that may run doesn't, and what becomes of it. None: it does."""
        runner = self._next.runner
        if held.stop is not None:  # a renewal came to know more while Redis was asked
            return runner.stopped(held)
        if held.job is not None and self._next.admission.has_expired(held.job):
            return Ended(runner.without_answer(held, Status.EXPIRED), "expired")
        if held.opened is not None and held.model not in held.opened:
            # A body too long for the claim to look into, of a model that isn't in memory.
            if self._next.places.missed(held.model, self._next.now_s()):
                self._next.models_changed()
            return runner.postponed(held, model_not_open(held.model))
        return None

    def _start(self, held: HeldJob) -> None:
        self._slots.take(held.units)
        self._next.reporter.work_began()
        if held.job is not None and held.job.type == "embed":
            self._next.embeds_coming.add(held.claim.handle)
        held.task = asyncio.create_task(self._next.runner.run(held))
        held.task.add_done_callback(partial(self._run_ended, held))

    def _run_ended(self, held: HeldJob, task: asyncio.Task[Ended]) -> None:
        """Called when a run is over, also one that was stopped before its first step."""
        held.task = None
        self._next.embeds_coming.discard(held.claim.handle)
        self._uncount(held)
        self._slots.give_back(held.units)
        self._next.slot_free()
        if task.cancelled():
            ended = self._next.runner.stopped(held)
        elif error := task.exception():
            # A bug of ours. Not held any more, the job comes back when its lease ends, and is poison if that goes on.
            log.error("run_broke", queue=held.claim.keys.queue, job=held.job_id, exc_info=error)
            ended = Ended(None, "internal")
        else:
            ended = task.result()
        self._next.saw(ended)
        self._end(held, ended)

    def _end(self, held: HeldJob, ended: Ended) -> None:
        if ended.settlement is None:
            self._forget(held, ended, ended.code)
            return
        if ended.code in SERVER_AWAY:
            self._slots.server_was_away(time.monotonic())
            asyncio.get_running_loop().call_later(AWAY_S, self._next.slot_free)
        elif ended.asked is not None:
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
        final = ended.final if ended else None
        if code and outcome not in ("succeeded", "cancelled", "expired"):
            self.errors[code] = self.errors.get(code, 0) + 1
        if final and final.output_tokens:
            self._next.reporter.tokens.add(time.monotonic(), final.output_tokens)
        self._teller.tell(event_of(held, ended, outcome, code, reason, self._rules.worker))


def units_of(job: Job, batch: int) -> int:
    """What a job takes of a slot that is worth ``batch`` inputs of embed jobs; any other job takes all of it."""
    return min(len(input_texts(job)), batch) if job.type == "embed" else batch
