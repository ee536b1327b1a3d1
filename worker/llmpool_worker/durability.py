"""Results that outlive a Redis that dies: on request, Redis is asked whether what was settled is on disk, or copied.

Redis answers a write before it is either. ``WAITAOF`` (7.2) and ``WAIT`` ask afterwards, and only about writes of
their own connection: on another, or after a reconnect, they answer at once and mean nothing. So each question goes
out in one piece with a write that comes after the settlement, and then counts for all that was written before.

Nothing is undone where the answer is no: the result is in Redis and its waiters have it. It is counted and logged, and
says that a crash just then would have lost it; its job would have run once more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

MARK_TTL_MS = 60_000
"""The life of a settlement's mark (``queue/lua/settle.lua``), which the question prolongs."""
MAX_REPLICAS = 16


class NotConfirmed(Exception):
    """Redis didn't say in time that a settlement is safe."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a result is to survive. Neither: nothing is asked."""

    disk: bool = False
    """The server's own death: its append-only file is on disk."""
    replicas: int = 0
    """The server's loss: so many replicas have it, in memory."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read RESULT_DURABILITY: ``none``, ``aof`` or ``replica:N``. Raises ValueError."""
        if text in ("none", "aof"):
            return cls(disk=text == "aof")
        found = re.fullmatch(r"replica:([0-9]{1,4})", text)
        if found is None or not 1 <= int(found[1]) <= MAX_REPLICAS:
            raise ValueError(f"allowed are none, aof and replica:N with N from 1 to {MAX_REPLICAS}")
        return cls(replicas=int(found[1]))

    def question(self, timeout_ms: int) -> tuple[str | int, ...]:
        """The command that asks it. 0 ms would wait for ever."""
        return ("WAITAOF", 1, 0, timeout_ms) if self.disk else ("WAIT", self.replicas, timeout_ms)

    def lacking(self, answer: Any) -> str | None:
        """What is missing, by the command's answer; None: nothing."""
        if self.disk:
            return None if int(answer[0]) >= 1 else "not yet on disk"
        return None if int(answer) >= self.replicas else f"{int(answer)} of {self.replicas} replicas have it"


class Durability:
    """Asks after settlements, beside them: nobody waits for the answer. A question that comes while one is under way
    waits for its end, and then is about all that was settled meanwhile, in whichever queue."""

    def __init__(self, redis: Redis, wanted: Wanted, timeout_ms: int, failed: Callable[[Exception], None]) -> None:
        """``redis`` is a client of its own, whose answers may take ``timeout_ms`` and more. ``failed`` counts and logs
        what wasn't confirmed."""
        self._redis, self._wanted, self._timeout_ms, self._failed = redis, wanted, timeout_ms, failed
        self._mark = ""
        self._wake = asyncio.Event()

    def settled(self, mark: str) -> None:
        """A settle call was answered. ``mark``: its key (``QueueKeys.settled``)."""
        if self._wanted != Wanted():
            self._mark = mark
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.confirm(self._mark)

    async def confirm(self, mark: str) -> bool:
        """Whether all is safe that was settled until the call with this mark. Never raises for Redis' sake."""
        if self._wanted == Wanted():
            return True
        try:
            lacking = await self._ask(mark)
        except (RedisError, OSError) as error:
            self._failed(error)
            return False
        if lacking:
            self._failed(NotConfirmed(f"{lacking} after {self._timeout_ms} ms"))
        return lacking is None

    async def _ask(self, mark: str) -> str | None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.pexpire(mark, MARK_TTL_MS)
        pipe.execute_command(*self._wanted.question(self._timeout_ms))
        written, answer = await pipe.execute()
        # Nothing written, nothing waited for: the answer came at once and is about some earlier write.
        return self._wanted.lacking(answer) if written else "the settlement's mark is gone"


async def why_not(redis: Redis, wanted: Wanted) -> str | None:
    """Why this server can't confirm what is wanted, as it is now; None: it can. For the start and for ``--check``.

    Raises RedisError where Redis can't be asked.
    """
    if wanted == Wanted():
        return None
    info: dict[str, Any] = dict(await redis.info())
    if reason := unfit(info, wanted):
        return reason
    if not wanted.disk:
        return None
    try:
        await redis.waitaof(0, 0, 1)  # by trying, not by version: Redis' successors count otherwise
    except ResponseError as error:
        return f"WAITAOF needs Redis 7.2, this one is {info.get('redis_version', 'of an unknown version')}: {error}"
    if not info.get("aof_enabled"):
        return "appendonly is off: nothing is written to disk as it comes"
    if await _fsync(redis) == "no":
        return "appendfsync is no: Redis leaves it to the system when a write is on disk, and can't tell"
    return None


def unfit(info: Mapping[str, Any], wanted: Wanted) -> str | None:
    """What speaks against it in the server's INFO. Pure."""
    if info.get("cluster_enabled"):
        return "RESULT_DURABILITY isn't there for Redis Cluster"
    count = int(info.get("connected_slaves", 0))
    return None if count >= wanted.replicas else f"{wanted.replicas} replicas are wanted, connected are {count}"


async def _fsync(redis: Redis) -> str | None:
    """None: a managed Redis has no CONFIG."""
    try:
        pairs: dict[Any, Any] = dict(await redis.config_get("appendfsync"))
    except ResponseError:
        return None
    found = pairs.get("appendfsync", pairs.get(b"appendfsync"))
    return found.decode() if isinstance(found, bytes) else found
