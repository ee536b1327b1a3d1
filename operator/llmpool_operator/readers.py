"""Connections to Redis: one pipelined read of each, for all pools that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .observe import Endpoint, Wish, commands, nothing_known, read, why_missing
from .targets.base import Sighting

K = TypeVar("K")


class RedisReader:
    """Reads one Redis, over one connection that is made anew after any failure."""

    def __init__(self, endpoint: Endpoint, timeout: float, monotonic: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._monotonic = monotonic
        self._offset_ms: float | None = None
        """Redis' clock minus ours, from the last reading: a step of its clock is off by one reading at most."""
        self._redis: Redis | None = None
        """Made by the first reading, which is where its faults are caught."""

    async def close(self) -> None:
        """End the connection."""
        if self._redis is None:
            return
        try:
            await self._redis.aclose()
        except (RedisError, OSError):
            return  # it was cut before, or is cut now: either way it has ended

    async def read(self, wishes: Mapping[K, Wish], *, at: float) -> dict[K, Sighting]:
        """All pools of this Redis at once. Never raises, whatever Redis or its address does; at most the timeout."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._read(wishes, at)
        except Exception as error:  # noqa: BLE001 - an oddity of one Redis must not end the reading of the others
            missing = why_missing(error, self._endpoint.shown)
            return {key: nothing_known(wish, missing, at=at) for key, wish in wishes.items()}

    async def _read(self, wishes: Mapping[K, Wish], at: float) -> dict[K, Sighting]:
        if self._redis is None:
            self._redis = _client(self._endpoint, self._timeout)
        if self._offset_ms is None:
            self._learn_clock(await self._redis.time())
        assert self._offset_ms is not None
        now_ms = int(self._monotonic() * 1000 + self._offset_ms)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("TIME")
            asked = {key: commands(wish, now_ms) for key, wish in wishes.items()}
            for command in (command for of_pool in asked.values() for command in of_pool):
                pipe.execute_command(*command)
            replies = iter(await pipe.execute(raise_on_error=False))
        moment = next(replies)
        if isinstance(moment, BaseException):
            raise moment
        self._learn_clock(moment)
        shown = self._endpoint.shown
        return {
            key: read(wish, list(islice(replies, len(asked[key]))), now_ms, at=at, shown=shown)
            for key, wish in wishes.items()
        }

    def _learn_clock(self, moment: tuple[int, int]) -> None:
        seconds, microseconds = moment
        self._offset_ms = seconds * 1000 + microseconds / 1000 - self._monotonic() * 1000


def _client(endpoint: Endpoint, timeout: float) -> Redis:
    given = {"username": endpoint.username, "password": endpoint.password}
    login: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Redis.from_url(
        endpoint.url,
        **login,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),  # the next tick is the retry
        max_connections=16,  # readings overlap where changed pools come while Redis is silent
        client_name="llmpool-operator",
    )


class Readers:
    """All Redises in use."""

    def __init__(self, timeout: float, monotonic: Callable[[], float]) -> None:
        self._timeout = timeout
        self._monotonic = monotonic
        self._readers: dict[Endpoint, RedisReader] = {}

    async def read(self, endpoint: Endpoint, wishes: Mapping[K, Wish], *, at: float) -> dict[K, Sighting]:
        """Read what is wished of one Redis. Never raises."""
        if endpoint not in self._readers:
            self._readers[endpoint] = RedisReader(endpoint, self._timeout, self._monotonic)
        return await self._readers[endpoint].read(wishes, at=at)

    async def keep(self, endpoints: set[Endpoint]) -> None:
        """End the connections that nobody uses any more."""
        for endpoint in [held for held in self._readers if held not in endpoints]:
            await self._readers.pop(endpoint).close()

    async def close(self) -> None:
        """End all connections."""
        await self.keep(set())
