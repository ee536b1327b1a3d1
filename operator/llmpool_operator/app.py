"""Puts the operator together. The only place that knows all parts."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from .act.config import ConfigWriter
from .credentials import Credentials
from .election import Terms
from .health import STALLED_AFTER, HealthServer, Progress
from .kube import KubeAPI
from .leader import Leader, Leadership, Unelected, own_identity
from .loop import Loop
from .metrics import Metrics
from .outbox import Outbox
from .pools import Parts
from .prometheus import Prometheus
from .readers import Readers
from .reconciler import Clocks, Reconciler
from .settings import Settings
from .store import Store
from .version import own_version
from .watch import Watcher
from .web.board import Board
from .web.page import Page
from .web.past import Past
from .web.schema import Operator

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
    """Run until ``stop``. Raises what broke it, if anything did: the process should then be started again.

    Raises:
        LeadershipLost: another operator leads now, or may.
    """
    clocks = Clocks(wall=time.time, monotonic=time.monotonic, cpu=time.thread_time)
    metrics, store, api = Metrics(), Store(), KubeAPI(settings.kubeconfig)
    lease_api = KubeAPI(settings.kubeconfig)  # of its own: no queue of other calls may come before a renewal
    leader = _leadership(settings, lease_api, metrics)
    api.may_write = lambda: leader.leading
    api.on_call = lease_api.on_call = metrics.api_call
    metrics.leads(lambda: leader.leading)
    watcher = Watcher(store, namespace=settings.namespace, kubeconfig=settings.kubeconfig)
    reconciler = Reconciler(
        Parts(
            api,
            store,
            metrics,
            Outbox(metrics.error, api.scaling),
            ConfigWriter(settings.redis_read_timeout, leader.transition),
            settings.worker_image,
            clocks.monotonic,
        ),
        store,
        Readers(
            settings.redis_read_timeout,
            clocks.monotonic,
            Prometheus(clocks.monotonic, allow_loopback=settings.prometheus_allow_loopback),
        ),
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
    page = _page(settings, reconciler, clocks, lambda: _operator(settings, leader, reconcile, clocks))
    health = HealthServer(metrics, lambda: _progress(leader, reconcile), settings.health_port, page)
    port = await health.start()
    log.info("operator started", version=own_version(), namespace=settings.namespace or "all", health_port=port)
    try:
        await _until(stop, reconcile.run(leader.leads), leader.run())
    finally:
        await leader.release()  # the loop has ended: no write of ours comes after the next leader's
        await watcher.stop(_STOP_PATIENCE)
        await health.stop()
        await api.close()
        await lease_api.close()
        log.info("operator stopped")


def _leadership(settings: Settings, api: KubeAPI, metrics: Metrics) -> Leadership:
    if not settings.leader_election:
        return Unelected()
    return Leader(
        api,
        namespace=settings.lease_namespace,
        name=settings.leader_lease,
        terms=Terms(settings.leader_lease_duration),
        identity=own_identity(),
        failed=metrics.error,
    )


def _progress(leader: Leadership, loop: Loop) -> Progress:
    return Progress(loop.ticking, loop.age if loop.ticking else leader.age)


def _page(settings: Settings, reconciler: Reconciler, clocks: Clocks, operator: Callable[[], Operator]) -> Page | None:
    """The page, where there is to be one; then the loop's turns are told to its history."""
    if settings.web_access == "off":
        return None
    past = Past()
    reconciler.on_turn, reconciler.on_gone = past.turn, past.forget
    board = Board(reconciler, past, clocks.monotonic)
    return Page(board, operator, access=settings.web_access, hosts=settings.web_names)


def _operator(settings: Settings, leader: Leadership, loop: Loop, clocks: Clocks) -> Operator:
    progress = _progress(leader, loop)
    return {
        "version": own_version(),
        "role": "leader" if leader.leading else "standby",
        "leader": leader.holder,
        "namespace": settings.namespace or "*",
        "at": clocks.wall(),
        "quietSeconds": round(progress.age, 3),
        "stalled": progress.age > STALLED_AFTER,
    }


async def _until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Do all of the work until told to stop, or until one breaks: none ends by itself. Then all has ended."""
    running = [asyncio.create_task(part) for part in work]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait({*running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*running, stopping):
        task.cancel()
    await asyncio.gather(*running, stopping, return_exceptions=True)
    for task in done:
        task.result()
