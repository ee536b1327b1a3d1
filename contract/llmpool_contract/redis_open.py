"""Opening clients of one Redis, whatever it is made of.

Callers say how long an answer may take and what may be sent twice: nothing here inherits a default of redis-py.
"""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError

from .redis_cluster import ClusterClient
from .redis_url import RedisAddress

SENTINEL_TIMEOUT_S = 1.0
"""For one Sentinel's connection, and for its answer: the next one may know."""
POOL_WAIT_S = 20.0
"""How long a command waits for a free connection of its client."""


class RedisOpener:
    """Opens clients of one Redis. Whoever opened a client closes it; :meth:`aclose` closes what they share."""

    def __init__(self, address: RedisAddress, *, connect_timeout_s: float) -> None:
        self.address = address
        self._options: dict[str, Any] = {
            "protocol": 2,
            "decode_responses": False,
            "socket_connect_timeout": connect_timeout_s,
            **address.options,
        }
        if "path" not in address.options:
            self._options["socket_keepalive"] = True
        self._sentinel = _sentinel(address) if address.mode == "sentinel" else None

    def open(
        self,
        *,
        retry: Retry,
        timeout_s: float | None,
        connections: int,
        single: bool = False,
        parser_class: type | None = None,
    ) -> Redis:
        """A client with up to ``connections`` connections (in a cluster: commands at a time). Connects on first use.

        ``timeout_s`` is for each answer, None: none. ``retry`` says how often a command may be sent again.
        ``single``: keep to one connection, which costs less per command, where there is one server to connect to.
        """
        how: dict[str, Any] = {**self._options, "retry": retry, "socket_timeout": timeout_s}
        if self.address.mode == "cluster":
            # RedisCluster is no Redis to the type checker; it has the commands that are used here.
            return cast("Redis", self._cluster(connections, parser_class, how))
        # A failover may leave connections open to a server that is a replica now: those are of no use any more.
        how |= {"retry_on_error": [ReadOnlyError], "max_connections": connections, "timeout": POOL_WAIT_S}
        if parser_class is not None:
            how["parser_class"] = parser_class
        # redis-py's single connection reconnects to where it was, whatever the Sentinels say; a pool's asks them.
        single = single and self._sentinel is None
        client = Redis(connection_pool=self._pool(how), single_connection_client=single)
        client.auto_close_connection_pool = True  # nobody else has the pool
        return client

    async def aclose(self) -> None:
        """Close the connections to the Sentinels."""
        if self._sentinel is not None:
            await self._sentinel.aclose()

    def _cluster(self, connections: int, parser_class: type | None, how: dict[str, Any]) -> ClusterClient:
        return ClusterClient(
            self.address.nodes, in_flight=connections, parser_class=parser_class, ssl=self.address.tls, **how
        )

    def _pool(self, how: dict[str, Any]) -> BlockingConnectionPool:
        address = self.address
        if self._sentinel is not None:
            return _SentinelPool(address.master, self._sentinel, ssl=address.tls, **how)  # type: ignore[no-untyped-call]
        if "path" in address.options:
            return BlockingConnectionPool(connection_class=UnixDomainSocketConnection, **how)
        host, port = address.nodes[0]
        kind = SSLConnection if address.tls else Connection
        return BlockingConnectionPool(connection_class=kind, host=host, port=port, **how)


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Asks the Sentinels for the master before each connect, so a reconnect is all that a failover takes."""


def _sentinel(address: RedisAddress) -> Sentinel:
    tls = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    how: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "ssl": address.tls,
        **tls,
        **address.sentinel_login,
    }
    return Sentinel(address.nodes, sentinel_kwargs=how)  # type: ignore[no-untyped-call]
