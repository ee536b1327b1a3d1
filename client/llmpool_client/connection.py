"""Connections to Redis, each with timeouts and retries of its own."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff

from .errors import redis_errors

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 16
POOL_WAIT_S = 20.0
"""How long a command waits for a free connection of the pool."""

T = TypeVar("T")


class Connections:
    """All of one client's connections to one Redis."""

    def __init__(self, url: str) -> None:
        # Everything sent here may be sent twice: reads, and scripts that answer a repeat as they answered at first.
        retry = Retry(ExponentialBackoff(cap=0.25, base=0.025), 2)
        try:
            self._options: dict[str, Any] = dict(parse_url(url))
            self.commands = self._open(ANSWER_TIMEOUT_S, retry, MAX_CONNECTIONS)
            # No I/O yet: this only says whether the URL's options exist.
            self.commands.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            # redis-py's own words never repeat the whole URL, which may hold a password.
            raise ValueError(f"Redis URL: {error}") from None
        self.address = _address(self._options)

    def dedicated(self, longest_block_s: float) -> Redis:
        """A connection of its own for a call that blocks up to so many seconds; it retries nothing by itself."""
        return self._open(longest_block_s + ANSWER_TIMEOUT_S, Retry(NoBackoff(), 0), 1)

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await a command's answer, with this package's errors in place of redis-py's."""
        with redis_errors(self.address):
            return await answer

    async def aclose(self) -> None:
        await self.commands.aclose()

    def _open(self, answer_timeout_s: float, retry: Retry, connections: int) -> Redis:
        ours = {
            "socket_timeout": answer_timeout_s,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "retry": retry,
            "protocol": 2,
            "decode_responses": False,
        }
        if "path" in self._options:
            del ours["socket_keepalive"]  # a unix socket has none
        pool = BlockingConnectionPool(
            **{"max_connections": connections, "timeout": POOL_WAIT_S, **self._options, **ours}
        )
        return Redis.from_pool(pool)


def _address(options: dict[str, Any]) -> str:
    if "path" in options:
        return str(options["path"])
    host = str(options.get("host", "localhost"))
    return f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}/{options.get('db', 0)}"
