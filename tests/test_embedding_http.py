"""Shared embedding calls over HTTP, by the Ollama backend, against a server that refuses and one that never answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from aiohttp import web

from llmpool_contract import Job
from llmpool_worker.backends.base import Batch, Embeddings, Final
from llmpool_worker.backends.http import HttpServer
from llmpool_worker.backends.ollama import OllamaBackend
from llmpool_worker.embedding import Embedder
from tests.support.embedding_server import codes, vector_of
from tests.support.waiting import eventually


class Ollama:
    """Refuses a call with a text that begins with "bad", whole and in words that repeat it. A call with "slow" it holds
    until the client hangs up."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.hung_up: list[list[str]] = []

    async def embed(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        self.seen.append(texts)
        if "slow" in texts:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.hung_up.append(texts)
                raise
        if refused := [text for text in texts if text.startswith("bad")]:
            return web.json_response({"error": f"not this: {refused}"}, status=400)
        return web.json_response({"embeddings": [vector_of(text) for text in texts], "prompt_eval_count": len(texts)})


@asynccontextmanager
async def embedder_for(server: Ollama) -> AsyncIterator[Embedder]:
    """An embedder whose calls reach the server through the worker's own HTTP backend."""
    app = web.Application()
    app.router.add_post("/api/embed", server.embed)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    backend = OllamaBackend(HttpServer(url, connect_timeout_s=1, connections=2), batch_size=10)

    async def call(texts: list[str], model: str) -> Batch:
        async with aclosing(backend.embed(Job(type="embed", model=model, input=texts), model)) as events:
            vectors, final = [event async for event in events]
        assert isinstance(vectors, Embeddings)
        assert isinstance(final, Final)
        return Batch(vectors.vectors, final.input_tokens, final.load_s)

    try:
        yield Embedder(call, batch_size=10, gather_s=0.005, more_expected=lambda: True)
    finally:
        await backend.aclose()
        await runner.cleanup()


async def test_a_refused_input_fails_alone() -> None:
    """Of ten jobs in one call the one that the server can't take fails, in the server's words about itself."""
    server = Ollama()
    texts = [f"text {n}" for n in range(9)] + ["bad one"]
    async with embedder_for(server) as embedder:
        ends = await asyncio.gather(*(embedder.embed([text], "m") for text in texts), return_exceptions=True)
    assert codes(ends) == ["Embedded"] * 9 + ["refused"]
    assert [end.vectors for end in ends[:9]] == [[vector_of(text)] for text in texts[:9]]
    assert ends[9].message == "HTTP 400 from the model server: not this: ['bad one']"
    assert len(server.seen) <= 1 + 2 * 4


async def test_the_server_hears_that_nobody_waits_any_more() -> None:
    """With the last job of a call cancelled, its request is closed, and the next call goes out."""
    server = Ollama()
    async with embedder_for(server) as embedder:
        jobs = [asyncio.create_task(embedder.embed([text], "m")) for text in ("slow", "other")]

        async def asked() -> bool:
            return bool(server.seen)

        async def hung_up() -> bool:
            return server.hung_up == [["slow", "other"]]

        await eventually(asked, 5, "the call's request")
        for job in jobs:
            job.cancel()
        await eventually(hung_up, 5, "the end of a request that nobody waits for")
        assert (await embedder.embed(["next"], "m")).vectors == [vector_of("next")]
