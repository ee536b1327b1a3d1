"""A worker's writes, done by the test itself, so that the client is tried against the contract and not a worker."""

from typing import Any

from redis.asyncio import Redis

from llmpool_contract import JobError, QueueKeys, Result, Status


async def claim(redis: Redis, keys: QueueKeys, job_id: str, handle: str = "token:1") -> None:
    """Take the first ready job, as if its id were `job_id`."""
    body = await redis.lpop(keys.normal)
    assert isinstance(body, bytes)
    await redis.hset(keys.claimed, handle, body)
    await redis.set(keys.id(job_id), f"{handle} {handle}", ex=60)


async def settle(
    redis: Redis, keys: QueueKeys, job_id: str, content: str | None = "hi", status: Status = Status.SUCCEEDED
) -> Result:
    """Write a job's result and tell the waiters."""
    error = None if status is Status.SUCCEEDED else JobError(code="model_not_found", message="no such model")
    result = Result(id=job_id, status=status, content=content if error is None else None, attempts=1, error=error)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(keys.result(job_id), result.to_json(), ex=60)
        pipe.hdel(keys.claimed, "token:1")
        pipe.publish(keys.events, job_id)
        await pipe.execute()
    return result


async def write_stream(redis: Redis, keys: QueueKeys, job_id: str, *entries: dict[Any, Any]) -> None:
    """Append entries of the job's text."""
    for entry in entries:
        await redis.xadd(keys.stream(job_id), entry)


async def bury(redis: Redis, keys: QueueKeys, body: bytes, **fields: Any) -> str:
    """Write a dead letter; returns its entry's address."""
    letter: dict[Any, Any] = {
        "code": "invalid",
        "reason": "model: Field required",
        "id": "",
        "body": body,
        "priority": "normal",
        "attempts": 0,
        "deliveries": 1,
        "at_ms": 1_700_000_000_000,
        "worker": "w1",
        "size": len(body),
    } | fields
    entry = await redis.xadd(keys.dead, letter)
    await redis.hincrby(keys.stats, "dead_bytes", len(body) + len(str(letter["reason"]).encode()))
    assert isinstance(entry, bytes)
    return entry.decode()
