"""What a benchmark of the operator sees of it from outside: its process, its reads at Redis, its calls to the API.

None of it is the operator's own word, except :func:`own_periods`.
"""

import asyncio
import json
import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kubernetes.aio import client, config

from tests.support.api_calls import APICalls
from tests.support.operator_process import OperatorProcess
from tests.support.redis_server import RedisServer

_LLEN = re.compile(rb'^\+(\d+\.\d+) \[.*\] "LLEN" "(q-\d+)"')
_BUCKET = re.compile(r'^llm_operator_sync_period_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


def quantile(values: Sequence[float], q: float) -> float:
    """The nearest-rank quantile; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else float("nan")


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """(RSS now, its peak), in MB of 1e6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return tuple(int(re.search(rf"{name}:\s+(\d+)", status)[1]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))


def own_buckets(operator: OperatorProcess) -> dict[float, float]:
    """The operator's own histogram of the time between a pool's decisions, cumulative by upper bound."""
    _, text = operator.get("/metrics")
    return {float(bound): float(count) for bound, count in _BUCKET.findall(text)}


def own_periods(before: Mapping[float, float], after: Mapping[float, float]) -> dict[str, float]:
    """The bucket's bound that p50 and p99 stay below, between two looks at the histogram."""
    grown = sorted((bound, count - before.get(bound, 0.0)) for bound, count in after.items())
    total = grown[-1][1] if grown else 0.0
    return {
        f"own_p{q}_s": next((bound for bound, count in grown if total and count >= total * q / 100), float("nan"))
        for q in (50, 99)
    }


async def monitored(server: RedisServer, seconds: float) -> dict[str, float]:
    """How long apart each pool's queue is read, by Redis' own MONITOR."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"MONITOR\r\n")
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(seconds):
            while line := await reader.readline():
                lines.append(line)
    except TimeoutError:
        pass  # the time is over, as planned
    finally:
        writer.close()
    last: dict[bytes, float] = {}
    gaps: list[float] = []
    for at, queue in (found.groups() for line in lines if (found := _LLEN.match(line))):
        if queue in last:
            gaps.append(float(at) - last[queue])
        last[queue] = float(at)
    return {"pools_read": len(last), "seen_p50_s": quantile(gaps, 0.5), "seen_p99_s": quantile(gaps, 0.99)}


@dataclass(slots=True)
class Server:
    """The API server's own count of calls, and a watch of a namespace's Deployments."""

    api: client.ApiClient
    counts: APICalls
    namespace: str
    sizes: dict[str, int] = field(default_factory=dict)
    """Deployment -> the replicas that it asks for, as the watch last told."""
    told: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, kubeconfig: Path, namespace: str) -> Self:
        counts = await APICalls(kubeconfig).__aenter__()
        return cls(await config.new_client_from_config(str(kubeconfig)), counts, namespace)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.api.close()
        await self.counts.__aexit__()

    async def calls(self) -> Counter[str]:
        """verb resource/subresource -> calls so far, of the kinds that the operator touches."""
        return await self.counts.count()

    async def watch(self) -> None:
        """Begin to follow the Deployments; `sizes` has all of them by then."""
        apps = client.AppsV1Api(self.api)
        answer = await apps.list_namespaced_deployment_without_preload_content(self.namespace)
        listed = json.loads(await answer.read())
        for item in listed["items"]:
            self.sizes[item["metadata"]["name"]] = item["spec"]["replicas"]
        self._task = asyncio.create_task(self._follow(apps, listed["metadata"]["resourceVersion"]))

    async def _follow(self, apps: Any, version: str) -> None:
        while True:
            stream = await apps.list_namespaced_deployment_without_preload_content(
                self.namespace, watch=True, resource_version=version, timeout_seconds=3000, _request_timeout=3600
            )
            async for line in stream.content:
                item = json.loads(line)["object"]
                version = item["metadata"]["resourceVersion"]
                self.sizes[item["metadata"]["name"]] = item["spec"]["replicas"]
                self.told.set()


def summary(taken: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the longest."""
    return {"p50_s": statistics.median(taken), "p99_s": quantile(taken, 0.99), "max_s": max(taken)}
