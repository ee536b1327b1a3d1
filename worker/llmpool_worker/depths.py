"""What is in this worker's queues, read now and then for the metrics alone: nothing waits for it or goes by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .queue.store import Depth, QueueStore
from .telling.troubles import Failed

INTERVAL_S = 5.0
"""Between two readings: Prometheus looks every 15 s or so, and each worker of a pool reads the same."""


class Depths:
    """``tell`` gets each queue's reading, None where it can't be read: an old one would look alive."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        queues: Sequence[QueueKeys],
        tell: Callable[[QueueKeys, Depth | None], None],
        failed: Failed,
    ) -> None:
        self._redis, self._store, self._queues = redis, store, queues
        self._tell, self._failed = tell, failed

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(INTERVAL_S)

    async def turn(self) -> None:
        """One reading of each queue."""
        for keys in self._queues:
            try:
                depth = await self._store.depth(self._redis, keys)
            except (RedisError, OSError) as error:
                self._failed(error)
                self._tell(keys, None)
            else:
                self._tell(keys, depth)
