"""Hearing of cancels while a job runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .held import Held, Stop
from .queue.connections import told

log = structlog.get_logger()

RECONNECT_S = 1.0


class CancelListener:
    """Stops running jobs as their ids are called. What it misses while disconnected, the next renewal finds."""

    def __init__(self, redis: Redis, queues: Sequence[QueueKeys], held: Held, failed: Callable[[], None]) -> None:
        self._redis, self._held, self._failed = redis, held, failed
        self._queues = {keys.cancels.encode(): keys for keys in queues}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                self._failed()
                log.warning("cancel_listener_failed", error=told(error))
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(*self._queues)
            async for message in pubsub.listen():
                self.heard(message["channel"], message["data"])

    def heard(self, channel: bytes, job_id: bytes) -> None:
        """Somebody wishes this job cancelled."""
        for held in self._held.with_id(self._queues[channel], job_id.decode("utf-8", "replace")):
            held.stop_for(Stop.CANCELLED)
