"""The backend for OpenAI's API, against a server that says what the test wants it to say."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from llmpool_contract import Job, parse_job
from llmpool_worker.backends.base import (
    BackendError,
    Embeddings,
    ErrorKind,
    Event,
    Final,
    Text,
    Thinking,
    ToolCalls,
    ask,
)
from llmpool_worker.backends.http import HttpServer
from llmpool_worker.backends.openai import OpenAIBackend


class Server:
    """Answers every POST with `answer`; keeps the bodies."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, await request.json()))
        return self.answers.pop(0)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]
    yield server
    await runner.cleanup()


@pytest.fixture
async def backend(server: Server) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(HttpServer(server.url, connect_timeout_s=1, connections=2), batch_size=2)  # type: ignore[attr-defined]
    yield backend
    await backend.aclose()


def sse(*chunks: dict[str, Any], done: bool = True) -> web.Response:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return web.Response(text="".join([": ping\n\n", *lines, "data: [DONE]\n\n" if done else ""]))


def delta(finish: str | None = None, **content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content, "finish_reason": finish}]}


def chat(**fields: Any) -> Job:
    body = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_job(json.dumps(body).encode())


async def events(backend: OpenAIBackend, job: Job) -> list[Event]:
    return [event async for event in ask(backend, job, job.model)]


async def test_chat(server: Server, backend: OpenAIBackend) -> None:
    """Text and thinking come as they come, usage from its own chunk, the reason for the end from the last one."""
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    server.answers = [
        sse(
            delta(role="assistant", content=None),
            delta(reasoning_content="hm"),
            delta(content="a"),
            delta("stop"),
            usage,
        )
    ]
    found = await events(backend, chat(options={"num_predict": 5, "temperature": 0}))
    assert found == [Thinking("hm"), Text("a"), Final("stop", 3, 2)]
    path, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert (body["max_tokens"], body["temperature"], body["stream_options"]) == (5, 0, {"include_usage": True})


async def test_generate(server: Server, backend: OpenAIBackend) -> None:
    """Completions have their text in the choice itself; a system text goes before the prompt."""
    server.answers = [sse({"choices": [{"text": "x", "finish_reason": "length"}]})]
    job = parse_job(b'{"type":"generate","model":"m","prompt":"p","system":"s"}')
    assert await events(backend, job) == [Text("x"), Final("length")]
    assert server.seen[0] == ("/v1/completions", server.seen[0][1] | {"prompt": "s\n\np"})


async def test_embeddings_in_batches(server: Server, backend: OpenAIBackend) -> None:
    """Vectors keep the inputs' order over several calls; usage is the sum."""
    rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    server.answers = [
        web.json_response({"data": rows, "usage": {"prompt_tokens": 4}}),
        web.json_response({"data": [{"index": 0, "embedding": [3.0]}], "usage": {"prompt_tokens": 2}}),
    ]
    job = parse_job(b'{"type":"embed","model":"m","input":["a","b","c"]}')
    assert await events(backend, job) == [Embeddings([[1.0], [2.0], [3.0]]), Final("stop", 6)]
    assert [body["input"] for _, body in server.seen] == [["a", "b"], ["c"]]


async def test_tool_calls_there_and_back(server: Server, backend: OpenAIBackend) -> None:
    """Arguments that come in pieces are put together; an earlier call goes back in OpenAI's shape."""
    pieces = [
        delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}]),
        delta("tool_calls", tool_calls=[{"index": 0, "id": "c1", "function": {"arguments": ": 1}"}}]),
    ]
    server.answers = [sse(*pieces), sse(delta("stop", content="ok"))]
    [calls, _] = await events(backend, chat())
    assert calls == ToolCalls([{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}])
    assert isinstance(calls, ToolCalls)
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": calls.calls},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    await events(backend, chat(messages=messages))
    [call] = server.seen[1][1]["messages"][1]["tool_calls"]
    assert call == {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


AWAY = web.Response(status=307, headers={"Location": "/x"})
NO_MODEL = web.json_response({"error": {"message": "no"}}, status=404)


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        pytest.param(sse(delta(content="a"), done=False), ErrorKind.RETRYABLE, "incomplete", id="no-end"),
        pytest.param(sse({"error": {"message": "x"}}), ErrorKind.RETRYABLE, "backend_failed", id="error-in-stream"),
        pytest.param(web.Response(text="data: {\n\n"), ErrorKind.RETRYABLE, "backend_not_json", id="half-a-line"),
        pytest.param(web.Response(status=503, text="{}"), ErrorKind.UNAVAILABLE, "backend_busy", id="loading"),
        pytest.param(
            web.Response(status=307, headers={"Location": "/x"}), ErrorKind.PERMANENT, "refused", id="redirect"
        ),
        pytest.param(
            web.json_response({"error": {"message": "no"}}, status=404),
            ErrorKind.PERMANENT,
            "model_not_found",
            id="404",
        ),
        pytest.param(
            web.Response(text="data: " + "x" * 2_000_000), ErrorKind.RETRYABLE, "line_too_long", id="2-MB-line"
        ),
    ],
)
async def test_failures(
    server: Server, backend: OpenAIBackend, answer: web.Response, kind: ErrorKind, code: str
) -> None:
    """Each way to fail has one meaning, and a truncated answer is never a whole one."""
    server.answers = [answer]
    with pytest.raises(BackendError) as caught:
        await events(backend, chat())
    assert (caught.value.kind, caught.value.code) == (kind, code)


async def test_no_server(unused_tcp_port: int) -> None:
    """Nothing was asked: no attempt is spent, and the reason names the address."""
    backend = OpenAIBackend(
        HttpServer(f"http://127.0.0.1:{unused_tcp_port}", connect_timeout_s=1, connections=1), batch_size=1
    )
    with pytest.raises(BackendError, match=f"no connection to http://127.0.0.1:{unused_tcp_port}") as caught:
        await events(backend, chat())
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    await backend.aclose()
