"""The tests' kubelet stand-in: one node, and a real worker process for each pod of one namespace that is bound to it.

The scheduler binds pods to the node; the kubelet runs container 0's command as a child process, tells the pod's status
(Ready once `GET /health/ready` on its HEALTH_PORT says 200), restarts what ends by itself, and on deletion sends
SIGTERM, waits at most the grace period, sends SIGKILL and removes the pod. All pods have the address 127.0.0.1, so each
gets a free HEALTH_PORT of its own. Images are not looked at, volumes and init containers are not made.
"""

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from tests.support.kubelet_pod import Host, RunningPod
from tests.support.pod_process import Pod, PodProcess
from tests.support.processes import LOG_TAIL_LINES, ProcessError
from tests.support.waiting import eventually

NODE_TIMEOUT_S = 20.0
LEASES = "kube-node-lease"  # the namespace of the nodes' leases
LEASE_S = 40
LEASE_RENEWAL_S = 10.0
PROBE_TIMEOUT_S = 1.0
RETRY_S = 0.3
WATCH_S = 60
EXIT_GRACE_S = 5.0


class Kubelet:
    """`async with Kubelet(kubeconfig, namespace, env={...}) as kubelet:`

    `env` wins over the pods' own variables: tests name the loopback address of their Redis and their Ollama with it.
    `processes` maps a pod's name to its PodProcess (`pid`, `restarts`); `logs` is the folder with `<pod>.log`.
    """

    def __init__(self, kubeconfig: Path, namespace: str, *, env: Mapping[str, str] | None = None) -> None:
        self.namespace = namespace
        self.node = f"test-node-{secrets.token_hex(4)}"
        self.processes: dict[str, PodProcess] = {}
        self.logs = Path(tempfile.mkdtemp(prefix="llmpool-kubelet-"))
        self._kubeconfig = kubeconfig
        self._env = dict(env or {})
        self._pods: dict[str, RunningPod] = {}  # by uid: a StatefulSet's next pod has the same name
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._api = await config.new_client_from_config(str(self._kubeconfig))  # type: ignore[no-untyped-call]
        self._core = client.CoreV1Api(self._api)
        self._leases = client.CoordinationV1Api(self._api)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S))
        self._host = Host(self._core, self._http, self.namespace, self.logs, self._env, self.processes)
        try:
            await self._join()
        except BaseException:
            await self._leave()
            raise
        self._spawn(self._renew_lease())
        self._spawn(self._watch_pods())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """End all processes (SIGTERM, then SIGKILL), leave the pods' objects, take the node away.

        When the block fails, the pods' logs stay, and their ends are printed.
        """
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pod.process.stop(EXIT_GRACE_S) for pod in self._pods.values() if pod.process))
        await self._leave()
        if self._failures:
            raise ProcessError("the tests' kubelet broke") from self._failures[0]
        if kind is None:
            shutil.rmtree(self.logs)
        else:
            self._print_logs()

    def log(self, pod: str) -> str:
        """What the pod's process has written so far."""
        path = self.logs / f"{pod}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _print_logs(self) -> None:
        for path in sorted(self.logs.glob("*.log")):
            end = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            print(f"--- end of {path}", *end, sep="\n", file=sys.stderr)

    async def _join(self) -> None:
        """Make the node, say that it is ready, and wait until pods may be scheduled on it."""
        labels = {"kubernetes.io/hostname": self.node}
        await self._core.create_node(client.V1Node(metadata=client.V1ObjectMeta(name=self.node, labels=labels)))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "TestKubelet"}
        times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
        capacity = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
        status = {"conditions": [{**ready, **times}], "capacity": capacity, "allocatable": capacity}
        await self._core.patch_node_status(self.node, {"status": status})
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=self.node),
            spec=client.V1LeaseSpec(
                holder_identity=self.node, lease_duration_seconds=LEASE_S, renew_time=datetime.now(UTC)
            ),
        )
        await self._leases.create_namespaced_lease(LEASES, lease)
        await eventually(self._schedulable, NODE_TIMEOUT_S, f"node {self.node} without the taint that it isn't ready")

    async def _schedulable(self) -> bool:
        """A new node is tainted until the node controller has seen its Ready condition."""
        node = await self._core.read_node(self.node)
        return not (node.spec and node.spec.taints)

    async def _leave(self) -> None:
        for removal in (
            self._leases.delete_namespaced_lease(self.node, LEASES),
            self._core.delete_node(self.node),
        ):
            try:
                await removal
            except (ApiException, aiohttp.ClientError, TimeoutError) as error:
                print(f"kubelet: {self.node} was not removed: {error}", file=sys.stderr)
        await self._http.close()
        await self._api.close()

    async def _renew_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_RENEWAL_S)
            try:
                renewed = datetime.now(UTC).isoformat(timespec="microseconds")
                await self._leases.patch_namespaced_lease(self.node, LEASES, {"spec": {"renewTime": renewed}})
            except (ApiException, aiohttp.ClientError, TimeoutError):
                continue  # the next turn tries again, well within the lease

    async def _watch_pods(self) -> None:
        while True:
            try:
                await self._watch_once()
            except (ApiException, aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def _watch_once(self) -> None:
        """List, then watch, until the watch's time is over."""
        selector = f"spec.nodeName={self.node}"
        listed = await self._core.list_namespaced_pod(self.namespace, field_selector=selector)
        pods = [self._api.sanitize_for_serialization(pod) for pod in listed.items]
        for uid in self._pods.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._pods[uid].delete(0)
        for pod in pods:
            self._see("MODIFIED", pod)
        assert listed.metadata is not None
        stream = await self._core.list_namespaced_pod_without_preload_content(
            self.namespace,
            field_selector=selector,
            resource_version=listed.metadata.resource_version,
            watch=True,
            timeout_seconds=WATCH_S,
        )
        async with stream:
            async for line in stream.content:
                event = json.loads(line)
                if event["type"] == "ERROR":  # 410: too far behind; the next turn lists anew
                    return
                self._see(event["type"], event["object"])

    def _see(self, kind: str, pod: Pod) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        if kind == "DELETED":
            if uid in self._pods:
                self._pods[uid].delete(0)
            return
        if uid not in self._pods:
            self._pods[uid] = RunningPod(self._host, pod)
            self._spawn(self._run(uid))
        if metadata.get("deletionTimestamp"):
            self._pods[uid].delete(metadata.get("deletionGracePeriodSeconds") or 0)

    async def _run(self, uid: str) -> None:
        await self._pods[uid].run()
        del self._pods[uid]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)
