"""Submitting: what is checked before anything is sent, what lies in Redis afterwards, and what a repeat does."""

import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from llmpool_client import BadJob, BadName, Client, Job, JobRef, Message, QueueRefused, QueueUnavailable
from llmpool_client.prepare import id_from, prepare
from llmpool_contract import QueueKeys, parse_job
from llmpool_contract.parsing import JOB_MAX_BYTES
from tests.support.played_worker import settle
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "gemma3:270m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client.from_url(redis_url) as client:
        yield client


async def test_submit_leaves_what_a_worker_takes(client: Client, redis: Redis) -> None:
    """A submitted job lies in its type's list as JSON that the worker's own parser accepts; its ids key has a life."""
    ref = await client.submit(type="embed", model="m", input=["a", "b"], options={"seed": 7})

    keys = QueueKeys("llm-embed")
    job = parse_job(await redis.lindex(keys.normal, 0))
    assert ref == JobRef(job.id or "", "llm-embed", duplicate=False)
    assert (job.input, job.options and job.options.seed) == (["a", "b"], 7)
    assert job.enqueued_at is not None
    assert await redis.get(keys.id(ref.id)) == b"queued"
    assert 86_000 < await redis.ttl(keys.id(ref.id)) <= 86_400


@pytest.mark.parametrize(
    ("priority", "list_name"), [("high", "{llm-chat}:high"), ("normal", "llm-chat"), ("low", "{llm-chat}:low")]
)
async def test_priority_is_the_list(client: Client, redis: Redis, priority: str, list_name: str) -> None:
    """The priority decides the list, and nothing else does."""
    await client.submit(HELLO, priority=priority)  # type: ignore[arg-type]
    assert await redis.llen(list_name) == 1


@pytest.mark.parametrize(
    "job",
    [
        HELLO,
        Job.model_validate(HELLO),
        {**HELLO, "messages": [Message(role="user", content="hello")]},
        {**HELLO, "id": None, "format": None},
    ],
    ids=["mapping", "Job", "mapping with Message", "with None"],
)
async def test_ways_to_give_a_job(client: Client, redis: Redis, job: Job | dict) -> None:
    """A Job, a mapping, and fields come to the same; fields win, and None is the same as absent."""
    await client.submit(job, id="one", stream=True, queue="other")
    given = json.loads(await redis.lindex("other", 0))
    assert given.pop("enqueued_at") > 0
    assert given == {**HELLO, "id": "one", "stream": True}


async def test_free_form_parts_arrive_unchanged(client: Client, redis: Redis) -> None:
    """Null, empty and nested values of metadata and tools reach the list as given."""
    metadata = {"none": None, "empty": [], "text": "é漢", "nested": {"n": [None, 1.5]}}
    await client.submit(Job.model_validate({**HELLO, "metadata": metadata}))
    assert json.loads(await redis.lindex(CHAT.normal, 0))["metadata"] == metadata


async def test_same_id_twice_is_pushed_once(client: Client, redis: Redis) -> None:
    """A submit repeated after a lost reply pushes nothing, gives the same id and says that it was known."""
    first = await client.submit(HELLO, id="mine")
    again = await client.submit(HELLO, id="mine")
    assert (first.duplicate, again.duplicate, again.id) == (False, True, "mine")
    assert await redis.llen(CHAT.normal) == 1
    assert await redis.hget(CHAT.stats, "dropped_duplicates") == b"1"


async def test_answered_id_is_not_run_again(client: Client, redis: Redis) -> None:
    """The id of a job with a result is known even where its ids key is gone."""
    await settle(redis, CHAT, "mine")
    assert (await client.submit(HELLO, id="mine")).duplicate
    assert await redis.llen(CHAT.normal) == 0


async def test_submit_many_keeps_order_and_finds_duplicates(client: Client, redis: Redis) -> None:
    """Thousands of jobs over several queues: answers in the jobs' order, each list in its own order, repeats found."""
    jobs = [
        {**HELLO, "id": f"c{n}"} if n % 2 else {"type": "embed", "model": "m", "input": "x", "id": f"e{n}"}
        for n in range(1_001)
    ]
    refs = await client.submit_many([*jobs, jobs[0], jobs[1]])

    assert [ref.id for ref in refs] == [job["id"] for job in [*jobs, jobs[0], jobs[1]]]
    assert [ref.duplicate for ref in refs] == [False] * 1_001 + [True, True]
    pushed = [json.loads(body)["id"] for body in await redis.lrange("llm-chat", 0, -1)]
    assert pushed == [f"c{n}" for n in range(1, 1_001, 2)]
    assert await redis.llen("llm-embed") == 501
    assert await client.submit_many([]) == []


async def test_submit_many_of_large_jobs(client: Client, redis: Redis) -> None:
    """Bodies of nearly the allowed size go through one by one."""
    text = "x" * (JOB_MAX_BYTES - 300)
    refs = await client.submit_many([{"type": "generate", "model": "m", "prompt": text}] * 3)
    assert len({ref.id for ref in refs}) == 3
    assert await redis.llen("llm-generate") == 3


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"type": "chat"}, "invalid", "model: "),
        ({**HELLO, "prompt": "secret"}, "invalid", "prompt: not for a chat job"),
        ({**HELLO, "colour": 1}, "invalid", "colour: "),
        ({**HELLO, "options": {"num_ctx": 1}}, "invalid", "options.num_ctx"),
        ({**HELLO, "options": {"temperature": float("nan")}}, "not_json", "NaN"),
        ({**HELLO, "messages": [{"role": "user", "content": "\ud800"}]}, "not_json", "surrogate"),
        ({**HELLO, "metadata": {"x": object()}}, "not_json", "object is not a JSON type"),
        ({"type": "generate", "model": "m", "prompt": "x" * JOB_MAX_BYTES}, "too_large", "allowed are 1048576"),
        ({**HELLO, "id": "a b"}, "invalid", "id: "),
    ],
    ids=["no model", "stray", "unknown", "runner option", "NaN", "surrogate", "not JSON", "too large", "bad id"],
)
async def test_bad_job_is_refused_before_it_is_sent(
    client: Client, redis: Redis, fields: dict, code: str, told: str
) -> None:
    """What no worker would take never reaches Redis; the error names the field and never repeats the prompt."""
    with pytest.raises(BadJob) as caught:
        await client.submit(fields)
    assert caught.value.code == code
    assert told in caught.value.reason
    assert "secret" not in caught.value.reason
    with pytest.raises(BadJob):
        await client.submit_many([HELLO, fields])
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("wrong", [{"queue": "a b"}, {"queue": ""}, {"priority": "urgent"}], ids=str)
async def test_bad_names_are_refused(client: Client, wrong: dict) -> None:
    """Queues and priorities that can't be are refused with what is allowed."""
    with pytest.raises(BadName, match="allowed are"):
        await client.submit(HELLO, **wrong)


async def test_foreign_key_in_the_way_changes_nothing(client: Client, redis: Redis) -> None:
    """Where the list's name holds another type, the submit is refused and leaves no id behind to block a later one."""
    await redis.set("llm-chat", "in the way")
    with pytest.raises(QueueRefused, match="not a list"):
        await client.submit(HELLO, id="mine")
    assert await redis.keys() == [b"llm-chat"]


async def test_full_redis_refuses_without_a_trace() -> None:
    """At maxmemory a submit is refused by name, and no id is left marked as queued without its job."""
    with RedisServer(config={"maxmemory": "100kb", "maxmemory-policy": "noeviction"}) as server:
        async with Client(server.url) as client:
            with pytest.raises(QueueRefused, match="maxmemory"):
                await client.submit(HELLO, id="mine")
        with server.client() as direct:
            assert direct.keys() == []


async def test_redis_out_of_reach_is_told_at_once() -> None:
    """Nobody listens: QueueUnavailable within a second, with host and port, without the password."""
    async with Client(f"redis://user:geheim@127.0.0.1:{free_port()}/0") as client:
        with pytest.raises(QueueUnavailable, match=r"127\.0\.0\.1:\d+/0 is out of reach") as caught:
            await client.submit(HELLO)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h", "localhost:6379", "redis://u:geheim@h:port/0", "redis://h/0?nonsense=1"])
def test_bad_url_is_refused_at_once(url: str) -> None:
    """A URL that can't be one is a ValueError on construction, without what it held."""
    with pytest.raises(ValueError, match="Redis URL") as caught:
        Client(url)
    assert "geheim" not in str(caught.value)


async def test_submit_survives_a_restart(own_redis: RedisServer) -> None:
    """A client goes on after Redis was killed and started again; what it submitted before is still known."""
    async with Client(own_redis.url) as client:
        await client.submit(HELLO, id="before")
        own_redis.kill()
        own_redis.restart()
        assert (await client.submit(HELLO, id="before")).duplicate
        assert not (await client.submit(HELLO, id="after")).duplicate


@given(st.integers(0, 2**48 - 2), st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_ids_sort_by_time(now_ms: int, a: int, b: int) -> None:
    """An id made in an earlier millisecond sorts first, whatever the random bits are."""
    assert id_from(now_ms, a) < id_from(now_ms + 1, b)
    assert len(id_from(now_ms, a)) == 32


@given(
    st.text(min_size=1, max_size=50).filter(str.strip),
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        max_size=3,
    ),
)
def test_prepared_bytes_say_what_was_given(text: str, metadata: dict) -> None:
    """Whatever text and metadata: the bytes read back as the job that was given."""
    fields = {"type": "generate", "model": "m", "prompt": text, "metadata": metadata}
    prepared = prepare(None, fields, queue=None, priority="normal", new_id="i", now_s=1.0)
    job = parse_job(prepared.body)
    assert (job.prompt, job.metadata, job.id, prepared.keys.queue) == (text, metadata, "i", "llm-generate")
