"""One pod of the tests' kubelet, from its binding to its removal."""

import asyncio
import os
import sys
from base64 import b64decode
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from tests.support.pod_process import (
    POD_IP,
    ContainerConfigError,
    Pod,
    PodProcess,
    container_command,
    container_environment,
)
from tests.support.processes import free_port

PROBE_NOT_READY_S = 0.1
PROBE_READY_S = 1.0


@dataclass(frozen=True)
class Host:
    """What the pods of one kubelet share."""

    core: client.CoreV1Api
    http: aiohttp.ClientSession
    namespace: str
    logs: Path
    env: Mapping[str, str]
    processes: dict[str, PodProcess]

    async def make_process(self, pod: Pod) -> PodProcess:
        """The pod's process, not started yet, with a free HEALTH_PORT."""
        name = pod["metadata"]["name"]
        env = await container_environment(pod, self._read_secret)
        folder = self.logs / name
        base = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(folder), "HOSTNAME": name}
        env = {**base, **env, **self.env, "HEALTH_PORT": str(free_port())}
        return PodProcess(container_command(pod, env), env, folder, self.logs / f"{name}.log")

    async def patch_status(self, name: str, status: Mapping[str, Any]) -> None:
        await _unless_gone(self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status}))

    async def remove(self, name: str, uid: str) -> None:
        body = client.V1DeleteOptions(grace_period_seconds=0, preconditions=client.V1Preconditions(uid=uid))
        await _unless_gone(self.core.delete_namespaced_pod(name, self.namespace, body=body))

    async def answers_ready(self, port: str) -> bool:
        try:
            async with self.http.get(f"http://127.0.0.1:{port}/health/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _read_secret(self, name: str) -> Mapping[str, str]:
        """The secret's values; none where there is no such secret."""
        try:
            secret = await self.core.read_namespaced_secret(name, self.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return {}
        return {key: b64decode(value).decode() for key, value in (secret.data or {}).items()}


async def _unless_gone(call: Coroutine[Any, Any, Any]) -> None:
    """A pod that is gone (404), or is another one by now (409), needs nothing more."""
    try:
        await call
    except ApiException as error:
        if error.status not in (404, 409):
            raise


class RunningPod:
    """`run` until `delete`: the process, its restarts, its status, its end, the removal of the pod's object."""

    def __init__(self, host: Host, pod: Pod) -> None:
        self.name: str = pod["metadata"]["name"]
        self.process: PodProcess | None = None
        self._host = host
        self._pod = pod
        self._changed = asyncio.Event()
        self._grace_s: float | None = None  # None: not to be deleted
        self._told: Mapping[str, Any] | None = None
        self._since = _now()  # when the conditions last changed

    def delete(self, grace_s: float) -> None:
        """End the process within `grace_s`. A later, shorter grace (a forced deletion) counts until SIGTERM is sent."""
        self._grace_s = grace_s
        self._changed.set()

    async def run(self) -> None:
        while self._grace_s is None and self.process is None:
            try:
                self.process = await self._host.make_process(self._pod)
            except ContainerConfigError as error:
                await self._tell(self._waiting("CreateContainerConfigError", str(error)))
                await self._pause(PROBE_READY_S)
        if self.process is not None:
            self._host.processes[self.name] = self.process
            await self._keep(self.process)
            if self._host.processes.get(self.name) is self.process:
                del self._host.processes[self.name]
        await self._host.remove(self.name, self._pod["metadata"]["uid"])

    async def _keep(self, process: PodProcess) -> None:
        """Run the process and tell its state until the pod is deleted; then end it."""
        running = asyncio.create_task(process.keep_running(self._changed.set))
        try:
            while self._grace_s is None and not running.done():
                self._changed.clear()
                ready = process.running() and await self._host.answers_ready(process.env["HEALTH_PORT"])
                await self._tell(self._running(process, ready=ready))
                await self._pause(PROBE_READY_S if ready else PROBE_NOT_READY_S)
            await process.stop(self._grace_s or 0)
            await running
        finally:
            running.cancel()

    async def _tell(self, status: Mapping[str, Any]) -> None:
        """Patch the status if it is news."""
        if status == self._told:
            return
        if self._told is None or self._told["conditions"] != status["conditions"]:
            self._since = _now()
        self._told = status
        conditions = [{**condition, "lastTransitionTime": self._since} for condition in status["conditions"]]
        await self._host.patch_status(self.name, {**status, "conditions": conditions})

    async def _pause(self, seconds: float) -> None:
        """Wait, but not past a change of the process or a deletion."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    def _running(self, process: PodProcess, *, ready: bool) -> dict[str, Any]:
        if process.running():
            state: dict[str, Any] = {"running": {}}
        else:
            ended = f"its process ended with status {process.last_exit}"
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": ended}}
        return self._status("Running", state, ready=ready, restarts=process.restarts)

    def _waiting(self, reason: str, message: str) -> dict[str, Any]:
        return self._status("Pending", {"waiting": {"reason": reason, "message": message}}, ready=False, restarts=0)

    def _status(self, phase: str, state: Mapping[str, Any], *, ready: bool, restarts: int) -> dict[str, Any]:
        containers = [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "ready": ready,
                "restartCount": restarts,
                "state": state,
            }
            for container in self._pod["spec"]["containers"]
        ]
        conditions = [
            {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": str(ready)},
            {"type": "Ready", "status": str(ready)},
        ]
        addresses = {"hostIP": POD_IP, "podIP": POD_IP, "podIPs": [{"ip": POD_IP}]}
        return {"phase": phase, "conditions": conditions, "containerStatuses": containers, **addresses}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
