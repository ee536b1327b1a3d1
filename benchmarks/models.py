"""Two models that don't fit together, mixed in one queue: taken by what is in memory, against the queue's order.

    python benchmarks/models.py [--jobs 40]
    OLLAMA_MAX_LOADED_MODELS=1 ollama serve &
    python benchmarks/models.py --ollama http://localhost:11434 --models gemma3:270m,all-minilm

Without --ollama a scripted server that holds one model at a time: a load takes a second, a job a tenth. Both sides are
the real worker on the same server in the same run, one job at a time: MODEL_MANAGEMENT=false takes the jobs in their
order and leaves it to the server to load what each needs, which is a load for nearly every job. The most that can be
won is (load + job) / job: no loads at all. It is measured beside them, job by job.
"""

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# In place of this folder, whose queue.py would hide the standard library's from everything imported below.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tests.support.ollama_process import OllamaProcess
from tests.support.redis_server import RedisServer
from tests.support.worker_process import WorkerProcess, wait_for_results

QUEUE = "llm-chat"
WORDS = "Say in a few words why the sky is blue."


def job(name: str, model: str) -> dict[str, object]:
    """A short answer, or a vector where the model's name says that it embeds."""
    if "minilm" in model or "embed" in model:
        return {"id": name, "type": "embed", "model": model, "input": WORDS}
    options = {"num_predict": 24, "temperature": 0, "seed": 1}
    return {
        "id": name,
        "type": "chat",
        "model": model,
        "options": options,
        "messages": [{"role": "user", "content": WORDS}],
    }


def call(url: str, path: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        answer.read()


def direct(url: str, model: str) -> float:
    """Seconds that one such job takes of the server itself."""
    asked = job("", model)
    body = {name: asked[name] for name in ("model", "options", "messages", "input") if name in asked} | {
        "stream": False
    }
    began = time.monotonic()
    call(url, "/api/embed" if asked["type"] == "embed" else "/api/chat", body)
    return time.monotonic() - began


def limit(url: str, models: list[str], rounds: int = 4) -> tuple[float, float]:
    """(seconds of a job whose model is in memory, seconds of one whose model isn't), means over all models."""
    warm, cold = [], []
    for _ in range(rounds):
        for model in models:
            cold.append(direct(url, model))
            warm.append(direct(url, model))
    return sum(warm) / len(warm), sum(cold) / len(cold)


def measure(url: str, models: list[str], jobs: int, **env: str) -> float:
    """Seconds for all jobs."""
    with RedisServer() as server, server.client() as client:
        names = [f"j{n}" for n in range(jobs)]
        bodies = [json.dumps(job(name, models[n % len(models)])) for n, name in enumerate(names)]
        with WorkerProcess(server.url, OLLAMA_BASE_URL=url, WORKER_CONCURRENCY="1", LOG_LEVEL="info", **env) as worker:
            client.rpush(QUEUE, json.dumps(job("warm", models[-1])))
            wait_for_results(client, QUEUE, ["warm"], 120)
            began = time.monotonic()
            client.rpush(QUEUE, *bodies)
            found = wait_for_results(client, QUEUE, names, 1_200)
            took = time.monotonic() - began
            loads = worker.log.count('"event": "loaded"')
            if env.get("MODEL_MANAGEMENT") != "false":
                print(f"the worker's loads: {loads}")
    bad = [name for name, result in found.items() if result["status"] != "succeeded"]
    assert not bad, bad
    return took


@contextmanager
def scripted() -> Iterator[str]:
    with OllamaProcess() as ollama:
        ollama.script(
            max_loaded=1, load_s=1.0, delay_s=0.1 / 8, models={"a:1b": ("completion",), "b:1b": ("completion",)}
        )
        yield ollama.url


def run(url: str, models: list[str], jobs: int) -> None:
    warm, cold = limit(url, models)
    best = cold / warm
    fifo = measure(url, models, jobs, MODEL_MANAGEMENT="false", WORKER_BATCH_SIZE="1")
    ours = measure(url, models, jobs, WORKER_BATCH_SIZE="1")
    print(f"a job takes {warm:.3f} s, with its load {cold:.3f} s: limit {best:.2f}")
    print(f"{jobs} jobs of {len(models)} models, one at a time: in the queue's order {jobs / fifo:.2f} jobs/s,")
    share = fifo / ours / best
    print(
        f"by what is in memory {jobs / ours:.2f} jobs/s: ratio {fifo / ours:.2f}, {share:.0%} of the limit (bar 80 %)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--ollama", help="a real one's URL, with OLLAMA_MAX_LOADED_MODELS=1")
    parser.add_argument("--models", default="a:1b,b:1b")
    given = parser.parse_args()
    if given.ollama:
        run(given.ollama, given.models.split(","), given.jobs)
    else:
        with scripted() as url:
            run(url, ["a:1b", "b:1b"], given.jobs)


if __name__ == "__main__":
    main()
