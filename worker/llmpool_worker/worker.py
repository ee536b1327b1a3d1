"""One worker's life: its loops, its state, and how it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from llmpool_contract import WorkerState
from llmpool_contract.tasks import end_tasks

from .cache import Cache
from .cache.digests import Digests
from .cancels import CancelListener
from .durability import Durability
from .embedding import Embedder
from .held import Held, Stop
from .intake import Intake, Peek
from .journeys import Journeys
from .leases import LeaseKeeper
from .models.keeper import ModelKeeper
from .reporter import Reporter, Snapshot
from .settler import Settler
from .slots import Slots
from .streams import Streams
from .tending import Tender

log = structlog.get_logger()

FLUSH_S = 10.0
"""How long a stopping worker waits for its last settlements, seconds; beyond, their leases bring them back."""


@dataclass(frozen=True, slots=True)
class Cached:
    """The cache of answers, and what tells it of new weights."""

    cache: Cache
    digests: Digests | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs all the time."""

    intake: Intake
    settler: Settler
    leases: LeaseKeeper
    tender: Tender
    streams: Streams
    cancels: CancelListener
    reporter: Reporter
    models: ModelKeeper
    embedder: Embedder
    durability: Durability
    cached: Cached | None


class Worker:
    """Made before its parts, which know it only by the callbacks that they were made with (``assembly.py``)."""

    def __init__(self, slots: Slots, held: Held, journeys: Journeys) -> None:
        self._slots, self.held, self.journeys = slots, held, journeys
        self._parts: Parts
        self.started = False

    def assemble(self, parts: Parts) -> None:
        """Before :meth:`run`."""
        self._parts = parts

    def free(self) -> int:
        """Units' worth of jobs that may be claimed now."""
        return self._slots.free(time.monotonic(), self._parts.settler.backlog)

    def drain_wish(self, until_ms: int | None) -> None:
        """What the pool asks, as the last report's answer said."""
        self._slots.wish_drain(until_ms)
        if not self._slots.drain_asked:
            self._parts.intake.slot_free()

    def snapshot(self) -> Snapshot:
        """For reports and health."""
        return Snapshot(self.state, self._slots.used, self._slots.concurrency, self.journeys.done)

    @property
    def state(self) -> WorkerState:
        """Where this worker is in its life."""
        if not self.started:
            return WorkerState.STARTING
        if self._slots.stopping or self._slots.drain_asked:
            idle = self._slots.running == 0 and len(self.held) == 0 and not self._parts.intake.claiming
            return WorkerState.DRAINED if idle else WorkerState.DRAINING
        return WorkerState.READY

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, drain_s: float, peeks: Sequence[Peek]) -> None:
        """Work until ``stop``, then drain for at most ``drain_s`` or until ``hurry``. A loop that dies ends the worker:
        half a worker would look well and do nothing."""
        async with asyncio.TaskGroup() as loops:
            background = [loops.create_task(part) for part in self._loops()]
            looking = [loops.create_task(peek.run()) for peek in peeks]
            claiming = loops.create_task(self._parts.intake.run())
            self.started = True
            await stop.wait()
            log.info("stopping", in_flight=self._slots.running, drain_s=drain_s)
            self._slots.stopping = True
            self._parts.intake.stop()
            await end_tasks(looking)
            await claiming
            await self._finish_running(drain_s, hurry)
            await self._parts.embedder.aclose()
            await self._keep_answers()
            if not await self._parts.settler.flush(FLUSH_S):
                log.warning("unsettled_at_exit", jobs=self._parts.settler.backlog)
            await self._parts.reporter.leave()
            await end_tasks(background)
            await self._parts.models.leave()
        log.info("stopped", done=self.journeys.done)

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        parts = self._parts
        return [
            parts.leases.run(),
            parts.settler.run(),
            parts.tender.run(),
            parts.streams.run(),
            parts.cancels.run(),
            parts.reporter.run(),
            parts.models.run(),
            parts.durability.run(),
            *([parts.cached.digests.run()] if parts.cached and parts.cached.digests else []),
        ]

    async def _keep_answers(self) -> None:
        """What was answered last is kept for others, if Redis takes it in time."""
        if self._parts.cached is None:
            return
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._parts.cached.cache.flush()
        except TimeoutError:
            log.warning("answers_not_kept")

    async def _finish_running(self, drain_s: float, hurry: asyncio.Event) -> None:
        """Let jobs end by themselves; what is left goes back to the front of its list at no cost."""
        finished = asyncio.ensure_future(self._slots.none_runs.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({finished, hurried}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for job in self.held:
            job.stop_for(Stop.DRAIN)
        await finished
