"""Dead letters and queue counts: replay is one atomic step, the byte count stays exact, nothing is guessed."""

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from llmpool_client import Client, JobStatus, NotReplayable, QueueRefused, Status, UnknownEntry, UnreadableReply
from llmpool_contract import QueueKeys
from llmpool_contract.element import Element, encode
from tests.support.played_worker import bury, claim, settle

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


async def test_letters_are_read_whole_and_in_order(client: Client, redis: Redis) -> None:
    """All fields come back, over more than one page, oldest first; a bound keeps newcomers out."""
    letters = client.dead_letters("llm-chat")
    assert await letters.newest() is None
    entries = [await bury(redis, CHAT, b'{"n":%d}' % n, id=f"job{n}") for n in range(45)]
    newest = await letters.newest()
    assert newest == entries[-1]
    await bury(redis, CHAT, b"later")

    found = [letter async for letter in letters.walk(newest or "")]
    assert [letter.entry for letter in found] == entries
    first = found[0]
    assert (first.job_id, first.body, first.code, first.priority, first.size) == (
        "job0",
        b'{"n":0}',
        "invalid",
        "normal",
        7,
    )
    assert (first.at_ms, first.worker, first.deliveries, first.truncated) == (1_700_000_000_000, "w1", 1, False)
    assert await letters.get("1-1") is None


async def test_replay_puts_the_same_bytes_back(client: Client, redis: Redis) -> None:
    """The producer's bytes return to their own list, what the id left behind is gone, and the byte count is exact."""
    body = b'{"id":"mine", "x" : 12345678901234567890, "y":[]}'
    entry = await bury(redis, CHAT, body, id="mine", priority="low")
    await settle(redis, CHAT, "mine", status=Status.FAILED)
    await redis.set(CHAT.cancel("mine"), "1")
    await redis.xadd(CHAT.stream("mine"), {"kind": "end"})
    letters = client.dead_letters("llm-chat")
    letter = await letters.get(entry)
    assert letter is not None

    await letters.replay(letter)

    assert await redis.lrange(CHAT.low, 0, -1) == [body]
    assert await redis.exists(CHAT.result("mine"), CHAT.cancel("mine"), CHAT.stream("mine"), CHAT.dead) == 1
    assert await redis.xlen(CHAT.dead) == 0
    assert await redis.hget(CHAT.stats, "dead_bytes") == b"0"
    assert await client.status("mine") is JobStatus.QUEUED
    with pytest.raises(UnknownEntry):
        await letters.replay(letter)
    assert await redis.llen(CHAT.low) == 1


async def test_replay_without_an_id(client: Client, redis: Redis) -> None:
    """A letter whose id couldn't be read goes back too, and touches no key of an id."""
    letters = client.dead_letters("llm-chat")
    letter = await letters.get(await bury(redis, CHAT, b"not json"))
    assert letter is not None
    await letters.replay(letter)
    assert sorted(await redis.keys()) == sorted([b"llm-chat", CHAT.stats.encode(), CHAT.dead.encode()])


async def test_truncated_letter_is_not_replayed(client: Client, redis: Redis) -> None:
    """Of which only the beginning was kept stays where it is, and the error says what to do."""
    letters = client.dead_letters("llm-chat")
    letter = await letters.get(await bury(redis, CHAT, b'{"half', size=5_000_000))
    assert letter is not None
    assert letter.truncated
    with pytest.raises(NotReplayable, match="6 of 5000000 bytes"):
        await letters.replay(letter)
    assert (await redis.xlen(CHAT.dead), await redis.llen(CHAT.normal)) == (1, 0)


@pytest.mark.parametrize("state", ["running", "answered"])
async def test_replay_leaves_a_living_id_alone(client: Client, redis: Redis, state: str) -> None:
    """A job that took the id since keeps its mark and its answer: the letter stays, and the error says why."""
    entry = await bury(redis, CHAT, b"{}", id="mine")
    await redis.rpush(CHAT.normal, b"{}")
    await claim(redis, CHAT, "mine")
    if state == "answered":
        await settle(redis, CHAT, "mine")
        await redis.delete(CHAT.id("mine"))
    letter = await client.dead_letters("llm-chat").get(entry)
    assert letter is not None
    with pytest.raises(NotReplayable, match="has been answered since"):
        await client.dead_letters("llm-chat").replay(letter)
    assert await redis.xlen(CHAT.dead) == 1
    assert await redis.llen(CHAT.normal) == 0
    assert await redis.exists(CHAT.id("mine"), CHAT.result("mine")) == 1


async def test_replay_into_a_foreign_key_changes_nothing(client: Client, redis: Redis) -> None:
    """Where the list's name holds another type the letter stays."""
    letters = client.dead_letters("llm-chat")
    letter = await letters.get(await bury(redis, CHAT, b"{}"))
    assert letter is not None
    await redis.set("llm-chat", "in the way")
    with pytest.raises(QueueRefused, match="not a list"):
        await letters.replay(letter)
    assert await redis.xlen(CHAT.dead) == 1


async def test_purge_keeps_the_byte_count(client: Client, redis: Redis) -> None:
    """One or all: what stays is counted to the byte, and a second purge of the same entry says it wasn't there."""
    letters = client.dead_letters("llm-chat")
    entries = [await bury(redis, CHAT, b"x" * n) for n in range(250)]
    assert await letters.purge(entries[7])
    assert not await letters.purge(entries[7])
    kept = [letter async for letter in letters.walk()]
    expected = sum(len(letter.body) + len(letter.reason) for letter in kept)
    assert int(await redis.hget(CHAT.stats, "dead_bytes") or 0) == expected
    assert await letters.purge_all() == 249
    assert await redis.hget(CHAT.stats, "dead_bytes") == b"0"
    assert await letters.purge_all() == 0


@pytest.mark.parametrize("field", [{"priority": "urgent"}, {"size": "big"}], ids=str)
async def test_broken_letter_names_the_field(client: Client, redis: Redis, field: dict) -> None:
    """A letter that another program wrote wrongly is an error that names entry and field."""
    entry = await bury(redis, CHAT, b"{}", **field)
    with pytest.raises(UnreadableReply, match=f"{entry}.*{next(iter(field))}"):
        await client.dead_letters("llm-chat").get(entry)


async def test_queue_counts(client: Client, redis: Redis) -> None:
    """Every count is of its own kind: ready by priority, due, still delayed, in flight, dead, and the oldest head."""
    now = time.time()
    await client.submit(HELLO, priority="high")
    await client.submit_many(
        [{**HELLO, "id": "a", "enqueued_at": now - 60}, {**HELLO, "id": "b"}, {**HELLO, "id": "c"}]
    )
    old = encode(Element(body=b'{"type":"embed","model":"m","input":"x","enqueued_at":%d}' % (now - 90), origin="t:1"))
    await redis.rpush(CHAT.low, old)
    await claim(redis, CHAT, "x")
    await client.submit({**HELLO, "id": "b"})
    await redis.zadd(CHAT.delayed, {"due": 1, "later": (now + 900) * 1_000})
    await bury(redis, CHAT, b"xx", reason="why")

    chat, embed = await client.queues(["llm-chat", "llm-embed"])

    assert (chat.high, chat.normal, chat.low, chat.ready) == (1, 2, 1, 4)
    assert (chat.due, chat.delayed, chat.in_flight) == (1, 1, 1)
    assert (chat.dead, chat.dead_bytes, chat.dead_evicted, chat.dropped_duplicates) == (1, 5, 0, 1)
    assert chat.oldest_s is not None
    assert 89 < chat.oldest_s < 120
    assert (embed.ready, embed.dead, embed.oldest_s) == (0, 0, None)


async def test_oldest_is_unknown_where_nobody_says(client: Client, redis: Redis) -> None:
    """A head without enqueued_at, or that is no job at all, gives no age rather than zero."""
    await redis.rpush("llm-chat", "junk")
    assert (await client.queues(["llm-chat"]))[0].oldest_s is None


async def test_now_is_redis_time(client: Client) -> None:
    """Deadlines are judged by Redis' clock, in milliseconds."""
    assert abs(await client.now_ms() - time.time() * 1_000) < 5_000
