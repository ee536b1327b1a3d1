"""`mode: Observe` and preload lists with the operator's process: what is told, and what isn't touched."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmpool_contract import PoolConfig, PoolKeys
from llmpool_operator.kube import KubeAPI, collection, deployment_path, pool_path, pools_path
from tests.support.bare_node import BareNode
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools, apply_crd, foreign_deployment, pool_document
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane


@pytest.fixture
async def pools(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Pools]:
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    async with BareNode(api):
        yield Pools(api, namespace)
    await api.close()


async def test_observe_decides_and_writes_nothing(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Beside another autoscaler the status tells what it would do; Deployment, Redis and other pools are untouched."""
    theirs = foreign_deployment(pools.namespace, "theirs", replicas=1)
    made = await pools.api.create(collection(pools.namespace, "deployments", "apps/v1"), theirs)
    with redis_server.client() as client:
        client.rpush("llm-chat", *["{}"] * 20)
        before = set(client.keys("*"))
    document = pool_document(pools.namespace, "looks", redis_url, mode="Observe", target={"name": "theirs"})
    kubeconfig, log = control_plane.kubeconfig, tmp_path / "operator.log"
    with OperatorProcess(kubeconfig, pools.namespace, log, WORKER_IMAGE=""):
        await pools.api.create(pools_path(pools.namespace), document)

        async def decided(replicas: int) -> bool:
            return (await pools.status("looks")).get("desiredReplicas") == replicas

        await eventually(lambda: decided(4), 15, "a decision for 20 jobs")
        assert await pools.replicas("theirs") == 1
        scale = f"{deployment_path(pools.namespace, 'theirs')}/scale"
        for replicas in (2, 3, 2):
            await pools.api._call("PATCH", scale, {"fieldManager": "an-hpa"}, {"spec": {"replicas": replicas}},
                                  "application/merge-patch+json")  # fmt: skip
        await eventually(lambda: decided(4), 15, "another's changes are no trouble here")
        assert (await pools.condition("looks", "AbleToScale"))[0] == "True"
    after = await pools.deployment("theirs")
    assert after is not None
    assert {entry["manager"] for entry in after["metadata"]["managedFields"]} <= {
        "llmpool-operator",  # the test itself made it
        "an-hpa",
        "kube-controller-manager",
    }
    assert after["metadata"]["generation"] == made["metadata"]["generation"] + 3
    assert await pools.deployment("looks") is None
    with redis_server.client() as client:
        assert set(client.keys("*")) == before


async def test_a_preload_list_reaches_the_workers_without_a_restart(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """It is in the hash that workers hear with each report; the pods' template doesn't change with it."""
    key = PoolKeys(f"{pools.namespace}/chat").config

    async def listed(*models: str) -> bool:
        with redis_server.client() as client:
            return PoolConfig.from_hash(client.hgetall(key)).preload == models

    with OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log"):
        models = {"preload": ["gemma3:270m"]}
        document = pool_document(pools.namespace, "chat", redis_url, replicas=1, models=models)
        await pools.api.create(pools_path(pools.namespace), document)
        await eventually(lambda: listed("gemma3:270m"), 10, "the list")
        before = await pools.deployment("chat")
        change = {"spec": {"models": {"preload": ["gemma3:270m", "all-minilm"]}}}
        await pools.api.merge(pool_path(pools.namespace, "chat"), change)
        await eventually(lambda: listed("gemma3:270m", "all-minilm"), 5, "the new list")
        after = await pools.deployment("chat")
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
