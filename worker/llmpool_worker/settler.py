"""Settlements in batches: while one call is under way the next batch gathers by itself."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .queue.store import QueueStore
from .queue.types import Settlement
from .telling.troubles import Failed

MAX_BATCH = 64
MAX_BATCH_BYTES = 8 * 1_048_576
"""Results that one call carries: a call must end well within its timeout."""
_RETRY_S = (0.05, 2.0)
"""First and longest wait before a call is repeated, seconds."""

Settled = Callable[[Settlement, bool], None]
"""Called with each settlement and whether it took effect (False: the claim was lost)."""


class Settler:
    """Sends settlements until each is answered: a lane for each queue, so that one that fails holds up no other."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        queues: Sequence[QueueKeys],
        settled: Settled,
        failed: Failed,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._lanes = {keys: _Lane(redis, store, keys, self._answered, failed, told) for keys in queues}
        self._settled = settled
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """Settlements not answered yet."""
        return self._pending

    def put(self, end: Settlement) -> None:
        """Queue one. Its claim stays held, and its lease renewed, until it is answered."""
        self._pending += 1
        self._idle.clear()
        self._lanes[end.claim.keys].put(end)

    def _answered(self, end: Settlement, done: bool) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._idle.set()
        self._settled(end, done)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as loops:
            for lane in self._lanes.values():
                loops.create_task(lane.run())

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all are answered; False: time is up, and the leases will bring the rest back."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


class _Lane:
    """One queue's settlements. A call is repeated with its token, so it takes effect once."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        keys: QueueKeys,
        answered: Settled,
        failed: Failed,
        told: Callable[[str], None],
    ) -> None:
        self._told = told
        self._redis, self._store, self._keys = redis, store, keys
        self._answered, self._failed = answered, failed
        self._waiting: list[Settlement] = []
        self._wake = asyncio.Event()

    def put(self, end: Settlement) -> None:
        self._waiting.append(end)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self.turn()

    async def turn(self) -> None:
        """Send one batch and tell what came of it."""
        size = batch_size(self._waiting)
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        for end, done in zip(batch, await self._send(batch), strict=True):
            self._answered(end, done)

    async def _send(self, batch: list[Settlement]) -> list[bool]:
        token = secrets.token_hex(8)
        wait = _RETRY_S[0]
        while True:
            try:
                answered = await self._store.settle(self._redis, self._keys, token, batch)
            except (RedisError, OSError) as error:
                self._failed(error)
            else:
                self._told(self._keys.settled(token))
                return answered
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _RETRY_S[1])


def batch_size(waiting: Sequence[Settlement]) -> int:
    """How many of those that wait go into the next call: at least one, bounded in number and in bytes. Pure."""
    size = 0
    for count, end in enumerate(waiting[:MAX_BATCH], start=1):
        size += len(end.payload)
        if size > MAX_BATCH_BYTES:
            return max(1, count - 1)
    return min(len(waiting), MAX_BATCH)
