"""Batches in Redis: pushed once however often they are submitted, counted, cancelled, collected, and forgotten."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from llmpool_client import (
    BadBatch,
    BadName,
    Batch,
    BatchState,
    BatchTimeout,
    Client,
    OtherBatch,
    Outcome,
    QueueRefused,
    RequestState,
    Status,
    SyncClient,
    UnknownBatch,
    UnreadableReply,
)
from llmpool_client.batches import batches as batches_module
from llmpool_client.batches import outcomes as outcomes_module
from llmpool_client.batches import submitting, survey
from llmpool_client.batches.entries import entry_of
from llmpool_client.batches.terms import Terms
from llmpool_client.connection import Connections
from llmpool_contract import QueueKeys, Result, parse_job
from tests.support.batch_files import chat_body, chats, line, write
from tests.support.played_worker import claim, settle
from tests.support.waiting import eventually

CHAT = QueueKeys("llm-chat")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client(redis_url) as client:
        yield client


@pytest.fixture
async def connections(redis_url: str) -> AsyncIterator[Connections]:
    connections = Connections(redis_url)
    yield connections
    await connections.aclose()


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and pages of three requests, so that small files take several."""
    monkeypatch.setattr(submitting, "CHUNK_REQUESTS", 3)
    monkeypatch.setattr(survey, "PAGE", 3)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that follow each other at once."""
    monkeypatch.setattr(batches_module, "_SHORTEST_PAUSE_S", 0.01)


async def pushed(redis: Redis, name: str = CHAT.low) -> list[str]:
    """The custom ids of the jobs in a list."""
    jobs = [parse_job(body) for body in await redis.lrange(name, 0, -1)]
    return [str((job.metadata or {})["custom_id"]) for job in jobs]


async def collected(client: Client, batch: Batch) -> list[Outcome]:
    return [outcome async for outcome in client.batches.outcomes(batch)]


def names(count: int) -> list[str]:
    return [f"request {n}" for n in range(count)]


@pytest.mark.usefixtures("small_steps")
async def test_a_file_becomes_jobs(client: Client, redis: Redis, tmp_path: Path) -> None:
    """Each request is a job of low priority in the file's order, with the batch's deadline; nothing lives for ever."""
    seen: list[int] = []
    batch = await client.batches.submit(
        chats(tmp_path / "b.jsonl", 7), window_s=60, keep_s=30, progress=lambda now: seen.append(now.submitted)
    )

    assert (batch.queue, batch.name, batch.total, batch.whole) == ("llm-chat", "b.jsonl", 7, True)
    assert seen == [0, 3, 6, 7]
    assert await pushed(redis) == names(7)
    job = parse_job(await redis.lindex(CHAT.low, 0))
    assert (job.id, job.deadline) == (batch.job_id("request 0"), batch.created_ms + 60_000)
    assert job.metadata == {"batch": batch.id, "custom_id": "request 0"}
    assert (batch.deadline_ms, batch.expires_ms) == (batch.created_ms + 60_000, batch.created_ms + 90_000)
    for key in (CHAT.batch(batch.id), CHAT.batch_ids(batch.id), CHAT.id(job.id or "")):
        assert 80_000 < await redis.pttl(key) <= 90_000
    assert await client.batches.get(batch.id) == batch
    assert await client.batches.list_all() == [batch]


async def test_the_same_file_is_the_same_batch(client: Client, redis: Redis, tmp_path: Path) -> None:
    """A repeat pushes nothing, also under another name of the file; another queue or id is another batch."""
    first = await client.batches.submit(chats(tmp_path / "a.jsonl", 2))
    again = await client.batches.submit(chats(tmp_path / "b.jsonl", 2), priority="high", window_s=5)
    assert again == first
    assert await pushed(redis) == names(2)
    elsewhere = await client.batches.submit(tmp_path / "a.jsonl", queue="other")
    named = await client.batches.submit(tmp_path / "a.jsonl", batch_id="mine", name="Mine", priority="high")
    assert len({first.id, elsewhere.id, named.id}) == 3
    assert (named.name, await pushed(redis, CHAT.high), elsewhere.queue) == ("Mine", names(2), "other")
    assert await client.batches.get("mine") == named
    assert await client.batches.get(elsewhere.id, queue="other") == elsewhere
    with pytest.raises(UnknownBatch, match="not known in llm-chat, llm-generate, llm-embed"):
        await client.batches.get(elsewhere.id)


@pytest.mark.usefixtures("small_steps")
async def test_an_interrupted_submit_goes_on(client: Client, redis: Redis, tmp_path: Path) -> None:
    """Cut short after any chunk, the same submit goes on there, by the first one's terms, pushing nothing twice."""
    path = chats(tmp_path / "b.jsonl", 10)
    deadlines = set()
    for stop_at in (3, 6):

        def interrupt(now: Batch, stop_at: int = stop_at) -> None:
            if now.submitted >= stop_at:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            await client.batches.submit(path, progress=interrupt)
        [begun] = await client.batches.list_all()
        deadlines.add(begun.deadline_ms)
        status = await client.batches.status(begun)
        assert (status.state, status.counts.queued, status.counts.unsubmitted) == (
            BatchState.SUBMITTING,
            stop_at,
            10 - stop_at,
        )
    batch = await client.batches.submit(path, window_s=1)
    assert (batch.whole, deadlines) == (True, {batch.deadline_ms})
    assert await pushed(redis) == names(10)
    assert await redis.hget(CHAT.stats, "dropped_duplicates") is None


@pytest.mark.usefixtures("small_steps")
async def test_two_submit_the_same_file_at_once(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """Two submits of one file beside each other push each request once, in order, and both see it whole."""
    path = chats(tmp_path / "b.jsonl", 40)
    async with Client(redis_url) as one, Client(redis_url) as other:
        both = await asyncio.gather(one.batches.submit(path), other.batches.submit(path))
    assert [batch.whole for batch in both] == [True, True]
    assert await pushed(redis) == names(40)


async def test_a_chunk_sent_twice_is_pushed_once(connections: Connections, redis: Redis, tmp_path: Path) -> None:
    """A chunk whose reply was lost, or which overlaps what another submit has pushed, adds only what is missing."""
    file = batches_module.examine(chats(tmp_path / "b.jsonl", 5))
    submitter = submitting.BatchSubmitter(connections)
    batch = await submitter.begin(file, Terms(None, None, None, "low", 60, 60))
    entries = [entry_of(batch, request, 1.0) for request in file.requests()]
    assert await submitter._send(batch, 0, entries[:3]) == 3
    assert await submitter._send(batch, 0, entries[:3]) == 3
    assert await submitter._deliver(batch, 1, entries[1:]) == 5
    assert await pushed(redis) == names(5)


async def test_requests_that_no_job_can_be(client: Client, redis: Redis, tmp_path: Path) -> None:
    """A bad body fails alone: it is counted, told with its reason in its place, and never pushed."""
    path = write(tmp_path / "b.jsonl", [line("a"), line("bad one", chat_body(n=2)), line("c")])
    batch = await client.batches.submit(path)
    assert await pushed(redis) == ["a", "c"]
    assert await client.batches.refused(batch) == 1
    status = await client.batches.status(batch)
    assert (status.counts.failed, status.counts.queued) == (1, 2)
    found = await collected(client, batch)
    assert [(outcome.custom_id, outcome.state) for outcome in found] == [
        ("a", RequestState.QUEUED),
        ("bad one", RequestState.REFUSED),
        ("c", RequestState.QUEUED),
    ]
    assert found[1].error
    assert (found[1].error.code, found[1].error.message) == ("invalid", "body.n: got 2, allowed is 1")


@pytest.mark.usefixtures("small_steps")
async def test_every_way_to_stand(client: Client, redis: Redis, tmp_path: Path) -> None:
    """Queued, running, each end, and lost: counted by what Redis has, told in the file's order, never guessed."""
    batch = await client.batches.submit(chats(tmp_path / "b.jsonl", 8))
    ids = [batch.job_id(name) for name in names(8)]
    await redis.rpush(CHAT.normal, await redis.lpop(CHAT.low))  # type: ignore[arg-type]
    await claim(redis, CHAT, ids[0], "other:1")
    await settle(redis, CHAT, ids[1], content="é" * 50)
    await settle(redis, CHAT, ids[2], status=Status.FAILED)
    await settle(redis, CHAT, ids[3], status=Status.CANCELLED)
    await settle(redis, CHAT, ids[4], status=Status.EXPIRED)
    await redis.delete(CHAT.id(ids[5]))
    await redis.set(CHAT.id(ids[6]), "token:1 token:1")

    status = await client.batches.status(batch.id)
    counts = status.facts()["counts"]
    assert status.state is BatchState.IN_PROGRESS
    assert counts == {
        "total": 8,
        "completed": 1,
        "failed": 1,
        "cancelled": 1,
        "expired": 1,
        "lost": 1,
        "queued": 1,
        "running": 1,
        "waiting": 1,
        "unsubmitted": 0,
    }
    found = await collected(client, batch)
    assert [str(outcome.state) for outcome in found] == [
        "running", "succeeded", "failed", "cancelled", "expired", "lost", "waiting", "queued"
    ]  # fmt: skip
    assert [outcome.job_id for outcome in found] == ids
    assert (found[1].result and found[1].result.content) == "é" * 50
    assert [outcome.error and outcome.error.code for outcome in found[2:6]] == [
        "model_not_found",
        "batch_cancelled",
        "batch_expired",
        "result_expired",
    ]


async def test_large_results_come_in_parts(
    client: Client, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are fetched within a bound on bytes, and a result that lapses in between is lost, not a success."""
    monkeypatch.setattr(outcomes_module, "FETCH_BYTES", 2_000)
    batch = await client.batches.submit(chats(tmp_path / "b.jsonl", 5))
    for n, name in enumerate(names(5)):
        await settle(redis, CHAT, batch.job_id(name), content=str(n) * (900 if n != 2 else 5_000))
    found = [outcome async for outcome in client.batches.outcomes(batch)]
    assert [outcome.result and outcome.result.content and outcome.result.content[0] for outcome in found] == list(
        "01234"
    )
    steps = client.batches.outcomes(batch)
    await anext(steps)
    await redis.delete(CHAT.result(batch.job_id("request 4")))
    assert [outcome.state async for outcome in steps][-1] is RequestState.LOST


async def test_a_result_of_another_program(client: Client, redis: Redis, tmp_path: Path) -> None:
    """A result whose fields stand in another order is read whole; one that is none is an error with its job's id."""
    batch = await client.batches.submit(chats(tmp_path / "b.jsonl", 1))
    key = CHAT.result(batch.job_id("request 0"))
    await redis.set(key, json.dumps({"status": "succeeded", "content": "x", "id": "any"}))
    assert (await client.batches.status(batch)).succeeded
    await redis.set(key, "nonsense")
    with pytest.raises(UnreadableReply, match=batch.job_id("request 0")):
        await client.batches.status(batch)


@pytest.mark.usefixtures("no_pause")
async def test_wait_ends_with_the_last_request(client: Client, redis: Redis, tmp_path: Path) -> None:
    """A wait sees each request end once, goes on while some are open, and ends with the last one."""
    batch = await client.batches.submit(chats(tmp_path / "b.jsonl", 3))
    ids = [batch.job_id(name) for name in names(3)]
    seen: list[int] = []
    waiting = asyncio.create_task(
        client.batches.wait(batch, timeout=30, progress=lambda now: seen.append(now.counts.completed))
    )
    await settle(redis, CHAT, ids[0])
    await eventually(lambda: _true(1 in seen), 10, "the first one seen")
    await redis.delete(CHAT.result(ids[0]), CHAT.id(ids[0]))  # it has been counted
    await settle(redis, CHAT, ids[1])
    await settle(redis, CHAT, ids[2])
    status = await waiting
    assert (status.state, status.succeeded, status.counts.completed) == (BatchState.COMPLETED, True, 3)
    assert (await client.batches.status(batch)).counts.lost == 1


async def test_wait_in_time(client: Client, tmp_path: Path) -> None:
    """A timeout ends the wait, not the batch; 0 looks once."""
    batch = await client.batches.submit(chats(tmp_path / "b.jsonl", 1))
    with pytest.raises(BatchTimeout, match=r"not ended after 0 s"):
        await client.batches.wait(batch, timeout=0)
    with pytest.raises(ValueError, match="timeout"):
        await client.batches.wait(batch, timeout=-1)
    assert (await client.batches.status(batch)).counts.queued == 1


@pytest.mark.usefixtures("small_steps")
async def test_cancel_reaches_what_is_open(client: Client, redis: Redis, tmp_path: Path) -> None:
    """Cancelling wishes for every job without a result, and once they are answered the batch is cancelled."""
    batch = await client.batches.submit(chats(tmp_path / "b.jsonl", 5))
    ids = [batch.job_id(name) for name in names(5)]
    await settle(redis, CHAT, ids[0])
    async with redis.pubsub() as cancels:
        await cancels.subscribe(CHAT.cancels)
        await cancels.get_message(timeout=5)
        assert await client.batches.cancel(batch.id) == 4
        heard = [await cancels.get_message(timeout=5) for _ in ids[1:]]
    assert [message and message["data"].decode() for message in heard] == ids[1:]
    assert [await redis.exists(CHAT.cancel(job_id)) for job_id in ids] == [0, 1, 1, 1, 1]
    assert (await client.batches.status(batch)).state is BatchState.CANCELLING
    for job_id in ids[1:]:
        await settle(redis, CHAT, job_id, status=Status.CANCELLED)
    status = await client.batches.status(batch)
    assert (status.state, status.counts.cancelled, status.counts.completed) == (BatchState.CANCELLED, 4, 1)
    assert await client.batches.cancel(batch) == 0


@pytest.mark.usefixtures("small_steps")
async def test_cancel_ends_a_submit(client: Client, redis: Redis, tmp_path: Path) -> None:
    """A batch that is cancelled while it is submitted gets nothing more, not even by the same submit again."""
    path = chats(tmp_path / "b.jsonl", 9)
    cancelling: list[asyncio.Task[int]] = []

    def cancel(now: Batch) -> None:
        if now.submitted == 3:
            cancelling.append(asyncio.ensure_future(client.batches.cancel(now)))

    batch = await client.batches.submit(path, progress=cancel)
    await cancelling[0]
    assert not batch.whole
    again = await client.batches.submit(path)
    assert again.submitted == len(await pushed(redis)) < 9
    for name in names(again.submitted):
        await settle(redis, CHAT, batch.job_id(name), status=Status.CANCELLED)
    status = await client.batches.status(batch)
    assert (status.state, status.counts.cancelled) == (BatchState.CANCELLED, 9)


async def test_what_is_forgotten(client: Client, redis: Redis, tmp_path: Path) -> None:
    """A record that has lapsed is an unknown batch, leaves the list, and leaves the index with the next one."""
    batch = await client.batches.submit(chats(tmp_path / "a.jsonl", 1))
    await redis.delete(CHAT.batch(batch.id), CHAT.batch_ids(batch.id))
    await redis.zadd(CHAT.batches, {batch.id: 1})
    for call in (client.batches.get, client.batches.status, client.batches.wait, client.batches.cancel):
        with pytest.raises(UnknownBatch, match=batch.id):
            await call(batch)
    assert await client.batches.list_all() == []
    other = await client.batches.submit(chats(tmp_path / "b.jsonl", 2))
    assert await redis.zrange(CHAT.batches, 0, -1) == [other.id.encode()]


async def test_a_record_that_lapses_under_a_submit(connections: Connections, redis: Redis, tmp_path: Path) -> None:
    """Without its record a submit stops: what it pushed could not be found again."""
    file = batches_module.examine(chats(tmp_path / "b.jsonl", 2))
    submitter = submitting.BatchSubmitter(connections)
    batch = await submitter.begin(file, Terms(None, None, None, "low", 60, 60))
    await redis.delete(CHAT.batch(batch.id))
    with pytest.raises(UnknownBatch, match="lapsed"):
        await submitter.push(batch, file)
    assert await redis.llen(CHAT.low) == 0


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"batch_id": "a b"}, BadName),
        ({"batch_id": "x:ids"}, BadName),
        ({"name": "x" * 129}, BadName),
        ({"queue": "a b"}, BadName),
        ({"priority": "urgent"}, BadName),
        ({"window_s": 0}, ValueError),
        ({"window_s": float("nan")}, ValueError),
        ({"keep_s": -1}, ValueError),
    ],
    ids=str,
)
async def test_bad_terms_are_refused(
    client: Client, redis: Redis, tmp_path: Path, wrong: dict[str, Any], error: type[Exception]
) -> None:
    """Terms that can't be are refused with what is allowed, and nothing is sent."""
    with pytest.raises(error, match="allowed are"):
        await client.batches.submit(chats(tmp_path / "b.jsonl", 1), **wrong)
    assert await redis.dbsize() == 0


async def test_other_people_s_keys(client: Client, redis: Redis, tmp_path: Path) -> None:
    """Another file's id, a key of another type and a record of another program are told, and change nothing."""
    await client.batches.submit(chats(tmp_path / "a.jsonl", 1), batch_id="mine")
    with pytest.raises(OtherBatch, match=r"another file, a\.jsonl"):
        await client.batches.submit(chats(tmp_path / "b.jsonl", 2), batch_id="mine")
    with pytest.raises(BadBatch):
        await client.batches.submit(write(tmp_path / "c.jsonl", ["x"]))
    await redis.set(CHAT.batch("theirs"), "x")
    with pytest.raises(QueueRefused, match="not a hash"):
        await client.batches.submit(tmp_path / "b.jsonl", batch_id="theirs")
    for name, value, told in (("total", "many", "total is not a whole"), ("endpoint", "/v2", "endpoint is none of")):
        await redis.hset(CHAT.batch("mine"), name, value)
        with pytest.raises(UnreadableReply, match=told):
            await client.batches.get("mine")
        await redis.hset(CHAT.batch("mine"), mapping={"total": 1, "endpoint": "/v1/chat/completions"})
    await redis.hdel(CHAT.batch("mine"), "digest")
    with pytest.raises(UnreadableReply, match="digest is missing"):
        await client.batches.get("mine")


def test_without_an_event_loop(redis_url: str, tmp_path: Path) -> None:
    """The synchronous client submits, lists, counts, waits, cancels and collects; leaving early ends the reading."""
    with SyncClient(redis_url) as client, SyncRedis.from_url(redis_url) as redis:
        batch = client.batches.submit(chats(tmp_path / "b.jsonl", 2))
        assert client.batches.list_all() == [client.batches.get(batch.id)] == [batch]
        assert (client.batches.status(batch).counts.queued, client.batches.refused(batch)) == (2, 0)
        with pytest.raises(BatchTimeout):
            client.batches.wait(batch, timeout=0)
        assert client.batches.cancel(batch) == 2
        for name in names(2):
            result = Result(id=batch.job_id(name), status=Status.SUCCEEDED, content=name)
            redis.set(CHAT.result(result.id), result.to_json())
        assert client.batches.wait(batch).succeeded
        assert [o.result and o.result.content for o in client.batches.outcomes(batch)] == names(2)
        for outcome in client.batches.outcomes(batch):
            assert outcome.custom_id == "request 0"
            break


def test_pauses_grow_with_what_is_open() -> None:
    """A second between looks at a small batch, five at the largest."""
    assert [batches_module.pause_s(n) for n in (0, 10_000, 50_000)] == [1.0, 1.0, 5.0]


async def _true(value: bool) -> bool:
    return value
