"""Asking why: a job is found wherever it is, its facts are as of one moment, and nothing of its text is among them."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from llmpool_client import BadName, Client, JobFacts, JobStatus, Progress, Status, UnreadableReply, Where
from llmpool_client.why import FactFinder
from llmpool_client.why.gather import ask_of
from llmpool_contract import QueueKeys, WorkerReport, WorkerState
from llmpool_contract.element import Element, encode
from llmpool_contract.keys import PoolKeys
from llmpool_contract.mark import Mark, Note, WaitsFor
from tests.support.played_worker import bury, settle
from tests.support.processes import free_port
from tests.support.waiting import eventually
from tests.support.worker_process import WorkerProcess, chat_job

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "gemma3:270m", "messages": [{"role": "user", "content": "geheim"}]}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client.from_url(redis_url) as client:
        yield client


def element(job_id: str, body: bytes = b"", **fields: Any) -> bytes:
    """A job that a worker has had."""
    return encode(Element(**{"body": body or chat_job(job_id).encode(), "origin": f"o:{job_id}"} | fields))


async def now_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return seconds * 1_000 + micros // 1_000


async def test_ready_job_has_its_position(client: Client, redis: Redis) -> None:
    """A submitted job: its list, how many stand before it there and in the other lists, what it asks for."""
    await client.submit_many([HELLO] * 3, priority="high")
    await client.submit_many([HELLO] * 2)
    ref = await client.submit(HELLO, deadline=5_000_000_000_000, tenant="t", fallback_models=["other"])
    facts = await client.why(ref)
    assert (facts.id, facts.queue, facts.status) == (ref.id, "llm-chat", JobStatus.QUEUED)
    assert (facts.place.where, facts.place.priority, facts.place.ahead) == (Where.READY, "normal", 2)
    assert facts.ready == {"high": 3, "normal": 3, "low": 0}
    assert facts.ask is not None
    assert (facts.ask.model, facts.ask.deadline_ms, facts.ask.tenant) == ("gemma3:270m", 5_000_000_000_000, "t")
    assert facts.ask.fallback_models == ("other",)
    assert facts.progress is not None
    assert (facts.attempts, facts.progress.deliveries, facts.progress.worker) == (0, 0, None)
    assert abs(facts.now_ms - await now_ms(redis)) < 5_000


@pytest.mark.parametrize("named", [True, False], ids=["queue named", "queue not named"])
async def test_bare_push_is_found(client: Client, redis: Redis, named: bool) -> None:
    """A job of a producer without this client has no mark; it is found by its body's id, in the default queues too."""
    await redis.rpush("llm-embed", "not json", '{"id":7}', '{"metadata":{"id":"mine"}}', chat_job("mine"))
    facts = await client.why("mine", queue="llm-embed" if named else None)
    assert (facts.queue, facts.status, facts.place.ahead) == ("llm-embed", JobStatus.QUEUED, 3)


@pytest.mark.parametrize("job_id", ["a/b", "é漢", 'quo"te', "back\\slash", "<&>", "%d(", "plain"])
async def test_ids_are_found_however_they_are_spelt(client: Client, redis: Redis, job_id: str) -> None:
    """JSON may escape characters of an id; a pattern's characters in it mean nothing."""
    escaped = json.dumps({**HELLO, "id": job_id}).replace("/", "\\/")
    await redis.rpush("llm-chat", chat_job("other"), escaped)
    assert (await client.why(job_id, queue="llm-chat")).place.ahead == 1


async def test_body_that_no_worker_takes_is_told(client: Client, redis: Redis) -> None:
    """A job that will be refused says so while it still waits."""
    await redis.rpush("llm-chat", '{"id":"mine","type":"chat"}')
    facts = await client.why("mine")
    assert facts.ask is not None
    assert facts.ask.fault is not None
    assert "model" in facts.ask.fault


async def test_delayed_job_says_when_and_why(client: Client, redis: Redis) -> None:
    """A job between two attempts: when it is due, who is due before it, its last error and what it waits for."""
    now = await now_ms(redis)
    note = Note(
        code="backend_busy",
        reason="503 from the model server",
        at_ms=now - 10,
        due_ms=now + 60_000,
        attempts=1,
        waits_for=WaitsFor(breaker="gemma3:270m", until_ms=now + 60_000),
    )
    later = element("mine", attempts=1, priority="low", first_claimed_ms=now - 99)
    await redis.zadd(CHAT.delayed, {element("first"): now + 5, later: now + 60_000, element("last"): now + 70_000})
    await redis.set(CHAT.id("mine"), Mark("o:mine", "t:9", note).to_bytes())
    facts = await client.why("mine")
    assert (facts.status, facts.place.where, facts.place.ahead) == (JobStatus.WAITING, Where.DELAYED, 1)
    assert (facts.place.due_ms, facts.place.priority, facts.attempts) == (now + 60_000, "low", 1)
    assert facts.note == note
    assert await client.status("mine") is JobStatus.WAITING


@pytest.mark.parametrize("lease", [True, False], ids=["lease", "no lease"])
async def test_claimed_job_has_its_holder(client: Client, redis: Redis, lease: bool) -> None:
    """A running job: its worker and the end of its lease, where it has one; a note after the handles is no matter."""
    held = element("mine", worker="w1", deliveries=2, first_claimed_ms=5)
    await redis.hset(CHAT.claimed, "t:1", held)
    if lease:
        await redis.zadd(CHAT.lease, {"t:1": 2_000_000_000_123})
    await redis.set(CHAT.id("mine"), Mark("o:mine", "t:1", Note(code="c", at_ms=1)).to_bytes())
    await client.cancel("mine")
    facts = await client.why("mine")
    assert (facts.status, facts.place.where, facts.cancel_wished) == (JobStatus.RUNNING, Where.CLAIMED, True)
    assert facts.place.lease_end_ms == (2_000_000_000_123 if lease else None)
    assert facts.progress == Progress(len(chat_job("mine")), 2, 5, "w1")
    assert await client.status("mine") is JobStatus.RUNNING


async def test_given_back_job_is_found_by_its_origin(client: Client, redis: Redis) -> None:
    """A job that went back to its list is told from another one with its id by the handle of its first claim."""
    await redis.rpush("llm-chat", element("mine", origin="another:1"), chat_job("mine"), element("mine"))
    await redis.set(CHAT.id("mine"), "o:mine t:1")
    facts = await client.why("mine")
    assert (facts.status, facts.place.where, facts.place.ahead) == (JobStatus.WAITING, Where.READY, 2)


async def test_job_without_an_id_is_found_by_its_origin(client: Client, redis: Redis) -> None:
    """Where a body has no id, the worker's name for it, the handle of its first claim, is one."""
    await redis.zadd(CHAT.delayed, {element("", origin="t:4"): 1})
    assert (await client.why("t:4", queue="llm-chat")).place.where is Where.DELAYED


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "not marked"])
async def test_far_down_is_beyond(redis: Redis, marked: bool) -> None:
    """Past its bound a look says that it did not see all, and never that the job isn't there."""
    await redis.rpush("llm-chat", *(chat_job(str(n)) for n in range(130)))
    if marked:
        await redis.set(CHAT.id("129"), "queued")
    look = FactFinder(redis, most_entries=120).look
    near, far = await look("119", [CHAT], None), await look("129", [CHAT], None)
    assert (near.place.where, near.place.ahead) == (Where.READY, 119)
    assert (far.place.where, far.place.looked_at) == (Where.BEYOND, 120)
    assert far.status is (JobStatus.QUEUED if marked else JobStatus.UNKNOWN)
    whole = await FactFinder(redis, most_entries=131).look("nobody", [CHAT], None)
    assert whole.place.where is Where.NOWHERE


async def test_large_bodies_are_bounded_too(client: Client, redis: Redis) -> None:
    """A list of long jobs is gone through for a few MiB only."""
    body = chat_job("other", text="x" * 1_000_000)
    await redis.rpush("llm-chat", *[body] * 60, chat_job("mine"))
    facts = await client.why("mine", queue="llm-chat")
    assert facts.place.where is Where.BEYOND
    assert facts.place.looked_at < 60


async def test_ended_job_has_its_error_and_dead_letter(client: Client, redis: Redis) -> None:
    """A failed job: code, message, and the address of the newest dead letter of its id."""
    await bury(redis, CHAT, b"x", id="mine")
    entry = await bury(redis, CHAT, b"x", id="mine")
    for n in range(25):
        await bury(redis, CHAT, b"x", id=f"other{n}")
    await settle(redis, CHAT, "mine", status=Status.FAILED)
    facts = await client.why("mine")
    assert (facts.status, facts.dead_entry, facts.attempts) == (JobStatus.FAILED, entry, 1)
    assert facts.error is not None
    assert facts.error.code == "model_not_found"
    await redis.delete(CHAT.result("mine"))
    lapsed = await client.why("mine")
    assert (lapsed.status, lapsed.dead_entry, lapsed.known) == (JobStatus.UNKNOWN, entry, True)


async def test_success_outlives_an_old_dead_letter(client: Client, redis: Redis) -> None:
    """A job that was replayed and succeeded is no dead letter any more, whatever else lies there under its id."""
    await bury(redis, CHAT, b"x", id="mine")
    await settle(redis, CHAT, "mine")
    assert (await client.why("mine")).dead_entry is None


async def test_passed_over_model_is_told(client: Client, redis: Redis) -> None:
    """A job of a model that is not resident: since when its jobs have been passed over, by name with or without tag."""
    await client.submit(HELLO, id="mine", model="big")
    assert (await client.why("mine")).model_passed_over_since_ms is None
    await redis.hset(CHAT.waiting, "big:latest", 1_234)
    assert (await client.why("mine")).model_passed_over_since_ms == 1_234
    await redis.hset(CHAT.waiting, "big:latest", "nonsense")
    assert (await client.why("mine")).model_passed_over_since_ms is None


async def test_workers_of_the_pool_are_heard(client: Client, redis: Redis) -> None:
    """Of the pool's reports those of the job's queue count, the fresh apart from the stale; unreadable ones don't."""
    await client.submit(HELLO, id="mine")
    now = await now_ms(redis)

    def report(worker: str, at_ms: int, queue: str = "llm-chat") -> str:
        state = WorkerState.READY
        made = WorkerReport(
            worker=worker, pool="a/b", state=state, at_ms=at_ms, in_flight=1, capacity=5, queues=[queue]
        )
        return made.model_dump_json()

    reports = {"w2": report("w2", now), "w1": report("w1", now), "gone": report("gone", now - 60_000), "odd": "odd"}
    await redis.hset(PoolKeys("a/b").workers, mapping=reports | {"else": report("else", now, "llm-embed")})
    workers = (await client.why("mine", pool="a/b")).workers
    assert workers is not None
    assert ([each.worker for each in workers.fresh], workers.stale) == (["w1", "w2"], ("gone",))
    with pytest.raises(BadName, match="namespace/name"):
        await client.why("mine", pool="nonsense")


async def test_unknown_job_is_an_answer(client: Client) -> None:
    """No queue knows the id: that is a fact, not an error."""
    facts = await client.why("nobody")
    assert (facts.status, facts.place.where, facts.known) == (JobStatus.UNKNOWN, Where.NOWHERE, False)


async def test_unreadable_result_is_told(client: Client, redis: Redis) -> None:
    """A result by another program is named as such."""
    await redis.set(CHAT.result("mine"), "nonsense")
    with pytest.raises(UnreadableReply, match="result of job mine"):
        await client.why("mine")


async def test_facts_hold_no_text_and_asking_changes_nothing(client: Client, redis: Redis) -> None:
    """No prompt is among the facts, and a look leaves Redis as it was."""
    ref = await client.submit(HELLO)
    before = [(key, await redis.dump(key)) for key in sorted(await redis.keys())]
    assert "geheim" not in str(asdict(await client.why(ref)))
    assert [(key, await redis.dump(key)) for key in sorted(await redis.keys())] == before


async def test_real_worker_s_postponed_job(client: Client, redis: Redis, redis_url: str) -> None:
    """A real worker whose model server is away: its job is told as waiting, due soon, with that worker in the pool."""
    away = f"http://127.0.0.1:{free_port()}"
    with WorkerProcess(redis_url, OLLAMA_BASE_URL=away):
        await client.submit(HELLO, id="mine")

        async def waits() -> JobFacts | None:
            facts = await client.why("mine", pool="local/default")
            return facts if facts.place.where is Where.DELAYED else None

        facts = await eventually(waits, 10, "a delayed job")
    assert (facts.status, facts.attempts) == (JobStatus.WAITING, 0)
    assert facts.place.due_ms is not None
    assert facts.progress is not None
    assert facts.progress.first_claimed_ms is not None
    assert facts.workers is not None
    assert [report.worker for report in facts.workers.fresh] == ["w1"]


@given(st.binary(max_size=40))
def test_any_bytes_are_a_body(body: bytes) -> None:
    """Whatever lies in a list, reading it gives a fault and no error."""
    assert ask_of(body).fault is not None
