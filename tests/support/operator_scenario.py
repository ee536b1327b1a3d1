"""A pool's life from nothing to its maximum and back to zero, whatever happens to its operator meanwhile."""

import json

from llmpool_operator.kube import Object, collection, deployment_path, pool_path
from tests.support.api_faults import APIFaults, Done
from tests.support.operator_process import Pools
from tests.support.redis_server import RedisServer

MAXIMUM = 5
SIZES = [0, 5, 2, 0]
_WORK = {5: 100, 2: 10, 0: 0}
"""Jobs in the queue for each size."""


async def make(pools: Pools, name: str, redis_url: str) -> None:
    """The pool: idle at once, and no windows, so that each step is one size and needs no operator that lives long."""
    scaling = {
        "maxReplicas": MAXIMUM,
        "idleSeconds": 0,
        "behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]},
            "scaleDown": {"stabilizationWindowSeconds": 0},
        },
    }
    await pools.make(name, redis_url, queues=[{"name": name}], scaling=scaling)


def set_work(server: RedisServer, name: str, jobs: int) -> None:
    """So many jobs in the pool's queue, in one step."""
    with server.client() as client, client.pipeline() as pipe:
        pipe.delete(name)
        if jobs:
            pipe.rpush(name, *["{}"] * jobs)
        pipe.execute()


async def play(pools: Pools, server: RedisServer, name: str, *, timeout_s: float = 120) -> None:
    """0 -> 5 -> 2 -> 0, each step once the one before is reached."""
    await make(pools, name, server.url)
    await pools.sized(name, 0, timeout_s)
    for size in SIZES[1:]:
        set_work(server, name, _WORK[size])
        await pools.sized(name, size, timeout_s)


def sizes_written(api: APIFaults, name: str) -> list[int]:
    """The sizes that a pool's Deployment was given, repeats left out."""
    path: list[int] = []
    for done in api.writes("deployments") + api.writes("deployments/scale"):
        size = _size(done, name)
        if size is not None and path[-1:] != [size]:
            path.append(size)
    return path


def _size(done: Done, name: str) -> int | None:
    call = done.call
    if done.status >= 300 or "deployments" not in call.resource:
        return None
    if call.verb == "create":
        made = json.loads(call.body)
        return int(made["spec"]["replicas"]) if made["metadata"]["name"] == name else None
    if call.resource == "deployments/scale" and call.name == name:
        return int(json.loads(call.body)["spec"]["replicas"])
    return None


async def end_state(pools: Pools, name: str) -> Object:
    """What is left of a pool's life, less what names its moments."""
    deployment = await pools.deployment(name)
    assert deployment is not None
    status = await pools.status(name)
    deployments, _ = await pools.api.list(collection(pools.namespace, "deployments", "apps/v1"))
    return {
        "deployments": [one["metadata"]["name"] for one in deployments if one["metadata"]["name"] == name],
        "replicas": deployment["spec"]["replicas"],
        "template": deployment["spec"]["template"],
        "labels": deployment["metadata"]["labels"],
        "managers": sorted(
            {(entry["manager"], entry["operation"]) for entry in deployment["metadata"]["managedFields"]}
            - {("kube-controller-manager", "Update")}
        ),
        # Not the reasons: some tell of the last turn, which may be one that changed the size or one after it.
        "conditions": [(c["type"], c["status"]) for c in status["conditions"]],
        "sizes": {key: status.get(key) for key in ("replicas", "readyReplicas", "desiredReplicas")},
    }


async def settled(pools: Pools, name: str) -> bool:
    """Whether the status tells of the last step, and the manifest was applied."""
    deployment = await pools.deployment(name)
    assert deployment is not None
    applied = any(entry["operation"] == "Apply" for entry in deployment["metadata"]["managedFields"])
    told = await pools.condition(name, "Ready") == ("True", "ScaledToZero")
    status = await pools.status(name)
    return applied and told and (status.get("queued"), status.get("replicas")) == (0, 0)


async def remove(pools: Pools, name: str) -> None:
    """The Deployment and the pool, without waiting for the garbage collector. For when no operator runs."""
    await pools.api.delete(deployment_path(pools.namespace, name))
    await pools.api.delete(pool_path(pools.namespace, name))
