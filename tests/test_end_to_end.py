"""The main job with every part real: Redis, API server, operator and workers as processes, a faulty model server."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import yaml

from llmpool_operator.kube import KubeAPI, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.kubelet import Kubelet
from tests.support.ollama_process import OllamaProcess
from tests.support.ollama_script import Fault, Rule
from tests.support.operator_process import OperatorProcess, Pools, apply_crd
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.worker_process import chat_job, everywhere, results

EXAMPLE = Path(__file__).parents[1] / "examples" / "pool.yaml"
QUEUE = "llm-chat"
JOBS = 200
IDLE_S = 5
MOST = 6
FAULTS = (
    Rule(Fault.ERROR, every=17),
    Rule(Fault.STALL, every=29),
    Rule(Fault.NO_DONE, every=23),
)

pytestmark = pytest.mark.control_plane


def example_pool(namespace: str, redis_url: str, ollama_url: str) -> dict[str, Any]:
    """examples/pool.yaml as it is, but for addresses, an idle time that a test can wait for, and a smaller most."""
    pool: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    pool["metadata"]["namespace"] = namespace
    pool["spec"]["redis"] = {"url": redis_url}
    pool["spec"]["ollama"] = {"url": ollama_url}
    assert pool["spec"]["scaling"]["minReplicas"] == 0
    pool["spec"]["scaling"] |= {"idleSeconds": IDLE_S, "maxReplicas": MOST}
    return pool


class Watcher:
    """Notes each size of the Deployment, each settled id, and the work there was."""

    def __init__(self, pools: Pools, redis_url: str) -> None:
        self._pools = pools
        self._redis = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
        self.sizes: list[tuple[float, int]] = []
        self.settled: Counter[str] = Counter()
        self.last_settled = 0.0

    async def watch_sizes(self) -> None:
        while True:
            size = await self._pools.replicas("chat")
            if size is not None and (not self.sizes or self.sizes[-1][1] != size):
                self.sizes.append((time.monotonic(), size))
            await asyncio.sleep(0.05)

    async def watch_results(self, subscribed: asyncio.Event) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as events:
            await events.subscribe(f"{{{QUEUE}}}:events")
            subscribed.set()
            async for message in events.listen():
                self.settled[message["data"]] += 1
                self.last_settled = time.monotonic()

    @property
    def path(self) -> list[int]:
        return [size for _, size in self.sizes]

    def when_sized(self, wanted: int, after: float = 0.0) -> float:
        return next(at for at, size in self.sizes if size == wanted and at >= after)


@pytest.fixture
async def pools(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Pools]:
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    yield Pools(api, namespace)
    await api.close()


@pytest.fixture
async def watcher(pools: Pools, redis_url: str) -> AsyncIterator[Watcher]:
    watcher, subscribed = Watcher(pools, redis_url), asyncio.Event()
    tasks = [asyncio.create_task(watcher.watch_sizes()), asyncio.create_task(watcher.watch_results(subscribed))]
    await subscribed.wait()
    yield watcher
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await watcher._redis.aclose()


@pytest.mark.timeout(300)
async def test_from_zero_and_back(
    control_plane: ControlPlane,
    pools: Pools,
    watcher: Watcher,
    redis_server: RedisServer,
    redis_url: str,
    ollama: OllamaProcess,
    tmp_path: Path,
) -> None:
    """200 raw jobs wake the pool within 2 s, size it within its bounds, are each answered once though the server fails,
    a worker is killed and the operator too, and idleSeconds after the last one the pool is at zero."""
    ollama.script(*FAULTS, tokens=20, delay_s=0.05)
    settings = {"WORKER_LEASE": "4000", "OLLAMA_STALL_TIMEOUT": "1000", "RETRY_BACKOFF": "100"}
    # One request in eight fails: with the usual three retries one run in twenty would have a job that met four faults.
    settings |= {"OLLAMA_MAX_RETRIES": "8"}
    ids = [f"job-{n}" for n in range(JOBS)]
    first = OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log")
    async with Kubelet(control_plane.kubeconfig, pools.namespace, env=settings) as kubelet:
        with first:
            await pools.api.create(pools_path(pools.namespace), example_pool(pools.namespace, redis_url, ollama.url))
            await eventually(lambda: _some(watcher.path == [0]), 20, "the Deployment at zero")
            with redis_server.client() as client:
                pushed = time.monotonic()
                client.rpush(QUEUE, *[chat_job(job_id) for job_id in ids])
                await eventually(lambda: _some(watcher.path[-1] > 0), 5, "the Deployment leaves zero")
                await eventually(lambda: _some(len(watcher.settled) > JOBS // 5), 60, "a fifth of the jobs settled")
                os.kill(next(iter(kubelet.processes.values())).pid, signal.SIGKILL)
                first.child.kill()
        second = OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log")
        with second, redis_server.client() as client:
            await eventually(lambda: _some(all(results(client, QUEUE, ids).values())), 120, "a result for each job")
            await eventually(lambda: _some(watcher.path[-1] == 0), IDLE_S + 20, "the Deployment at zero")
            answers = results(client, QUEUE, ids)
            places = everywhere(client, QUEUE)

    left_zero = next(at for at, size in watcher.sizes if size > 0)
    assert left_zero - pushed < 2.0
    assert watcher.when_sized(0, after=pushed) - watcher.last_settled >= IDLE_S - 1  # a reading is at most a tick old
    assert {answer["status"] for answer in answers.values()} == {"succeeded"}
    assert watcher.settled == Counter(ids)
    assert places == {"ready": 0, "claimed": 0, "lease": 0, "delayed": 0, "dead": 0}
    # 200 jobs at 5 a worker ask for more than there may be: straight to the most, and, with HPA's five minutes of
    # stabilisation, nothing smaller until emptiness itself proposes zero. Workers go as they have drained.
    assert watcher.path[:2] == [0, MOST]
    assert watcher.path[1:] == sorted(watcher.path[1:], reverse=True)
    first_step = watcher.sizes[2][0]
    assert first_step - watcher.last_settled >= IDLE_S - 1
    seen = ollama.seen()
    assert {call["fault"] for call in seen["calls"]} >= {"500", "stall", "no_done"}


async def _some(value: bool) -> bool:
    return value
