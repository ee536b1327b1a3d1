"""A pool with all that can happen in it, for Prometheus to look at.

Jobs succeed, fail, are streamed, retried, lost and taken back, models swap and don't load, a breaker opens, and an
operator sizes one pool and refuses another one.
"""

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import redis

from llmpool_operator.kube import KubeAPI, collection, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.ollama_process import OllamaProcess
from tests.support.ollama_script import Fault, Rule
from tests.support.operator_process import OperatorProcess, apply_crd, pool_document
from tests.support.prometheus_server import PrometheusServer, Target
from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess, chat_job, wait_for_results

NAMESPACE, POOL, QUEUE, EMBEDS = "monitored", "chat", "llm-chat", "llm-embed"
GOOD, OTHER, HEAVY, FAILING = "gemma3:270m", "qwen3:0.6b", "heavy:latest", "failing:latest"
EMBEDDER = "all-minilm:latest"
COMPLETION = ("completion",)
RULES = "rules:\n  - {id: noted, on: input, action: flag, match: {keywords: [remarkable]}}\n"
LEASE_S = 2.0


@dataclass(frozen=True)
class Monitored:
    """The scene. `stir` may be called as often as something is to happen."""

    redis: RedisServer
    ollama: OllamaProcess
    workers: list[WorkerProcess]
    operator: OperatorProcess
    numbers: Iterator[int]

    def stir(self) -> None:
        """A few jobs of each sort."""
        n, now = next(self.numbers), time.time() - 5
        jobs = [
            chat_job(f"good-{n}", enqueued_at=now),
            chat_job(f"stream-{n}", stream=True, enqueued_at=now),
            chat_job(f"cached-{n}", cache=True, options={"temperature": 0, "seed": 1}),
            chat_job(f"flagged-{n}", "a remarkable word"),
            chat_job(f"other-{n}", model=OTHER),
            chat_job(f"missing-{n}", model="nobody:latest", fallback_models=[GOOD]),
            chat_job(f"heavy-{n}", model=HEAVY),
            chat_job(f"failing-{n}", model=FAILING),
            "{not JSON",
            chat_job(f"large-{n}", "x" * 20_000),
        ]
        embeds = [f'{{"id":"e-{n}-{m}","type":"embed","model":"{EMBEDDER}","input":"word {n} {m}"}}' for m in range(3)]
        with self.redis.client() as client:
            client.rpush(QUEUE, *jobs)
            client.rpush(EMBEDS, *embeds)

    def lose_and_take_back(self) -> None:
        """One worker sleeps through its lease with a job in hand, and another one is killed with one. To come first:
        then the only model that jobs want is in memory, so that who has a job runs it."""
        sleeper, victim = self.workers[1], self.workers[2]
        with self.redis.client() as client:
            client.rpush(QUEUE, chat_job("warm", options={"num_predict": 1}))
            wait_for_results(client, QUEUE, ["warm"], 60)
            script_models(self.ollama, Rule(Fault.SLOW, model=GOOD, delay_s=0.3))
            until(partial(_busy, client, [sleeper, victim], self.numbers), 90, "a job in each of both")
            victim.child.kill()
            sleeper.signal(signal.SIGSTOP)
            script_models(self.ollama)
            until(lambda: _taken_back(client) > 1, 60, "the jobs being taken back")
        sleeper.signal(signal.SIGCONT)
        until(lambda: '"outcome": "lost"' in sleeper.log, 60, "the loss being noticed")

    def interrupt_redis(self) -> None:
        """Redis is away for as long as a call is retried, and comes back with what it had."""
        self.redis.halt()
        until(lambda: "redis_call_failed" in self.workers[0].log, 20, "a call that failed")
        self.redis.restart()


def _taken_back(client: redis.Redis) -> int:
    return int(client.hget(f"{{{QUEUE}}}:stats", "reaped") or 0)


def _busy(client: redis.Redis, workers: list[WorkerProcess], numbers: Iterator[int]) -> bool:
    """Whether all of them have a job at the same time; there is always another one to take."""
    if int(client.llen(QUEUE)) < 4:
        client.rpush(QUEUE, *(chat_job(f"slow-{next(numbers)}") for _ in range(4)))
    return all(worker.health()["in_flight"] for worker in workers)


def script_models(ollama: OllamaProcess, *rules: Rule) -> None:
    """Room for one model, one that doesn't load, one that always fails; and these rules."""
    models = dict.fromkeys((GOOD, OTHER, HEAVY, FAILING), COMPLETION) | {EMBEDDER: ("embedding",)}
    failing = Rule(Fault.ERROR, model=FAILING)
    ollama.script(failing, *rules, models=models, load_fails=(HEAVY,), max_loaded=1, tokens=20)


def worker_settings(ollama: OllamaProcess, folder: Path) -> dict[str, str]:
    """Settings under which the rare things happen soon."""
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    return {
        "OLLAMA_BASE_URL": ollama.url,
        "WORKER_POOL": f"{NAMESPACE}/{POOL}",
        "WORKER_QUEUES": f"{QUEUE},{EMBEDS}",
        "WORKER_LEASE": str(int(LEASE_S * 1000)),
        "WORKER_CONCURRENCY": "3",
        "WORKER_TIMEOUT": "20000",
        "WORKER_DRAIN": "20000",
        "JOB_MAX_BYTES": "10000",
        "RETRY_BACKOFF": "100",
        "RETRY_BUDGET": "0",
        "RETRY_BUDGET_FLOOR": "0",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "MODEL_SETTINGS": json.dumps({GOOD: {"max_in_flight": 7}}),
        "MODEL_MAX_WAIT": "1000",
        "MODEL_QUANTUM": "500",
        "CIRCUIT_BREAKER_THRESHOLD": "2",
        "CIRCUIT_BREAKER_TIMEOUT": "2000",
        "SATURATION_SLOT_WAIT": "60000",
        "FILTER_RULES": str(rules),
        "NOTIFY_URL": "http://127.0.0.1:9/",
    }


def make_pools(kubeconfig: Path, redis_url: str) -> None:
    """One pool that is sized, and a younger one that wants its queue."""

    async def make() -> None:
        api = KubeAPI(str(kubeconfig))
        try:
            await apply_crd(api)
            await api.create(collection(None, "namespaces", "v1"), {"metadata": {"name": NAMESPACE}})
            queues = [{"name": QUEUE}, {"name": EMBEDS}]
            for name in (POOL, "younger"):
                document = pool_document(NAMESPACE, name, redis_url, queues=queues, models={"preload": [GOOD]})
                await api.create(pools_path(NAMESPACE), document)
                await asyncio.sleep(1.1)  # creation times are whole seconds, and the older one has the queue
        finally:
            await api.close()

    asyncio.run(make())


@contextmanager
def monitored_pool(plane: ControlPlane) -> Iterator[Monitored]:
    """Redis, model server, operator and three workers. Jobs begin with `stir`."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="llmpool-monitored-")))
        server, ollama = held.enter_context(RedisServer(appendonly=True)), held.enter_context(OllamaProcess())
        script_models(ollama)
        make_pools(plane.kubeconfig, server.url)
        settings = worker_settings(ollama, folder)
        workers = [held.enter_context(WorkerProcess(server.url, worker_id=f"w{n}", **settings)) for n in range(1, 4)]
        operator = held.enter_context(OperatorProcess(plane.kubeconfig, NAMESPACE, folder / "operator.log"))
        yield Monitored(server, ollama, workers, operator, count())


def watched(scene: Monitored, rules: Path) -> PrometheusServer:
    """Prometheus with the labels that the chart and the compose file give."""
    ours = {"namespace": NAMESPACE, "pool": POOL}
    targets = [Target("llm-worker", worker.port, ours) for worker in scene.workers]
    return PrometheusServer([*targets, Target("llm-operator", scene.operator.port, {"namespace": NAMESPACE})], rules)
