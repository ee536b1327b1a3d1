"""Following an answer: every piece once and in order, attempts told apart, and always an end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from llmpool_client import (
    Client,
    End,
    JobRef,
    Reset,
    ResultTimeout,
    Status,
    StreamEvent,
    Text,
    Thinking,
    UnreadableReply,
)
from llmpool_contract import QueueKeys
from tests.support.played_worker import settle, write_stream
from tests.support.redis_server import RedisServer

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
END = {"kind": "end", "status": "succeeded", "attempt": "1"}


def text(piece: str, attempt: int = 1) -> dict[str, str]:
    return {"kind": "text", "text": piece, "attempt": str(attempt)}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client(redis_url) as client:
        yield client


async def follow(client: Client, ref: JobRef) -> list[StreamEvent]:
    return [event async for event in client.stream(ref, timeout=30)]


async def test_pieces_come_as_they_are_written(client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is handed over while the job still runs; the end carries the result."""
    for module in ("client", "streaming"):
        monkeypatch.setattr(f"llmpool_client.{module}.BLOCK_S", 60.0)
    ref = await client.submit(HELLO)
    events = aiter(client.stream(ref, timeout=90))
    for piece in ("Hel", "lo é漢"):
        await write_stream(redis, CHAT, ref.id, text(piece))
        assert await anext(events) == Text(piece, 1)
    await write_stream(redis, CHAT, ref.id, END)
    result = await settle(redis, CHAT, ref.id)
    async with asyncio.timeout(25):  # below BLOCK_S: nothing was waited for
        assert [event async for event in events] == [End(result)]


async def test_finished_stream_is_read_whole(client: Client, redis: Redis) -> None:
    """A stream that ended before anybody looked gives all its entries, more than one read's worth, then the end."""
    ref = await client.submit(HELLO)
    pieces = [str(n) for n in range(700)]
    await write_stream(redis, CHAT, ref.id, *map(text, pieces), END)
    result = await settle(redis, CHAT, ref.id)
    assert await follow(client, ref) == [*(Text(piece, 1) for piece in pieces), End(result)]


async def test_attempts_and_thinking_are_told_apart(client: Client, redis: Redis) -> None:
    """A reset says which attempt begins, thinking is its own kind, and a kind of a newer worker is passed over."""
    ref = await client.submit(HELLO)
    entries = [{"kind": "reset", "attempt": "1"}, {"kind": "thinking", "text": "hm", "attempt": "1"}, text("half")]
    entries += [{"kind": "reset", "attempt": "2"}, {"kind": "new"}, text("whole", 2), END]
    await write_stream(redis, CHAT, ref.id, *entries)
    result = await settle(redis, CHAT, ref.id, content="whole")
    assert await follow(client, ref) == [
        Reset(1),
        Thinking("hm", 1),
        Text("half", 1),
        Reset(2),
        Text("whole", 2),
        End(result),
    ]


@pytest.mark.parametrize("status", [Status.FAILED, Status.EXPIRED, Status.CANCELLED])
async def test_job_without_a_stream_ends_too(client: Client, redis: Redis, status: Status) -> None:
    """A job that ended before it streamed, or with its stream flag off, yields its end alone."""
    ref = await client.submit(HELLO)
    following = asyncio.create_task(follow(client, ref))
    result = await settle(redis, CHAT, ref.id, status=status)
    assert await following == [End(result)]


async def test_end_before_the_result_is_waited_out(client: Client, redis: Redis) -> None:
    """An end entry whose result is not there yet does not end the stream; a new attempt's text still comes."""
    ref = await client.submit(HELLO)
    await write_stream(redis, CHAT, ref.id, text("half"), END)
    events = aiter(client.stream(ref, timeout=30))
    assert await anext(events) == Text("half", 1)
    upcoming = asyncio.create_task(anext(events))
    await write_stream(redis, CHAT, ref.id, {"kind": "reset", "attempt": "2"})
    assert await upcoming == Reset(2)
    result = await settle(redis, CHAT, ref.id)
    assert [event async for event in events] == [End(result)]


async def test_stream_timeout(client: Client, redis: Redis) -> None:
    """A job that says nothing, and one that never stops talking, both end with ResultTimeout in time."""
    silent, chatty = await client.submit_many([HELLO] * 2)
    before = time.monotonic()
    with pytest.raises(ResultTimeout):
        async for _ in client.stream(silent, timeout=0.2):
            pass
    with pytest.raises(ResultTimeout):
        async with aclosing(client.stream(chatty, timeout=0.2)) as events:
            await write_stream(redis, CHAT, chatty.id, text("bla"))
            async for _ in events:
                await write_stream(redis, CHAT, chatty.id, text("bla"))
    assert time.monotonic() - before < 20


async def test_left_stream_leaves_no_connection(client: Client, redis: Redis) -> None:
    """Leaving the loop early closes the stream's own connection."""
    ref = await client.submit(HELLO)
    await write_stream(redis, CHAT, ref.id, text("a"))
    before = len(await redis.client_list())
    async with aclosing(client.stream(ref)) as events:
        async for _ in events:
            assert len(await redis.client_list()) == before + 1
            break
    assert len(await redis.client_list()) == before


async def test_stream_outlives_a_redis_restart(own_redis: RedisServer) -> None:
    """Redis is killed and comes back with its data: the reader goes on after the last piece it saw."""
    async with Client(own_redis.url) as client:
        ref = await client.submit(HELLO)
        async with Redis.from_url(own_redis.url) as redis:
            await write_stream(redis, CHAT, ref.id, text("one"))
        events = aiter(client.stream(ref, timeout=60))
        assert await anext(events) == Text("one", 1)
        upcoming = asyncio.create_task(anext(events))
        own_redis.kill()
        own_redis.restart()
        async with Redis.from_url(own_redis.url) as redis:
            await write_stream(redis, CHAT, ref.id, text("two"), END)
            result = await settle(redis, CHAT, ref.id)
        assert await upcoming == Text("two", 1)
        assert [event async for event in events] == [End(result)]


async def test_broken_entry_is_an_error(client: Client, redis: Redis) -> None:
    """An attempt that is not a number is told as such."""
    ref = await client.submit(HELLO)
    await write_stream(redis, CHAT, ref.id, {"kind": "text", "text": "x", "attempt": "first"})
    with pytest.raises(UnreadableReply, match="attempt"):
        await follow(client, ref)
