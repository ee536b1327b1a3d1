"""The watcher, when the API server is there but fails."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
from aiohttp import web

from llmpool_operator.store import Store
from llmpool_operator.watch import Watcher
from tests.support.waiting import eventually

NAMES = {
    "/apis/llmpool.dev/v1alpha1": ("llmworkerpools", "llmworkerpool", "LLMWorkerPool"),
    "/apis/apps/v1": ("deployments", "deployment", "Deployment"),
    "/apis/apiextensions.k8s.io/v1": (
        "customresourcedefinitions",
        "customresourcedefinition",
        "CustomResourceDefinition",
    ),
    "/api/v1": ("namespaces", "namespace", "Namespace"),
}


def discovery(path: str) -> dict:
    """What the API server says of its kinds."""
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        groups = [path.split("/")[2:4] for path in NAMES if path.startswith("/apis/")]
        versions = [(group, {"version": version}) for group, version in groups]
        return {"groups": [{"name": name, "versions": [of], "preferredVersion": of} for name, of in versions]}
    plural, singular, kind = NAMES[path]
    resource = {"name": plural, "singularName": singular, "kind": kind, "verbs": ["list", "watch", "patch"]}
    return {"resources": [{**resource, "namespaced": plural in ("llmworkerpools", "deployments")}]}


@pytest.fixture
async def failing_api(unused_tcp_port: int, tmp_path: Path):
    """An API server that names its kinds and answers 503 to every list: its kubeconfig, and the lists asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if "/namespaces/" in request.path:
            asked.append(request.path)
            return web.json_response({"kind": "Status", "code": 503, "message": "etcd is away"}, status=503)
        return web.json_response(discovery(request.path))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{unused_tcp_port}"}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(json.dumps(config))
    yield kubeconfig, asked
    await runner.cleanup()


async def test_a_watch_that_ends_is_started_again(failing_api, caplog: pytest.LogCaptureFixture) -> None:
    """503 for longer than Kopf retries ends Kopf, not the process, and it is started again; stopping takes no time."""
    kubeconfig, asked = failing_api
    caplog.set_level(logging.ERROR)
    watcher = Watcher(Store(), namespace="ns", kubeconfig=str(kubeconfig))
    watcher.start()

    async def started_twice() -> bool:
        return watcher.starts >= 2

    await eventually(started_twice, 60, "a second start")
    assert len(asked) >= 8
    assert not any(task.cancelled() for task in asyncio.all_tasks())
    loop = asyncio.get_running_loop()
    began = loop.time()
    await watcher.stop(5)
    assert loop.time() - began < 2
