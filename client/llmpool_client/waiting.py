"""Waiting for a result: look, subscribe, look again, and look again whenever something may have happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis

from llmpool_contract import QueueKeys, Result

from .errors import OUT_OF_REACH, ResultTimeout
from .settled import SettledEvents
from .status import read_result

LOOK_AGAIN_S = 5.0
"""A message of Redis' pub/sub can be lost on a reconnect, so waiters also look by themselves."""
PATIENCE_S = 30.0
"""How long a wait that has begun sits out a Redis that is away: a restart or a failover, not for ever."""
_PAUSE_S = 0.25

T = TypeVar("T")


class Deadline:
    """The end of one wait. ``timeout_s`` None: there is none."""

    def __init__(self, job_id: str, timeout_s: float | None) -> None:
        if timeout_s is not None and not timeout_s >= 0:
            raise ValueError(f"timeout: got {timeout_s!r}, wanted seconds from 0, or None for no limit")
        self._job_id = job_id
        self._timeout_s = timeout_s
        self._begun = time.monotonic()

    def left(self, at_most_s: float) -> float:
        """Seconds left, at most so many; 0 when it is over."""
        if self._timeout_s is None:
            return at_most_s
        return max(0.0, min(at_most_s, self._begun + self._timeout_s - time.monotonic()))

    def check(self) -> None:
        """Raise ResultTimeout once the time is over."""
        if self._timeout_s is not None and self.left(1.0) == 0.0:
            raise ResultTimeout(self._job_id, self._timeout_s)


async def patiently(call: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
    """Repeat a read until Redis answers, for at most PATIENCE_S; then its error."""
    give_up = time.monotonic() + deadline.left(PATIENCE_S)
    while True:
        try:
            return await call()
        except OUT_OF_REACH:
            if time.monotonic() + _PAUSE_S > give_up:
                raise
        await asyncio.sleep(_PAUSE_S)


async def fetch_result(redis: Redis, keys: QueueKeys, job_id: str) -> Result | None:
    """The result if it is there."""
    raw: Any = await redis.get(keys.result(job_id))
    return None if raw is None else read_result(raw, job_id)


async def wait_for_result(
    redis: Redis, settled: SettledEvents, keys: QueueKeys, job_id: str, timeout_s: float | None
) -> Result:
    """Return the result as soon as it is there.

    Raises:
        ResultTimeout: after ``timeout_s``. 0: look once.
    """
    deadline = Deadline(job_id, timeout_s)
    # The first look is not patient: who asks wants to hear at once that Redis is away.
    found = await fetch_result(redis, keys, job_id)
    if found is not None:
        return found
    deadline.check()
    async with settled.watch(keys.events, job_id) as wake:
        while True:
            wake.clear()
            found = await patiently(lambda: fetch_result(redis, keys, job_id), deadline)
            if found is not None:
                return found
            deadline.check()
            await _woken(wake, deadline.left(LOOK_AGAIN_S))


async def _woken(wake: asyncio.Event, within_s: float) -> None:
    """Return when woken, or when the time is over."""
    try:
        async with asyncio.timeout(within_s):
            await wake.wait()
    except TimeoutError:
        return
