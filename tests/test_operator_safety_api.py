"""What the operator does while the API server is late, silent, forgetful, refusing or busy: seen from outside."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llmpool_operator.kube import collection, deployment_path, pool_path
from tests.support.api_faults import APIFaults, Fault
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane
SOON = 20.0
"""Seconds: the longest pause between two attempts, and what a busy machine adds."""


@pytest.fixture
async def api(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[APIFaults]:
    """The proxy between the operator and the API server; the test's own calls go past it."""
    async with APIFaults(control_plane.kubeconfig, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def operator(api: APIFaults, namespace: str, tmp_path: Path) -> OperatorProcess:
    """An operator behind the proxy, which lists often; not yet started."""
    return OperatorProcess(api.kubeconfig, namespace, tmp_path / "operator.log", OPERATOR_RELIST="5")


def push(server: RedisServer, jobs: int, queue: str = "llm-chat") -> None:
    with server.client() as client:
        client.rpush(queue, *["{}"] * jobs)


async def answers(operator: OperatorProcess) -> str:
    """Its metrics; it must be there."""
    _, metrics = await asyncio.to_thread(operator.get, "/metrics")
    return metrics


async def said(operator: OperatorProcess, event: str, text: str) -> None:
    """Wait for a line of the log."""

    async def there() -> bool:
        return any(text in str(line) for line in operator.said(event))

    await eventually(there, SOON, f"{event} with {text}")


async def counted(operator: OperatorProcess, kind: str) -> None:
    """Wait for the metric of a kind of error."""

    async def there() -> bool:
        return f'llm_operator_errors_total{{kind="{kind}"}}' in await answers(operator)

    await eventually(there, SOON, f"an error of the kind {kind} is counted")


async def test_watches_that_expire(
    pools: Pools, api: APIFaults, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """410 to every watch: lists keep up with what comes, goes and changes, without a storm of calls."""
    with operator:
        await pools.make("chat", redis_url)
        await pools.sized("chat", 0)
        with api.fault("watch", gone=True) as gone:
            api.cut_watches()
            await pools.make("late", redis_url, queues=[{"name": "late"}], replicas=2)
            await pools.sized("late", 2, SOON)
            push(redis_server, 10)
            await pools.sized("chat", 2)
            await pools.api.delete(pool_path(pools.namespace, "late"))

            async def forgotten() -> bool:
                return "llm_operator_pools 1.0" in await answers(operator)

            await eventually(forgotten, SOON, "the deleted pool is forgotten")
            before = gone.hits
            await asyncio.sleep(3)
            assert gone.hits - before <= 40, "a storm"
        push(redis_server, 10)
        await pools.sized("chat", 4)
        assert operator.child.running()


async def test_watches_that_fall_silent(
    pools: Pools, api: APIFaults, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """Watches that stay open and say nothing: a changed spec, a foreign size and a deletion are found by the lists."""
    with operator:
        await pools.make("chat", redis_url)
        await pools.make("other", redis_url, queues=[{"name": "other"}])
        await pools.sized("chat", 0)
        await pools.sized("other", 0)
        with api.fault("watch", silent=True):
            push(redis_server, 100)
            await pools.sized("chat", 20)
            await pools.api.merge(pool_path(pools.namespace, "chat"), {"spec": {"scaling": {"maxReplicas": 7}}})
            await pools.sized("chat", 7, SOON)
            await pools.api.merge(f"{deployment_path(pools.namespace, 'chat')}/scale", {"spec": {"replicas": 1}})
            await pools.sized("chat", 7, SOON)
            await pools.api.delete(pool_path(pools.namespace, "other"))

            async def forgotten() -> bool:
                return "llm_operator_pools 1.0" in await answers(operator)

            await eventually(forgotten, SOON, "the deleted pool is forgotten")
        assert operator.child.running()


async def test_a_busy_api_server_is_given_time(
    pools: Pools, api: APIFaults, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """429 to each write of a pool: it is said, tried less and less often, and done soon after the server has time."""
    with operator:
        await pools.make("chat", redis_url)
        await pools.sized("chat", 0)
        with api.fault("patch", "deployments/scale", status=429, retry_after=1) as busy:
            push(redis_server, 25)
            await pools.reaches("chat", "AbleToScale", ("False", "APIBusy"))
            before = busy.hits
            await asyncio.sleep(6)
            assert 1 <= busy.hits - before <= 5
            assert await pools.replicas("chat") == 0
        await pools.sized("chat", 5, SOON)
        await pools.reaches("chat", "AbleToScale", ("True", "ReadyForNewScale"), SOON)


DENIED: list[Any] = [
    # verb, resource, what is still done: the size; where it is said: condition or None; the log's line; the metric
    pytest.param("create", "deployments", None, ("False", "Forbidden"), "Forbidden", id="create deployments"),
    pytest.param("patch", "deployments", 2, ("False", "Forbidden"), "Forbidden", id="patch deployments"),
    pytest.param("patch", "deployments/scale", 0, ("False", "Forbidden"), "Forbidden", id="patch scale"),
    pytest.param("patch", "llmworkerpools/status", 2, None, "Tell", id="patch status"),
    pytest.param("create", "events", 2, None, "Event", id="create events"),
    pytest.param("get", "secrets", 0, None, None, id="get secrets"),
]


@pytest.mark.parametrize(("verb", "resource", "size", "ready", "kind"), DENIED)
async def test_a_missing_right_stops_what_needs_it_alone(
    pools: Pools,
    api: APIFaults,
    operator: OperatorProcess,
    own_redis: RedisServer,
    verb: str,
    resource: str,
    size: int | None,
    ready: tuple[str, str] | None,
    kind: str | None,
) -> None:
    """403 to one verb for one pool's sake: it is said in a condition or the log and a metric, another pool goes on as
    far as it doesn't need it, and all is made up for once it is allowed."""
    redis = {"url": own_redis.url}
    login = {"username": "somebody", "password": "p"}
    secret = {"metadata": {"name": "auth", "labels": {"llmpool.dev/redis": "true"}}, "stringData": login}
    if resource == "secrets":
        with own_redis.client() as client:
            client.acl_setuser("somebody", enabled=True, passwords=["+p"], keys=["*"], categories=["+@all"])
        await pools.api.create(collection(pools.namespace, "secrets", "v1"), secret)
        redis["credentialsSecret"] = {"name": "auth"}  # type: ignore[assignment]
    with operator:
        await pools.make("fixed", own_redis.url, queues=[{"name": "other"}], replicas=1)
        await pools.sized("fixed", 1)
        with api.fault(verb, resource, status=403):
            await pools.make("chat", own_redis.url, redis=redis)
            if size is not None:
                await pools.sized("chat", 0)
            push(own_redis, 10)
            if resource == "secrets":
                await pools.reaches("chat", "MetricsAvailable", ("False", "MetricsMissing"))
                assert "SecretForbidden" in str(await pools.status("chat"))
            if size is not None:
                await pools.sized("chat", size)
            if ready is not None:
                await pools.reaches("chat", "Ready", ready)
            if kind is not None:
                await counted(operator, kind)
            assert await pools.replicas("chat") == size
            await pools.api.merge(pool_path(pools.namespace, "fixed"), {"spec": {"replicas": 3}})
            await pools.sized("fixed", 1 if resource == "deployments/scale" else 3)
        await pools.sized("chat", 2, SOON)
        await pools.sized("fixed", 3, SOON)
        await pools.reaches("chat", "Ready", ("False", "NoWorkerReady"), SOON)


@pytest.mark.parametrize("resource", ["llmworkerpools", "deployments"])
@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_rights_to_look_that_are_missing(
    pools: Pools,
    api: APIFaults,
    operator: OperatorProcess,
    redis_server: RedisServer,
    redis_url: str,
    verb: str,
    resource: str,
) -> None:
    """Who may not list does nothing and says so; who may not watch says so and goes on by lists. Neither ends it."""
    with operator:
        with api.fault(verb, resource, status=403):
            await pools.make("chat", redis_url)
            push(redis_server, 10)
            await said(operator, "list failed" if verb == "list" else "watch ended", "403" if verb == "list" else "")
            if verb == "list":
                assert await pools.deployment("chat") is None
                await counted(operator, "List")
            else:
                await pools.sized("chat", 2, SOON)
            assert operator.child.running()
        await pools.sized("chat", 2, SOON)


async def test_a_slow_api_server(
    pools: Pools, api: APIFaults, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """With 5 s before each answer it leads on, stays healthy and follows the queue."""
    with operator:
        await pools.make("chat", redis_url)
        await pools.sized("chat", 0)
        with api.fault(delay=5.0):
            push(redis_server, 10)
            await pools.sized("chat", 2, 30)
            push(redis_server, 10)
            await pools.sized("chat", 4, 30)
            _, body = await asyncio.to_thread(operator.get, "/healthz")
            assert '"ok"' in body
            assert not operator.said("leadership lost: the process ends")
        push(redis_server, 10)
        await pools.sized("chat", 6, 10)


async def test_answers_that_are_lost(
    pools: Pools, api: APIFaults, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """Each kind of write is done once and its answer lost: nothing is done twice, and the end is as without."""
    kinds = [
        ("create", "deployments"),
        ("patch", "deployments"),
        ("patch", "deployments/scale"),
        ("patch", "llmworkerpools/status"),
        ("create", "events"),
    ]
    with operator:
        for verb, resource in kinds:
            api.faults.append(Fault(verb, resource, lost=True, times=1))
        await pools.make("chat", redis_url)
        await pools.sized("chat", 0)
        for jobs, size in ((10, 2), (10, 4)):
            push(redis_server, jobs)
            await pools.sized("chat", size, SOON)
        await pools.reaches("chat", "Ready", ("False", "NoWorkerReady"), SOON)
        assert [fault.hits for fault in api.faults] == [1] * len(kinds)
        sizes = [done.status for done in api.writes("deployments/scale")]
        assert len(sizes) <= 3
        assert (
            len([done for done in api.writes("deployments") if done.call.verb == "create" and done.status == 201]) == 1
        )
