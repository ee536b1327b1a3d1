"""The scripted Ollama answers as the real one does, and breaks as it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.ollama_process import OllamaProcess
from tests.support.ollama_script import Fault, Rule, Script
from tests.support.scripted_ollama import ScriptedOllama
from tests.support.waiting import eventually

CHAT = {"model": "gemma3:270m", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as ollama:
        yield ollama


@pytest.fixture
async def http(server: ScriptedOllama) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def lines(http: aiohttp.ClientSession, path: str, body: object) -> tuple[int, list[str]]:
    async with http.post(path, json=body) as answer:
        return answer.status, (await answer.text()).splitlines()


async def test_stream_ends_with_done_and_counters(server, http):
    """A stream is one object for each token, then a final one with Ollama's counters in nanoseconds."""
    status, got = await lines(http, "/api/chat", {**CHAT, "options": {"num_predict": 5}})
    parts = [json.loads(line) for line in got]
    assert status == 200
    assert "".join(part["message"]["content"] for part in parts) == "one two three one two "
    assert [part["done"] for part in parts] == [False] * 5 + [True]
    assert parts[-1]["done_reason"] == "length"
    assert parts[-1]["eval_count"] == 5
    assert parts[-1]["total_duration"] > parts[-1]["eval_duration"] > 0


async def test_whole_answer_is_one_object(server, http):
    """`stream: false` gives the whole text and the counters in one object."""
    _, got = await lines(http, "/api/generate", {"model": "gemma3:270m", "prompt": "a b", "stream": False})
    answer = json.loads(got[0])
    assert answer["response"].split() == ["a", "b"] * 4
    assert (answer["done"], answer["done_reason"], answer["prompt_eval_count"]) == (True, "stop", 2)


async def test_empty_prompt_loads_and_unloads(server, http):
    """An empty prompt is a command, seen in /api/ps, and no request for an answer."""
    await lines(http, "/api/generate", {"model": "gemma3:270m"})
    async with http.get("/api/ps") as answer:
        assert [model["name"] for model in (await answer.json())["models"]] == ["gemma3:270m"]
    _, got = await lines(http, "/api/generate", {"model": "gemma3:270m", "prompt": "", "keep_alive": 0})
    assert json.loads(got[0])["done_reason"] == "unload"
    async with http.get("/api/ps") as answer:
        assert (await answer.json())["models"] == []
    assert server.seen.calls == []
    assert [what for _, what in server.seen.loads] == ["load", "unload"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/api/chat", {**CHAT, "model": "nope"}, 404, "model 'nope' not found"),
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/chat", {**CHAT, "keep_alive": "-1"}, 400, 'time: missing unit in duration "-1"'),
        ("/api/chat", {**CHAT, "model": "all-minilm"}, 400, '"all-minilm" does not support chat'),
        ("/api/embed", {"model": "all-minilm", "input": [1]}, 400, "invalid input type"),
    ],
    ids=["unknown model", "no model", "keep_alive", "capability", "input type"],
)
async def test_refusals(server, http, path, body, status, message):
    """What Ollama refuses is refused with its status and its words."""
    got_status, got = await lines(http, path, body)
    assert (got_status, json.loads(got[0])) == (status, {"error": message})


async def test_embeddings_are_unit_vectors_and_repeatable(server, http):
    """The same text has the same vector of length 1, alone or in a batch."""
    _, batch = await lines(http, "/api/embed", {"model": "all-minilm", "input": ["a", "b"]})
    _, alone = await lines(http, "/api/embed", {"model": "all-minilm", "input": "b"})
    vectors = json.loads(batch[0])["embeddings"]
    assert vectors[1] == json.loads(alone[0])["embeddings"][0]
    assert [sum(x * x for x in vector) for vector in vectors] == pytest.approx([1, 1])


@pytest.mark.parametrize(("fault", "status"), [(Fault.ERROR, 500), (Fault.BUSY, 503)], ids=["500", "503"])
async def test_status_faults_hit_the_named_requests(server, http, fault, status):
    """`nth` counts the requests to the rule's model from 1; the others are answered."""
    server.script = Script(rules=(Rule(fault, model="gemma3:270m", nth=(2,)),))
    assert [(await lines(http, "/api/chat", CHAT))[0] for _ in range(3)] == [200, status, 200]


@pytest.mark.parametrize(
    ("fault", "ending"),
    [(Fault.NO_DONE, "}"), (Fault.HALF_LINE, ""), (Fault.ERROR_LINE, '{"error": "boom"}')],
    ids=["no done", "half line", "error line"],
)
async def test_streams_that_end_badly(server, http, fault, ending):
    """Two tokens come, then the fault, under a status of 200."""
    server.script = Script(rules=(Rule(fault, after_tokens=2, message="boom"),))
    status, got = await lines(http, "/api/chat", CHAT)
    assert status == 200
    assert got[-1].endswith(ending)
    assert [json.loads(line)["done"] for line in got[:2]] == [False, False]
    assert len(got) == (2 if fault is Fault.NO_DONE else 3)
    assert server.seen.calls[0].outcome == "fault"


async def test_close_resets_the_connection(server, http):
    """A reset stream is an error for the client, not an end."""
    server.script = Script(rules=(Rule(Fault.CLOSE),))
    with pytest.raises(aiohttp.ClientError):
        await lines(http, "/api/chat", CHAT)


async def test_stall_holds_the_socket_and_a_gone_client_frees_it(server, http):
    """A stalled stream sends nothing more; when its client goes, the request is over."""
    server.script = Script(rules=(Rule(Fault.STALL, after_tokens=1),))
    async with http.post("/api/chat", json=CHAT) as answer:
        assert json.loads(await answer.content.readline())["message"]["content"] == "one "
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readline(), 0.2)
        assert server.seen.to_json()["running"] == 1
        answer.close()

    async def nothing_runs() -> bool:
        return server.seen.to_json()["running"] == 0

    await eventually(nothing_runs, 5, "the end of the stalled request")
    assert server.seen.calls[0].outcome == "client gone"


def test_process_is_scripted_over_http(ollama: OllamaProcess):
    """Another process can set the script and read what was seen; a reset forgets both."""
    ollama.script(Rule(Fault.BUSY, every=2), tokens=3, models={"tiny:1b": ("completion",)})
    assert ollama.seen() == {
        "calls": [],
        "count": {},
        "loads": [],
        "changes": [],
        "swap_races": 0,
        "running": 0,
        "max_concurrent": {},
        "max_concurrent_all": 0,
    }
    ollama.kill()
    ollama.reset()
    assert ollama.seen()["calls"] == []
