"""Nothing of the demo stays in a Redis that is somebody's."""

from __future__ import annotations

from redis.asyncio import Redis

from llmpool_contract import PoolKeys, QueueKeys

BATCH = 500


async def sweep(redis: Redis, queue: str, pool: str) -> None:
    """Remove all keys of a queue and of a pool that nobody else has ever used."""
    keys, of_pool = QueueKeys(queue), PoolKeys(pool)
    await redis.unlink(keys.normal, of_pool.workers, of_pool.config)
    found = [key async for key in redis.scan_iter(match=f"{{{queue}}}:*", count=BATCH)]
    for start in range(0, len(found), BATCH):
        await redis.unlink(*found[start : start + BATCH])
