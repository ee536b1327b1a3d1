"""The operator's process against a real API server and a real Redis: what a user of the cluster can rely on."""

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from llmpool_contract.labels import LABEL_POOL
from llmpool_operator.kube import KubeAPI, collection, deployment_path, pool_path, pools_path
from tests.support.api_calls import APICalls, writes
from tests.support.bare_node import BareNode
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import Door, OperatorProcess, Pools, apply_crd, foreign_deployment, pool_document
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane


@pytest.fixture
async def pools(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Pools]:
    """The CRD, a namespace, a node for its pods, and a way to ask about what is in it."""
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    async with BareNode(api):
        yield Pools(api, namespace)
    await api.close()


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> OperatorProcess:
    """An operator of the namespace, not yet started."""
    return OperatorProcess(control_plane.kubeconfig, namespace, tmp_path / "operator.log")


async def make(pools: Pools, name: str, redis_url: str, **spec) -> None:
    await pools.api.create(pools_path(pools.namespace), pool_document(pools.namespace, name, redis_url, **spec))


def push(server: RedisServer, jobs: int, queue: str = "llm-chat") -> None:
    with server.client() as client:
        client.rpush(queue, *["{}"] * jobs)


async def rescales(pools: Pools, at_least: int) -> list[str]:
    """The sizes that Events tell of, once there are so many: they follow the sizes themselves."""
    events, _ = await pools.api.list(collection(pools.namespace, "events", "v1"))
    told = [event["message"] for event in events if event["reason"] == "SuccessfulRescale"]
    return [message.partition(";")[0] for message in told] if len(told) >= at_least else []


async def test_follows_the_queue_from_zero_and_back(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """Jobs wake the pool, the backlog sizes it, emptiness brings it back to zero, and status and Events say so."""
    with operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 0)
        await pools.reaches("chat", "Ready", ("True", "ScaledToZero"))
        push(redis_server, 23)
        await pools.sized("chat", 5)
        push(redis_server, 22)
        await pools.sized("chat", 9)
        await pools.reaches("chat", "Ready", ("False", "NoWorkerReady"))
        with redis_server.client() as client:
            client.delete("llm-chat")
        await pools.sized("chat", 0)
        await pools.reaches("chat", "Ready", ("True", "ScaledToZero"))
        sizes = await eventually(lambda: rescales(pools, 3), 5, "an Event for each size")
    assert sorted(sizes) == ["New size: 0", "New size: 5", "New size: 9"]
    assert (await pools.status("chat"))["selector"] == f"app.kubernetes.io/name=llm-worker,{LABEL_POOL}=chat"


async def test_writes_nothing_but_its_own(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """Kopf leaves no finalizer, annotation or field in a pool; a Deployment's replicas are the scale subresource's."""
    with operator:
        await make(pools, "chat", redis_url)
        push(redis_server, 10)
        await pools.sized("chat", 2)

        async def applied() -> bool:
            fields = (await pools.deployment("chat"))["metadata"]["managedFields"]
            return any(entry["operation"] == "Apply" for entry in fields)

        await eventually(applied, 5, "an apply")
        await pools.sized("chat", 2)
    pool = await pools.api.get(pool_path(pools.namespace, "chat"))
    assert "finalizers" not in pool["metadata"]
    assert "annotations" not in pool["metadata"]
    writers = [(entry["manager"], entry.get("subresource")) for entry in pool["metadata"]["managedFields"]]
    assert sorted(writers, key=str) == [("llmpool-operator", "status"), ("llmpool-operator", None)], "the test made it"
    deployment = await pools.deployment("chat")
    owners = {
        (entry["operation"], entry.get("subresource"))
        for entry in deployment["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }
    assert owners <= {("Update", "scale")}


async def test_nothing_is_written_while_nothing_changes(
    pools: Pools, control_plane: ControlPlane, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """By the API server's own count: a pool whose numbers stay the same costs it no call that writes."""
    push(redis_server, 10)
    async with APICalls(control_plane.kubeconfig) as calls:
        with operator:
            await make(pools, "chat", redis_url)
            await make(pools, "empty", redis_url, queues=[{"name": "other"}])
            await pools.sized("chat", 2)
            await pools.reaches("chat", "Ready", ("False", "NoWorkerReady"))
            before = await calls.count()

            async def quiet() -> bool:
                """Longer than anything is put off: counts in a status, a hold, an apply, another try."""
                nonlocal before
                since, before = before, await calls.count()
                await asyncio.sleep(8)
                return OURS.isdisjoint(writes(since, await calls.count()))

            await eventually(quiet, 40, "8 s without a write")
            operator_turns = operator.get("/metrics")[1].count("llm_operator_replicas{")
    assert operator_turns == 2


OURS = {
    f"{verb} {kind}"
    for verb in ("PATCH", "APPLY", "POST", "PUT")
    for kind in ("llmworkerpools", "llmworkerpools/status", "deployments", "deployments/scale")
}


async def test_a_changed_spec_reaches_the_pods_and_keeps_the_size(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """An env variable comes and goes with the pool's, replicas stay what they were, and a foreign edit is undone."""

    async def variables() -> set[str]:
        found = await pools.deployment("chat")
        return {variable["name"] for variable in found["spec"]["template"]["spec"]["containers"][0]["env"]}

    async def has(name: str, wanted: bool) -> None:
        async def there() -> bool:
            return (name in await variables()) == wanted

        await eventually(there, 5, f"{name} is {'' if wanted else 'not '}there")

    push(redis_server, 15)
    with operator:
        await make(pools, "chat", redis_url, worker={"env": [{"name": "EXTRA", "value": "1"}]})
        await pools.sized("chat", 3)
        assert "EXTRA" in await variables()
        path = pool_path(pools.namespace, "chat")
        await pools.api.merge(path, {"spec": {"worker": {"env": [{"name": "OTHER", "value": "2"}]}}})
        await has("OTHER", True)
        await has("EXTRA", False)
        container = {"name": "worker", "image": "somebody/elses:1"}
        edit = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": container["image"]}]
        await pools.api.json_patch(deployment_path(pools.namespace, "chat"), edit)

        async def undone() -> bool:
            found = await pools.deployment("chat")
            return found["spec"]["template"]["spec"]["containers"][0]["image"] != container["image"]

        await eventually(undone, 5, "the image is the pool's again")
        assert await pools.replicas("chat") == 3


async def test_redis_out_of_reach_holds(pools: Pools, operator: OperatorProcess, own_redis: RedisServer) -> None:
    """Without Redis the size stays and the conditions say why; with it, the pool goes on."""
    push(own_redis, 20)
    with operator:
        await make(pools, "chat", own_redis.url)
        await pools.sized("chat", 4)
        own_redis.kill()
        await pools.reaches("chat", "MetricsAvailable", ("False", "MetricsMissing"))
        await asyncio.sleep(3.5)  # longer than idleSeconds: what is missing must not pass for empty
        assert await pools.replicas("chat") == 4
        events, _ = await pools.api.list(collection(pools.namespace, "events", "v1"))
        [told] = [event for event in events if event["reason"] == "FailedGetExternalMetric"]
        assert (told["type"], "RedisUnreachable" in told["message"]) == ("Warning", True)
        own_redis.restart()
        push(own_redis, 10)
        await pools.sized("chat", 6)
        await pools.reaches("chat", "MetricsAvailable", ("True", "MetricsFound"))


async def test_a_killed_operator_is_continued(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """After kill -9 the next process goes on from the size and the history there is: no jump, no early scale-down."""
    log = tmp_path / "operator.log"
    operator = OperatorProcess(control_plane.kubeconfig, pools.namespace, log, LEADER_LEASE_DURATION="5")
    push(redis_server, 30)
    with operator:
        await make(pools, "chat", redis_url, scaling={"idleSeconds": 600})
        await pools.sized("chat", 6)
        await pools.reaches("chat", "Ready", ("False", "NoWorkerReady"))
        operator.child.kill()
        with redis_server.client() as client:
            client.ltrim("llm-chat", 0, 4)
        operator.child.start()

        async def stabilized() -> bool:
            return await pools.condition("chat", "AbleToScale") == ("True", "ScaleDownStabilized")

        await eventually(stabilized, 20, "the window of before the kill holds")
        assert await pools.replicas("chat") == 6
        push(redis_server, 35)
        await pools.sized("chat", 8)


async def test_a_deleted_deployment_comes_back_at_its_size(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """Somebody's `kubectl delete deployment` is repaired."""
    push(redis_server, 15)
    with operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 3)
        before = (await pools.deployment("chat"))["metadata"]["uid"]
        await pools.api.delete(deployment_path(pools.namespace, "chat"))

        async def another() -> bool:
            found = await pools.deployment("chat")
            return found is not None and found["metadata"]["uid"] != before

        await eventually(another, 20, "a new Deployment")
        await pools.sized("chat", 3)


async def test_a_foreign_deployment_is_refused(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """A Deployment of the pool's name that isn't the pool's is never touched, and the pool says so."""
    theirs = foreign_deployment(pools.namespace, "chat", replicas=1)
    await pools.api.create(collection(pools.namespace, "deployments", "apps/v1"), theirs)
    push(redis_server, 50)
    with operator:
        await make(pools, "chat", redis_url)
        await pools.reaches("chat", "Ready", ("False", "DeploymentNotOurs"))
    found = await pools.deployment("chat")
    assert found["spec"]["replicas"] == 1
    assert found["metadata"].get("labels", {}) == {}


async def test_a_deployment_that_lost_its_label_is_taken_back(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """Out of the watch's sight it is still the pool's: it gets its label back, and sizes as before."""
    push(redis_server, 15)
    with operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 3)
        label = LABEL_POOL.replace("/", "~1")
        edit = [{"op": "remove", "path": f"/metadata/labels/{label}"}]
        await pools.api.json_patch(deployment_path(pools.namespace, "chat"), edit)

        async def back() -> bool:
            return LABEL_POOL in (await pools.deployment("chat"))["metadata"]["labels"]

        await eventually(back, 10, "the label")
        push(redis_server, 15)
        await pools.sized("chat", 6, 5)
        await asyncio.sleep(2.5)
        told = [line["event"] for line in operator.lines()]
    assert told.count("resized") == 2
    assert "size changed by somebody else" not in told


async def test_a_silent_redis_delays_no_other_pool(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """A Redis that takes connections and never answers costs its own pool the timeout, and no other anything."""
    log = tmp_path / "operator.log"
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        OperatorProcess(control_plane.kubeconfig, pools.namespace, log, REDIS_READ_TIMEOUT="10"),
    ):
        await make(pools, "silent", f"redis://127.0.0.1:{silent.getsockname()[1]}/0", queues=[{"name": "other"}])
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 0, 15)
        for jobs, replicas in ((10, 2), (10, 4), (10, 6)):
            push(redis_server, jobs)
            await pools.sized("chat", replicas, 3)
        await pools.reaches("silent", "MetricsAvailable", ("False", "MetricsMissing"), 15)


async def test_a_pool_without_an_image_is_refused(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Nobody's image is made up: the pool says NoImage until it names one."""
    log = tmp_path / "operator.log"
    with OperatorProcess(control_plane.kubeconfig, pools.namespace, log, WORKER_IMAGE=""):
        await make(pools, "chat", redis_url)
        await pools.reaches("chat", "Ready", ("False", "NoImage"))
        assert await pools.deployment("chat") is None
        image = {"spec": {"worker": {"image": "worker:own"}}}
        await pools.api.merge(pool_path(pools.namespace, "chat"), image)
        await pools.reaches("chat", "Ready", ("True", "ScaledToZero"))


async def test_replicas_by_hand(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """`kubectl scale` of the pool fixes its size; of its Deployment, the operator goes on from there and says so."""
    push(redis_server, 15)
    with operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 3)
        scale = f"{pool_path(pools.namespace, 'chat')}/scale"
        await pools.api.merge(scale, {"spec": {"replicas": 7}})
        await pools.sized("chat", 7)
        await pools.reaches("chat", "ScalingActive", ("False", "ManualReplicas"))
        await pools.api.merge(pool_path(pools.namespace, "chat"), {"spec": {"replicas": None, "paused": "All"}})
        await pools.reaches("chat", "Paused", ("True", "PausedAll"))
        foreign = f"{deployment_path(pools.namespace, 'chat')}/scale"
        await pools.api.merge(foreign, {"spec": {"replicas": 9}}, manager="kubectl")

        async def told() -> bool:
            return any(line["event"] == "size changed by somebody else" for line in operator.lines())

        await eventually(told, 5, "a line about the foreign hand")
        await asyncio.sleep(1.5)
        assert await pools.replicas("chat") == 9


async def test_the_younger_of_two_pools_with_one_queue_holds(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """A queue sizes one pool; the other takes over when the first is gone."""
    push(redis_server, 10)
    with operator:
        await make(pools, "older", redis_url)
        await pools.sized("older", 2)
        await asyncio.sleep(1.1)  # creation times have whole seconds
        await make(pools, "younger", redis_url)
        await pools.reaches("younger", "Ready", ("False", "AmbiguousQueue"))
        assert await pools.deployment("younger") is None
        await pools.api.delete(pool_path(pools.namespace, "older"))
        await pools.sized("younger", 2, 20)


BINARY_SECRET = {
    "metadata": {"name": "binary", "labels": {"llmpool.dev/redis": "true"}},
    "data": {"password": base64.b64encode(b"\xff\x00").decode()},
}


async def test_a_pool_that_cannot_work_harms_no_other(
    pools: Pools, operator: OperatorProcess, redis_server: RedisServer, redis_url: str
) -> None:
    """What the CRD lets pass and Redis can't is told by its own pool alone."""
    push(redis_server, 10)
    with operator:
        await make(pools, "port", "redis://somewhere:99999/0")
        await make(pools, "zero", "redis://somewhere:0/0")
        await pools.api.create(collection(pools.namespace, "secrets", "v1"), BINARY_SECRET)
        odd = {"url": redis_url, "credentialsSecret": {"name": "binary"}}
        await make(pools, "password", redis_url, redis=odd, queues=[{"name": "third"}])
        await make(pools, "chat", redis_url)
        await pools.reaches("port", "Ready", ("False", "InvalidSpec"))
        await pools.reaches("zero", "Ready", ("False", "InvalidSpec"))
        # This Redis asks for no password, and so takes none: the workers' connections would end the same way.
        await pools.reaches("password", "MetricsAvailable", ("False", "MetricsMissing"))
        await pools.sized("chat", 2)
        correct = {"spec": {"redis": {"url": redis_url}, "queues": [{"name": "other"}]}}
        await pools.api.merge(pool_path(pools.namespace, "port"), correct)
        await pools.reaches("port", "Ready", ("True", "ScaledToZero"))
        assert operator.child.running()


async def test_an_api_server_that_is_gone_for_a_while(
    pools: Pools, control_plane: ControlPlane, namespace: str, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """The operator outlives it, stays healthy, and finds what changed and what was deleted in the meantime."""
    operator = OperatorProcess(tmp_path / "door.kubeconfig", namespace, tmp_path / "operator.log")
    async with Door(control_plane.kubeconfig, tmp_path) as door:
        with operator:
            await make(pools, "chat", redis_url)
            await make(pools, "gone", redis_url, queues=[{"name": "other"}], replicas=1)
            await pools.sized("chat", 0)
            await pools.sized("gone", 1)
            await door.shut()
            push(redis_server, 20)
            await pools.api.delete(pool_path(namespace, "gone"))

            async def trouble() -> bool:
                return any(line["event"] in ("held", "turn failed") for line in operator.lines())

            await eventually(trouble, 10, "a failure in the log")
            status, body = await asyncio.to_thread(operator.get, "/healthz")
            assert (status, '"ok"' in body) == (200, True)
            await door.open()
            await pools.sized("chat", 4, 40)

            async def forgotten() -> bool:
                _, metrics = await asyncio.to_thread(operator.get, "/metrics")
                return "llm_operator_pools 1.0" in metrics and 'pool="gone"' not in metrics

            await eventually(forgotten, 40, "the deleted pool is forgotten")
            assert operator.child.running()
            _, metrics = await asyncio.to_thread(operator.get, "/metrics")
    assert 'llm_operator_replicas{namespace="' + namespace + '",pool="chat"} 4.0' in metrics


@pytest.mark.parametrize(
    ("labels", "condition"),
    [
        pytest.param({"llmpool.dev/redis": "true"}, ("True", "MetricsFound"), id="labelled"),
        pytest.param({}, ("False", "MetricsMissing"), id="not labelled"),
    ],
)
async def test_credentials_come_from_a_labelled_secret_alone(
    pools: Pools, operator: OperatorProcess, own_redis: RedisServer, labels, condition
) -> None:
    """A Secret that isn't meant for the operator is not read for a pool, and says SecretForbidden."""
    with own_redis.client() as client:
        client.rpush("llm-chat", *["{}"] * 10)
        client.config_set("requirepass", "s3cret")
    await pools.api.create(
        collection(pools.namespace, "secrets", "v1"),
        {"metadata": {"name": "redis-auth", "labels": labels}, "stringData": {"password": "s3cret"}},
    )
    with operator:
        await make(
            pools, "chat", own_redis.url, redis={"url": own_redis.url, "credentialsSecret": {"name": "redis-auth"}}
        )
        await pools.reaches("chat", "MetricsAvailable", condition)
        await pools.sized("chat", 2 if labels else 0)
    status = await pools.status("chat")
    assert ("SecretForbidden" in str(status)) == (not labels)
    assert "s3cret" not in str(status) + operator.child.log.read_text()


async def test_sigterm_ends_it_at_once(pools: Pools, operator: OperatorProcess, redis_url: str) -> None:
    """A stop is clean: exit status 0, soon."""
    with operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 0)
        assert await asyncio.to_thread(operator.child.stop, 10) == 0


def rights(without: tuple[str, str] = ("", "")) -> list[dict]:
    """The rules of docs/configuration.md, less one (resource, verb)."""
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| .*\|$", text.partition("## Rights of the operator")[2], re.MULTILINE
    )
    named = [[cell.strip("`") for cell in row] for row in rows[1:]]
    return [
        {
            "apiGroups": ["" if group == "core" else group],
            "resources": [resource],
            "verbs": [verb for verb in verbs.split(", ") if (resource, verb) != without],
        }
        for group, resource, verbs in named
    ]


async def test_few_rights_are_enough_and_restricted_pods_are_admitted(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """A Role of this namespace as the documents have it is enough; its pods pass the restricted Pod Security level."""
    namespace = pools.namespace
    await pools.api.merge(
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    kubeconfig = await allowed(pools, control_plane, rights(), tmp_path)
    push(redis_server, 10)
    with OperatorProcess(kubeconfig, namespace, tmp_path / "operator.log") as operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 2)
        await pools.reaches("chat", "Ready", ("False", "NoWorkerReady"))

        async def admitted() -> bool:
            pods, _ = await pools.api.list(collection(namespace, "pods", "v1"))
            return len(pods) == 2

        await eventually(admitted, 10, "two pods")
        assert [line for line in operator.lines() if line["level"] != "info"] == []


async def test_a_manifest_that_is_refused_does_not_hold_up_the_size(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Where the apply fails and the scale doesn't, each size is told as our own, and none waits for the apply."""
    rules = rights(without=("deployments", "patch"))
    kubeconfig = await allowed(pools, control_plane, rules, tmp_path)
    with OperatorProcess(kubeconfig, pools.namespace, tmp_path / "operator.log") as operator:
        await make(pools, "chat", redis_url)
        await pools.sized("chat", 0)
        await pools.reaches("chat", "Ready", ("False", "Forbidden"))
        for replicas in (2, 4, 6):
            push(redis_server, 10)
            await pools.sized("chat", replicas, 2.5)
        assert await pools.condition("chat", "AbleToScale") != ("False", "Forbidden")
        await eventually(lambda: rescales(pools, 3), 5, "an Event for each size")

        async def told() -> bool:
            return [line["event"] for line in operator.lines()].count("resized") == 3

        await eventually(told, 5, "a line for each size")
        assert "size changed by somebody else" not in [line["event"] for line in operator.lines()]


async def allowed(pools: Pools, control_plane: ControlPlane, rules: list, folder: Path) -> Path:
    """A kubeconfig of somebody who may do this in the pools' namespace, and no more."""
    namespace, rbac = pools.namespace, "rbac.authorization.k8s.io/v1"
    await pools.api.create(collection(namespace, "serviceaccounts", "v1"), {"metadata": {"name": "operator"}})
    await pools.api.create(collection(namespace, "roles", rbac), {"metadata": {"name": "operator"}, "rules": rules})
    binding = {
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
    }
    await pools.api.create(collection(namespace, "rolebindings", rbac), binding)
    asked = f"{collection(namespace, 'serviceaccounts', 'v1')}/operator/token"
    token = (await pools.api.create(asked, {"spec": {}}))["status"]["token"]
    kubeconfig = folder / "operator.kubeconfig"
    kubeconfig.write_text(json.dumps(with_token(control_plane.kubeconfig, token)))
    return kubeconfig


def with_token(kubeconfig: Path, token: str) -> dict:
    """The same cluster, somebody else."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    return config


# Last, because the garbage collector learns of a new kind only every 30 seconds.
async def test_a_deleted_pool_takes_its_deployment_along(
    pools: Pools, operator: OperatorProcess, redis_url: str
) -> None:
    """Deleting a pool never hangs, and the garbage collector removes its Deployment; a new pool of the name works."""
    with operator:
        await make(pools, "chat", redis_url, replicas=1)
        await pools.sized("chat", 1)
        await pools.api.delete(pool_path(pools.namespace, "chat"))

        async def gone() -> bool:
            return await pools.deployment("chat") is None

        # The garbage collector learns of a new kind every 30 s, and the CRD may have come just now.
        await eventually(gone, 60, "the Deployment is gone")
        await make(pools, "chat", redis_url, replicas=2)
        await pools.sized("chat", 2, 20)
