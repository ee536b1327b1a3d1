"""Kopf as a watcher and nothing else: it tells the store what changed, and writes nothing to the cluster.

It runs in a thread of its own with its own event loop. ``kopf.operator`` cancels every task that was born after it in
its loop when it ends, and it does end: a watch that gets 503 for a minute raises (1.45). In a thread that harms nobody:
the supervisor here starts it again, and the reconcile loop goes on deciding from what it knows and from its own lists.

There is no ``@kopf.index``: one keeps objects whose deletion the watch slept through, and nothing outside can remove
them. :mod:`.store` holds the objects instead, and the loop's own list corrects it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import kopf
import structlog

from llmpool_contract.labels import GROUP, LABEL_POOL, PLURAL, VERSION

from .kube import Object
from .login import as_connection_info, find_cluster
from .store import Store

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LONG_LIFE = 60.0
"""Seconds after which an end is no longer taken for a start that failed."""
log = structlog.get_logger(__name__)


class Watcher:
    """Kopf in its thread. Started once the pools could be listed, so that their kind is known to exist."""

    def __init__(self, store: Store, *, namespace: str | None, kubeconfig: str) -> None:
        self._store = store
        self._namespace = namespace
        self._kubeconfig = kubeconfig
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._running = threading.Event()
        self._interrupt: Callable[[], object] | None = None
        self.starts = 0
        """How often Kopf came up. Its watches follow: what happened until then was not told."""

    @property
    def running(self) -> bool:
        """Whether Kopf is up: where it is not, nobody watches, and lists must be made more often."""
        return self._running.is_set()

    def start(self) -> None:
        """Begin, from the event loop that the store belongs to. Does nothing while the thread lives."""
        if self._thread is None or not self._thread.is_alive():
            tell = partial(_tell, asyncio.get_running_loop())
            self._thread = threading.Thread(target=self._supervise, args=(tell,), name="watch", daemon=True)
            self._thread.start()

    async def stop(self, timeout: float) -> None:
        """End it; a thread that does not end in time is left to die with the process."""
        self._stopping.set()
        interrupt = self._interrupt  # the thread takes it away when it has ended
        if interrupt is not None:
            interrupt()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout)

    def _supervise(self, tell: Tell) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            why = "it returned"
            try:
                asyncio.run(self._watch(tell))
            except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - whatever ends it, it is started again
                why = f"{type(error).__name__}: {error}"[:500]  # not the error itself, which holds this frame
            finally:
                self._running.clear()
            if self._stopping.is_set():
                return
            # Not by Kopf's being up: it says so before it has tried a watch.
            pause = _FIRST_PAUSE if time.monotonic() - began > _LONG_LIFE else pause
            log.warning("watch ended", error=why, retry_in=pause)
            self._stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _watch(self, tell: Tell) -> None:
        ready = asyncio.Event()
        operator = asyncio.current_task()
        assert operator is not None
        # Not Kopf's stop flag, which gives each of its tasks five seconds: a watch holds nothing worth waiting for.
        self._interrupt = partial(_cancel, asyncio.get_running_loop(), operator)
        if self._stopping.is_set():
            return
        flag = asyncio.create_task(self._tell_when_ready(ready))
        try:
            await kopf.operator(
                registry=_registry(self._store, tell, self._kubeconfig),
                settings=_settings(),
                standalone=True,
                clusterwide=self._namespace is None,
                namespaces=[] if self._namespace is None else [self._namespace],
                ready_flag=ready,
            )
        finally:
            self._interrupt = None
            flag.cancel()

    async def _tell_when_ready(self, ready: asyncio.Event) -> None:
        await ready.wait()
        self.starts += 1
        self._running.set()


Tell: TypeAlias = Callable[..., None]


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:
        return  # its loop has just closed: there is nothing left to cancel


def _tell(loop: asyncio.AbstractEventLoop, saw: Callable[..., None], obj: Object, *, deleted: bool) -> None:
    """Hand an object over to the loop that owns the store."""
    loop.call_soon_threadsafe(partial(saw, obj, deleted=deleted))


def _registry(store: Store, tell: Tell, kubeconfig: str) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    # Permanent: an error ends this operator, and the supervisor's pause applies instead of Kopf's minute.
    @kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await as_connection_info(await find_cluster(kubeconfig))

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="pool")
    async def pool(event: Any, **_: Any) -> None:
        tell(store.saw_pool, event["object"], deleted=event["type"] == "DELETED")

    @kopf.on.event("apps", "v1", "deployments", registry=registry, id="deployment")
    async def deployment(event: Any, **_: Any) -> None:
        tell(store.saw_deployment, event["object"], deleted=event["type"] == "DELETED")

    @kopf.on.event("", "v1", "pods", registry=registry, id="pod")
    async def pod(event: Any, **_: Any) -> None:
        tell(store.saw_pod, event["object"], deleted=event["type"] == "DELETED")

    return registry


class _NoMemory(kopf.DiffBaseStorage):
    """No copy of an object, to compare with later: only change handlers need it, and it is most of an event's cost."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002 - Kopf's
        """Nothing."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002 - Kopf's
        """Nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing: there are no change handlers."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # needs no right to list namespaces and CRDs
    settings.queueing.idle_timeout = 1.0  # each object that changed has a task for so long
    settings.persistence.diffbase_storage = _NoMemory()
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.watching.server_timeout = 600
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["apps", "v1", "deployments"] = LABEL_POOL
    settings.watching.label_selectors["", "v1", "pods"] = LABEL_POOL
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (1, 1, 2, 3)  # then it ends, and lists take over while it is started again
    settings.process.ultimate_exiting_timeout = None  # else it kills the thread, and so the process, ten minutes later
    return settings
