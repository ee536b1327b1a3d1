"""Puts the operator together. The only place that knows all parts."""

from __future__ import annotations

import asyncio
import signal
import time

import structlog

from .credentials import Credentials
from .health import HealthServer
from .kube import KubeAPI
from .loop import Loop
from .metrics import Metrics
from .pools import Parts
from .readers import Readers
from .reconciler import Clocks, Reconciler
from .settings import Settings
from .store import Store
from .version import own_version
from .watch import Watcher

log = structlog.get_logger(__name__)
_STOP_PATIENCE = 1.0
"""Seconds that the watches get to end; they hold nothing."""


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until ``stop``. Raises what broke the loop, if anything did: the process should then be started again."""
    clocks = Clocks(wall=time.time, monotonic=time.monotonic)
    metrics, store, api = Metrics(), Store(), KubeAPI(settings.kubeconfig)
    watcher = Watcher(store, namespace=settings.namespace, kubeconfig=settings.kubeconfig)
    reconciler = Reconciler(
        Parts(api, store, metrics, settings.worker_image, clocks.monotonic),
        store,
        Readers(settings.redis_read_timeout, clocks.monotonic),
        Credentials(api, clocks.monotonic),
        metrics,
        clocks,
    )
    reconcile = Loop(
        api,
        store,
        reconciler,
        watcher,
        metrics,
        clocks,
        namespace=settings.namespace,
        tick=settings.operator_tick,
        relist=settings.operator_relist,
    )
    health = HealthServer(metrics, lambda: reconcile.age, settings.health_port)
    port = await health.start()
    log.info("operator started", version=own_version(), namespace=settings.namespace or "all", health_port=port)
    try:
        await _until(stop, reconcile)
    finally:
        await watcher.stop(_STOP_PATIENCE)
        await health.stop()
        await api.close()
        log.info("operator stopped")


async def _until(stop: asyncio.Event, reconcile: Loop) -> None:
    running = asyncio.create_task(reconcile.run(), name="loop")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()  # the loop never ends by itself: this raises what broke it
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
