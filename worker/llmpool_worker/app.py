"""The composition root: settings in, a running worker out."""

from __future__ import annotations

import asyncio
import sys
import time
from importlib.metadata import version
from typing import Any

import structlog

from .assembly import assemble, make_backend
from .health import HealthServer
from .queue.connections import Connections
from .settings import Settings
from .telling.metrics import Metrics

log = structlog.get_logger()

READY_WITHIN_S = 30.0
"""Ready means that Redis answered within this time."""
LIVE_WITHIN_S = 10.0
"""Live means that the loop turned within this time."""


class App:
    """One worker with all its parts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._version = version("llm-worker-pool")
        self._metrics = Metrics()
        self._connections = Connections(
            settings.redis_url.get_secret_value(),
            username=settings.redis_username,
            password=settings.redis_password.get_secret_value() if settings.redis_password else None,
        )
        self._backend = make_backend(settings)
        self._turned_at = time.monotonic()
        made = assemble(settings, self._connections, self._backend, self._metrics, self._version)
        self._worker, self._reporter, self._peeks = made.worker, made.reporter, made.peeks
        self._health = HealthServer(settings.health_host, settings.health_port, self.health, self._metrics.text)

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Until ``stop`` and the drain that follows it; ``hurry`` cuts the drain short."""
        port = await self._health.start()
        log.info(
            "started",
            worker=self._settings.worker_id,
            pool=self._settings.worker_pool,
            queues=self._settings.worker_queues,
            backend=self._settings.backend,
            health_port=port,
            version=self._version,
        )
        turning = asyncio.create_task(self._turn())
        try:
            await self._worker.run(stop, hurry, self._settings.worker_drain / 1_000, self._peeks)
        finally:
            turning.cancel()
            await self._health.aclose()
            await self._backend.aclose()
            await self._connections.aclose()

    async def _turn(self) -> None:
        """Proof that the loop turns, and the gauges that nothing else would move."""
        metrics, worker = self._metrics, self._worker
        metrics.capacity.set(self._settings.worker_concurrency)
        while True:
            self._turned_at = time.monotonic()
            snapshot = worker.snapshot()
            metrics.in_flight.set(snapshot.in_flight)
            metrics.draining.set(snapshot.state in ("draining", "drained"))
            if self._reporter.cpu is not None:
                metrics.cpu.set(self._reporter.cpu)
            if self._reporter.memory_bytes is not None:
                metrics.memory.set(self._reporter.memory_bytes)
            await asyncio.sleep(1.0)

    def health(self) -> dict[str, Any]:
        """The whole picture. Full, draining or without its backend a worker stays ready: a not-ready pod dies first."""
        now, worker = time.monotonic(), self._worker
        heard = self._reporter.heard_at
        redis_age_s = None if heard is None else round(now - heard, 3)
        live = now - self._turned_at <= LIVE_WITHIN_S
        snapshot = worker.snapshot()
        return {
            "status": snapshot.state.value,
            "live": live,
            "ready": live and worker.started and redis_age_s is not None and redis_age_s <= READY_WITHIN_S,
            "worker": self._settings.worker_id,
            "pool": self._settings.worker_pool,
            "queues": [keys.queue for keys in self._settings.queues],
            "backend": self._settings.backend,
            "in_flight": snapshot.in_flight,
            "capacity": snapshot.capacity,
            "done": snapshot.done,
            "redis": {"answered_seconds_ago": redis_age_s},
            "errors": dict(worker.journeys.errors),
            "memory_bytes": self._reporter.memory_bytes,
            "cpu": self._reporter.cpu,
            "version": self._version,
            "python": sys.version.split()[0],
        }
