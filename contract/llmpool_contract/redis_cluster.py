"""redis-py's client of a cluster, made to behave as its client of a single server does.

Its nodes are retried in a loop of its own, so ``Retry(NoBackoff(), 0)`` sends a command once here too: a redirect
(MOVED, ASK) is followed all the same, since a redirected command has not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.cluster import ClusterNode, ClusterPubSub, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException
from redis.exceptions import TimeoutError as RedisTimeoutError


class ClusterClient(RedisCluster):
    """A cluster's client whose failures are RedisErrors and that leaves no connection open.

    ``in_flight`` bounds the commands at a time, as a pool's size does elsewhere; further ones wait.
    """

    def __init__(
        self, nodes: Sequence[tuple[str, int]], *, in_flight: int, parser_class: type | None = None, **options: Any
    ) -> None:
        super().__init__(startup_nodes=[ClusterNode(host, port) for host, port in nodes], **options)
        self._turns = asyncio.Semaphore(in_flight)
        self._failed_node: str | None = None
        if parser_class is not None:
            # Not among redis-py's arguments for a cluster, though each of its connections takes it.
            for kwargs in (self.connection_kwargs, *(node.connection_kwargs for node in self.startup_nodes)):
                kwargs["parser_class"] = parser_class

    async def initialize(self, *args: Any, **kwargs: Any) -> ClusterClient:
        """Read which node serves what, where that isn't known. Nothing of a command has been sent by then."""
        try:
            await super().initialize(*args, **kwargs)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As everywhere else; what redis-py raises besides RedisErrors becomes a ConnectionError."""
        async with self._turns:
            try:
                await self.initialize(last_failed_node_name=self._failed_node)
                return await super().execute_command(*args, **kwargs)
            except (RedisConnectionError, RedisTimeoutError) as error:
                self._failed_node = getattr(error, "last_failed_node_name", None)
                raise
            except RedisClusterException as error:  # a slot that nobody serves
                raise RedisConnectionError(str(error)) from error

    async def time(self, **_: Any) -> tuple[int, int]:
        """One node's clock: a cluster has no other."""
        seconds, micros = await self.execute_command("TIME", target_nodes=RedisCluster.RANDOM)
        return seconds, micros

    def pubsub(self, *args: Any, **kwargs: Any) -> ClusterPubSub:
        """A subscription at the node that serves the first channel. Any would do: messages go to all nodes."""
        return _PubSub(self, *args, **kwargs)

    async def look_again(self) -> None:
        """Read anew which node serves what."""
        self._initialize = True
        await self.initialize()

    async def aclose(self) -> None:
        """Close all connections: redis-py takes a client whose last command failed for a closed one."""
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")


class _PubSub(ClusterPubSub):
    """Knows where to connect before it does: redis-py trusts what the last command found out, if there was one."""

    cluster: ClusterClient

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None:
            await self.cluster.look_again()
        return await super().execute_command(*args, **kwargs)
