"""The same failures by OpenAI's API: one meaning for the job, one for the breaker, and none passes for an answer."""

from collections.abc import AsyncIterator

import pytest

from llmpool_worker.backends.base import BackendError, Embeddings, ErrorKind, Final, LocalModel, Text
from llmpool_worker.backends.http import HttpServer
from llmpool_worker.backends.openai import OpenAIBackend
from llmpool_worker.runner import RunLimits
from tests.support.backend_runs import CHAT_MODEL, EMBED_MODEL, counts_for_breaker, ended, events_of, job_of
from tests.support.ollama_script import Fault, Rule, Script
from tests.support.scripted_ollama import ScriptedOllama
from tests.support.waiting import eventually

PERMANENT, RETRYABLE, UNAVAILABLE = ErrorKind.PERMANENT, ErrorKind.RETRYABLE, ErrorKind.UNAVAILABLE


@pytest.fixture
async def server() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as ollama:
        yield ollama


@pytest.fixture
async def backend(server: ScriptedOllama) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(HttpServer(server.url, connect_timeout_s=1, connections=4), batch_size=2)
    yield backend
    await backend.aclose()


def failure(error: BackendError) -> tuple[ErrorKind, str, bool]:
    return error.kind, error.code, counts_for_breaker(error)


@pytest.mark.parametrize("kind", ["chat", "generate"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(Fault.BAD_REQUEST, (PERMANENT, "refused", False), id="400"),
        pytest.param(Fault.BUSY, (UNAVAILABLE, "backend_busy", False), id="503"),
        pytest.param(Fault.ERROR, (RETRYABLE, "backend_failed", True), id="500"),
        pytest.param(Fault.LOAD_FAILED, (RETRYABLE, "load_failed", True), id="500-load"),
        pytest.param(Fault.REDIRECT, (PERMANENT, "refused", False), id="redirect"),
        pytest.param(Fault.NO_HEADERS, (RETRYABLE, "backend_broke", True), id="closed-before-headers"),
        pytest.param(Fault.CLOSE, (RETRYABLE, "backend_broke", True), id="death-mid-stream"),
        pytest.param(Fault.ERROR_LINE, (RETRYABLE, "backend_failed", True), id="error-event"),
        pytest.param(Fault.NO_DONE, (RETRYABLE, "incomplete", True), id="no-end"),
        pytest.param(Fault.NOT_DONE, (RETRYABLE, "incomplete", True), id="one-object-and-no-event"),
        pytest.param(Fault.HALF_LINE, (RETRYABLE, "backend_not_json", True), id="half-a-line"),
        pytest.param(Fault.BIG_LINE, (RETRYABLE, "line_too_long", False), id="10-MB-line"),
    ],
)
async def test_what_a_failure_means(
    server: ScriptedOllama, backend: OpenAIBackend, kind: str, fault: Fault, expected: tuple[ErrorKind, str, bool]
) -> None:
    """One kind, one code, one word for the breaker; and the next request is answered."""
    server.script = Script(rules=(Rule(fault, nth=(1,)),))
    with pytest.raises(BackendError) as caught:
        await events_of(backend, job_of(kind))
    assert failure(caught.value) == expected
    assert "three" not in caught.value.reason
    assert isinstance((await events_of(backend, job_of(kind)))[-1], Final)


@pytest.mark.parametrize("kind", ["chat", "generate", "embed"])
async def test_a_model_that_is_missing(backend: OpenAIBackend, kind: str) -> None:
    """Asking again won't help, and the server is in good health."""
    with pytest.raises(BackendError) as caught:
        await events_of(backend, job_of(kind, model="nobody:1b"))
    assert failure(caught.value) == (PERMANENT, "model_not_found", False)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(Fault.EMBED_CRASH, (RETRYABLE, "runner_died", True), id="400-that-is-a-crash"),
        pytest.param(Fault.BAD_REQUEST, (PERMANENT, "refused", False), id="400"),
        pytest.param(Fault.ERROR, (RETRYABLE, "backend_failed", True), id="500"),
        pytest.param(Fault.NOT_DONE, (RETRYABLE, "incomplete", True), id="no-vectors"),
        pytest.param(Fault.HALF_LINE, (RETRYABLE, "backend_not_json", True), id="half-a-body"),
    ],
)
async def test_what_a_failed_embedding_means(
    server: ScriptedOllama, backend: OpenAIBackend, fault: Fault, expected: tuple[ErrorKind, str, bool]
) -> None:
    """As for answers."""
    server.script = Script(rules=(Rule(fault),))
    with pytest.raises(BackendError) as caught:
        await backend.embed_texts(["a"], EMBED_MODEL)
    assert failure(caught.value) == expected


@pytest.mark.parametrize(
    ("rule", "limits", "code"),
    [
        pytest.param(Rule(Fault.NEVER), RunLimits(30, 0.3, 30, 10**6), "backend_stalled", id="never-answers"),
        pytest.param(Rule(Fault.STALL), RunLimits(30, 30, 0.3, 10**6), "backend_stalled", id="stops-in-the-middle"),
        pytest.param(
            Rule(Fault.DRIP, delay_s=0.01), RunLimits(30, 30, 0.3, 10**6), "backend_stalled", id="a-byte-now-and-then"
        ),
        pytest.param(Rule(Fault.ENDLESS), RunLimits(30, 30, 5, 500), "output_too_large", id="endless"),
    ],
)
async def test_no_server_holds_a_job_for_ever(
    server: ScriptedOllama, backend: OpenAIBackend, rule: Rule, limits: RunLimits, code: str
) -> None:
    """A run ends by its limits, whatever the server sends: bytes alone are no progress. Then it hangs up."""
    server.script = Script(rules=(rule,), delay_s=0.001)
    assert (await ended(backend, job_of("chat"), limits)).code == code

    async def nothing_runs() -> bool:
        return server.seen.to_json()["running"] == 0

    await eventually(nothing_runs, 5, "the end of the request")


async def test_answers_are_those_of_ollama(backend: OpenAIBackend) -> None:
    """By /v1 the same text comes with the same counts, and vectors in their order."""
    answer = await events_of(backend, job_of("chat", options={"num_predict": 4}))
    assert "".join(event.text for event in answer if isinstance(event, Text)) == "one two three one "
    assert answer[-1] == Final("length", 3, 4)
    vectors, _ = await events_of(backend, job_of("embed", input=["a", "b", "c"]))
    assert isinstance(vectors, Embeddings)
    assert vectors.vectors[2] == (await backend.embed_texts(["c"], EMBED_MODEL)).vectors[0]


async def test_models_can_be_listed_and_no_more(backend: OpenAIBackend) -> None:
    """What the API can't do is said by the capabilities, and by every call to it."""
    assert await backend.models() == [LocalModel(CHAT_MODEL), LocalModel("all-minilm:latest")]
    told = backend.capabilities
    assert (told.lists_models, told.manages_models, told.pulls_models) == (True, False, False)
    with pytest.raises(NotImplementedError):
        await backend.load(CHAT_MODEL)
    with pytest.raises(NotImplementedError):
        await backend.unload(CHAT_MODEL)
    with pytest.raises(NotImplementedError):
        await backend.resident()
    with pytest.raises(NotImplementedError):
        backend.pull(CHAT_MODEL)


async def test_a_probe_is_the_smallest_request(server: ScriptedOllama, backend: OpenAIBackend) -> None:
    """One token, or one vector of a model that can't chat; what is wrong is told as for a job."""
    await backend.probe(CHAT_MODEL)
    await backend.probe(EMBED_MODEL)
    assert [(call.path, call.body.get("options")) for call in server.seen.calls] == [
        ("/v1/chat/completions", {"num_predict": 1}),
        ("/v1/embeddings", {}),
    ]
    with pytest.raises(BackendError) as caught:
        await backend.probe("nobody:1b")
    assert caught.value.code == "model_not_found"
    server.script = Script(rules=(Rule(Fault.ERROR),))
    with pytest.raises(BackendError) as caught:
        await backend.probe(EMBED_MODEL)
    assert caught.value.code == "backend_failed"
