"""Asking Redis: every server that holds queues, the queues' keys, and the user's rights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from llmpool_contract import BackendKeys, PoolKeys, QueueKeys
from llmpool_contract.redis_cluster import ClusterClient
from llmpool_contract.redis_url import RedisAddress
from llmpool_worker.queue.connections import Connections

from .judge import ServerReading, judge_server
from .rights import Places, check_rights, listed
from .rows import Row

PINGS = 5


async def check_redis(
    address: RedisAddress, queues: Sequence[QueueKeys], pool: PoolKeys, server: BackendKeys | None = None
) -> list[Row]:
    """All rows about Redis. Where it can't be reached, or goes away meanwhile, one says so.

    ``server``: the keys by which the workers of one model server meet.
    """
    async with AsyncExitStack() as stack:
        connections = Connections(address)
        stack.push_async_callback(connections.aclose)
        redis = connections.once()
        rows: list[Row] = []
        try:
            await redis.time()
            nodes = [("Redis", redis)] if address.mode != "cluster" else _masters(redis, address, stack)
            for label, node in nodes:
                rows += judge_server(label, await _read(node), as_cluster=address.mode == "cluster")
            rows.append(await check_rights(redis, nodes[0][1], Places(queues, pool, server)))
            rows += [await _check_types(redis, keys) for keys in queues]
        except (RedisError, OSError) as error:
            # Redis' own words name hosts, users and commands, never a password.
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            return [Row.fail("Redis", f"{address}: {words}", "look at REDIS_URL and at the login"), *rows]
        masters = f", {len(nodes)} masters" if address.mode == "cluster" else ""
        return [Row.ok("Redis", f"{address} answers{masters}"), *rows]


def _masters(redis: Redis, address: RedisAddress, stack: AsyncExitStack) -> list[tuple[str, Redis]]:
    """A label and a plain client for each of a cluster's masters."""
    found = []
    for node in cast("ClusterClient", redis).get_primaries():
        alone = RedisAddress("standalone", ((node.host, int(node.port)),), tls=address.tls, options=address.options)
        connections = Connections(alone)
        stack.push_async_callback(connections.aclose)
        found.append((f"Redis {node.host}:{node.port}", connections.once()))
    return found


async def _read(node: Redis) -> ServerReading:
    round_trips = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        await node.ping()
        round_trips.append(time.perf_counter() - begun)
    return ServerReading(await _info(node), await _save(node), round_trips, await _skew_s(node))


async def _info(node: Redis) -> dict[str, Any] | None:
    try:
        return dict(await node.info())
    except ResponseError:
        return None


async def _save(node: Redis) -> str | None:
    try:
        pairs: dict[Any, Any] = dict(await node.config_get("save"))
    except ResponseError:  # a managed Redis has no CONFIG
        return None
    found = pairs.get("save", pairs.get(b"save"))
    return found.decode() if isinstance(found, bytes) else found


async def _skew_s(node: Redis) -> float | None:
    """Against the middle of the round trip."""
    before = time.time()
    try:
        seconds, micros = await node.time()
    except ResponseError:
        return None
    return seconds + micros / 1e6 - (before + time.time()) / 2


async def _check_types(redis: Redis, keys: QueueKeys) -> Row:
    """A key of another type stops every script that meets it."""
    name = f"queue {keys.queue}"
    wanted = dict.fromkeys(keys.ready, "list") | {keys.claimed: "hash", keys.stats: "hash", keys.dead: "stream"}
    wanted |= {keys.lease: "zset", keys.delayed: "zset"}
    try:
        found: dict[str, Any] = {key: await redis.type(key) for key in wanted}
    except ResponseError as error:
        return Row.unknown(name, f"TYPE isn't allowed: {' '.join(str(error).split())}"[:300])
    kinds = {key: kind.decode() for key, kind in found.items() if kind != b"none"}
    wrong = [f"{key} is a {kind}, not a {wanted[key]}" for key, kind in kinds.items() if kind != wanted[key]]
    if wrong:
        return Row.fail(name, listed(wrong), "rename or delete them: they are another program's")
    return Row.ok(name, f"{len(kinds)} of its keys are there, each of its type" if kinds else "empty")
