"""One Redis connection per purpose, each with timeouts and retries of its own.

redis-py 8 re-sends a command whose reply was late, ten times by default: a claim sent twice strands jobs. So nothing
here inherits a default. Purposes don't share a connection, so that a big result never delays a renewal.
"""

from __future__ import annotations

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from llmpool_contract.redis_open import RedisOpener
from llmpool_contract.redis_url import RedisAddress, parse_redis_url

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 5.0
PEEK_BLOCK_S = 20.0
PEEK_TIMEOUT_S = PEEK_BLOCK_S + 5.0
"""Longer than the block, or the client would give up on every quiet queue."""
CONNECTIONS = 64
"""More than one purpose ever uses at a time."""


class Connections:
    """Opens connections to one Redis: a server, the master that Sentinels name, or a cluster.

    ``address`` may carry user, password and database; it is never logged.
    """

    def __init__(
        self, address: RedisAddress | str, *, username: str | None = None, password: str | None = None
    ) -> None:
        found = parse_redis_url(address) if isinstance(address, str) else address
        self.address = found.with_options(username=username or None, password=password or None)
        self._opener = RedisOpener(self.address, connect_timeout_s=CONNECT_TIMEOUT_S)
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
        parser = _bounded_parser(max_body_bytes)
        return self._client(Retry(NoBackoff(), 0), PEEK_TIMEOUT_S, single=False, parser_class=parser)

    def _client(
        self, retry: Retry, timeout_s: float | None, *, single: bool = True, parser_class: type | None = None
    ) -> Redis:
        client = self._opener.open(
            retry=retry, timeout_s=timeout_s, connections=CONNECTIONS, single=single, parser_class=parser_class
        )
        self._open.append(client)
        return client

    async def aclose(self) -> None:
        """Close every connection that was opened here."""
        for client in self._open:
            await client.aclose()
        self._open.clear()
        await self._opener.aclose()


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
