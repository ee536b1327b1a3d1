"""Embed jobs of one input each, sharing calls and one call each: jobs/s and calls per input, over HTTP.

    python benchmarks/embeddings.py [--jobs 400] [--runs 3]
    python benchmarks/embeddings.py --ollama http://127.0.0.1:11434 --model all-minilm

Without --ollama the server is this process' own: it takes 20 ms for a call and 0.2 ms for each of its inputs, one call
at a time, as servers do that batch. Bars: 4x there, never slower on Ollama, 1/8 call per input on both. Sides take
turns, and their medians are compared. Both have the same slots: one job each, or a call's worth of jobs. Every vector
is compared with the other side's for its text, or the run doesn't count.
"""

import argparse
import asyncio
import math
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

# In place of this folder, whose queue.py would hide the standard library's from everything imported below.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from aiohttp import web

from llmpool_contract import Job
from llmpool_worker.backends.base import Batch, Embeddings, Final
from llmpool_worker.backends.http import HttpServer
from llmpool_worker.backends.ollama import OllamaBackend
from llmpool_worker.embedding import Embedder

CALL_S, INPUT_S = 0.02, 0.0002
SLOTS, BATCH, GATHER_S = 5, 10, 0.005
BAR_SCRIPTED, BAR_OLLAMA, BAR_CALLS = 4.0, 1.0, 1 / 8
MIN_COSINE = 0.999
DIMENSIONS = 16

Vectors = dict[str, list[float]]
Work = Callable[[str], Awaitable[list[float]]]


class Counted:
    """A backend's embedding call, and how many were made."""

    def __init__(self, backend: OllamaBackend) -> None:
        self._backend = backend
        self.calls = 0

    async def __call__(self, texts: list[str], model: str) -> Batch:
        self.calls += 1
        vectors, final = [], Final()
        async with aclosing(self._backend.embed(Job(type="embed", model=model, input=texts), model)) as events:
            async for event in events:
                match event:
                    case Embeddings():
                        vectors = event.vectors
                    case Final():
                        final = event
        return Batch(vectors, final.input_tokens, final.load_s)


def scripted_vector(text: str) -> list[float]:
    chance = random.Random(text)
    return [chance.gauss(0, 1) for _ in range(DIMENSIONS)]


@asynccontextmanager
async def scripted() -> AsyncIterator[str]:
    """The URL of a server that batches."""
    busy = asyncio.Lock()

    async def embed(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        async with busy:
            await asyncio.sleep(CALL_S + INPUT_S * len(texts))
        return web.json_response({"embeddings": [scripted_vector(t) for t in texts], "prompt_eval_count": len(texts)})

    app = web.Application()
    app.router.add_post("/api/embed", embed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def work_off(texts: Iterator[str], at_once: int, work: Work) -> Vectors:
    """Every text, ``at_once`` of them at a time."""
    found: Vectors = {}

    async def slot() -> None:
        for text in texts:
            found[text] = await work(text)

    await asyncio.gather(*(slot() for _ in range(at_once)))
    return found


async def one_each(call: Counted, texts: list[str], model: str) -> Vectors:
    async def work(text: str) -> list[float]:
        return (await call([text], model)).vectors[0]

    return await work_off(iter(texts), SLOTS, work)


async def shared(call: Counted, texts: list[str], model: str) -> Vectors:
    asked = 0
    made = Embedder(call, batch_size=BATCH, gather_s=GATHER_S, more_expected=lambda: asked < len(texts))

    async def work(text: str) -> list[float]:
        nonlocal asked
        asked += 1
        return (await made.embed([text], model)).vectors[0]

    return await work_off(iter(texts), SLOTS * BATCH, work)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


async def run(url: str, model: str, jobs: int, runs: int, bar: float) -> bool:
    """Whether all bars are met."""
    backend = OllamaBackend(HttpServer(url, connect_timeout_s=5, connections=SLOTS), batch_size=BATCH)
    rates: dict[str, list[float]] = {"one call each": [], "shared calls": []}
    per_input: dict[str, float] = {}
    found: dict[str, Vectors] = {}
    try:
        await Counted(backend)(["a model is loaded before the clock runs"], model)
        for n in range(runs):
            texts = [f"{n}{job:05} of the jobs wants this sentence as a vector" for job in range(jobs)]
            for name, side in [("one call each", one_each), ("shared calls", shared)]:
                call, began = Counted(backend), time.perf_counter()
                found[name] = await side(call, texts, model)
                rates[name].append(jobs / (time.perf_counter() - began))
                per_input[name] = call.calls / jobs
                print(f"run {n + 1}, {name}: {rates[name][-1]:,.0f} jobs/s, {per_input[name]:.3f} calls per input")
            worst = min(cosine(found["one call each"][text], found["shared calls"][text]) for text in texts)
            if worst < MIN_COSINE:
                sys.exit(f"a vector of a shared call differs from its text's own: cosine {worst:.4f}")
    finally:
        await backend.aclose()
    each, together = (statistics.median(rates[name]) for name in rates)
    print(f"medians: {each:,.0f} jobs/s by one call each, {together:,.0f} by shared calls")
    print(
        f"ratio {together / each:.2f} (bar {bar:g}), {per_input['shared calls']:.3f} calls per input (bar {BAR_CALLS})"
    )
    return together / each >= bar and per_input["shared calls"] <= BAR_CALLS


async def measure(args: argparse.Namespace) -> bool:
    if args.ollama:
        return await run(args.ollama, args.model, args.jobs, args.runs, BAR_OLLAMA)
    async with scripted() as url:
        return await run(url, args.model, args.jobs, args.runs, BAR_SCRIPTED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ollama", metavar="URL", help="a real one, in place of the scripted server")
    parser.add_argument("--model", default="all-minilm")
    if not asyncio.run(measure(parser.parse_args())):
        sys.exit("a bar is not met")


if __name__ == "__main__":
    main()
