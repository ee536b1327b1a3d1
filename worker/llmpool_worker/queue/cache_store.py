"""Kept answers in Redis. What goes wrong here is counted, and is nobody's failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from llmpool_contract import QueueKeys

from .store import Script

T = TypeVar("T")
CHUNK = 64
"""Keys of one call: it must end well within its timeout, and hold up nobody."""
MEMORY_PERCENT = 80
"""Of ``maxmemory``: beyond it, what is free is for jobs."""

Counted = Callable[[str, int], None]
"""(outcome, answers): ``hit``, ``miss``, ``stored``, ``too_large``, ``full``, ``error``."""


class NotKept(Exception):
    """A value that Redis has refused, or that can't be read."""


class CacheStore:
    """Reads and writes on one connection, best one with a short timeout: a job waits for its look."""

    def __init__(
        self,
        redis: Redis,
        *,
        ttl_ms: int,
        max_value_bytes: int,
        counted: Counted,
        failed: Callable[[Exception], None],
    ) -> None:
        """``failed`` hears of each call that went wrong."""
        self._redis, self._put = redis, Script("cache_put")
        self._ttl_ms, self.max_value_bytes = ttl_ms, max_value_bytes
        self._counted, self.failed = counted, failed

    async def get(self, queue: QueueKeys, names: Sequence[str], read: Callable[[bytes], T]) -> dict[str, T]:
        """What is kept under these names, as ``read`` has it; what that finds a ValueError with is as good as none."""
        found: dict[str, T] = {}
        try:
            for chunk in _chunks(names):
                raws: list[Any] = await self._redis.mget([queue.cache(name) for name in chunk])
                for name, raw in zip(chunk, raws, strict=True):
                    if raw is not None and (value := self._read(raw, read)) is not None:
                        found[name] = value
        except (RedisError, OSError) as error:  # what was found by then counts
            self._count("error", 1)
            self.failed(error)
        self._count("hit", len(found))
        self._count("miss", len(names) - len(found))
        return found

    def _read(self, raw: bytes, read: Callable[[bytes], T]) -> T | None:
        try:
            return read(raw)
        except ValueError:
            self._count("error", 1)
            self.failed(NotKept("a value that can't be read"))  # its own words may hold some of the answer
            return None

    async def put(self, queue: QueueKeys, values: Mapping[str, bytes]) -> None:
        """Keep these. An older value of the same name is replaced: it is of the same question."""
        small = [name for name, value in values.items() if len(value) <= self.max_value_bytes]
        self._count("too_large", len(values) - len(small))
        try:
            for chunk in _chunks(small):
                args = [self._ttl_ms, MEMORY_PERCENT, *(values[name] for name in chunk)]
                kept, why = await self._put(self._redis, [queue.cache(name) for name in chunk], args)
                self._stored(len(chunk), int(kept), why.decode("utf-8", "replace"))
        except (RedisError, OSError) as error:
            self._count("error", 1)
            self.failed(error)

    def _stored(self, wanted: int, kept: int, why: str) -> None:
        self._count("stored", kept)
        if why == "full":
            self._count("full", wanted - kept)
        elif why:
            self._count("error", wanted - kept)
            self.failed(NotKept(why))

    def _count(self, outcome: str, answers: int) -> None:
        if answers:
            self._counted(outcome, answers)


def _chunks(names: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
