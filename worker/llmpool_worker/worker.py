"""One worker: its loops, its slots, and how it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError

from llmpool_contract import JobType, QueueKeys, Status, WorkerState
from llmpool_contract.tasks import end_tasks

from .admission import Admission, Refused, read, refusal
from .cancels import CancelListener
from .clock import RedisClock
from .held import Held, HeldJob, Stop
from .intake import Intake
from .leases import LeaseKeeper
from .queue.connections import told
from .queue.types import Kind, Settlement, Verdict
from .reporter import Reporter, Snapshot
from .runner import Ended, Runner, queued_s
from .settler import Settler
from .streams import Streams
from .telling import JobEvent, Teller
from .tending import Tender

log = structlog.get_logger()

RECHECK_S = 0.25
AWAY_S = 2.0
"""How long a model server that was full or away is taken to be so still, seconds."""
FLUSH_S = 10.0
"""How long a stopping worker waits for its last settlements, seconds; beyond, their leases bring them back."""


class Worker:
    """Holds the slots. The parts are made in ``app.py`` and handed in by :meth:`assemble`."""

    def __init__(
        self,
        queues: dict[QueueKeys, JobType | None],
        concurrency: int,
        clock: RedisClock,
        held: Held,
        teller: Teller,
        *,
        worker_id: str,
        job_max_bytes: int,
        max_deliveries: int,
    ) -> None:
        self._queues, self.concurrency, self._clock = queues, concurrency, clock
        self._held, self._teller, self._worker_id = held, teller, worker_id
        self._job_max_bytes, self._max_deliveries = job_max_bytes, max_deliveries
        self._running = 0
        self._ended: dict[str, tuple[HeldJob, Ended | None, str | None]] = {}
        self._no_job_runs = asyncio.Event()
        self._no_job_runs.set()
        self._drain_until_ms: int | None = None
        self._away_until: float | None = None
        self._stopping = False
        self.done = 0
        self.started = False
        self.last_errors: dict[str, int] = {}

    def assemble(
        self,
        intake: Intake,
        admission: Admission,
        runner: Runner,
        settler: Settler,
        leases: LeaseKeeper,
        tender: Tender,
        streams: Streams,
        cancels: CancelListener,
        reporter: Reporter,
    ) -> None:
        """Take the parts, which know this worker only by the callbacks they were made with."""
        self._intake, self._admission, self._runner, self._settler = intake, admission, runner, settler
        self._leases, self._tender, self._streams = leases, tender, streams
        self._cancels, self._reporter = cancels, reporter

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, drain_s: float, peeks: Sequence[Any]) -> None:
        """Work until ``stop``, then drain for at most ``drain_s`` or until ``hurry``. A loop that dies ends the worker:
        half a worker would look well and do nothing."""
        async with asyncio.TaskGroup() as loops:
            background = [loops.create_task(part) for part in self._loops()]
            looking = [loops.create_task(peek.run()) for peek in peeks]
            claiming = loops.create_task(self._intake.run())
            self.started = True
            await stop.wait()
            log.info("stopping", in_flight=self._running, drain_s=drain_s)
            self._stopping = True
            self._intake.stop()
            await end_tasks(looking)
            await claiming
            await self._finish_running(drain_s, hurry)
            if not await self._settler.flush(FLUSH_S):
                log.warning("unsettled_at_exit", jobs=self._settler.backlog)
            await self._reporter.leave()
            await end_tasks(background)
        log.info("stopped", done=self.done)

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._leases.run(),
            self._settler.run(),
            self._tender.run(),
            self._streams.run(),
            self._cancels.run(),
            self._reporter.run(),
        ]

    async def _finish_running(self, drain_s: float, hurry: asyncio.Event) -> None:
        """Let jobs end by themselves; what is left goes back to the front of its list at no cost."""
        finished = asyncio.ensure_future(self._no_job_runs.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({finished, hurried}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for job in self._held:
            job.stop_for(Stop.DRAIN)
        await finished

    # -- slots --------------------------------------------------------------------------------------------------------

    def free(self) -> int:
        """How many more jobs may be claimed now."""
        if self._stopping or self.drain_asked:
            return 0
        if self._settler.backlog > 2 * self.concurrency + 64:
            return 0  # Redis takes no answers: more jobs would only pile up here
        free = self.concurrency - self._running
        if self._away_until is None:
            return free
        # The model server was full or away: after a while one job asks whether it still is. The others keep places
        # in the queue, in place of going round through the delayed ones.
        return min(free, 1 - self._running) if time.monotonic() >= self._away_until else 0

    @property
    def drain_asked(self) -> bool:
        """Whether the pool wants this worker to take nothing new. The wish is a lease: it lapses with its owner."""
        return self._drain_until_ms is not None and self._clock.now_ms() < self._drain_until_ms

    def drain_wish(self, until_ms: int | None) -> None:
        """What the last report's answer said."""
        self._drain_until_ms = until_ms
        if not self.drain_asked:
            self._intake.slot_free()

    def snapshot(self) -> Snapshot:
        """For reports and health."""
        return Snapshot(self.state, self._running, self.concurrency, self.done)

    @property
    def state(self) -> WorkerState:
        """Where this worker is in its life."""
        if not self.started:
            return WorkerState.STARTING
        if self._stopping or self.drain_asked:
            idle = self._running == 0 and len(self._held) == 0 and not self._intake.claiming
            return WorkerState.DRAINED if idle else WorkerState.DRAINING
        return WorkerState.READY

    # -- a job's way --------------------------------------------------------------------------------------------------

    async def admit(self, keys: QueueKeys, batch: list[HeldJob]) -> None:
        """Hold a claimed batch, refuse what can't run, start the rest."""
        only_type = self._queues[keys]
        checkable: list[HeldJob] = []
        for held in batch:
            self._held.add(held)
            job = read(held.claim, only_type, self._job_max_bytes, self._max_deliveries)
            if isinstance(job, Refused):
                held.job_id = job.job_id or ""
                self._put(held, refusal(held.claim, job, self._worker_id), code=job.code)
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
                return await self._admission.verdicts(keys, batch)
            except (RedisError, OSError) as error:
                log.warning("check_failed", queue=keys.queue, error=told(error))
            await asyncio.sleep(RECHECK_S)
        return [Verdict.LOST] * len(batch)

    def _follow(self, held: HeldJob, verdict: Verdict) -> None:
        match verdict:
            case Verdict.RUN if held.stop is not None:  # a renewal came to know more while Redis was asked
                self._end(held, self._runner.stopped(held))
            case Verdict.RUN if held.job is not None and self._admission.has_expired(held.job):
                self._put(held, self._runner.without_answer(held, Status.EXPIRED))
            case Verdict.RUN:
                self._running += 1
                self._no_job_runs.clear()
                self._reporter.work_began()
                held.task = asyncio.create_task(self._runner.run(held))
                held.task.add_done_callback(partial(self._run_ended, held))
            case Verdict.CANCELLED:
                self._put(held, self._runner.without_answer(held, Status.CANCELLED))
            case Verdict.LOST:
                self._forget(held, None, "lease_lost")
            case Verdict.ANSWERED | Verdict.DUPLICATE:
                self._put(held, Settlement.dropped(held.claim, "dropped_duplicates"))

    def _run_ended(self, held: HeldJob, task: asyncio.Task[Ended]) -> None:
        """Called when a run is over, also one that was stopped before its first step."""
        held.task = None
        self._running -= 1
        if self._running == 0:
            self._no_job_runs.set()
        self._intake.slot_free()
        if task.cancelled():
            ended = self._runner.stopped(held)
        elif error := task.exception():
            # A bug of ours. Not held any more, the job comes back when its lease ends, and is poison if that goes on.
            log.error("run_broke", queue=held.claim.keys.queue, job=held.job_id, exc_info=error)
            ended = Ended(None, "internal")
        else:
            ended = task.result()
        self._end(held, ended)

    def _end(self, held: HeldJob, ended: Ended) -> None:
        if ended.settlement is not None and ended.settlement.postpones:
            self._away_until = time.monotonic() + AWAY_S
            asyncio.get_running_loop().call_later(AWAY_S, self._intake.slot_free)
        elif ended.settlement is not None:
            self._away_until = None
            self._intake.slot_free()
        if ended.settlement is None:
            self._forget(held, ended, ended.code)
        else:
            self._put(held, ended.settlement, ended)

    def _put(self, held: HeldJob, end: Settlement, ended: Ended | None = None, code: str | None = None) -> None:
        self._ended[held.claim.handle] = (held, ended, code or (ended.code if ended else None))
        self._settler.put(end)

    def settled(self, end: Settlement, done: bool) -> None:
        """A settlement was answered."""
        held, ended, code = self._ended.pop(end.claim.handle)
        self._held.discard(end.claim)
        if done and end.kind is Kind.RETRY:
            self._tender.soon()
        if done and end.kind in (Kind.RESULT, Kind.DEAD):
            self.done += 1
            self._reporter.jobs.add(time.monotonic(), 1)
        self._tell(held, ended, end.outcome if done else "lost", code)

    def _forget(self, held: HeldJob, ended: Ended | None, code: str | None) -> None:
        self._held.discard(held.claim)
        self._tell(held, ended, "lost", code)

    def _tell(self, held: HeldJob, ended: Ended | None, outcome: str, code: str | None) -> None:
        final = ended.answer.final if ended and ended.answer else None
        if code and outcome not in ("succeeded", "cancelled", "expired"):
            self.last_errors[code] = self.last_errors.get(code, 0) + 1
        element, job = held.claim.element, held.job
        if final and final.output_tokens:
            self._reporter.tokens.add(time.monotonic(), final.output_tokens)
        self._teller.tell(
            JobEvent(
                queue=held.claim.keys.queue,
                job_id=held.job_id or held.claim.job_id,
                handle=held.claim.handle,
                outcome=outcome,
                job_type=job.type if job else None,
                model=job.model if job else None,
                code=code,
                attempts=element.attempts,
                deliveries=element.deliveries,
                queued_s=queued_s(held),
                running_s=ended.running_s if ended else None,
                first_token_s=ended.first_token_s if ended else None,
                input_tokens=final.input_tokens if final else None,
                output_tokens=final.output_tokens if final else None,
            )
        )
