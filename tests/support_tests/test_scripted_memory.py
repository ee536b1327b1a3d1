"""The scripted Ollama's memory: loads, evictions and slots go as the real scheduler's do, and are told afterwards."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.ollama_script import Fault, Rule, Script
from tests.support.scripted_ollama import ScriptedOllama
from tests.support.waiting import eventually

MODELS = {"a:1b": ("completion",), "b:1b": ("completion",), "v:latest": ("embedding",)}
STALLED = (Rule(Fault.STALL, nth=(1,)),)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as ollama:
        yield ollama


@pytest.fixture
async def http(server: ScriptedOllama) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def ask(http: aiohttp.ClientSession, model: str, **fields: Any) -> dict[str, Any]:
    body = {"model": model, "prompt": "x", "stream": False, **fields}
    async with http.post("/api/generate", json=body) as answer:
        return {"status": answer.status, **await answer.json()}


async def resident(http: aiohttp.ClientSession) -> dict[str, int]:
    async with http.get("/api/ps") as answer:
        return {model["name"]: model["size_vram"] for model in (await answer.json())["models"]}


def changes(server: ScriptedOllama) -> list[tuple[str, str]]:
    return [(change.what, change.model) for change in server.seen.changes]


async def until_running(server: ScriptedOllama, model: str, *, at_server: int, in_slots: int) -> None:
    async def probe() -> bool:
        return (server.seen.running(model), server.scheduler.in_slots(model)) == (at_server, in_slots)

    await eventually(probe, 5, f"{in_slots} running requests of {model}, and {at_server - in_slots} that wait")


async def given_up(task: asyncio.Task[Any]) -> None:
    """Let its client go, which is how a stalled request ends."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_full_memory_makes_room_when_the_other_is_idle(server, http):
    """A model that doesn't fit waits for the requests of the one that is there, and the swap race is told."""
    server.script = Script(models=MODELS, max_loaded=1, rules=STALLED)
    first = asyncio.create_task(ask(http, "a:1b"))
    await until_running(server, "a:1b", at_server=1, in_slots=1)
    second = asyncio.create_task(ask(http, "b:1b"))
    await until_running(server, "b:1b", at_server=1, in_slots=0)
    since = time.monotonic_ns()
    assert set(await resident(http)) == {"a:1b"}
    waited_ns = time.monotonic_ns() - since
    await given_up(first)
    assert (await second)["load_duration"] >= waited_ns  # it holds the wait for room, as Ollama's does
    assert changes(server) == [("load", "a:1b"), ("load", "b:1b"), ("evict", "a:1b")]
    assert server.seen.changes[1].beside == ["a:1b"]
    assert server.seen.to_json()["swap_races"] == 1


async def test_a_swap_in_order_is_no_race(server, http):
    """Unloaded when idle and then loaded: nothing is evicted."""
    server.script = Script(models=MODELS, max_loaded=1)
    await ask(http, "a:1b")
    await ask(http, "a:1b", prompt="", keep_alive=0)
    await ask(http, "b:1b", prompt="", keep_alive=-1)
    assert changes(server) == [("load", "a:1b"), ("unload", "a:1b"), ("load", "b:1b")]
    assert server.seen.to_json()["swap_races"] == 0


async def test_loads_are_one_after_another(server, http):
    """Two loads take twice the time of one, even where both models have room."""
    server.script = Script(models=MODELS, load_s=0.1)
    await asyncio.gather(ask(http, "a:1b"), ask(http, "b:1b"))
    first, second = server.seen.changes
    assert (first.what, second.what, first.race) == ("load", "load", False)
    assert second.at + second.took_s >= first.at + 0.19


async def test_the_model_that_stays_shortest_goes_first(server, http):
    """A model that was loaded for good is evicted last, however old it is."""
    server.script = Script(models=MODELS, max_loaded=2)
    await ask(http, "a:1b", prompt="", keep_alive=-1)
    await ask(http, "b:1b")
    async with http.post("/api/embed", json={"model": "v", "input": ["x"]}) as answer:
        assert answer.status == 200
    assert set(await resident(http)) == {"a:1b", "v:latest"}


async def test_a_busy_model_is_unloaded_when_its_last_request_ends(server, http):
    """keep_alive 0 is answered at once, and the model stays for those who use it."""
    server.script = Script(models=MODELS, rules=STALLED)
    running = asyncio.create_task(ask(http, "a:1b"))
    await until_running(server, "a:1b", at_server=1, in_slots=1)
    assert (await ask(http, "a:1b", prompt="", keep_alive=0))["done_reason"] == "unload"
    assert set(await resident(http)) == {"a:1b"}
    await given_up(running)

    async def gone() -> bool:
        return changes(server)[-1] == ("unload", "a:1b")

    await eventually(gone, 5, "the model's end")
    assert await resident(http) == {}


async def test_slots_are_per_model(server, http):
    """What exceeds num_parallel waits inside, is told as slot wait, and counts as a request at the server."""
    server.script = Script(models=MODELS, num_parallel=1, rules=STALLED)
    first = asyncio.create_task(ask(http, "a:1b"))
    await until_running(server, "a:1b", at_server=1, in_slots=1)
    second = asyncio.create_task(ask(http, "a:1b"))
    await until_running(server, "a:1b", at_server=2, in_slots=1)
    since = time.monotonic_ns()
    assert (await ask(http, "b:1b"))["done"]
    waited_ns = time.monotonic_ns() - since
    await given_up(first)
    answer = await second
    known = sum(answer[name] for name in ("load_duration", "prompt_eval_duration", "eval_duration"))
    assert answer["total_duration"] - known >= waited_ns
    assert server.seen.to_json()["max_concurrent"] == {"a:1b": 2, "b:1b": 1}


async def test_other_runner_options_are_a_load_of_their_own(server, http):
    """num_ctx differs from the one that the model was loaded with: it is loaded anew."""
    server.script = Script(models=MODELS)
    for options in ({"num_ctx": 2048}, {"num_ctx": 2048, "seed": 1}, {"num_ctx": 4096}):
        await ask(http, "a:1b", options=options)
    assert changes(server) == [("load", "a:1b"), ("load", "a:1b"), ("reload", "a:1b")]


async def test_a_load_whose_client_goes_is_given_up(server, http):
    """Nobody waits for it, so it never comes to an end."""
    server.script = Script(models=MODELS, load_s=30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(http, "a:1b"), 0.1)

    async def failed() -> bool:
        return changes(server) == [("load failed", "a:1b")]

    await eventually(failed, 5, "the end of the load")
    assert await resident(http) == {}


async def test_a_model_that_does_not_fit(server, http):
    """Its load is a 500 with Ollama's words, by command and by request."""
    server.script = Script(models=MODELS, load_fails=("a:1b",))
    answers = [await ask(http, "a:1b", prompt=prompt) for prompt in ("x", "")]
    assert [answer["status"] for answer in answers] == [500, 500]
    assert "requires more system memory" in answers[0]["error"]


async def test_pull_and_delete(server, http):
    """A pull tells its progress up to success, and its model is there until it is deleted; others aren't found."""
    server.script = Script(models={}, pullable={"new:1b": ("completion",)}, sizes={"new:1b": 4_000})
    async with http.post("/api/pull", json={"model": "new:1b"}) as answer:
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [line["completed"] for line in lines if "completed" in line] == [1_000, 2_000, 3_000, 4_000]
    assert lines[-1] == {"status": "success"}
    assert (await ask(http, "new:1b"))["done"]
    assert await resident(http) == {"new:1b": 4_000}
    statuses = []
    for _ in range(2):
        async with http.delete("/api/delete", json={"model": "new:1b"}) as answer:
            statuses.append(answer.status)
    assert (statuses, await resident(http)) == ([200, 404], {})
    async with http.post("/api/pull", json={"model": "other"}) as answer:
        assert "file does not exist" in await answer.text()


async def test_embedding_calls_cost_and_refuse_as_a_whole(server, http):
    """Calls of one model run one at a time, each for its cost; one refused text is a 400 for all of its call."""
    server.script = Script(embed_call_s=0.02, embed_input_s=0.01, refuse_text="bad", rules=STALLED)

    async def embed(*texts: str) -> int:
        async with http.post("/api/embed", json={"model": "all-minilm", "input": texts}) as answer:
            await answer.read()
            return answer.status

    first = asyncio.create_task(embed("a"))
    await until_running(server, "all-minilm:latest", at_server=1, in_slots=1)
    second = asyncio.create_task(embed("b", "c"))
    await until_running(server, "all-minilm:latest", at_server=2, in_slots=1)
    await given_up(first)
    assert await second == 200
    since = time.monotonic()
    assert await embed("a", "b", "c") == 200
    assert time.monotonic() - since >= 0.05
    assert await embed("a", "bad") == 400


async def test_openai_routes_and_the_queue_of_vllm(server, http):
    """The same model by /v1, and a gauge of what waits for it."""
    server.script = Script(others_waiting=3)
    body = {"model": "gemma3:270m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    async with http.post("/v1/chat/completions", json=body) as answer:
        whole = await answer.json()
    assert whole["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "hi hi "},
        "finish_reason": "length",
    }
    async with http.get("/v1/models") as answer:
        assert [row["id"] for row in (await answer.json())["data"]] == ["gemma3:270m", "all-minilm:latest"]
    async with http.get("/metrics") as answer:
        assert 'vllm:num_requests_waiting{engine="0",model_name="gemma3:270m"} 3.0' in await answer.text()
