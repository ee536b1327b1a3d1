"""Waiting for work and taking it: a blocking look at each list, then a claim for as many jobs as slots are free."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from llmpool_contract import QueueKeys

from .clock import RedisClock
from .held import HeldJob
from .queue.connections import PEEK_BLOCK_S, BodyTooLarge
from .queue.store import HIGH_FIRST, LOW_FIRST, QueueStore
from .telling.troubles import Failed

LOW_FIRST_EACH = 8
MAX_CLAIM = 64
"""Jobs that one claim call may bring."""
_RETRY_S = (0.1, 5.0)
"""First and longest wait after a call that failed, seconds, jittered."""

Admit = Callable[[QueueKeys, list[HeldJob]], Awaitable[None]]


class Peek:
    """One blocking look at one list. ``BLMOVE q q LEFT LEFT`` waits until there is something and changes nothing, so it
    may be cut or repeated at any time. Armed only while its queue is known to be empty."""

    def __init__(self, redis: Redis, name: str, found: Callable[[], None], failed: Failed) -> None:
        self._redis, self._name, self._found, self._failed = redis, name, found, failed
        self._armed = asyncio.Event()

    def arm(self) -> None:
        """Start looking, if it isn't already."""
        self._armed.set()

    async def run(self) -> None:
        """Until cancelled."""
        wait = _RETRY_S[0]
        while True:
            await self._armed.wait()
            try:
                await self._redis.blmove(self._name, self._name, int(PEEK_BLOCK_S), "LEFT", "LEFT")
            except BodyTooLarge:
                pass  # there is something, and the claim will weigh it
            except (RedisError, OSError) as error:
                self._failed(error)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(wait * 2, _RETRY_S[1])
                continue
            # An answer of nothing is the block's end. A look is due then too: it costs one call, and fakeredis' server
            # answers nothing when something came.
            wait = _RETRY_S[0]
            self._armed.clear()
            self._found()


class Intake:
    """Claims for one worker. ``free`` tells how many more jobs it may take."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        clock: RedisClock,
        queues: Sequence[QueueKeys],
        free: Callable[[], int],
        admit: Admit,
        failed: Failed,
        oversized: Callable[[QueueKeys, int], None],
    ) -> None:
        self._redis, self._store, self._clock, self._queues = redis, store, clock, list(queues)
        self._free, self._admit, self._failed, self._oversized = free, admit, failed, oversized
        self._ready = dict.fromkeys(self._queues)  # insertion order is turn order
        self._peeks: dict[QueueKeys, list[Peek]] = {keys: [] for keys in self._queues}
        self._unanswered: dict[QueueKeys, tuple[str, int]] = {}
        """(token, jobs wanted) of claims whose reply was lost: their jobs may be ours already, and take up slots."""
        self._wait: dict[QueueKeys, float] = {}
        self._counter = itertools.count(1)
        self._wake = asyncio.Event()
        self._stopped = False
        self._calling = False

    def peeks(self, open_redis: Callable[[], Redis]) -> list[Peek]:
        """One per list; the caller runs them."""
        for keys in self._queues:
            for name in keys.ready:
                self._peeks[keys].append(Peek(open_redis(), name, partial(self.found, keys), self._failed))
        return [peek for peeks in self._peeks.values() for peek in peeks]

    def found(self, keys: QueueKeys) -> None:
        """There may be work in this queue."""
        self._ready[keys] = None
        self._wake.set()

    def slot_free(self) -> None:
        """A job has ended."""
        self._wake.set()

    def stop(self) -> None:
        """No further claim is sent; one that is under way still brings its jobs."""
        self._stopped = True
        self._wake.set()

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way, or may have brought jobs that aren't held yet."""
        return self._calling or bool(self._unanswered)

    async def run(self) -> None:
        """Until stopped. Returns only when no claim call is under way."""
        while not self._stopped:
            self._wake.clear()
            self._calling = True
            worked = await self.turn()
            self._calling = False
            if not worked:
                await self._wake.wait()

    async def turn(self) -> bool:
        """Claim once from the next queue that may have work. False: nothing to do until woken."""
        call = self._next()
        if call is None:
            return False
        keys, token, want = call
        order = LOW_FIRST if next(self._counter) % LOW_FIRST_EACH == 0 else HIGH_FIRST
        sent_at = time.monotonic()
        self._unanswered[keys] = token, want
        try:
            claimed = await self._store.claim(self._redis, keys, token, want, order=order)
        except ResponseError as error:
            del self._unanswered[keys]  # Redis refused: the script looks before it touches, so nothing was claimed
            self._later(keys, error)
            return True
        except (RedisError, OSError) as error:
            self._later(keys, error)  # with the same token: what the lost reply held is answered again
            return True
        del self._unanswered[keys]
        self._wait.pop(keys, None)
        self._clock.heard(claimed.now_ms)
        if claimed.buried:
            self._oversized(keys, claimed.buried)
        if claimed.claims:
            lease_until = sent_at + self._store.limits.lease_ms / 1_000
            await self._admit(keys, [HeldJob(claim, lease_until, sent_at) for claim in claimed.claims])
        if len(claimed.claims) >= want:
            self._ready[keys] = None  # last in turn
        else:  # as good as empty; where a reply was cut short by its size, the look says so at once
            for peek in self._peeks[keys]:
                peek.arm()
        return True

    def _next(self) -> tuple[QueueKeys, str, int] | None:
        """The next call to send: (queue, token, jobs wanted). None: no queue may have work, or no slot is free."""
        free = self._free() - sum(want for _, want in self._unanswered.values())
        for keys in self._ready:
            if keys in self._unanswered:
                del self._ready[keys]
                return keys, *self._unanswered[keys]
            if free > 0:
                del self._ready[keys]
                share = max(1, free // (len(self._ready) + 1))  # the other queues have a turn too
                return keys, secrets.token_hex(8), min(share, MAX_CLAIM)
        return None

    def _later(self, keys: QueueKeys, error: Exception) -> None:
        wait = min(self._wait.get(keys, _RETRY_S[0] / 2) * 2, _RETRY_S[1])
        self._wait[keys] = wait
        self._failed(error)
        asyncio.get_running_loop().call_later(wait * random.uniform(0.5, 1.0), self.found, keys)
