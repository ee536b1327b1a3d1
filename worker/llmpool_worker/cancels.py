"""Hearing of cancels while a job runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .held import Held, Stop
from .telling.troubles import Failed

RECONNECT_S = 1.0
QUIET_S = 20.0
"""Silence after which the line is tried, seconds."""


class CancelListener:
    """Stops running jobs as their ids are called. What it misses while disconnected, the next renewal finds.

    ``others``: channel -> what each message on it does, for those who would need a connection of their own else.
    """

    def __init__(
        self,
        redis: Redis,
        queues: Sequence[QueueKeys],
        held: Held,
        failed: Failed,
        others: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        self._redis, self._held, self._failed = redis, held, failed
        self._queues = {keys.cancels.encode(): keys for keys in queues}
        self._others = {channel.encode(): does for channel, does in (others or {}).items()}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                self._failed(error)
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(*self._queues, *self._others)
            pinged = False
            while True:
                message = await pubsub.get_message(timeout=QUIET_S)
                if message is not None and message["type"] == "message":
                    self.heard(message["channel"], message["data"])
                if message is None and pinged:
                    raise RedisConnectionError("no answer to a ping")
                if pinged := message is None:
                    await pubsub.ping()  # a line that is dead without having been closed says nothing for ever

    def heard(self, channel: bytes, job_id: bytes) -> None:
        """Somebody wishes this job cancelled, or has something to tell on one of the other channels."""
        if does := self._others.get(channel):
            does()
            return
        for held in self._held.with_id(self._queues[channel], job_id.decode("utf-8", "replace")):
            held.stop_for(Stop.CANCELLED)
