"""Any worker, for all of them: takes back what dead workers held, makes due jobs ready. No lock, so none to leak."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .queue.store import QueueStore, Tended
from .telling.troubles import Failed

REAP_JITTER_S = 2.0
"""Workers that saw the same lease end don't all come at once."""
RETRY_S = 1.0


class Tender:
    """Sleeps until the next due job or the next lease's end, whichever is first."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        queues: Sequence[QueueKeys],
        tended: Callable[[QueueKeys, Tended], None],
        failed: Failed,
    ) -> None:
        self._redis, self._store, self._queues = redis, store, queues
        self._tended, self._failed = tended, failed
        self._wake = asyncio.Event()
        self._longest_s = store.limits.lease_ms / 2_000

    def soon(self) -> None:
        """This worker has just delayed a job, which may be due before the next round."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            sleep_s = await self.turn()
            try:
                async with asyncio.timeout(sleep_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def turn(self) -> float:
        """One round over all queues. Answers how long to sleep, seconds."""
        sleep_s = self._longest_s
        for keys in self._queues:
            try:
                tended = await self._store.tend(self._redis, keys)
            except (RedisError, OSError) as error:
                self._failed(error)
                sleep_s = min(sleep_s, RETRY_S)
                continue
            self._tended(keys, tended)
            sleep_s = min(sleep_s, until_next(tended, self._longest_s, random.random()))
        return sleep_s


def until_next(tended: Tended, longest_s: float, chance: float) -> float:
    """Seconds until this queue needs a look. ``chance``: uniform in [0, 1), spreads workers over a lease's end."""
    waits = [longest_s]
    if tended.next_due_ms is not None:
        waits.append(max(0.0, (tended.next_due_ms - tended.now_ms) / 1_000) + 0.001)
    if tended.next_lease_end_ms is not None:
        waits.append(max(0.05, (tended.next_lease_end_ms - tended.now_ms) / 1_000) + chance * REAP_JITTER_S)
    return min(waits)
