"""Keeping what we hold: one renewal for all of it, every third of a lease, until the very end of a drain."""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .held import Held, HeldJob, Stop
from .queue.store import QueueStore
from .queue.types import Hold
from .telling.troubles import Failed


class LeaseKeeper:
    """Renews on a connection of its own. A failed renewal is repeated, never fatal; a lost lease stops its job."""

    def __init__(self, redis: Redis, store: QueueStore, held: Held, failed: Failed) -> None:
        self._redis, self._store, self._held, self._failed = redis, store, held, failed
        self._lease_s = store.limits.lease_ms / 1_000
        self._soon_s = min(1.0, self._lease_s / 12)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._renew_always())
            loops.create_task(self._watch_always())

    async def _renew_always(self) -> None:
        """After a failure the next try comes sooner, well within what is left of the lease."""
        while True:
            ok = await self.turn()
            await asyncio.sleep(self._lease_s / 3 if ok else self._soon_s)

    async def _watch_always(self) -> None:
        """A loop of its own: while a renewal hangs, leases end all the same."""
        while True:
            self.stop_overdue(time.monotonic())
            await asyncio.sleep(self._soon_s)

    async def turn(self) -> bool:
        """Renew everything once. False: Redis didn't answer for all of it."""
        ok = True
        for keys, jobs in self._held.by_queue().items():
            sent_at = time.monotonic()
            try:
                async with asyncio.timeout(self._lease_s / 3):
                    holds = await self._store.renew(self._redis, keys, [(h.claim, h.known_id) for h in jobs])
            except (RedisError, OSError) as error:
                ok = False
                self._failed(error)
                continue
            for job, hold in zip(jobs, holds, strict=True):
                self._apply(job, hold, sent_at + self._lease_s)
        return ok

    @staticmethod
    def _apply(job: HeldJob, hold: Hold, until: float) -> None:
        match hold:
            case Hold.HELD:
                job.lease_until = until
            case Hold.CANCELLED:  # the message may have been missed; the key never is
                job.lease_until = until
                job.stop_for(Stop.CANCELLED)
            case Hold.LOST:
                job.stop_for(Stop.LOST)

    def stop_overdue(self, now: float) -> None:
        """Stop what can't be shown to be ours any more. ``now``: monotonic seconds."""
        for job in self._held:
            if now >= job.lease_until:
                job.stop_for(Stop.LOST)
