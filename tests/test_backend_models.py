"""What Ollama and the echo are asked beside jobs: lists, loads, unloads, downloads, probes."""

from collections.abc import AsyncIterator

import pytest

from llmpool_contract.models import folded
from llmpool_worker.backends.base import Backend, BackendError, Batch, ErrorKind, Final, LocalModel, ResidentModel
from llmpool_worker.backends.echo import EchoBackend
from llmpool_worker.backends.http import HttpServer
from llmpool_worker.backends.ollama import OllamaBackend
from tests.support.backend_runs import CHAT_MODEL, EMBED_MODEL, counts_for_breaker, events_of, job_of
from tests.support.ollama_script import Fault, Rule, Script
from tests.support.scripted_ollama import ScriptedOllama

SIZES = {CHAT_MODEL: 1_000, "all-minilm:latest": 50}
FIXED = {CHAT_MODEL: {"num_ctx": 2_048}, EMBED_MODEL: {"num_ctx": 256}}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama(Script(sizes=SIZES)) as ollama:
        yield ollama


@pytest.fixture
async def backend(server: ScriptedOllama) -> AsyncIterator[OllamaBackend]:
    http = HttpServer(server.url, connect_timeout_s=1, connections=4)
    backend = OllamaBackend(http, batch_size=2, runner_options=FIXED, num_predict=4)
    yield backend
    await backend.aclose()


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("all-minilm", "all-minilm:latest"),
        ("gemma3:270m", "gemma3:270m"),
        ("host:5000/team/model", "host:5000/team/model:latest"),
        ("host:5000/team/model:8b", "host:5000/team/model:8b"),
        ("", ""),
    ],
)
def test_names_are_folded(name: str, whole: str) -> None:
    """A bare name gets the tag that Ollama adds; a registry's port is no tag."""
    assert folded(name) == whole


async def test_what_there_is(backend: OllamaBackend) -> None:
    """Names, bytes, and which models only embed."""
    found = {model.name: (model.size_bytes, model.embeds_only) for model in await backend.models()}
    assert found == {CHAT_MODEL: (1_000, False), "all-minilm:latest": (50, True)}


@pytest.mark.parametrize("model", [CHAT_MODEL, EMBED_MODEL])
async def test_load_and_unload(server: ScriptedOllama, backend: OllamaBackend, model: str) -> None:
    """A load is over when the model is resident, for good; an unload of any kind of model takes it away."""
    await backend.load(model)
    assert await backend.resident() == [ResidentModel(folded(model), SIZES[folded(model)], SIZES[folded(model)])]
    await backend.unload(model)
    assert await backend.resident() == []
    assert [(change.what, change.model) for change in server.seen.changes] == [
        ("load", folded(model)),
        ("unload", folded(model)),
    ]
    assert server.seen.calls == []


async def test_no_job_makes_a_model_load_again(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """Loads, jobs, embeddings and probes have a model's fixed options, by either of its names: one load serves all."""
    for model in (CHAT_MODEL, EMBED_MODEL):
        await backend.load(model)
        await backend.probe(model)
    await events_of(backend, job_of("chat", options={"temperature": 0.5}))
    await events_of(backend, job_of("generate"))
    await backend.embed_texts(["a"], "all-minilm:latest")
    assert [change.what for change in server.seen.changes] == ["load", "load"]
    assert [call.body["options"] for call in server.seen.calls] == [
        {"num_ctx": 2_048, "num_predict": 1},
        {"num_ctx": 256},
        {"num_ctx": 2_048, "num_predict": 4, "temperature": 0.5},
        {"num_ctx": 2_048, "num_predict": 4},
        {"num_ctx": 256},
    ]


async def test_a_load_is_believed_only_when_the_model_is_there(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """A model that somebody else's pushed out meanwhile isn't loaded."""
    server.script = Script(max_loaded=1)
    await backend.load(CHAT_MODEL)
    await backend.load(EMBED_MODEL)
    assert [model.name for model in await backend.resident()] == ["all-minilm:latest"]
    server.scheduler.load = lambda *_given: _nothing()  # type: ignore[method-assign]
    with pytest.raises(BackendError) as caught:
        await backend.load(CHAT_MODEL)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.RETRYABLE, "load_failed")


async def _nothing() -> None:
    """A load that says it is done."""


async def test_pull(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """Bytes as they come; the model is there at the end. One that no registry has can't be had by trying."""
    server.script = Script(pullable={"new:1b": ("completion",)}, sizes={"new:1b": 4_000})
    progress = [step async for step in backend.pull("new:1b")]
    assert [step.completed_bytes for step in progress if step.completed_bytes] == [1_000, 2_000, 3_000, 4_000]
    assert {step.total_bytes for step in progress if step.completed_bytes} == {4_000}
    assert progress[-1].status == "success"
    assert "new:1b" in {model.name for model in await backend.models()}
    with pytest.raises(BackendError) as caught:
        [step async for step in backend.pull("other")]
    assert (caught.value.kind, caught.value.code) == (ErrorKind.PERMANENT, "model_not_found")


@pytest.mark.parametrize("model", [CHAT_MODEL, EMBED_MODEL])
async def test_a_probe_goes_where_jobs_go(server: ScriptedOllama, backend: OllamaBackend, model: str) -> None:
    """It fails as a job would, while the lists of the server are as green as ever."""
    server.script = Script(rules=(Rule(Fault.ERROR),))
    assert len(await backend.models()) == 2
    with pytest.raises(BackendError) as caught:
        await backend.probe(model)
    assert counts_for_breaker(caught.value)


async def test_no_texts_are_no_load(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """To Ollama an empty input is a command; here it is nothing to do."""
    assert await backend.embed_texts([], EMBED_MODEL) == Batch([], 0)
    assert server.seen.loads == []


async def test_times_of_an_answer(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """All of Ollama's durations, in seconds; what they don't account for is the wait for a slot."""
    final = (await events_of(backend, job_of("chat")))[-1]
    assert isinstance(final, Final)
    parts = (final.load_s, final.prompt_s, final.eval_s, final.slot_wait_s)
    assert all(part is not None and part >= 0 for part in parts)
    assert final.total_s == pytest.approx(sum(part or 0.0 for part in parts))
    assert Final("stop", 1, 1, 0.1).slot_wait_s is None


async def test_the_echo_has_whatever_it_is_asked_for() -> None:
    """Trials go every way that a real server's jobs go, without a cost."""
    backend: Backend = EchoBackend()
    assert (await backend.models(), await backend.resident()) == ([], [])
    assert [step.status async for step in backend.pull("a")] == ["success"]
    assert (await backend.models(), await backend.resident()) == ([LocalModel("a:latest", 0)], [])
    await backend.load("a:latest")
    await backend.probe("b")
    assert [model.name for model in await backend.resident()] == ["a:latest", "b:latest"]
    await backend.unload("a")
    assert [model.name for model in await backend.resident()] == ["b:latest"]
    batch = await backend.embed_texts(["x y", "z"], "b")
    assert (len(batch.vectors), batch.input_tokens) == (2, 3)
