"""The operator as its users start it, and a door between it and the API server that can be shut."""

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from llmpool_contract.labels import API_VERSION, KIND
from llmpool_operator.kube import APIError, KubeAPI, Object, deployment_path, pool_path, pools_path
from tests.support.processes import Child, free_port
from tests.support.waiting import eventually

CRD = Path(__file__).parents[2] / "crds" / "llmworkerpools.yaml"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/llmworkerpools.llmpool.dev"


class OperatorProcess:
    """`llmpool-operator` with its own health port, watching one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.ends: list[int | None] = []
        """Exit statuses of those that ended by themselves."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "KUBECONFIG": str(kubeconfig),
            "WATCH_NAMESPACE": namespace,
            "HEALTH_PORT": str(self.port),
            "WORKER_IMAGE": "worker:test",
            **settings,
        }
        self.child = Child("operator", [str(Path(sys.executable).with_name("llmpool-operator"))], log, env=env)

    def __enter__(self) -> Self:
        self.child.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.child.stop()

    def get(self, path: str) -> tuple[int, str]:
        """Ask its health server. Raises OSError where it doesn't answer."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever this machine's proxy is
        with direct.open(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()

    def listens(self) -> None:
        """Wait until its health server does."""
        self.child.wait_until(self._answers, 30, "it listens")

    def _answers(self) -> bool:
        try:
            self.get("/metrics")
        except OSError:
            return False
        return True

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Start it, and again whenever it ends, as a kubelet does; stop it at the end."""
        self.child.start()
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await asyncio.to_thread(self.child.stop)

    async def _keep(self) -> None:
        while True:
            if not self.child.running():
                self.ends.append(self.child.stop())
                self.child.start()
            await asyncio.sleep(0.1)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        return [line for line in self.lines() if line["event"] == event]

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.child.log.read_text().splitlines() if line.startswith("{")]


async def apply_crd(api: KubeAPI) -> None:
    """Have the CRD of the checkout in the cluster, and served."""
    await api.apply(CRD_PATH, yaml.safe_load(CRD.read_text()))

    async def established() -> bool:
        conditions = (await api.get(CRD_PATH)).get("status", {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    await eventually(established, 20, "the CRD is established")


def foreign_deployment(namespace: str, name: str, *, replicas: int) -> Object:
    """A Deployment that is no pool's."""
    labels = {"app": "theirs"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b"}]}},
        },
    }


def pool_document(namespace: str, name: str, redis_url: str, **spec: Any) -> Object:
    """A pool with one queue, five jobs a worker, and whatever else is given."""
    scaling = {"minReplicas": 0, "maxReplicas": 20, "idleSeconds": 2, **spec.pop("scaling", {})}
    base = {"queues": [{"name": "llm-chat"}], "redis": {"url": redis_url}, "scaling": scaling}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**base, **spec},
    }


class Pools:
    """What a test asks of the cluster about pools and their Deployments."""

    def __init__(self, api: KubeAPI, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    async def make(self, name: str, redis_url: str, **spec: Any) -> None:
        """A pool of `pool_document`."""
        await self.api.create(pools_path(self.namespace), pool_document(self.namespace, name, redis_url, **spec))

    async def deployment(self, name: str) -> Object | None:
        try:
            return await self.api.get(deployment_path(self.namespace, name))
        except APIError as error:
            if error.status != 404:
                raise
            return None

    async def replicas(self, name: str) -> int | None:
        found = await self.deployment(name)
        return None if found is None else found["spec"]["replicas"]

    async def sized(self, name: str, replicas: int, timeout_s: float = 20) -> None:
        """Wait until the Deployment asks for so many."""

        async def there() -> bool:
            return await self.replicas(name) == replicas

        await eventually(there, timeout_s, f"{name} has {replicas} replicas")

    async def status(self, name: str) -> Object:
        return (await self.api.get(pool_path(self.namespace, name))).get("status") or {}

    async def condition(self, name: str, kind: str) -> tuple[str, str]:
        """(status, reason); ('', '') where there is none."""
        conditions = (await self.status(name)).get("conditions") or []
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == kind), ("", ""))

    async def reaches(self, name: str, kind: str, wanted: tuple[str, str], timeout_s: float = 20) -> None:
        """Wait for a condition."""

        async def there() -> bool:
            return await self.condition(name, kind) == wanted

        await eventually(there, timeout_s, f"{name} has {kind} {wanted}")


class Door:
    """A TCP proxy to the API server: `shut` cuts every connection and accepts none until `open`."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        address = urlsplit(cluster["server"])
        self._target = (address.hostname, address.port)
        self.port = free_port()
        config["clusters"][0]["cluster"] = {
            "server": f"https://127.0.0.1:{self.port}",
            "insecure-skip-tls-verify": True,
        }
        self.kubeconfig = folder / "door.kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._server is not None:
            await self.shut()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        self._writers -= {writer, there_writer}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # cut: the other direction's pump ends the same way
    finally:
        sink.close()
