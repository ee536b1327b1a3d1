"""Waiting for work and taking it: a blocking look at each list, then a claim for as many jobs as slots are free."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from llmpool_contract import JobType, QueueKeys
from llmpool_contract.keys import DEFAULT_QUEUES

from .clock import RedisClock
from .held import HeldJob
from .queue.connections import PEEK_BLOCK_S, BodyTooLarge
from .queue.store import HIGH_FIRST, LOW_FIRST, Claimed, QueueStore
from .telling.troubles import Failed

LOW_FIRST_EACH = 8
ANY_MODEL = "*"
BLOCKED_LOOK_S = 0.2
"""Between two looks at a queue whose jobs this worker may not take, seconds."""
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


class Terms(Protocol):
    """What may be claimed beside a number: whose jobs, and who wants to hear what was passed over (``models/``)."""

    def caps(self, free: int) -> Mapping[str, int] | None: ...
    def claim_begins(self) -> None: ...
    def claim_ends(self) -> None: ...
    def looked(self, queue: str, passed: Mapping[str, int], more: frozenset[str], *, full: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    """A claim as it is sent, and sent again until it is answered."""

    token: str
    units: int
    caps: Mapping[str, int] | None


class Intake:
    """Claims for one worker. ``free`` tells how many more units' worth of jobs it may take."""

    def __init__(
        self,
        redis: Redis,
        store: QueueStore,
        clock: RedisClock,
        queues: Mapping[QueueKeys, JobType | None],
        free: Callable[[], int],
        terms: Terms,
        admit: Admit,
        failed: Failed,
        oversized: Callable[[QueueKeys, int], None],
    ) -> None:
        self._redis, self._store, self._clock, self._queues = redis, store, clock, list(queues)
        self._embeds = {keys for keys in queues if (queues[keys] or DEFAULT_QUEUES.get(keys.queue)) == "embed"}
        """Queues of jobs that share slots; in others less than a whole slot is of no use."""
        self._free, self._terms, self._admit = free, terms, admit
        self._failed, self._oversized = failed, oversized
        self._ready = dict.fromkeys(self._queues)  # insertion order is turn order
        self._blocked: set[QueueKeys] = set()
        """Queues whose jobs this worker may not take now: a look at their lists would return at once, for nothing."""
        self._peeks: dict[QueueKeys, list[Peek]] = {keys: [] for keys in self._queues}
        self._unanswered: dict[QueueKeys, _Call] = {}
        """Claims whose reply was lost: their jobs may be ours already, and take up slots."""
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
        """A job has ended, or more may be claimed than before."""
        for keys in self._blocked:
            self._ready[keys] = None
        self._blocked.clear()
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
        next_call = self._next()
        if next_call is None:
            return False
        keys, call = next_call
        sent_at = time.monotonic()
        self._unanswered[keys] = call
        self._terms.claim_begins()
        try:
            claimed = await self._store.claim(
                self._redis, keys, call.token, call.units, order=self._order(), caps=call.caps
            )
        except ResponseError as error:
            del self._unanswered[keys]  # Redis refused: the script looks before it touches, so nothing was claimed
            self._later(keys, error)
        except (RedisError, OSError) as error:
            self._later(keys, error)  # with the same token: what the lost reply held is answered again
        else:
            del self._unanswered[keys]
            self._wait.pop(keys, None)
            await self._take(keys, call, claimed, sent_at)
        if not self._unanswered:
            self._terms.claim_ends()
        return True

    def _order(self) -> str:
        return LOW_FIRST if next(self._counter) % LOW_FIRST_EACH == 0 else HIGH_FIRST

    async def _take(self, keys: QueueKeys, call: _Call, claimed: Claimed, sent_at: float) -> None:
        """Hand on what came, and see that the queue is looked at again when there is reason to."""
        self._clock.heard(claimed.now_ms)
        if claimed.buried:
            self._oversized(keys, claimed.buried)
        if claimed.claims:
            lease_until = sent_at + self._store.limits.lease_ms / 1_000
            opened = None if call.caps is None or ANY_MODEL in call.caps else frozenset(call.caps)
            await self._admit(keys, [HeldJob(claim, lease_until, sent_at, opened=opened) for claim in claimed.claims])
        self._terms.looked(keys.queue, claimed.passed, claimed.more, full=claimed.full)
        if claimed.full and claimed.claims:
            self._ready[keys] = None  # last in turn
        elif claimed.full or claimed.passed:
            self._block(keys)
        else:  # as good as empty; where a reply was cut short by its size, the look says so at once
            for peek in self._peeks[keys]:
                peek.arm()

    def _block(self, keys: QueueKeys) -> None:
        """Its lists aren't empty, but hold nothing for this worker now. What may change that wakes us; jobs that are
        pushed behind those that wait don't, so there is a look now and then."""
        self._blocked.add(keys)
        asyncio.get_running_loop().call_later(BLOCKED_LOOK_S, self._look_again, keys)

    def _look_again(self, keys: QueueKeys) -> None:
        if keys in self._blocked:
            self._blocked.discard(keys)
            self.found(keys)

    def _next(self) -> tuple[QueueKeys, _Call] | None:
        """The next call to send. None: no queue may have work, or no slot is free."""
        if keys := next((keys for keys in self._ready if keys in self._unanswered), None):
            del self._ready[keys]
            return keys, self._unanswered[keys]
        free = self._free() - sum(call.units for call in self._unanswered.values())
        keys = next(iter(self._ready), None)
        # Who is next in turn and needs a whole slot waits for it; embed jobs behind would take each unit of it away.
        if keys is None or not (units := self._share(keys, free)):
            return None
        del self._ready[keys]
        return keys, _Call(secrets.token_hex(8), units, self._terms.caps(units))

    def _share(self, keys: QueueKeys, free: int) -> int:
        """Units for this queue: the others that may have work have a turn, too. 0: not even one job."""
        slot = self._store.limits.slot_units
        smallest = 1 if keys in self._embeds else slot
        # At least a whole slot, where there is one: a job as large as that would else never find it here.
        share = max(smallest, min(slot, free), free // len(self._ready))
        share -= share % smallest
        return share if share <= free else 0

    def _later(self, keys: QueueKeys, error: Exception) -> None:
        wait = min(self._wait.get(keys, _RETRY_S[0] / 2) * 2, _RETRY_S[1])
        self._wait[keys] = wait
        self._failed(error)
        asyncio.get_running_loop().call_later(wait * random.uniform(0.5, 1.0), self.found, keys)
