"""Limits on what may wait: who is refused, what a refusal leaves behind, and that no race passes a limit."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from llmpool_client import Client, JobRef, QueueFull, QueueRefused, UnreadableReply
from llmpool_contract import QueueKeys
from tests.support.played_worker import claim, settle

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "hello"}]}


def jobs(*names: str) -> list[dict]:
    return [{**HELLO, "id": name} for name in names]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client.from_url(redis_url) as client:
        yield client


async def test_queue_s_own_limit_holds_for_every_client(client: Client, redis: Redis) -> None:
    """A submit beyond the queue's limit is refused by queue, length and limit, and leaves nothing."""
    await client.limit_queue("llm-chat", 1)
    await client.submit(HELLO, id="a")
    before = sorted(await redis.keys())
    with pytest.raises(QueueFull, match="queue llm-chat is full: 1 waiting and 1 new pass its limit of 1") as full:
        await client.submit(HELLO, id="b", priority="high")
    assert (full.value.queue, full.value.length, full.value.limit, full.value.refs) == ("llm-chat", 1, 1, ())
    assert sorted(await redis.keys()) == before
    await client.submit(HELLO, id="b", queue="other")
    await client.limit_queue("llm-chat", None)
    await client.submit(HELLO, id="b")
    assert (await client.queues(["llm-chat"]))[0].max_queued is None


async def test_what_waits_is_ready_or_delayed(client: Client, redis: Redis) -> None:
    """All three lists and the delayed jobs count; what runs, and what is dead, doesn't."""
    await redis.rpush(CHAT.high, "x")
    await redis.rpush(CHAT.low, "x")
    await redis.zadd(CHAT.delayed, {"x": 9e15})
    await client.submit(HELLO, id="runs", max_queued=4)
    with pytest.raises(QueueFull) as full:
        await client.submit(HELLO, id="b", max_queued=4)
    assert full.value.length == 4
    await claim(redis, CHAT, "runs")
    assert not (await client.submit(HELLO, id="b", max_queued=4)).duplicate


@pytest.mark.parametrize(
    ("queue_s", "client_s", "call_s", "fits"),
    [
        (None, None, None, 5),
        (2, None, None, 2),
        (None, 3, None, 3),
        (None, 3, 1, 1),
        (None, 1, 3, 3),
        (2, 4, None, 2),
        (4, 2, None, 2),
        (0, None, None, 0),
        (None, None, 0, 0),
    ],
)
async def test_the_smaller_limit_counts(
    redis_url: str, queue_s: int | None, client_s: int | None, call_s: int | None, fits: int
) -> None:
    """A call's limit takes the place of its client's; beside the queue's own, the smaller one counts."""
    async with Client(redis_url, max_queued=client_s) as client:
        await client.limit_queue("llm-chat", queue_s)
        tried = [client.submit(HELLO, max_queued=call_s) for _ in range(5)]
        outcomes = await asyncio.gather(*tried, return_exceptions=True)
    assert sum(isinstance(outcome, JobRef) for outcome in outcomes) == fits
    assert {outcome.limit for outcome in outcomes if isinstance(outcome, QueueFull)} == ({fits} if fits < 5 else set())


async def test_refused_chunk_is_pushed_not_at_all(client: Client, redis: Redis) -> None:
    """Of a call that doesn't fit nothing is pushed; repeats of known ids are still answered as such."""
    await client.submit_many(jobs("a", "b"))
    with pytest.raises(QueueFull) as full:
        await client.submit_many(jobs("a", "c", "d", "b"), max_queued=3)
    assert full.value.refs == (JobRef("a", "llm-chat", duplicate=True), JobRef("b", "llm-chat", duplicate=True))
    assert await redis.llen(CHAT.normal) == 2
    assert not await redis.exists(CHAT.id("c"))
    assert not await redis.exists(CHAT.stats)


async def test_earlier_chunks_stay(client: Client, redis: Redis) -> None:
    """A long call stops at the chunk that doesn't fit and names what is in; the rest may be submitted again."""
    many = jobs(*(str(n) for n in range(450)))
    with pytest.raises(QueueFull, match="400 of the same call are in") as full:
        await client.submit_many(many, max_queued=420)
    assert [ref.id for ref in full.value.refs] == [str(n) for n in range(400)]
    refs = await client.submit_many(many)
    assert [ref.duplicate for ref in refs] == [True] * 400 + [False] * 50
    assert await redis.llen(CHAT.normal) == 450


async def test_repeats_are_never_refused(client: Client, redis: Redis) -> None:
    """In a full queue a known id, queued or answered, is a duplicate as always; one id twice in a call counts once."""
    await client.submit_many(jobs("a", "a"), max_queued=1)
    await settle(redis, CHAT, "done")
    refs = await client.submit_many(jobs("a", "done"), max_queued=0)
    assert [ref.duplicate for ref in refs] == [True, True]
    assert await redis.hget(CHAT.stats, "dropped_duplicates") == b"3"


async def test_a_limit_that_is_no_number_is_told(client: Client, redis: Redis) -> None:
    """Nonsense in the queue's limits is an error that names the key, never no limit."""
    await redis.hset(CHAT.limits, "max_queued", "many")
    with pytest.raises(QueueRefused, match=r"\{llm-chat\}:limits: max_queued is not a number"):
        await client.submit(HELLO)
    with pytest.raises(UnreadableReply, match=r"\{llm-chat\}:limits"):
        await client.queues(["llm-chat"])
    await redis.delete(CHAT.limits)
    await redis.set(CHAT.limits, "x")
    with pytest.raises(QueueRefused, match="not a hash"):
        await client.submit(HELLO)
    assert await redis.keys() == [CHAT.limits.encode()]


async def test_a_limit_below_zero_is_refused(redis_url: str, client: Client) -> None:
    """Limits are from 0, wherever one is given."""
    with pytest.raises(ValueError, match="max_queued: got -1"):
        Client(redis_url, max_queued=-1)
    with pytest.raises(ValueError, match="max_queued: got -1"):
        await client.submit(HELLO, max_queued=-1)
    with pytest.raises(ValueError, match="max_queued: got -1"):
        await client.limit_queue("llm-chat", -1)


async def test_no_race_passes_a_limit(redis_url: str, redis: Redis) -> None:
    """Clients that submit at the same time fill a queue to its limit and not by one job more."""
    clients = [Client(redis_url) for _ in range(4)]
    await clients[0].limit_queue("llm-chat", 17)
    tried = [client.submit(HELLO) for client in clients for _ in range(20)]
    outcomes = await asyncio.gather(*tried, return_exceptions=True)
    for client in clients:
        await client.aclose()
    assert sum(isinstance(outcome, JobRef) for outcome in outcomes) == 17
    assert sum(isinstance(outcome, QueueFull) for outcome in outcomes) == 63
    assert await redis.llen(CHAT.normal) == 17


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5), max_size=8), limit=st.integers(0, 6)
)
async def test_limits_and_ids_together(redis: Redis, client: Client, calls: list[list[str]], limit: int) -> None:
    """Whatever is repeated: a call goes in whole or, where its new ids don't fit, not at all."""
    await redis.flushdb()
    there: list[str] = []
    for names in calls:
        new = [name for name in dict.fromkeys(names) if name not in there]
        if new and len(there) + len(new) > limit:
            with pytest.raises(QueueFull) as full:
                await client.submit_many(jobs(*names), max_queued=limit)
            assert full.value.length == len(there)
            assert [ref.id for ref in full.value.refs] == [name for name in names if name in there]
            assert f"and {len(new)} new pass" in str(full.value)
        else:
            await client.submit_many(jobs(*names), max_queued=limit)
            there += new
    assert await redis.llen(CHAT.normal) == len(there)
