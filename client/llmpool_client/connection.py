"""Connections to Redis, each with timeouts and retries of its own."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff

from llmpool_contract.redis_open import RedisOpener
from llmpool_contract.redis_url import parse_redis_url

from .errors import redis_errors

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 16

T = TypeVar("T")


class Connections:
    """All of one client's connections to one Redis: a server, the master that Sentinels name, or a cluster."""

    def __init__(self, url: str) -> None:
        # Everything sent here may be sent twice: reads, and scripts that answer a repeat as they answered at first.
        retry = Retry(ExponentialBackoff(cap=0.25, base=0.025), 2)
        try:
            self._opener = RedisOpener(parse_redis_url(url), connect_timeout_s=CONNECT_TIMEOUT_S)
        except ValueError as error:
            # The reason repeats nothing of the URL, which may hold a password.
            raise ValueError(f"Redis URL: {error}") from None
        self.address = str(self._opener.address)
        self.commands = self._opener.open(retry=retry, timeout_s=ANSWER_TIMEOUT_S, connections=MAX_CONNECTIONS)

    def dedicated(self, longest_block_s: float) -> Redis:
        """A connection of its own for a call that blocks up to so many seconds; it retries nothing by itself."""
        return self._opener.open(
            retry=Retry(NoBackoff(), 0), timeout_s=longest_block_s + ANSWER_TIMEOUT_S, connections=1
        )

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await a command's answer, with this package's errors in place of redis-py's."""
        with redis_errors(self.address):
            return await answer

    async def aclose(self) -> None:
        """Close what nobody else closes: a dedicated connection is its owner's."""
        await self.commands.aclose()
        await self._opener.aclose()
