"""Zero strands nothing: whatever is in Redis and needs a worker, now or soon, is seen and wakes the pool."""

import time
from typing import Any

import pytest
from redis import Redis

from llmpool_contract import QueueKeys
from llmpool_contract.pool import LLMWorkerPoolSpec, parse_pool
from llmpool_operator.decide import decide
from llmpool_operator.decide.types import Decision, History, Reason, Recommendation
from llmpool_operator.observe import Endpoint, Wish
from llmpool_operator.readers import RedisReader
from tests.support.redis_server import RedisServer

KEYS = QueueKeys("llm-chat")
IDLE_S = 30
LONG_AGO = History(recommendations=(Recommendation(0.0, 0),), empty_since=0.0)
"""Known to be empty for as long as the clock runs."""


def spec(**scaling: Any) -> LLMWorkerPoolSpec:
    """A pool that goes to zero after IDLE_S."""
    document = {
        "apiVersion": "llmpool.dev/v1alpha1",
        "kind": "LLMWorkerPool",
        "metadata": {"name": "chat"},
        "spec": {
            "queues": [{"name": "llm-chat"}],
            "redis": {"url": "redis://r"},
            "scaling": {"idleSeconds": IDLE_S, "maxReplicas": 5, **scaling},
        },
    }
    return parse_pool(document).spec


async def decided(url: str, current: int, history: History = LONG_AGO) -> Decision:
    """What the decision makes of what is in Redis now."""
    reader = RedisReader(Endpoint(url), 5.0, time.monotonic)
    now = 10_000.0
    try:
        seen = (await reader.read({"p": Wish("ns/chat", ("llm-chat",), float(IDLE_S))}, at=now))["p"]
    finally:
        await reader.close()
    return decide(spec(), current, seen.observation, history, now)


def now_ms(client: Redis) -> int:
    """Redis' clock."""
    seconds, _ = client.time()
    return int(seconds) * 1000


def ready(client: Redis) -> None:
    client.rpush(KEYS.normal, "job")


def ready_low(client: Redis) -> None:
    client.rpush(KEYS.low, "job")


def due(client: Redis) -> None:
    client.zadd(KEYS.delayed, {"job": now_ms(client) - 1})


def due_long_ago(client: Redis) -> None:
    client.zadd(KEYS.delayed, {"job": 0})


def expired(client: Redis) -> None:
    client.hset(KEYS.claimed, "token:1", "job")
    client.zadd(KEYS.lease, {"token:1": now_ms(client) - 60_000})


def leased_to_a_dead_worker(client: Redis) -> None:
    client.hset(KEYS.claimed, "token:1", "job")
    client.zadd(KEYS.lease, {"token:1": now_ms(client) + 30_000})


def claimed_without_a_lease(client: Redis) -> None:
    client.hset(KEYS.claimed, "token:1", "job")


@pytest.mark.parametrize(
    "put",
    [ready, ready_low, due, due_long_ago, expired, leased_to_a_dead_worker, claimed_without_a_lease],
    ids=lambda put: put.__name__,
)
async def test_work_wakes_a_pool_at_zero(put: Any, redis_server: RedisServer, redis_url: str) -> None:
    """Ready, due, and claimed by somebody who is gone: one worker at once, which finds and reaps it."""
    with redis_server.client() as client:
        put(client)
    decision = await decided(redis_url, current=0)
    assert (decision.replicas, decision.reason) == (1, Reason.FROM_ZERO)


async def test_an_empty_pool_stays_at_zero(redis_url: str) -> None:
    """Nothing in Redis, nothing to wake for."""
    assert (await decided(redis_url, current=0)).replicas == 0


async def test_a_job_of_later_lets_a_pool_sleep_until_then(redis_server: RedisServer, redis_url: str) -> None:
    """A delayed job doesn't wake the pool before it is due, and does then, whoever looks."""
    with redis_server.client() as client:
        client.zadd(KEYS.delayed, {"job": now_ms(client) + 60_000})
        assert (await decided(redis_url, current=0)).replicas == 0
        client.zadd(KEYS.delayed, {"job": now_ms(client)})
        assert (await decided(redis_url, current=0)).replicas == 1


@pytest.mark.parametrize(("due_in_s", "replicas"), [(IDLE_S - 10, 1), (IDLE_S + 60, 0)], ids=["soon", "later"])
async def test_no_pool_goes_to_sleep_just_before_a_job(
    due_in_s: int, replicas: int, redis_server: RedisServer, redis_url: str
) -> None:
    """A job that comes due within idleSeconds keeps the last worker; a later one doesn't."""
    with redis_server.client() as client:
        client.zadd(KEYS.delayed, {"job": now_ms(client) + due_in_s * 1000})
    assert (await decided(redis_url, current=1)).replicas == replicas


async def test_what_is_not_known_lets_no_pool_sleep(redis_server: RedisServer, redis_url: str) -> None:
    """A key that can't be read isn't an empty one."""
    with redis_server.client() as client:
        client.set(KEYS.delayed, "not a sorted set")
    decision = await decided(redis_url, current=1)
    assert (decision.replicas, decision.hold) == (1, True)
