"""One Redis connection per purpose, each with timeouts and retries of its own.

redis-py 8 re-sends a command whose reply was late, ten times by default: a claim sent twice strands jobs. So nothing
here inherits a default. Purposes don't share a connection, so that a big result never delays a renewal.
"""

from __future__ import annotations

from typing import Any

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 5.0
PEEK_BLOCK_S = 20.0
PEEK_TIMEOUT_S = PEEK_BLOCK_S + 5.0
"""Longer than the block, or the client would give up on every quiet queue."""


class Connections:
    """Opens connections to one Redis. ``url`` may carry user, password and database; it is never logged."""

    def __init__(self, url: str, *, username: str | None = None, password: str | None = None) -> None:
        ours: dict[str, Any] = {
            "protocol": 2,
            "decode_responses": False,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            # A failover may leave connections open to a server that is a replica now: those are of no use any more.
            "retry_on_error": [ReadOnlyError],
        }
        if not url.startswith("unix:"):
            ours["socket_keepalive"] = True
        self._options: dict[str, Any] = {**parse_url(url), **ours}
        if username:
            self._options["username"] = username
        if password:
            self._options["password"] = password
        self._open: list[Redis] = []

    def once(self, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Redis:
        """One connection whose commands are sent once: the caller knows how to repeat them safely."""
        return self._client(Retry(NoBackoff(), 0), timeout_s)

    def repeating(self) -> Redis:
        """One connection for commands that may safely run twice."""
        return self._client(Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 3), COMMAND_TIMEOUT_S)

    def subscriber(self) -> Redis:
        """A connection that waits for messages; its reader has a timeout for each wait and tries a silent line."""
        return self._client(Retry(NoBackoff(), 0), None, single=False)

    def peeker(self, max_body_bytes: int) -> Redis:
        """A connection for a blocking look at a list's head, which drops the line rather than read a huge body."""
        pool = ConnectionPool(
            **self._options,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=PEEK_TIMEOUT_S,
            parser_class=_bounded_parser(max_body_bytes),
        )
        return self._keep(Redis.from_pool(pool))

    def _client(self, retry: Retry, timeout_s: float | None, *, single: bool = True) -> Redis:
        pool = ConnectionPool(**self._options, retry=retry, socket_timeout=timeout_s)
        client = Redis(connection_pool=pool, single_connection_client=single)
        client.auto_close_connection_pool = True  # nobody else has the pool
        return self._keep(client)

    def _keep(self, client: Redis) -> Redis:
        self._open.append(client)
        return client

    async def aclose(self) -> None:
        """Close every connection that was opened here."""
        for client in self._open:
            await client.aclose()
        self._open.clear()


class BodyTooLarge(RedisConnectionError):
    """A peek met a body that isn't worth reading. A connection error, so that redis-py drops the line."""


def _bounded_parser(max_bytes: int) -> type[_AsyncRESP2Parser]:
    """A reply parser that reads no bulk beyond ``max_bytes``.

    A blocking peek answers with the body itself, and every idle worker would take in a 500 MB one only to learn that
    there is work. The claim script weighs bodies inside Redis; the peek has no way to but this.
    """

    class BoundedParser(_AsyncRESP2Parser):
        async def _read(self, length: int) -> bytes:
            if length > max_bytes:
                raise BodyTooLarge(f"a body of {length} bytes")
            return await super()._read(length)

    return BoundedParser
