"""Settlements in batches: while one call is under way the next batch gathers by itself."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .queue.connections import told
from .queue.store import QueueStore
from .queue.types import Settlement

log = structlog.get_logger()

MAX_BATCH = 64
_RETRY_S = (0.05, 2.0)
"""First and longest wait before a call is repeated, seconds."""

Settled = Callable[[Settlement, bool], None]
"""Called with each settlement and whether it took effect (False: the claim was lost)."""


class Settler:
    """Sends settlements until each is answered. A call is repeated with its token, so it takes effect once."""

    def __init__(self, redis: Redis, store: QueueStore, settled: Settled, failed: Callable[[], None]) -> None:
        self._redis, self._store = redis, store
        self._settled, self._failed = settled, failed
        self._waiting: dict[QueueKeys, list[Settlement]] = {}
        self._pending = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """Settlements not answered yet."""
        return self._pending

    def put(self, end: Settlement) -> None:
        """Queue one. Its claim stays held, and its lease renewed, until it is answered."""
        self._waiting.setdefault(end.claim.keys, []).append(end)
        self._pending += 1
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self.turn()

    async def turn(self) -> None:
        """Send one batch of one queue and tell what came of it."""
        keys = next(iter(self._waiting))
        waiting = self._waiting.pop(keys)
        batch, rest = waiting[:MAX_BATCH], waiting[MAX_BATCH:]
        if rest:
            self._waiting[keys] = rest
        for end, done in zip(batch, await self._send(keys, batch), strict=True):
            self._settled(end, done)
        self._pending -= len(batch)
        if self._pending == 0:
            self._idle.set()

    async def _send(self, keys: QueueKeys, batch: list[Settlement]) -> list[bool]:
        token = secrets.token_hex(8)
        wait = _RETRY_S[0]
        while True:
            try:
                return await self._store.settle(self._redis, keys, token, batch)
            except (RedisError, OSError) as error:
                self._failed()
                log.warning("settle_failed", queue=keys.queue, jobs=len(batch), error=told(error))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _RETRY_S[1])

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all are answered; False: time is up, and the leases will bring the rest back."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
