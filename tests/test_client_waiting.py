"""Waiting for results: woken by the settle, never stuck on a lost message, ended by its own timeout."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from llmpool_client import (
    Client,
    JobStatus,
    QueueRefused,
    QueueUnavailable,
    ResultTimeout,
    Status,
    UnknownJob,
    UnreadableReply,
)
from llmpool_client import settled as settled_module
from llmpool_contract import QueueKeys
from tests.support.played_worker import claim, settle
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client(redis_url) as client:
        yield client


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter looks by itself once a minute: what comes earlier was told to it."""
    monkeypatch.setattr("llmpool_client.waiting.LOOK_AGAIN_S", 60.0)


async def subscribers(redis: Redis, channel: str = CHAT.events) -> int:
    [(_, count)] = await redis.pubsub_numsub(channel)
    return count


async def watched(redis: Redis, times: int = 1) -> bool:
    return await eventually(lambda: _is(redis, times), 5, f"{times} subscribers")


async def _is(redis: Redis, times: int) -> bool:
    return await subscribers(redis) == times


async def test_result_that_is_there_costs_no_subscription(client: Client, redis: Redis) -> None:
    """A finished job's result comes back at once, whole."""
    ref = await client.submit(HELLO)
    expected = await settle(redis, CHAT, ref.id)
    assert await client.result(ref) == expected
    assert await subscribers(redis) == 0


async def test_waiter_is_woken_by_the_settle(client: Client, redis: Redis, seldom: None) -> None:
    """The result is handed over when it is published, not at the next look."""
    ref = await client.submit(HELLO)
    waiting = asyncio.create_task(client.result(ref, timeout=90))
    await watched(redis)
    await settle(redis, CHAT, ref.id)
    async with asyncio.timeout(25):  # below LOOK_AGAIN_S
        assert (await waiting).content == "hi"


async def test_waiters_share_one_subscription(client: Client, redis: Redis) -> None:
    """Many waiters of one client, two of them for the same job, hold one subscription, and each gets its own result."""
    refs = await client.submit_many([HELLO] * 50)
    waiting = [asyncio.create_task(client.result(ref, timeout=30)) for ref in [*refs, refs[0]]]
    await watched(redis)
    for ref in refs:
        await settle(redis, CHAT, ref.id, content=ref.id)
    assert [result.content for result in await asyncio.gather(*waiting)] == [ref.id for ref in [*refs, refs[0]]]
    assert await subscribers(redis) == 1


async def test_subscription_ends_when_nobody_waits(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that waits for nothing any more is not told about every job of the queue, and can wait again later."""
    monkeypatch.setattr(settled_module, "LINGER_S", 0.0)
    monkeypatch.setattr(settled_module, "TURN_S", 0.05)
    for _ in range(2):
        ref = await client.submit(HELLO)
        waiting = asyncio.create_task(client.result(ref, timeout=30))
        await watched(redis)
        await settle(redis, CHAT, ref.id)
        await waiting
        await watched(redis, 0)


async def test_lost_message_is_made_up_for(client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result whose message never came is found all the same."""
    monkeypatch.setattr("llmpool_client.waiting.LOOK_AGAIN_S", 0.1)
    ref = await client.submit(HELLO)
    waiting = asyncio.create_task(client.result(ref, timeout=30))
    await watched(redis)
    await redis.set(CHAT.result(ref.id), f'{{"id":"{ref.id}","status":"succeeded"}}')
    assert (await waiting).status is Status.SUCCEEDED


async def test_settle_during_a_cut_subscription_is_not_missed(client: Client, redis: Redis, seldom: None) -> None:
    """The subscription is cut and the job settles before it is back: the waiter is woken by the reconnect."""
    ref = await client.submit(HELLO)
    waiting = asyncio.create_task(client.result(ref, timeout=90))
    await watched(redis)
    await redis.client_kill_filter(_type="pubsub")
    await settle(redis, CHAT, ref.id)
    async with asyncio.timeout(25):  # below LOOK_AGAIN_S: it was the reconnect
        assert (await waiting).content == "hi"


async def test_waiter_outlives_a_redis_restart(own_redis: RedisServer) -> None:
    """Redis is killed and comes back while a job is waited for: the wait goes on and ends with the result."""
    async with Client(own_redis.url) as client:
        ref = await client.submit(HELLO)
        waiting = asyncio.create_task(client.result(ref, timeout=60))
        async with Redis.from_url(own_redis.url) as redis:
            await watched(redis)
        own_redis.kill()
        own_redis.restart()
        async with Redis.from_url(own_redis.url) as redis:
            await watched(redis)
            await settle(redis, CHAT, ref.id)
        assert (await waiting).content == "hi"


async def test_wait_ends_when_redis_stays_away(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that doesn't come back ends the wait with QueueUnavailable, not never."""
    monkeypatch.setattr("llmpool_client.waiting.PATIENCE_S", 0.5)
    monkeypatch.setattr("llmpool_client.waiting.LOOK_AGAIN_S", 0.1)
    async with Client(own_redis.url) as client:
        ref = await client.submit(HELLO)
        waiting = asyncio.create_task(client.result(ref))
        async with Redis.from_url(own_redis.url) as redis:
            await watched(redis)
        own_redis.kill()
        with pytest.raises(QueueUnavailable, match="out of reach"):
            await waiting


@pytest.mark.parametrize("timeout", [0, 0.2])
async def test_timeout_is_typed_and_kept(client: Client, timeout: float) -> None:
    """ResultTimeout names the job, comes in time, and is a TimeoutError; the job is left alone."""
    ref = await client.submit(HELLO)
    before = time.monotonic()
    with pytest.raises(ResultTimeout, match=ref.id) as caught:
        await client.result(ref, timeout=timeout)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - before < timeout + 20
    assert await client.status(ref) is JobStatus.QUEUED


@pytest.mark.parametrize("timeout", [-1, float("nan")])
async def test_senseless_timeout_is_refused(client: Client, timeout: float) -> None:
    """A negative or not-a-number timeout is an error, not a wait for ever."""
    with pytest.raises(ValueError, match="timeout"):
        await client.result("x", queue="llm-chat", timeout=timeout)


async def test_id_alone_is_found_in_the_default_queues(client: Client, redis: Redis) -> None:
    """result and status take a bare id of a default queue; an unknown one says how to go on."""
    ref = await client.submit(type="embed", model="m", input="x")
    assert await client.status(ref.id) is JobStatus.QUEUED
    await settle(redis, QueueKeys("llm-embed"), ref.id)
    assert (await client.result(ref.id)).id == ref.id
    with pytest.raises(UnknownJob, match="name its queue"):
        await client.result("nobody")
    assert await client.status("nobody") is JobStatus.UNKNOWN


async def test_status_follows_a_job(client: Client, redis: Redis) -> None:
    """queued, running, waiting for a retry, and each of the four ends are told apart."""
    ref = await client.submit(HELLO)
    seen = [await client.status(ref)]
    await claim(redis, CHAT, ref.id)
    seen.append(await client.status(ref))
    await redis.hdel(CHAT.claimed, "token:1")
    seen.append(await client.status(ref))
    for end in Status:
        await settle(redis, CHAT, ref.id, status=end)
        seen.append(await client.status(ref))
    assert [str(status) for status in seen] == [
        "queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired",
    ]  # fmt: skip


async def test_cancel_leaves_a_wish_and_tells_the_worker(client: Client, redis: Redis) -> None:
    """cancel sets the key with a life and publishes the id, and answers how the job stood."""
    ref = await client.submit(HELLO)
    async with redis.pubsub() as worker:
        await worker.subscribe(CHAT.cancels)
        await worker.get_message(timeout=5)
        assert await client.cancel(ref) is JobStatus.QUEUED
        message = await worker.get_message(timeout=5)
    assert message is not None
    assert message["data"].decode() == ref.id
    assert 86_000 < await redis.ttl(CHAT.cancel(ref.id)) <= 86_400
    await claim(redis, CHAT, ref.id)
    assert await client.cancel(ref) is JobStatus.RUNNING


async def test_cancel_of_a_finished_job_changes_nothing(client: Client, redis: Redis) -> None:
    """One that has ended stays as it ended, and no wish is left lying about for a later job with the id."""
    ref = await client.submit(HELLO)
    await settle(redis, CHAT, ref.id)
    assert await client.cancel(ref) is JobStatus.SUCCEEDED
    assert not await redis.exists(CHAT.cancel(ref.id))


async def test_bare_push_can_be_followed_by_queue(client: Client, redis: Redis) -> None:
    """A job that another language pushed is cancelled and waited for by id and queue."""
    await redis.rpush("llm-chat", '{"id":"raw"}')
    assert await client.cancel("raw", queue="llm-chat") is JobStatus.UNKNOWN
    assert await redis.exists(CHAT.cancel("raw"))
    waiting = asyncio.create_task(client.result("raw", queue="llm-chat", timeout=30))
    await watched(redis)
    await settle(redis, CHAT, "raw", status=Status.CANCELLED)
    assert (await waiting).status is Status.CANCELLED


async def test_unreadable_result_names_the_field(client: Client, redis: Redis) -> None:
    """A result that another program wrote wrongly is an error with the field, not a crash with its text."""
    await redis.set(CHAT.result("x"), '{"id":"x","status":"secret"}')
    with pytest.raises(UnreadableReply, match="status") as caught:
        await client.result("x")
    assert "secret" not in str(caught.value)


async def test_denied_subscription_is_told(redis_url: str, redis: Redis) -> None:
    """Where Redis' rules forbid SUBSCRIBE, the waiter hears that, instead of waiting for messages that can't come."""
    await redis.acl_setuser(
        "quiet", enabled=True, nopass=True, commands=["+@all", "-subscribe"], keys=["*"], channels=["*"]
    )
    async with Client(redis_url.replace("redis://", "redis://quiet:x@")) as client:
        ref = await client.submit(HELLO)
        with pytest.raises(QueueRefused, match="permission"):
            await client.result(ref, timeout=30)
        with pytest.raises(QueueRefused, match="permission"):
            await client.result(ref, timeout=30)
    await redis.acl_deluser("quiet")
