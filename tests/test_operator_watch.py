"""The watcher, when the API server is there but fails."""

import asyncio
import gc
import json
import logging
import time
from pathlib import Path

import pytest
from aiohttp import web

from llmpool_operator.store import Store
from llmpool_operator.watch import Tell, Watcher
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


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Kopf's connections: it ends in the middle of its calls
async def test_a_watch_that_ends_is_started_again(failing_api, caplog: pytest.LogCaptureFixture) -> None:
    """503 for longer than Kopf retries ends Kopf, not the process, and it is started again; stopping takes no time."""
    kubeconfig, asked = failing_api
    caplog.set_level(logging.CRITICAL)  # records of Kopf's errors would keep its tasks
    bystander = asyncio.create_task(asyncio.sleep(3600))
    watcher = Watcher(Store(), namespace="ns", kubeconfig=str(kubeconfig))
    watcher.start()

    async def started_twice() -> bool:
        return watcher.starts >= 2

    await eventually(started_twice, 60, "a second start")
    assert len(asked) >= 8
    assert not bystander.done(), "Kopf cancels the tasks of its own loop alone"
    bystander.cancel()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await watcher.stop(5)
    assert loop.time() - began < 2
    # Kopf leaves failed tasks in cycles. Python 3.11 formats their errors when they are collected, and can't do that in
    # the middle of compiling, where it would else happen.
    gc.collect()


class Ending(Watcher):
    """One whose watches end at once, the same way each time."""

    def __init__(self, end: BaseException | None) -> None:
        super().__init__(Store(), namespace="ns", kubeconfig="")
        self.end = end
        self.began: list[float] = []

    async def _watch(self, tell: Tell) -> None:
        self.began.append(time.monotonic())
        self._running.set()
        if self.end is not None:
            raise self.end

    async def has_begun(self, times: int) -> None:
        async def there() -> bool:
            return len(self.began) >= times

        await eventually(there, 15, f"{times} starts")


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(asyncio.CancelledError(), id="cancelled by itself"),
        pytest.param(OSError("away"), id="an error"),
        pytest.param(None, id="no error"),
    ],
)
async def test_whatever_ends_a_watch_it_is_started_again(end: BaseException | None) -> None:
    """Also a cancellation that nobody asked for; and each time it waits for longer, though Kopf said it was up."""
    watcher = Ending(end)
    watcher.start()
    await watcher.has_begun(3)
    first, second, third = watcher.began[:3]
    assert third - second > 1.5 * (second - first)
    await watcher.stop(5)
    assert not watcher.running


class Dying(Watcher):
    """One whose thread ends by itself."""

    lives = 0

    def _supervise(self, tell: Tell) -> None:
        self.lives += 1


async def test_a_thread_that_died_is_replaced() -> None:
    """What ends the thread itself leaves nobody watching: the next list starts another."""
    watcher = Dying(Store(), namespace="ns", kubeconfig="")

    async def replaced() -> bool:
        watcher.start()
        return watcher.lives >= 2

    await eventually(replaced, 5, "another start")
    await watcher.stop(5)
