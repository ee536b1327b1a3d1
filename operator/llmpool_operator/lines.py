"""A line to one Redis, whatever it is made of: many commands there, all their answers back, in one round trip.

Below redis-py's pipelines, which cost several times as much for each command: connections, logins, TLS, Sentinels and
the map of a cluster are redis-py's all the same.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, RedisClusterException, RedisError, ResponseError, TryAgainError

from llmpool_contract.redis_cluster import ClusterClient
from llmpool_contract.redis_open import RedisOpener

from .observe import Command, Endpoint

_CONNECT_S = 2.0
"""For one server: a Sentinel or a node that is away doesn't use up what the next one needs."""
_ANSWER_S = 1.0
"""For the answers that belong to connecting. Those of a reading have the reading's own time."""
_CONNECTIONS = 16
"""Readings overlap where changed pools come while Redis is silent."""


_TIME = pack_command(("TIME",))


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back."""

    now_ms: float
    """Redis' clock, Unix ms. In a cluster that of one node: they are taken to agree to within a few seconds."""
    replies: list[Any]
    """One for each command; where it failed alone, its exception. HGETALL: names and values by turns."""


class Line(Protocol):
    """One Redis. May be asked several times at once."""

    async def ask(self, commands: Sequence[Command]) -> Answers:
        """Send commands that only read, each naming its key first. Raises what redis-py raises if nothing came."""

    async def close(self) -> None:
        """End the connections, whatever state they are in."""


async def open_line(endpoint: Endpoint) -> Line:
    """Connect: ask the Sentinels, learn a cluster's map, log in.

    Raises:
        RedisError, RedisClusterException, OSError, ValueError: what is wrong with the Redis or its address.
    """
    opener = RedisOpener(endpoint.address, connect_timeout_s=_CONNECT_S)
    client = opener.open(retry=Retry(NoBackoff(), 0), timeout_s=_ANSWER_S, connections=_CONNECTIONS)
    line: Line = _Cluster(opener, client) if opener.address.mode == "cluster" else _Server(opener, client)
    try:
        await client.time()
    except BaseException:
        await line.close()
        raise
    return line


class _Server:
    """A single server, or the master that Sentinels name."""

    def __init__(self, opener: RedisOpener, client: Redis) -> None:
        self._opener = opener
        self._client = client

    async def ask(self, commands: Sequence[Command]) -> Answers:
        pool = self._client.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            return await _round_trip(connection, commands)
        finally:
            await pool.release(connection)

    async def close(self) -> None:
        await _closed(self._client, self._opener)


class _Cluster:
    """Each node gets its part; one that is away costs only the queues it serves."""

    def __init__(self, opener: RedisOpener, client: Redis) -> None:
        self._opener = opener
        self._client = cast("ClusterClient", client)
        self._looking: asyncio.Task[None] | None = None

    async def ask(self, commands: Sequence[Command]) -> Answers:
        if not commands:
            seconds, microseconds = await self._client.time()
            return Answers(seconds * 1000 + microseconds / 1000, [])
        replies: list[Any] = [None] * len(commands)
        parts = self._by_node(commands, replies)
        asked = (self._of_node(node, [commands[index] for index in part]) for node, part in parts.items())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        clock: float | None = None
        for part, answer in zip(parts.values(), answers, strict=True):
            if isinstance(answer, Answers):
                clock = answer.now_ms
            found = answer.replies if isinstance(answer, Answers) else [answer] * len(part)
            for index, reply in zip(part, found, strict=True):
                replies[index] = reply
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed or any(isinstance(reply, RedisClusterException) for reply in replies):
            self._look_again()
        if clock is None:
            raise failed[0] if failed else replies[0]
        await self._follow(commands, replies)
        return Answers(clock, replies)

    def _by_node(self, commands: Sequence[Command], replies: list[Any]) -> dict[ClusterNode, list[int]]:
        """Who is to be asked what; where nobody serves a key, that is its reply."""
        parts: dict[ClusterNode, list[int]] = {}
        for index, command in enumerate(commands):
            try:
                node = self._client.get_node_from_key(str(command[1]))
            except RedisClusterException as error:
                replies[index] = error
                continue
            assert node is not None  # only asking for a replica may find none
            parts.setdefault(node, []).append(index)
        return parts

    async def _of_node(self, node: ClusterNode, commands: Sequence[Command]) -> Answers:
        connection = node.acquire_connection()
        try:
            return await _round_trip(connection, commands)
        finally:
            node.release(connection)

    async def _follow(self, commands: Sequence[Command], replies: list[Any]) -> None:
        """Ask again, one by one, what another node serves now: redis-py then learns the new map."""
        for index, reply in enumerate(replies):
            if isinstance(reply, AskError | TryAgainError):
                try:
                    replies[index] = _flat(await self._client.execute_command(*commands[index]))
                except RedisError as error:
                    replies[index] = error

    def _look_again(self) -> None:
        """Read the map anew, beside the readings: a node that is away would hold it up."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._read_map(), name="cluster map")

    async def _read_map(self) -> None:
        try:
            async with asyncio.timeout(5 * _CONNECT_S):
                await self._client.look_again()
        except (RedisError, RedisClusterException, OSError):
            return  # the next reading that fails looks again

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await _closed(cast("Redis", self._client), self._opener)


async def _round_trip(connection: AbstractConnection, commands: Sequence[Command]) -> Answers:
    """All at once there and back. A connection on which this didn't end well has ended too: no late answers."""
    packed = [_TIME, *(pack_command(command) for command in commands)]  # type: ignore[arg-type]  # any tuple will do
    try:
        await connection.send_packed_command(b"".join(packed))
        seconds, microseconds = await connection.read_response(disable_decoding=True, timeout=math.inf)
        replies = [await _reply(connection) for _ in commands]
        return Answers(int(seconds) * 1000 + int(microseconds) / 1000, replies)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except ResponseError as error:
        return error


def _flat(reply: Any) -> Any:
    """redis-py makes a dict of HGETALL's answer, where it looks at it."""
    return [part for pair in reply.items() for part in pair] if isinstance(reply, dict) else reply


async def _closed(client: Redis, opener: RedisOpener) -> None:
    for one in (client, opener):
        try:
            await one.aclose()
        except (RedisError, OSError):
            continue  # it was cut before, or is cut now: either way it has ended
