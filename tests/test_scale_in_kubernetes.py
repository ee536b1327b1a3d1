"""Scale-in with real workers, a real ReplicaSet controller and a real Redis: what a user of the cluster can rely on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from llmpool_contract import PoolConfig, PoolKeys
from llmpool_contract.labels import ANNOTATION_DELETION_COST, LABEL_POOL
from llmpool_contract.pool import parse_pool
from llmpool_operator.decide.types import Missing, Observation
from llmpool_operator.kube import KubeAPI, collection, deployment_path, pool_path, pools_path
from llmpool_operator.targets.base import Sighting, Size
from llmpool_operator.targets.observed import LOOK_EVERY, ObservedTarget
from tests.support.control_plane import ControlPlane
from tests.support.kubelet import Kubelet
from tests.support.ollama_process import OllamaProcess
from tests.support.operator_process import OperatorProcess, Pools, apply_crd, foreign_deployment, pool_document
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.worker_process import chat_job, everywhere, results

pytestmark = pytest.mark.control_plane

QUEUE = "llm-chat"
JOB_S = 4.0
"""What one generation takes."""
WORKER = {"concurrency": 2, "timeoutSeconds": 30, "drainSeconds": 30}


@pytest.fixture
async def pools(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Pools]:
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    yield Pools(api, namespace)
    await api.close()


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Callable[[], OperatorProcess]:
    """Makes operators of the namespace, not yet started."""
    return lambda: OperatorProcess(control_plane.kubeconfig, namespace, tmp_path / "operator.log")


class Stage:
    """One pool `chat` and what there is to ask of it."""

    def __init__(self, pools: Pools, kubelet: Kubelet | None, server: RedisServer) -> None:
        self.pools = pools
        self.kubelet = kubelet
        self.server = server
        self.key = PoolKeys(f"{pools.namespace}/chat")

    async def make(self, **spec: Any) -> None:
        document = pool_document(self.pools.namespace, "chat", self.server.url, worker=WORKER, **spec)
        await self.pools.api.create(pools_path(self.pools.namespace), document)

    async def want(self, replicas: int) -> None:
        await self.pools.api.merge(pool_path(self.pools.namespace, "chat"), {"spec": {"replicas": replicas}})

    @property
    def config(self) -> PoolConfig:
        with self.server.client() as client:
            return PoolConfig.from_hash(client.hgetall(self.key.config))

    def reports(self) -> dict[str, dict[str, Any]]:
        with self.server.client() as client:
            return {name: json.loads(raw) for name, raw in client.hgetall(self.key.workers).items()}

    def draining(self) -> set[str]:
        """Workers whose drain holds now."""
        with self.server.client() as client:
            seconds, microseconds = client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        return {worker for worker, until in self.config.drains.items() if until > now_ms}

    async def pods(self) -> list[dict[str, Any]]:
        found, _ = await self.pools.api.list(collection(self.pools.namespace, "pods", "v1"), selector=LABEL_POOL)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    async def workers_are_ready(self, count: int) -> None:
        async def there() -> bool:
            ready = [
                c["status"]
                for pod in await self.pods()
                for c in pod["status"].get("conditions") or ()
                if c["type"] == "Ready"
            ]
            return ready == ["True"] * count and len(self.reports()) >= count

        await eventually(there, 30, f"{count} ready workers")

    def push(self, jobs: int, name: str = "job") -> list[str]:
        ids = [f"{name}-{n}" for n in range(jobs)]
        with self.server.client() as client:
            client.rpush(QUEUE, *[chat_job(job_id) for job_id in ids])
        return ids

    def all_answered(self, ids: list[str]) -> bool:
        with self.server.client() as client:
            return all(results(client, QUEUE, ids).values())

    def in_flight_at_the_end(self) -> list[int]:
        """What each worker that was ended held when SIGTERM came."""
        assert self.kubelet is not None
        logs = [path.read_text() for path in self.kubelet.logs.glob("*.log")]
        lines = [json.loads(line) for log in logs for line in log.splitlines() if '"stopping"' in line]
        return [line["in_flight"] for line in lines]


async def when(probe: Callable[[], Any], timeout_s: float, what: str) -> None:
    async def asked() -> Any:
        return probe()

    await eventually(asked, timeout_s, what)


@pytest.mark.timeout(240)
async def test_a_scale_in_under_load_with_the_operator_killed_in_its_middle(
    control_plane: ControlPlane,
    pools: Pools,
    operator: Callable[[], OperatorProcess],
    redis_server: RedisServer,
    redis_url: str,
    ollama: OllamaProcess,
) -> None:
    """From four busy workers to one: each that goes has drained before, no generation is cut or run twice, and the
    next operator carries on where the first one died."""
    ollama.script(tokens=20, delay_s=JOB_S / 20, num_parallel=16)
    async with Kubelet(control_plane.kubeconfig, pools.namespace) as kubelet:
        stage = Stage(pools, kubelet, redis_server)
        first = operator()
        with first:
            await stage.make(ollama={"url": ollama.url}, replicas=4)
            await stage.workers_are_ready(4)
            ids = stage.push(20)
            await when(lambda: sum(r["in_flight"] for r in stage.reports().values()) == 8, 20, "all slots are busy")
            await stage.want(1)
            await when(lambda: len(stage.draining()) == 3, 10, "three workers drain")
            assert await pools.replicas("chat") == 4
            first.child.kill()
        with operator():
            await pools.sized("chat", 1, 60)
            await when(lambda: stage.all_answered(ids), 60, "an answer to each job")
            await stage.workers_are_ready(1)
            await when(lambda: not stage.draining(), 20, "no drain is left")
            [left] = await stage.pods()
        at_the_end = stage.in_flight_at_the_end()
        with redis_server.client() as client:
            answers, places = results(client, QUEUE, ids), everywhere(client, QUEUE)
    assert {answer["status"] for answer in answers.values()} == {"succeeded"}
    assert {answer["attempts"] for answer in answers.values()} == {1}
    assert set(places.values()) == {0}
    calls = ollama.seen()["calls"]
    assert (len(calls), {call["outcome"] for call in calls}) == (len(ids), {"answered"})
    assert at_the_end == [0, 0, 0], "SIGTERM came to workers that had drained"
    assert ANNOTATION_DELETION_COST not in (left["metadata"].get("annotations") or {})


@pytest.mark.timeout(240)
async def test_a_burst_takes_the_drain_back(
    control_plane: ControlPlane,
    pools: Pools,
    operator: Callable[[], OperatorProcess],
    redis_server: RedisServer,
    redis_url: str,
    ollama: OllamaProcess,
) -> None:
    """Workers that drain go on when they are wanted again: no pod ends, none is made. Idle ones go before busy ones."""
    ollama.script(tokens=20, delay_s=JOB_S / 20, num_parallel=16)
    async with Kubelet(control_plane.kubeconfig, pools.namespace) as kubelet:
        stage = Stage(pools, kubelet, redis_server)
        with operator():
            await stage.make(ollama={"url": ollama.url}, replicas=3)
            await stage.workers_are_ready(3)
            before = {pod["metadata"]["uid"] for pod in await stage.pods()}
            ids = stage.push(12)
            await when(lambda: sum(r["in_flight"] for r in stage.reports().values()) == 6, 20, "all slots are busy")
            await stage.want(1)
            await when(lambda: len(stage.draining()) == 2, 10, "two workers drain")
            await stage.want(3)
            await when(lambda: not stage.draining(), 10, "nobody drains")
            assert await pools.replicas("chat") == 3
            await when(lambda: stage.all_answered(ids), 60, "an answer to each job")
            assert {pod["metadata"]["uid"] for pod in await stage.pods()} == before
            assert len({answer["worker"] for answer in _answers(redis_server, ids)}) == 3
            # Longer than a slow machine needs to let idle workers go.
            ollama.script(tokens=20, delay_s=0.75, num_parallel=16)
            late = stage.push(2, "late")
            await when(lambda: sum(r["in_flight"] for r in stage.reports().values()) == 2, 20, "two jobs run")
            busy = {name for name, r in stage.reports().items() if r["in_flight"]}
            await stage.want(len(busy))
            await pools.sized("chat", len(busy), 10)
            assert {pod["metadata"]["name"] for pod in await stage.pods()} >= busy
            assert not stage.all_answered(late)
        assert set(stage.in_flight_at_the_end()[: 3 - len(busy)]) <= {0}


def _answers(server: RedisServer, ids: list[str]) -> list[dict[str, Any]]:
    with server.client() as client:
        return [answer for answer in results(client, QUEUE, ids).values() if answer]


async def test_a_name_that_belongs_to_another_cluster_is_refused(
    pools: Pools, operator: Callable[[], OperatorProcess], redis_server: RedisServer, redis_url: str
) -> None:
    """With one Redis for two clusters the second pool of a name holds and says so, and leaves the hash alone."""
    stage = Stage(pools, None, redis_server)
    with redis_server.client() as client:
        seconds, _ = client.time()
        theirs = {"owner": "theirs", "renewed_ms": seconds * 1000, "version": 7}
        client.hset(stage.key.config, mapping=theirs)
    stage.push(10)
    with operator():
        await stage.make()
        await pools.reaches("chat", "Ready", ("False", "PoolNameTaken"))
        assert await pools.deployment("chat") is None
        assert (stage.config.owner, stage.config.version) == ("theirs", 7)
        with redis_server.client() as client:
            client.delete(stage.key.config)
        await pools.sized("chat", 2, 30)


async def test_a_deleted_pool_leaves_no_hash(
    pools: Pools, operator: Callable[[], OperatorProcess], redis_server: RedisServer, redis_url: str
) -> None:
    """What its workers were told goes with the pool, so that the next one of its name is nobody's heir."""
    stage = Stage(pools, None, redis_server)
    with operator():
        await stage.make(replicas=1)
        await pools.sized("chat", 1)
        await when(lambda: stage.config.owner != "", 5, "a config hash")
        await pools.api.delete(pool_path(pools.namespace, "chat"))
        await when(lambda: stage.config == PoolConfig(), 10, "no config hash")
        await stage.make(replicas=2)
        await pools.sized("chat", 2, 20)


async def test_another_autoscaler_is_not_fought(
    pools: Pools, operator: Callable[[], OperatorProcess], redis_server: RedisServer, redis_url: str
) -> None:
    """One change by hand is set right; a second one by the same manager makes the pool stand aside and name it."""

    async def somebody_scales(replicas: int) -> None:
        path = f"{deployment_path(pools.namespace, 'chat')}/scale"
        body = {"spec": {"replicas": replicas}}
        await pools.api._call("PATCH", path, {"fieldManager": "an-hpa"}, body, "application/merge-patch+json")

    stage = Stage(pools, None, redis_server)
    with operator():
        await stage.make(replicas=3)
        await pools.sized("chat", 3)
        await somebody_scales(5)
        await pools.sized("chat", 3, 5)
        await somebody_scales(6)
        await pools.reaches("chat", "AbleToScale", ("False", "ScaledByAnother"))
        conditions = (await pools.status("chat"))["conditions"]
        [told] = [c["message"] for c in conditions if c["type"] == "AbleToScale"]
        assert told.startswith("an-hpa sets the Deployment's replicas, too")
        await somebody_scales(2)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert await pools.replicas("chat") == 2
            await asyncio.sleep(0.2)


async def test_observe_only_looks(pools: Pools) -> None:
    """A pool in mode Observe finds the size of a Deployment that isn't its own, and asks nothing of it."""
    theirs = foreign_deployment(pools.namespace, "theirs", replicas=2)
    document = pool_document(pools.namespace, "chat", "redis://r", mode="Observe", target={"name": "theirs"})
    now = 0.0
    target = ObservedTarget(pools.api, _Nobody(), pool=parse_pool(document), monotonic=lambda: now)
    sighting = Sighting(Observation(0, {}), Missing("not read"))
    assert await target.size(sighting, 0) == Missing("NoSuchDeployment")
    made = await pools.api.create(collection(pools.namespace, "deployments", "apps/v1"), theirs)
    assert await target.size(sighting, 0) == Missing("NoSuchDeployment"), "looked at every five seconds"
    now = LOOK_EVERY
    size = await target.size(sighting, 0)
    assert isinstance(size, Size)
    assert (size.intended, size.found) == (2, None)
    assert (await target.resize(9)).intended == 2
    after = await pools.deployment("theirs")
    assert after is not None
    assert after["metadata"]["generation"] == made["metadata"]["generation"]


class _Nobody:
    async def report(self, turn: object) -> None:
        """Hears nothing."""
