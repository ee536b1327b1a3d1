"""What is in a queue right now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from llmpool_contract import BadJob, QueueKeys, parse_job
from llmpool_contract.element import decode

from .errors import UnreadableReply

MAX_QUEUED = "max_queued"
"""The field of ``{q}:limits``."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """Counts of one queue, as of one moment by Redis' clock."""

    queue: str
    high: int
    normal: int
    low: int
    due: int
    """Delayed jobs whose time has come; a worker is about to move them."""
    delayed: int
    """Delayed jobs whose time is still to come."""
    in_flight: int
    dead: int
    dead_bytes: int
    dead_evicted: int
    dropped_duplicates: int
    oldest_s: float | None
    """Age of the oldest job at a ready list's head, s, by its ``enqueued_at``. None: there is none, or none says."""
    max_queued: int | None = None
    """Most jobs that producers may let wait. None: no limit."""

    @property
    def ready(self) -> int:
        return self.high + self.normal + self.low


async def redis_now_ms(redis: Redis) -> int:
    """Unix ms by Redis' clock: the one that deadlines are judged by."""
    seconds, micros = await redis.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


async def read_queue(redis: Redis, keys: QueueKeys) -> QueueState:
    """Read one queue in one transaction."""
    now_ms = await redis_now_ms(redis)
    async with redis.pipeline(transaction=True) as pipe:
        for ready in keys.ready:
            pipe.llen(ready)
        pipe.zcount(keys.delayed, "-inf", now_ms)
        pipe.zcount(keys.delayed, f"({now_ms}", "+inf")
        pipe.hlen(keys.claimed)
        pipe.xlen(keys.dead)
        pipe.hmget(keys.stats, ["dead_bytes", "dead_evicted", "dropped_duplicates"])
        pipe.hget(keys.limits, MAX_QUEUED)
        for ready in keys.ready:
            pipe.lindex(ready, 0)
        high, normal, low, due, delayed, in_flight, dead, stats, limit, *heads = await pipe.execute()
    # A counter that was never counted up isn't there: that is zero, not missing.
    dead_bytes, dead_evicted, duplicates = (int(value or 0) for value in stats)
    return QueueState(
        queue=keys.queue,
        high=high,
        normal=normal,
        low=low,
        due=due,
        delayed=delayed,
        in_flight=in_flight,
        dead=dead,
        dead_bytes=dead_bytes,
        dead_evicted=dead_evicted,
        dropped_duplicates=duplicates,
        max_queued=_limit(keys, limit),
        oldest_s=oldest_s(heads, now_ms),
    )


async def limit_queue(redis: Redis, keys: QueueKeys, max_queued: int | None) -> None:
    """Set the queue's own limit, or lift it.

    Raises:
        ValueError: below zero.
    """
    if max_queued is None:
        await redis.hdel(keys.limits, MAX_QUEUED)
    elif max_queued < 0:
        raise ValueError(f"max_queued: got {max_queued}, wanted a number of jobs from 0, or None")
    else:
        await redis.hset(keys.limits, MAX_QUEUED, str(max_queued))


def oldest_s(heads: list[Any], now_ms: int) -> float | None:
    """The greatest age among the lists' heads; clocks may differ, so never below zero."""
    ages = [now_ms / 1_000 - at for head in heads if head is not None and (at := _enqueued_at(head)) is not None]
    return max(0.0, *ages) if ages else None


def _limit(keys: QueueKeys, raw: bytes | None) -> int | None:
    if raw is not None and not raw.isdigit():
        raise UnreadableReply(f"{keys.limits}: {MAX_QUEUED} is not a number of jobs")
    return None if raw is None else int(raw)


def _enqueued_at(raw: bytes) -> float | None:
    try:
        at = parse_job(decode(raw).body).enqueued_at
    except BadJob:
        return None
    return at if at is not None and math.isfinite(at) else None
