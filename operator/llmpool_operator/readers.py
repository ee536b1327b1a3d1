"""Readings of Redis: one pipelined read of each, for all pools that use it, in parts that block nobody for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import structlog

from .decide.types import Missing
from .lines import Line, open_line
from .missing import why_missing
from .observe import Command, Endpoint, Wish, commands, nothing_known, read
from .prometheus import Prometheus
from .reports import PoolMemory
from .sightings import completed, without_others
from .targets.base import Sighting

log = structlog.get_logger(__name__)
K = TypeVar("K")
CHUNK = 800
"""Commands of one round trip, unless one pool has more: a hundred pools of one queue, some milliseconds of work."""
_OPENING_S = 10.0
"""What connecting may take. It goes on while readings find that there is no connection yet."""
_REMEMBERED_S = 120.0
_CLOSED = Missing("RedisNoLongerUsed")
_FAULT = Missing("ReadingFailed: see the operator's log")


class _Opened:
    """A line in use. Who finds it broken leaves it; it is closed when the last reading over it has ended."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._task = asyncio.create_task(self._open(endpoint), name=f"connect to {endpoint.shown}")
        self._users = 0
        self._left = False

    async def _open(self, endpoint: Endpoint) -> Line:
        async with asyncio.timeout(_OPENING_S):
            return await open_line(endpoint)

    async def __aenter__(self) -> Line:
        self._users += 1
        try:
            if not self._task.done():
                await asyncio.wait({self._task})  # whoever gives up waiting doesn't end the connecting
            return self._task.result()
        except BaseException:
            await self._done()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._done()

    @property
    def settled(self) -> bool:
        """Whether connecting has ended, well or not."""
        return self._task.done()

    async def leave(self) -> None:
        """It is of no use any more: nobody else begins to use it."""
        self._left = True
        await self._end_if_unused()

    async def _done(self) -> None:
        self._users -= 1
        await self._end_if_unused()

    async def _end_if_unused(self) -> None:
        if self._left and self._users == 0:
            await self.close()

    async def close(self) -> None:
        """End it now."""
        self._task.cancel()
        [line] = await asyncio.gather(self._task, return_exceptions=True)
        if not isinstance(line, BaseException):
            await line.close()


class RedisReader:
    """Reads one Redis, over a line that is made anew after any failure of the whole."""

    def __init__(
        self, endpoint: Endpoint, timeout: float, monotonic: Callable[[], float], *, chunk: int = CHUNK
    ) -> None:
        """``timeout``: seconds that each round trip may take, connecting included."""
        self._endpoint = endpoint
        self._timeout = timeout
        self._monotonic = monotonic
        self._chunk = chunk
        self._offset_ms: float | None = None
        """Redis' clock minus ours, from the last reading: a step of its clock is off by one reading at most."""
        self._opened: _Opened | None = None
        self._closed = False
        self._memories: dict[str, tuple[float, PoolMemory]] = {}
        """By pool, with when it was last asked for."""
        self._forgot_at = monotonic()

    async def close(self) -> None:
        """End the connections. A reading in progress makes no new ones: what is left of it is Missing."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    async def read(self, wishes: Mapping[K, Wish], *, at: float) -> dict[K, Sighting]:
        """All pools of this Redis. Never raises, whatever Redis or its address does.

        What fails as a whole isn't tried again for the remaining parts: they miss for the same reason.
        """
        seen: dict[K, Sighting] = {}
        missing: Missing | None = None
        self._forget()
        for part in self._parts(wishes):
            if missing is None:
                found = await self._read_part(part, at)
                missing = found if isinstance(found, Missing) else None
            if missing is not None:
                found = {key: nothing_known(wish, missing, at=at) for key, wish in part.items()}
            assert not isinstance(found, Missing)
            seen |= found
        return seen

    def _parts(self, wishes: Mapping[K, Wish]) -> Iterator[dict[K, Wish]]:
        part: dict[K, Wish] = {}
        size = 0
        for key, wish in wishes.items():
            size += len(wish.queues) * 6 + 2
            if part and size > self._chunk:
                yield part
                part, size = {}, len(wish.queues) * 6 + 2
            part[key] = wish
        if part:
            yield part

    async def _read_part(self, wishes: Mapping[K, Wish], at: float) -> dict[K, Sighting] | Missing:
        if self._closed:
            return _CLOSED
        opened = self._opened = self._opened or _Opened(self._endpoint)
        try:
            async with asyncio.timeout(self._timeout), opened as line:
                return await self._ask(line, wishes, at)
        except Exception as error:  # noqa: BLE001 - an oddity of one Redis must not end the reading of the others
            if opened.settled and self._opened is opened:
                self._opened = self._offset_ms = None  # the next one may lead to another server, with another clock
                await opened.leave()
            return why_missing(error, self._endpoint.shown)

    async def _ask(self, line: Line, wishes: Mapping[K, Wish], at: float) -> dict[K, Sighting]:
        if self._offset_ms is None:
            self._learn_clock((await line.ask(())).now_ms)
        assert self._offset_ms is not None
        now_ms = int(self._monotonic() * 1000 + self._offset_ms)
        asked: list[Command] = []
        ends: list[int] = []
        for wish in wishes.values():
            asked += commands(wish, now_ms)
            ends.append(len(asked))
        answers = await line.ask(asked)
        self._learn_clock(answers.now_ms)
        seen: dict[K, Sighting] = {}
        begin = 0
        for (key, wish), end in zip(wishes.items(), ends, strict=True):
            replies, begin = answers.replies[begin:end], end
            shown, memory = self._endpoint.shown, self._memory(wish.pool)
            seen[key] = read(wish, replies, now_ms, at=at, shown=shown, memory=memory)
        return seen

    def _learn_clock(self, now_ms: float) -> None:
        self._offset_ms = now_ms - self._monotonic() * 1000

    def _memory(self, pool: str) -> PoolMemory:
        memory = self._memories[pool][1] if pool in self._memories else PoolMemory()
        self._memories[pool] = self._monotonic(), memory
        return memory

    def _forget(self) -> None:
        """Pools that nobody asks for any more, now and then."""
        now = self._monotonic()
        if now - self._forgot_at >= _REMEMBERED_S:
            self._forgot_at = now
            self._memories = {pool: kept for pool, kept in self._memories.items() if now - kept[0] < _REMEMBERED_S}


class Readers:
    """All Redises in use, and the Prometheus servers."""

    def __init__(self, timeout: float, monotonic: Callable[[], float], prometheus: Prometheus | None = None) -> None:
        """``timeout``: seconds for each round trip to Redis, connecting included."""
        self._timeout = timeout
        self._monotonic = monotonic
        self._prometheus = prometheus or Prometheus(monotonic)
        self._readers: dict[Endpoint, RedisReader] = {}
        self._faulty: set[str] = set()
        """Pools whose sighting couldn't be completed the last time: that is logged once."""

    async def read(self, endpoint: Endpoint | Missing, wishes: Mapping[K, Wish], *, at: float) -> dict[K, Sighting]:
        """Read what is wished of one Redis, and add what others tell. Never raises.

        An endpoint that is Missing can't be read; the others are asked all the same.
        """
        if isinstance(endpoint, Missing):
            seen = {key: nothing_known(wish, endpoint, at=at) for key, wish in wishes.items()}
        else:
            if endpoint not in self._readers:
                self._readers[endpoint] = RedisReader(endpoint, self._timeout, self._monotonic)
            seen = await self._readers[endpoint].read(wishes, at=at)
        return {key: self._completed(wishes[key], sighting) for key, sighting in seen.items()}

    def _completed(self, wish: Wish, sighting: Sighting) -> Sighting:
        """With what others tell. An oddity of one pool must not end the reading of the others."""
        try:
            whole = completed(wish, sighting, self._prometheus)
        except Exception:
            if wish.pool not in self._faulty:
                self._faulty.add(wish.pool)
                log.exception("pool not read in full", pool=wish.pool)
            return without_others(wish, sighting, _FAULT)
        self._faulty.discard(wish.pool)
        return whole

    async def keep(self, endpoints: set[Endpoint]) -> None:
        """End the connections that nobody uses any more."""
        for endpoint in [held for held in self._readers if held not in endpoints]:
            await self._readers.pop(endpoint).close()

    async def close(self) -> None:
        """End all connections."""
        await self.keep(set())
        await self._prometheus.close()
