"""Each way in which Ollama fails has one meaning for the job and one for the breaker, and none passes for an answer."""

from collections.abc import AsyncIterator

import pytest

from llmpool_worker.backends.base import BackendError, Embeddings, ErrorKind, Final, Text
from llmpool_worker.backends.http import HttpServer
from llmpool_worker.backends.ollama import OllamaBackend
from llmpool_worker.policy import Fate, RetryPolicy, fate_of
from llmpool_worker.runner import RunLimits
from tests.support.backend_runs import CHAT_MODEL, EMBED_MODEL, counts_for_breaker, ended, events_of, job_of
from tests.support.ollama_script import Fault, Rule, Script
from tests.support.scripted_ollama import ScriptedOllama
from tests.support.waiting import eventually

PERMANENT, RETRYABLE, UNAVAILABLE = ErrorKind.PERMANENT, ErrorKind.RETRYABLE, ErrorKind.UNAVAILABLE
MISSING = "nobody:1b"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedOllama]:
    async with ScriptedOllama() as ollama:
        yield ollama


@pytest.fixture
async def backend(server: ScriptedOllama) -> AsyncIterator[OllamaBackend]:
    backend = OllamaBackend(HttpServer(server.url, connect_timeout_s=1, connections=4), batch_size=2)
    yield backend
    await backend.aclose()


def failure(error: BackendError) -> tuple[ErrorKind, str, bool]:
    return error.kind, error.code, counts_for_breaker(error)


async def nothing_runs(server: ScriptedOllama) -> None:
    async def probe() -> bool:
        return server.seen.to_json()["running"] == 0

    await eventually(probe, 5, "the end of the request")


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
        pytest.param(Fault.ERROR_LINE, (RETRYABLE, "backend_failed", True), id="error-line"),
        pytest.param(Fault.NO_DONE, (RETRYABLE, "incomplete", True), id="no-done"),
        pytest.param(Fault.NOT_DONE, (RETRYABLE, "incomplete", True), id="one-object-that-is-not-done"),
        pytest.param(Fault.HALF_LINE, (RETRYABLE, "backend_not_json", True), id="half-a-line"),
        pytest.param(Fault.BIG_LINE, (RETRYABLE, "line_too_long", False), id="10-MB-line"),
    ],
)
async def test_what_a_failure_means(
    server: ScriptedOllama, backend: OllamaBackend, kind: str, fault: Fault, expected: tuple[ErrorKind, str, bool]
) -> None:
    """One kind, one code, one word for the breaker; and the next request is answered."""
    server.script = Script(rules=(Rule(fault, nth=(1,)),))
    with pytest.raises(BackendError) as caught:
        await events_of(backend, job_of(kind))
    assert failure(caught.value) == expected
    assert "three" not in caught.value.reason
    assert isinstance((await events_of(backend, job_of(kind)))[-1], Final)


async def test_a_server_that_is_not_there(unused_tcp_port: int) -> None:
    """Nothing was asked, so no attempt is spent; the breaker counts it."""
    away = HttpServer(f"http://127.0.0.1:{unused_tcp_port}", connect_timeout_s=1, connections=1)
    backend = OllamaBackend(away, batch_size=1)
    with pytest.raises(BackendError) as caught:
        await events_of(backend, job_of("chat"))
    assert failure(caught.value) == (UNAVAILABLE, "backend_unreachable", True)
    await backend.aclose()


@pytest.mark.parametrize("kind", ["chat", "generate", "embed"])
async def test_a_model_that_is_missing(backend: OllamaBackend, kind: str) -> None:
    """Asking again won't help, and the server is in good health."""
    with pytest.raises(BackendError) as caught:
        await events_of(backend, job_of(kind, model=MISSING))
    assert failure(caught.value) == (PERMANENT, "model_not_found", False)


async def test_a_model_that_repeats_itself(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """Ollama ends a stream of equal tokens without a word: what came is no answer."""
    server.script = Script(rules=(Rule(Fault.NO_DONE, after_tokens=40),), tokens=40)
    with pytest.raises(BackendError) as caught:
        await events_of(backend, job_of("chat", text="same"))
    assert caught.value.code == "incomplete"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(Fault.EMBED_CRASH, (RETRYABLE, "runner_died", True), id="400-that-is-a-crash"),
        pytest.param(Fault.BAD_REQUEST, (PERMANENT, "refused", False), id="400"),
        pytest.param(Fault.BUSY, (UNAVAILABLE, "backend_busy", False), id="503"),
        pytest.param(Fault.ERROR, (RETRYABLE, "backend_failed", True), id="500"),
        pytest.param(Fault.NOT_DONE, (RETRYABLE, "incomplete", True), id="no-vectors"),
        pytest.param(Fault.HALF_LINE, (RETRYABLE, "backend_not_json", True), id="half-a-body"),
        pytest.param(Fault.CLOSE, (RETRYABLE, "backend_broke", True), id="death"),
    ],
)
async def test_what_a_failed_embedding_means(
    server: ScriptedOllama, backend: OllamaBackend, fault: Fault, expected: tuple[ErrorKind, str, bool]
) -> None:
    """As for answers; and Ollama's 400 is told apart by its text where the runner died."""
    server.script = Script(rules=(Rule(fault),))
    with pytest.raises(BackendError) as caught:
        await backend.embed_texts(["a"], EMBED_MODEL)
    assert failure(caught.value) == expected


async def test_one_bad_text_refuses_its_whole_call(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """A call fails as a whole, by a refusal that says nothing about the server: its texts can be tried apart."""
    server.script = Script(refuse_text="bad")
    with pytest.raises(BackendError) as caught:
        await backend.embed_texts(["good", "bad"], EMBED_MODEL)
    assert failure(caught.value) == (PERMANENT, "refused", False)
    assert len((await backend.embed_texts(["good"], EMBED_MODEL)).vectors) == 1


LIMITS = RunLimits(timeout_s=30, request_s=30, stall_s=0.3, output_max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("rule", "limits", "code"),
    [
        pytest.param(
            Rule(Fault.NEVER), RunLimits(30, 0.3, 30, 1_000_000), "backend_stalled", id="accepts-and-never-answers"
        ),
        pytest.param(Rule(Fault.STALL), LIMITS, "backend_stalled", id="stops-in-the-middle"),
        pytest.param(Rule(Fault.DRIP, delay_s=0.01), LIMITS, "backend_stalled", id="a-byte-now-and-then"),
        pytest.param(
            Rule(Fault.DRIP, delay_s=0.01, after_tokens=0),
            RunLimits(30, 0.3, 30, 1_000_000),
            "backend_stalled",
            id="a-byte-now-and-then-from-the-start",
        ),
        pytest.param(Rule(Fault.ENDLESS), RunLimits(30, 30, 5, 500), "output_too_large", id="endless-bounded-by-bytes"),
        pytest.param(Rule(Fault.ENDLESS), RunLimits(0.4, 30, 5, 10**9), "timeout", id="endless-bounded-by-time"),
        pytest.param(
            Rule(Fault.ENDLESS), RunLimits(30, 0.4, 5, 10**9), "backend_stalled", id="endless-bounded-by-request-time"
        ),
    ],
)
async def test_no_server_holds_a_job_for_ever(
    server: ScriptedOllama, backend: OllamaBackend, rule: Rule, limits: RunLimits, code: str
) -> None:
    """A run ends by its limits, whatever the server sends: bytes alone are no progress. Then it hangs up."""
    server.script = Script(rules=(rule,), delay_s=0.001)
    end = await ended(backend, job_of("chat"), limits)
    assert (end.code, end.final) == (code, None)
    await nothing_runs(server)


async def test_num_predict_bounds_what_no_job_bounds(server: ScriptedOllama) -> None:
    """It is sent with each answer's request; a job's own wins, and so do a model's fixed options."""
    server.script = Script(tokens=1_000)
    http = HttpServer(server.url, connect_timeout_s=1, connections=1)
    backend = OllamaBackend(http, batch_size=1, num_predict=5)
    for options in (None, {"num_predict": 7}):
        answer = await events_of(backend, job_of("generate", options=options))
        assert isinstance(answer[-1], Final)
        assert answer[-1].finish_reason == "length"
    assert [call.body["options"]["num_predict"] for call in server.seen.calls] == [5, 7]
    await backend.aclose()


async def test_a_failed_load(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """A model that doesn't fit costs an attempt; one that isn't there won't come by trying."""
    server.script = Script(load_fails=(CHAT_MODEL,))
    with pytest.raises(BackendError) as caught:
        await backend.load(CHAT_MODEL)
    assert failure(caught.value) == (RETRYABLE, "load_failed", True)
    assert fate_of(caught.value, 0, RetryPolicy(3, 1, 1), 0.5)[0] is Fate.RETRY
    with pytest.raises(BackendError) as caught:
        await backend.load(MISSING)
    assert failure(caught.value) == (PERMANENT, "model_not_found", False)


async def test_the_request_ends_with_its_iterator(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """Closing an answer hangs up at once: the server's slot is free again."""
    server.script = Script(rules=(Rule(Fault.ENDLESS),), delay_s=0.001)
    answer = backend.chat(job_of("chat"), CHAT_MODEL)
    assert isinstance(await anext(answer), Text)
    await answer.aclose()
    await nothing_runs(server)
    assert server.seen.calls[0].outcome == "client gone"


async def test_embeddings_of_a_job(server: ScriptedOllama, backend: OllamaBackend) -> None:
    """More inputs than a call takes go in several, and are told as one."""
    vectors, final = await events_of(backend, job_of("embed", input=["a", "b", "c d"]))
    assert isinstance(vectors, Embeddings)
    assert len(vectors.vectors) == 3
    assert isinstance(final, Final)
    assert final.input_tokens == 4
    assert [call.body["input"] for call in server.seen.calls] == [["a", "b"], ["c d"]]
