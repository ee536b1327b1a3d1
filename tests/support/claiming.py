"""Jobs for the claim script, and what a claim brought, in short words."""

import json
from typing import Any

from redis.asyncio import Redis

from llmpool_contract import QueueKeys
from llmpool_contract.element import decode
from llmpool_worker.queue.store import Claimed, Limits, QueueStore

Q = QueueKeys("llm-chat")


def job(name: str, model: str = "m", **more: Any) -> bytes:
    """A chat job's body; `name` is its id."""
    return json.dumps({"id": name, "type": "chat", "model": model, **more}).encode()


def embed(name: str, inputs: int, model: str = "m", **more: Any) -> bytes:
    """An embed job's body."""
    return job(name, model, type="embed", input=["x"] * inputs, **more)


def make_store(**limits: Any) -> QueueStore:
    """Slots worth one unit, unless told otherwise."""
    return QueueStore("w1", Limits(**{"lease_ms": 30_000, "job_max_bytes": 100_000, **limits}))


def names(claimed: Claimed) -> list[str]:
    """The ids of the jobs that came, in order."""
    return [json.loads(claim.element.body)["id"] for claim in claimed.claims]


async def waiting(redis: Redis, key: str = Q.normal) -> list[str]:
    """The ids of the jobs in a list, in order."""
    raws: list[Any] = await redis.lrange(key, 0, -1)
    return [json.loads(decode(raw).body)["id"] for raw in raws]


async def delayed(redis: Redis) -> dict[str, float]:
    """Ids of the delayed jobs -> when they are due, Unix ms."""
    found: list[Any] = await redis.zrange(Q.delayed, 0, -1, withscores=True)
    return {json.loads(decode(raw).body)["id"]: due for raw, due in found}
