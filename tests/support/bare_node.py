"""A node that pods are scheduled on, and that runs none: without one, every pod counts as one that no node takes."""

import asyncio
import secrets
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from llmpool_operator.kube import KubeAPI
from tests.support.waiting import eventually

NODES = "/api/v1/nodes"
HEARTBEAT_S = 10.0


class BareNode:
    """`async with BareNode(api):`"""

    def __init__(self, api: KubeAPI) -> None:
        self._api = api
        self._name = f"bare-node-{secrets.token_hex(4)}"
        self._beating: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        labels = {"kubernetes.io/hostname": self._name}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "labels": labels}}
        await self._api.create(NODES, node)
        await self._beat()
        self._beating = asyncio.create_task(self._go_on())
        await eventually(self._takes_pods, 20, f"node {self._name} without a taint")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        await self._api.delete(f"{NODES}/{self._name}")

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._beat()

    async def _beat(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "BareNode"}
        capacity = {"cpu": "640", "memory": "2560Gi", "pods": "10000", "ephemeral-storage": "10Ti"}
        status: dict[str, Any] = {
            "conditions": [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}],
            "capacity": capacity,
            "allocatable": capacity,
        }
        await self._api.merge(f"{NODES}/{self._name}/status", {"status": status})

    async def _takes_pods(self) -> bool:
        return not (await self._api.get(f"{NODES}/{self._name}"))["spec"].get("taints")
