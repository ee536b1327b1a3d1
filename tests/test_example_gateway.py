"""examples/gateway by OpenAI's own client: through real Redis and a real worker to a scripted Ollama."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from redis.asyncio import Redis

from llmpool_contract import QueueKeys, Result, Status
from tests.support.gateway_process import GatewayProcess
from tests.support.ollama_process import OllamaProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, until
from tests.support.worker_process import WorkerProcess

MODEL = "gemma3:270m"
HELLO: Any = [{"role": "user", "content": "hello there"}]
KEYS = "team-a=sesame-a,team-b=sesame-b"
CHAT = QueueKeys("llm-chat")
WAIT_S = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(server: RedisServer) -> Iterator[GatewayProcess]:
    models = f"{MODEL},all-minilm,missing"
    with GatewayProcess(server.url, GATEWAY_KEYS=KEYS, GATEWAY_MODELS=models, GATEWAY_KEEPALIVE="0.2") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def worker(server: RedisServer, ollama_process: OllamaProcess) -> Iterator[WorkerProcess]:
    with WorkerProcess(server.url, OLLAMA_BASE_URL=ollama_process.url) as worker:
        yield worker


@pytest.fixture
def served(worker: WorkerProcess, ollama: OllamaProcess) -> OllamaProcess:
    """Somebody answers: the scripted Ollama behind the worker."""
    return ollama


@pytest.fixture(scope="module")
def lone_process(redis_server: RedisServer) -> Iterator[GatewayProcess]:
    settings = {"GATEWAY_KEYS": KEYS, "GATEWAY_MAX_QUEUED": "2", "GATEWAY_KEEPALIVE": "0.2"}
    with GatewayProcess(redis_server.url, **settings) as gateway:
        yield gateway


@pytest.fixture
def lone(lone_process: GatewayProcess, redis_url: str) -> GatewayProcess:
    """A gateway whose queue is empty, and which nobody serves but the test."""
    return lone_process


@pytest.fixture
async def narrow(redis_url: str) -> AsyncIterator[AsyncOpenAI]:
    """A client of a gateway for one stream at a time, whose queue nobody serves."""
    with GatewayProcess(redis_url, GATEWAY_KEYS=KEYS, GATEWAY_MAX_STREAMS="1") as gateway:
        async with AsyncOpenAI(base_url=gateway.url, api_key="sesame-a", timeout=WAIT_S, max_retries=0) as client:
            yield client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.url, api_key="sesame-a", timeout=WAIT_S, max_retries=0) as client:
        yield client


@pytest.fixture
async def alone(lone: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=lone.url, api_key="sesame-a", timeout=WAIT_S, max_retries=0) as client:
        yield client


async def pushed(redis: Redis) -> dict[str, Any]:
    """The one job that the gateway pushed."""
    raw: Any = await eventually(lambda: redis.lindex(CHAT.normal, 0), WAIT_S, "a job in the queue")
    found: dict[str, Any] = json.loads(raw)
    return found


async def finish(redis: Redis, job: str, **fields: Any) -> None:
    """Settle it, as a worker would."""
    result = Result(id=job, **{"status": Status.SUCCEEDED, "model_used": MODEL, "attempts": 1, **fields})
    await redis.set(CHAT.result(job), result.to_json(), ex=60)
    await redis.publish(CHAT.events, job)


async def opens(client: AsyncOpenAI) -> Any:
    """A new stream, or None while there is no room for one."""
    try:
        return await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    except openai.RateLimitError:
        return None


def code_of(error: openai.APIError) -> Any:
    return error.body["code"] if isinstance(error.body, dict) else None


def test_chat(client: OpenAI, served: OllamaProcess) -> None:
    """A chat is answered with its text, its end and its usage."""
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, seed=7, max_tokens=5)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_stream_is_the_whole_answer_and_tells_usage(client: OpenAI, served: OllamaProcess) -> None:
    """Joined, the pieces are what the same request gives in one; usage comes last where it was asked for."""
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "temperature": 0, "seed": 7}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_completions(client: OpenAI, served: OllamaProcess) -> None:
    """The older endpoint gives text, whole and streamed."""
    whole = client.completions.create(model=MODEL, prompt="once upon a time")
    pieces = client.completions.create(model=MODEL, prompt="once upon a time", stream=True)
    assert whole.choices[0].text
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


@pytest.mark.parametrize("given", ["one text", ["one text", "another"]], ids=["text", "texts"])
def test_embeddings(client: OpenAI, served: OllamaProcess, given: str | list[str]) -> None:
    """One vector per text; Base64, which the client asks for by itself, holds the same numbers as floats do."""
    packed = client.embeddings.create(model="all-minilm", input=given)
    floats = client.embeddings.create(model="all-minilm", input=given, encoding_format="float")
    assert len(packed.data) == (1 if isinstance(given, str) else len(given))
    for one, other in zip(packed.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)


def test_models(client: OpenAI) -> None:
    """The offered models are listed."""
    assert [model.id for model in client.models.list()] == [MODEL, "all-minilm", "missing"]


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        pytest.param({"logit_bias": {"1": 2}}, 400, "invalid_value", "logit_bias", id="a field without a meaning here"),
        pytest.param({"n": 2}, 400, "invalid_value", "n", id="two answers"),
        pytest.param(
            {"stream_options": {"include_usage": True}}, 400, "invalid_value", "stream_options", id="no stream"
        ),
        pytest.param({"messages": []}, 400, "invalid_value", None, id="no messages"),
        pytest.param({"model": "other"}, 404, "model_not_found", "model", id="model not offered"),
        pytest.param({"model": "missing"}, 404, "model_not_found", None, id="model that the server lacks"),
        pytest.param({"extra_headers": {"X-Job-Wait": "soon"}}, 400, "invalid_value", "x-job-wait", id="a bad header"),
        pytest.param({"extra_headers": {"X-Job-Priority": "top"}}, 400, "invalid_value", None, id="a bad priority"),
    ],
)
def test_errors(
    client: OpenAI, served: OllamaProcess, fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    """What can't be done is refused in OpenAI's format, by name, whatever else the request has."""
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **fields})
    assert (caught.value.status_code, code_of(caught.value), caught.value.param) == (status, code, param)


def test_error_in_a_stream(client: OpenAI, served: OllamaProcess) -> None:
    """A job that fails after the stream has begun ends it with an error, not with a short answer."""
    stream = client.chat.completions.create(model="missing", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert code_of(caught.value) == "model_not_found"


@pytest.mark.parametrize("key", ["wrong", "sesame-a2", "sesame-"])
def test_unknown_key(gateway: GatewayProcess, key: str) -> None:
    """No request goes through without a known key, and the log has none."""
    client = OpenAI(base_url=gateway.url, api_key=key, max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    assert "sesame" not in gateway.log


async def test_stream_comes_piece_by_piece(alone: AsyncOpenAI, redis: Redis) -> None:
    """A piece is delivered before the answer has ended."""
    stream = await alone.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    job = (await pushed(redis))["id"]
    assert (await anext(stream)).choices[0].delta.role == "assistant"
    await redis.xadd(CHAT.stream(job), {"kind": "text", "text": "Good ", "attempt": "1"})
    assert (await anext(stream)).choices[0].delta.content == "Good "
    await finish(redis, job, content="Good morning", finish_reason="stop")
    rest = [chunk.choices[0] async for chunk in stream]
    assert [choice.delta.content for choice in rest] == ["morning", None]
    assert rest[-1].finish_reason == "stop"


async def test_second_attempt_never_follows_the_first_ones_text(alone: AsyncOpenAI, redis: Redis) -> None:
    """Text that was delivered and is void then ends the stream with an error."""
    stream = await alone.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    job = (await pushed(redis))["id"]
    await redis.xadd(CHAT.stream(job), {"kind": "text", "text": "Good ", "attempt": "1"})
    await redis.xadd(CHAT.stream(job), {"kind": "reset", "text": "", "attempt": "2"})
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert code_of(caught.value) == "stream_restarted"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_tools(alone: AsyncOpenAI, redis: Redis, stream: bool) -> None:
    """Tools go into the job, and calls of them come back with their arguments as text."""
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    asked = alone.chat.completions.create(model=MODEL, messages=HELLO, tools=[tool], stream=stream)
    task = asyncio.ensure_future(asked)
    job = await pushed(redis)
    assert job["tools"] == [tool]
    await finish(redis, job["id"], tool_calls=[{"function": {"name": "weather", "arguments": {"city": "Rome"}}}])
    answer: Any = await task
    if stream:
        choices = [chunk.choices[0] async for chunk in answer]
        calls = [call for choice in choices for call in choice.delta.tool_calls or []]
        reason = choices[-1].finish_reason
    else:
        calls, reason = answer.choices[0].message.tool_calls, answer.choices[0].finish_reason
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Rome"})
    ]
    assert reason == "tool_calls"


async def test_job_has_the_tenant_of_the_key(alone: AsyncOpenAI, redis: Redis) -> None:
    """The key says whose job it is, whatever the request calls itself; the schema and `user` arrive too."""
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    stream = await alone.chat.completions.create(
        model=MODEL, messages=HELLO, user="team-b", response_format=schema, stream=True
    )
    job = await pushed(redis)
    assert (job["tenant"], job["metadata"], job["format"]) == ("team-a", {"user": "team-b"}, {"type": "object"})
    await stream.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_hanging_up_cancels_the_job(alone: AsyncOpenAI, redis: Redis, stream: bool) -> None:
    """Nobody pays for an answer that nobody waits for."""
    task = asyncio.ensure_future(alone.chat.completions.create(model=MODEL, messages=HELLO, stream=stream))
    job = (await pushed(redis))["id"]
    if stream:
        opened: Any = await task
        await opened.close()
    else:
        task.cancel()
    await eventually(lambda: redis.exists(CHAT.cancel(job)), WAIT_S, "the wish to cancel")


async def test_late_answer_is_kept(alone: AsyncOpenAI, lone: GatewayProcess, redis: Redis) -> None:
    """An answer that doesn't come in time can be had later, by its own tenant alone."""
    with pytest.raises(openai.InternalServerError) as caught:
        await alone.chat.completions.create(model=MODEL, messages=HELLO, extra_headers={"X-Job-Wait": "0.1"})
    assert caught.value.status_code == 504
    assert caught.value.response.headers["x-should-retry"] == "false"
    job = (await pushed(redis))["id"]
    assert (await alone.get(f"/jobs/{job}", cast_to=dict[str, Any]))["status"] == "queued"
    await finish(redis, job, content="late", finish_reason="stop")
    later: Any = await alone.get(f"/jobs/{job}", cast_to=dict[str, Any])
    assert later["choices"][0]["message"]["content"] == "late"
    with pytest.raises(openai.NotFoundError):
        await alone.with_options(api_key="sesame-b").get(f"/jobs/{job}", cast_to=dict[str, Any])


async def test_repeat_with_a_key_finds_the_first_job(alone: AsyncOpenAI, redis: Redis) -> None:
    """One Idempotency-Key and body are one job; another body under that key is another job."""
    headers = {"Idempotency-Key": "order-7"}
    asked: dict[str, Any] = {"model": MODEL, "extra_headers": headers}
    first = asyncio.ensure_future(alone.chat.completions.create(**asked, messages=HELLO))
    job = (await pushed(redis))["id"]
    second = asyncio.ensure_future(alone.chat.completions.create(**asked, messages=HELLO))
    other = asyncio.ensure_future(alone.chat.completions.create(**asked, messages=[*HELLO, *HELLO]))

    async def two() -> bool:
        return bool(await redis.llen(CHAT.normal) == 2)

    await eventually(two, WAIT_S, "the other body's job")
    await finish(redis, job, content="once", finish_reason="stop")
    assert [(await one).choices[0].message.content for one in (first, second)] == ["once", "once"]
    assert await redis.llen(CHAT.normal) == 2
    other.cancel()


async def test_full_queue_says_when_to_come_back(alone: AsyncOpenAI, redis: Redis) -> None:
    """Beyond the limit a request gets 429 with Retry-After, and isn't queued."""
    await redis.rpush(CHAT.normal, "1", "2")
    with pytest.raises(openai.RateLimitError) as caught:
        await alone.chat.completions.create(model=MODEL, messages=HELLO)
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert code_of(caught.value) == "queue_full"
    assert await redis.llen(CHAT.normal) == 2


async def test_too_many_streams(narrow: AsyncOpenAI, redis: Redis) -> None:
    """Of a burst only as many streams as allowed are let in, the rest get 429 and no job; one that ends makes room."""
    burst = await asyncio.gather(*(opens(narrow) for _ in range(5)))
    [stream] = [stream for stream in burst if stream is not None]
    assert await redis.llen(CHAT.normal) == 1
    await finish(redis, (await pushed(redis))["id"], content="done", finish_reason="stop")
    assert [chunk async for chunk in stream]
    again = await eventually(lambda: opens(narrow), WAIT_S, "room for another")
    await again.close()


async def test_reader_who_leaves_at_once_makes_room(narrow: AsyncOpenAI, redis: Redis) -> None:
    """A stream whose reader is gone before its first byte is over as any other: cancelled, and counted no more."""
    body = json.dumps({"model": MODEL, "messages": HELLO, "stream": True})
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: gateway", "Authorization: Bearer sesame-a"]
    head += [f"Content-Length: {len(body)}", "", body]
    _, writer = await asyncio.open_connection("127.0.0.1", narrow.base_url.port)
    writer.write("\r\n".join(head).encode())
    await writer.drain()
    job = (await pushed(redis))["id"]
    writer.transport.abort()
    await eventually(lambda: redis.exists(CHAT.cancel(job)), WAIT_S, "the wish to cancel")
    again = await eventually(lambda: opens(narrow), WAIT_S, "room for another")
    await again.close()


async def test_silent_stream_shows_signs_of_life(lone: GatewayProcess, alone: AsyncOpenAI, redis: Redis) -> None:
    """While a job waits, comments keep proxies from cutting the connection."""
    async with alone.chat.completions.with_streaming_response.create(
        model=MODEL, messages=HELLO, stream=True
    ) as response:
        async for line in response.iter_lines():
            if line.startswith(":"):
                break
    assert response.headers["x-job-id"] == (await pushed(redis))["id"]


async def test_deadline_and_priority(alone: AsyncOpenAI, redis: Redis) -> None:
    """Headers set the job's list and its deadline by Redis' clock."""
    headers = {"X-Job-Priority": "high", "X-Job-Deadline": "60"}
    stream = await alone.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_headers=headers)
    raw: Any = await redis.lindex(CHAT.ready[0], 0)
    seconds, _ = await redis.time()
    assert 0 < json.loads(raw)["deadline"] / 1_000 - seconds <= 61
    await stream.close()


@pytest.mark.parametrize(
    ("env", "names"),
    [
        pytest.param({}, "GATEWAY_KEYS", id="no keys"),
        pytest.param({"GATEWAY_KEYS": "team-a=k,hush"}, "entry 2", id="a key without its tenant"),
        pytest.param({"GATEWAY_OPEN": "true", "GATEWAY_WAIT": "long"}, "GATEWAY_WAIT", id="no number"),
    ],
)
def test_bad_settings_end_the_start(env: dict[str, str], names: str) -> None:
    """The gateway doesn't start on settings it can't read, says which, and repeats no key."""
    gateway = GatewayProcess("redis://127.0.0.1:1/0", **env)
    gateway.child.start()
    until(lambda: not gateway.child.running(), WAIT_S, "its end")
    assert names in gateway.log
    assert "hush" not in gateway.log
    gateway.remove()
