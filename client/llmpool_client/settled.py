"""Who waits for which job: one subscription to ``{q}:events`` shared by all waiters of a client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from llmpool_contract.tasks import end_tasks

from .errors import OUT_OF_REACH

TURN_S = 1.0
LINGER_S = 5.0
"""How long the subscription stays after its last waiter: a busy queue would tell us about every job for nothing."""
CONFIRM_S = 5.0
RECONNECT_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Pauses between attempts to subscribe again; the last one repeats."""


class SettledEvents:
    """Wakes waiters as their jobs settle.

    A wake is a hint to look at the result key, never the proof of a result, and it may be missed: what is published
    while the connection is down is gone. So waiters are also woken after each reconnect, and look by themselves now
    and then.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiters: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._last_waited = 0.0
        self._refusal: ResponseError | None = None

    @asynccontextmanager
    async def watch(self, channel: str, job_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever it is worth looking at the job's result. Subscribed on entry."""
        wake = asyncio.Event()
        waiters = self._waiters.setdefault((channel, job_id), set())
        waiters.add(wake)
        try:
            await self._subscribe(channel)
            yield wake
        finally:
            self._last_waited = time.monotonic()
            waiters.discard(wake)
            if not waiters and self._waiters.get((channel, job_id)) is waiters:
                del self._waiters[channel, job_id]

    async def aclose(self) -> None:
        """Stop listening; waiters still there fall back to looking by themselves."""
        if self._listener is not None:
            await end_tasks([self._listener])
            self._listener = None
        await self._hang_up()
        await self._redis.aclose()

    async def _subscribe(self, channel: str) -> None:
        async with self._lock:
            if channel not in self._confirmed:
                if self._pubsub is None:
                    self._pubsub = self._redis.pubsub()
                await self._pubsub.subscribe(channel)
                self._confirmed[channel] = asyncio.Event()
            if self._listener is None or self._listener.done():
                self._refusal = None
                self._listener = asyncio.create_task(self._listen(), name="llmpool-settled")
            confirmed = self._confirmed[channel]
        # Only a confirmed subscription misses nothing that is published after this.
        try:
            async with asyncio.timeout(CONFIRM_S):
                await confirmed.wait()
        except TimeoutError:
            raise NoAnswer(f"no answer to SUBSCRIBE {channel}") from None
        if self._refusal is not None:
            raise self._refusal

    async def _listen(self) -> None:
        while True:
            try:
                while await self._turn():
                    pass
            except OUT_OF_REACH:
                await self._connect_again()
            except ResponseError as refusal:
                await self._give_up(refusal)
                return
            else:
                return

    async def _turn(self) -> bool:
        """Handle one message or one quiet second. False: nobody has waited for a while, the subscription is gone."""
        assert self._pubsub is not None
        message = await self._pubsub.get_message(timeout=TURN_S)
        if message is not None and message["type"] == "message":
            self._wake(message["channel"].decode(), message["data"].decode("utf-8", "replace"))
        elif message is not None and message["type"] == "subscribe":
            self._subscribed(message["channel"].decode())
        if self._waiters or time.monotonic() - self._last_waited < LINGER_S:
            return True
        async with self._lock:
            if self._waiters:
                return True
            await self._hang_up()
        return False

    def _wake(self, channel: str, job_id: str) -> None:
        for wake in self._waiters.get((channel, job_id), ()):
            wake.set()

    def _subscribed(self, channel: str) -> None:
        if confirmed := self._confirmed.get(channel):
            confirmed.set()
        # After a reconnect: what settled in between was published to nobody.
        for waited_on, job_id in self._waiters:
            if waited_on == channel:
                self._wake(channel, job_id)

    async def _give_up(self, refusal: ResponseError) -> None:
        """Redis won't let us subscribe: tell those who wait for the confirmation."""
        self._refusal = refusal
        async with self._lock:
            waiting = list(self._confirmed.values())
            await self._hang_up()
        for confirmed in waiting:
            confirmed.set()

    async def _connect_again(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(RECONNECT_S[min(attempt, len(RECONNECT_S) - 1)])
            attempt += 1
            try:
                async with self._lock:
                    await self._subscribe_anew()
            except OUT_OF_REACH:
                continue
            return

    async def _subscribe_anew(self) -> None:
        channels = list(self._confirmed)
        if self._pubsub is not None:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        self._pubsub = self._redis.pubsub()
        await self._pubsub.subscribe(*channels)

    async def _hang_up(self) -> None:
        self._confirmed.clear()
        if self._pubsub is not None:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
            self._pubsub = None
