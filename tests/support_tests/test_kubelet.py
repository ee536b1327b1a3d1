"""The kubelet stand-in treats a pod's process as a kubelet does."""

import os
import signal
import textwrap
from collections.abc import AsyncIterator

import pytest
from kubernetes.aio import client, config

from tests.support.control_plane import ControlPlane
from tests.support.kubelet import Kubelet
from tests.support.pod_process import expand
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane

# Ready when its file says so; says what it was given; ends in good order, or never.
PROGRAM = textwrap.dedent(
    """
    import http.server, os, signal, sys
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health/ready" else 404)
            self.end_headers()
    def end(*_):
        print("told to end", flush=True)
        if sys.argv[1] == "obey":
            os._exit(0)
    signal.signal(signal.SIGTERM, end)
    print(os.environ["WHO"], os.environ["TOKEN"], os.environ["REDIS_URL"], flush=True)
    http.server.HTTPServer(("127.0.0.1", int(os.environ["HEALTH_PORT"])), Health).serve_forever()
    """
)
LABELS = {"app": "w"}


@pytest.fixture
async def core(control_plane: ControlPlane) -> AsyncIterator[client.CoreV1Api]:
    async with await config.new_client_from_config(str(control_plane.kubeconfig)) as api:
        yield client.CoreV1Api(api)


def pod_spec(manner: str, grace_s: int) -> dict:
    own_name = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    token = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "auth", "key": "token"}}}
    who = {"name": "WHO", "value": "$(POD_NAME)"}
    redis = {"name": "REDIS_URL", "value": "redis://redis-master:6379"}
    container = {"name": "worker", "image": "none", "env": [own_name, token, who, redis]}
    container |= {"command": ["python", "-c", PROGRAM], "args": [manner]}
    return {"containers": [container], "terminationGracePeriodSeconds": grace_s}


async def make_secret(core: client.CoreV1Api, namespace: str) -> None:
    body = {"metadata": {"name": "auth"}, "stringData": {"token": "from-secret"}}
    await core.create_namespaced_secret(namespace, body)


async def ready_pods(core: client.CoreV1Api, namespace: str) -> list[client.V1Pod]:
    listed = await core.list_namespaced_pod(namespace)
    return [
        pod
        for pod in listed.items
        if any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions or [])
    ]


async def test_deployment_runs_restarts_and_ends_real_processes(control_plane, namespace, core):
    """A Deployment's pods become real, ready processes; one killed is restarted; scaled to zero they get SIGTERM."""
    apps = client.AppsV1Api(core.api_client)
    await make_secret(core, namespace)
    template = {"metadata": {"labels": LABELS}, "spec": pod_spec("obey", 30)}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    async with Kubelet(control_plane.kubeconfig, namespace, env={"REDIS_URL": "redis://here"}) as kubelet:
        await apps.create_namespaced_deployment(namespace, {"metadata": {"name": "w"}, "spec": spec})

        async def both_ready() -> bool:
            return len(await ready_pods(core, namespace)) == 2

        await eventually(both_ready, 20, "two ready pods")
        names = list(kubelet.processes)
        first_lines = {name: kubelet.log(name).splitlines()[0] for name in names}
        assert first_lines == {name: f"{name} from-secret redis://here" for name in names}

        os.kill(kubelet.processes[names[0]].pid, signal.SIGKILL)

        async def restarted() -> bool:
            pods = await ready_pods(core, namespace)
            return sorted(pod.status.container_statuses[0].restart_count for pod in pods) == [0, 1]

        await eventually(restarted, 20, "the killed pod's restart")
        await apps.patch_namespaced_deployment_scale("w", namespace, {"spec": {"replicas": 0}})

        async def gone() -> bool:
            return not (await core.list_namespaced_pod(namespace)).items and not kubelet.processes

        await eventually(gone, 20, "the end of all pods")
        assert all("told to end" in kubelet.log(name) for name in names)


async def test_grace_period_ends_in_sigkill(control_plane, namespace, core):
    """A process that won't end on SIGTERM is gone after the pod's grace period, and so is the pod."""
    await make_secret(core, namespace)
    async with Kubelet(control_plane.kubeconfig, namespace) as kubelet:
        await core.create_namespaced_pod(namespace, {"metadata": {"name": "deaf"}, "spec": pod_spec("refuse", 1)})

        async def ready() -> bool:
            return bool(await ready_pods(core, namespace))

        await eventually(ready, 20, "a ready pod")
        process = kubelet.processes["deaf"]
        await core.delete_namespaced_pod("deaf", namespace)

        async def gone() -> bool:
            return not (await core.list_namespaced_pod(namespace)).items

        await eventually(gone, 20, "the end of the pod")
        assert process.last_exit == -signal.SIGKILL
        assert "told to end" in kubelet.log("deaf")


async def test_missing_secret_is_told_in_the_status(control_plane, namespace, core):
    """A pod whose secret isn't there waits, says why, and starts when the secret comes."""
    async with Kubelet(control_plane.kubeconfig, namespace):
        await core.create_namespaced_pod(namespace, {"metadata": {"name": "w"}, "spec": pod_spec("obey", 1)})

        async def waiting() -> str | None:
            statuses = (await core.read_namespaced_pod("w", namespace)).status.container_statuses
            return statuses and statuses[0].state.waiting and statuses[0].state.waiting.message

        assert "no key 'token' in secret 'auth'" in await eventually(waiting, 20, "a waiting container")
        await make_secret(core, namespace)

        async def ready() -> bool:
            return bool(await ready_pods(core, namespace))

        await eventually(ready, 20, "a ready pod")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("$(A)-$(A)", "1-1"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A", "$A")],
    ids=["known", "unknown", "escaped", "not a reference"],
)
def test_references_expand_as_in_kubernetes(text, expanded):
    """`$(NAME)` of a known name is replaced; everything else stays, `$$` is one dollar."""
    assert expand(text, {"A": "1"}) == expanded
