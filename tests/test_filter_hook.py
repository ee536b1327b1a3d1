"""The hook: what it is asked, what its word comes to, and what its silence does. Against a real HTTP server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from llmpool_contract import Job
from llmpool_worker.answer import Answer
from llmpool_worker.backends.base import BackendError, ErrorKind, Text, ToolCalls
from llmpool_worker.filters import Blocked, Filters, Passed, make_filters
from llmpool_worker.settings import SettingsError, load
from tests.support.filter_bench import chat, generate, one

SECRET = "the prompt that nobody may see"
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def hook(answer: object | Answering, **settings: object) -> AsyncIterator[tuple[Filters, list[dict]]]:
    """Filters that ask a server which answers so, the questions it got, and in the end nothing left open."""
    asked: list[dict] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json())
        return await answer(request) if callable(answer) else web.json_response(answer)

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/check", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/check"
    filters = make_filters(load({"filter_hook_url": url, **settings}))
    try:
        yield filters, asked
    finally:
        await filters.aclose()
        await runner.cleanup()


async def test_what_it_is_asked() -> None:
    """Stage, job and all of its texts in order; blank ones and what isn't text aren't sent."""
    job = chat("one", tenant="acme", tools=[{"type": "function", "strict": True}], options={"seed": 7})
    async with hook({"action": "allow"}) as (filters, asked):
        assert await filters.input(job, "q") == Passed(job)
        await filters.input(generate("go on", system="  "), "q")
    assert asked[0] == {
        "stage": "input",
        "job_id": "7",
        "type": "chat",
        "model": "m",
        "tenant": "acme",
        "texts": ["one", "function"],
    }
    assert (asked[1]["job_id"], asked[1]["texts"]) == (None, ["go on"])


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        ({"action": "allow", "more": 1}, Passed(generate("a", system="b"))),
        ({"action": "flag", "rule": "tone"}, Passed(generate("a", system="b"), ("hook:tone",))),
        ({"action": "flag"}, Passed(generate("a", system="b"), ("hook",))),
        ({"action": "block", "rule": "tone"}, Blocked("hook:tone", "rule hook:tone blocks the job's text")),
        ({"action": "redact", "texts": ["x", "y"]}, Passed(generate("x", system="y"))),
    ],
    ids=["allow", "flag", "flag-unnamed", "block", "redact"],
)
async def test_its_word(verdict: dict, outcome: Passed | Blocked) -> None:
    """Allow, flag, block and redact, by the service's own name for the rule; new texts take the old ones' places."""
    async with hook(verdict) as (filters, _):
        assert await filters.input(generate("a", system="b"), "q") == outcome


def status(code: int, body: str = "{}", **headers: str) -> Answering:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=body, headers=headers)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    return web.Response()


SILENCES = [
    pytest.param(never, "no answer within 0.1 s", id="slow"),
    pytest.param(status(500), "HTTP 500", id="500"),
    pytest.param(status(307, Location="/check"), "HTTP 307", id="redirect"),
    pytest.param(status(200, SECRET), "answer: json_invalid", id="garbage"),
    pytest.param(status(200, "[]"), "answer: model_type", id="no-object"),
    pytest.param(status(200, '{"action":"redact","texts":["\\ud800"]}'), "answer: json_invalid", id="lone-surrogate"),
    pytest.param({"action": "maybe"}, "action: literal_error", id="unknown-action"),
    pytest.param({"action": "redact"}, "answer: value_error", id="redact-without-texts"),
    pytest.param({"action": "redact", "texts": ["a", "b"]}, "texts: got 2, wanted 1", id="too-many-texts"),
    pytest.param({"action": "redact", "texts": [" "]}, "texts: one is empty", id="empty-text"),
    pytest.param({"action": "flag", "rule": SECRET}, "rule: string_pattern_mismatch", id="free-text-as-rule"),
    pytest.param(endless, "an answer of more than", id="endless"),
    pytest.param(hangs_up, "the call failed: ServerDisconnectedError", id="hangs-up"),
]


@pytest.mark.parametrize(("answer", "says"), SILENCES)
async def test_closed_postpones_the_job(answer: object, says: str) -> None:
    """Without a word that can be read nothing is decided: the job waits, at no cost of an attempt."""
    async with hook(answer, filter_hook_timeout=100 if answer is never else 5_000) as (filters, asked):
        with capture_logs() as logs, pytest.raises(BackendError) as caught:
            await filters.input(chat(SECRET), "q")
    assert (caught.value.kind, caught.value.code) == (ErrorKind.UNAVAILABLE, "filter_unavailable")
    assert says in caught.value.reason
    assert SECRET not in caught.value.message + str(logs)
    assert len(asked) == 1


@pytest.mark.parametrize("answer", [status(500), {"action": "redact", "texts": []}], ids=["500", "wrong-number"])
async def test_open_lets_the_job_go_on_and_says_so(answer: object) -> None:
    """The job is as it was, and its result will tell that nobody looked."""
    counted: list[tuple[str, str, str]] = []
    async with hook(answer, filter_hook_fail="open") as (filters, _):
        filters._counted = lambda *what: counted.append(what)
        job = chat(SECRET)
        assert await filters.input(job, "q") == Passed(job, ("hook_unavailable",))
    assert counted == [("hook", "unavailable", "input")]


async def test_a_server_that_is_not_there_postpones() -> None:
    """Refused connections are silence too."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    gone = make_filters(load({"filter_hook_url": f"http://127.0.0.1:{port}/check"}))
    with pytest.raises(BackendError, match="ClientConnectorError"):
        await gone.input(chat(), "q")
    await gone.aclose()


async def test_the_questions_at_once_are_bounded() -> None:
    """No more than the worker's own concurrency; one that has to wait too long for its turn is silence."""
    most = running = 0
    free = asyncio.Event()

    async def busy(request: web.Request) -> web.StreamResponse:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await free.wait()
        running -= 1
        return web.json_response({"action": "allow"})

    async with hook(busy, worker_concurrency=2, filter_hook_timeout=200) as (filters, _):
        outcomes = await asyncio.gather(*(filters.input(chat(), "q") for _ in range(6)), return_exceptions=True)
        free.set()
    assert most <= 2
    assert all(isinstance(outcome, BackendError) for outcome in outcomes)


async def test_output_is_held_until_it_has_spoken() -> None:
    """Nothing is streamed before; then text and tool calls are as the hook wants them."""
    verdict = {"action": "redact", "texts": ["all is well", "nobody"], "rule": "calm"}
    async with hook(verdict, filter_hook_on="output") as (filters, asked):
        job = chat(SECRET)
        assert await filters.input(job, "q") == Passed(job)
        answer = Answer(10_000, filters.output(job, "q"))
        assert answer.take(Text("all is ")) is answer.take(Text("lost " * 100)) is None
        answer.take(ToolCalls([{"to": "everybody"}]))
        assert asked == []
        assert await answer.end() == [("text", "all is well")]
        assert answer.tool_calls == [{"to": "nobody"}]
        assert (asked[0]["stage"], asked[0]["texts"]) == ("output", ["all is " + "lost " * 100, "everybody"])


async def test_a_blocked_output_fails_the_job() -> None:
    """For good, by the hook's rule."""
    async with hook({"action": "block", "rule": "tone"}, filter_hook_on="both") as (filters, _):
        answer = Answer(10_000, filters.output(chat(), "q"))
        answer.take(Text("rude"))
        with pytest.raises(BackendError, match="rule hook:tone blocks the answer") as caught:
            await answer.end()
        assert (caught.value.kind, caught.value.code) == (ErrorKind.PERMANENT, "filtered")


async def test_silence_on_output_costs_an_attempt() -> None:
    """The model has answered for nothing: that isn't to be repeated without end."""
    async with hook(status(503), filter_hook_on="output") as (filters, _):
        answer = Answer(10_000, filters.output(chat(), "q"))
        answer.take(Text("lost"))
        with pytest.raises(BackendError) as caught:
            await answer.end()
    assert (caught.value.kind, caught.value.code) == (ErrorKind.RETRYABLE, "filter_unavailable")


async def test_it_sees_what_the_rules_left(tmp_path: Path) -> None:
    """What is redacted here doesn't go to a service there; what is blocked isn't even asked about."""
    path = tmp_path / "rules.yaml"
    path.write_text(one(action="redact") + "\n" + one(id="s", match="{detector: api_key}").removeprefix("rules:\n"))
    async with hook({"action": "allow"}, filter_rules=str(path)) as (filters, asked):
        await filters.input(generate("a secret plan"), "q")
        assert isinstance(await filters.input(generate("AKIAIOSFODNN7EXAMPLE"), "q"), Blocked)
        assert [question["texts"] for question in asked] == [["a [r] plan"]]


async def test_embeddings_have_no_output_to_ask_about() -> None:
    """Vectors are no text."""
    async with hook({"action": "allow"}, filter_hook_on="both") as (filters, _):
        assert filters.output(Job(type="embed", model="m", input="a"), "q") is None


def test_an_address_with_a_password_is_refused_unseen() -> None:
    """Settings name the variable, and never show what may hold a secret."""
    with pytest.raises(SettingsError) as caught:
        load({"filter_hook_url": "https://me:hunter2@hook.example/check"})
    assert "FILTER_HOOK_URL" in str(caught.value)
    assert "hunter2" not in json.dumps(str(caught.value))
