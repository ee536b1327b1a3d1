"""The composition root: settings in, a running worker out."""

from __future__ import annotations

import asyncio
import sys
import time
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import structlog

from llmpool_contract.tasks import end_tasks

from .assembly import Given, assemble
from .filters import make_filters
from .from_settings import make_backend
from .gpu import GpuReader, GpuWatch
from .guards import watch_waiting
from .health import HealthServer
from .nvml import PyNvml
from .queue.connections import Connections
from .settings import Settings
from .telling.channels import make_channels
from .telling.metrics import Metrics

log = structlog.get_logger()

READY_WITHIN_S = 30.0
"""Ready means that Redis answered within this time."""
LIVE_WITHIN_S = 10.0
"""Live means that the loop turned within this time."""
TELL_S = 5.0
"""What a stopping worker takes to tell what there still is to tell, seconds."""


class App:
    """One worker with all its parts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._version = version("llm-worker-pool")
        self._metrics = Metrics(models=[*settings.allowed_names, *settings.preload])
        self._metrics.machine.info(self._version, settings.backend)
        self._channels = make_channels(settings, self._metrics.told, self._version)
        self._filters = make_filters(settings, self._metrics.guards.rule_matched)
        self._gpus = GpuWatch(GpuReader(PyNvml()))
        self._connections = Connections(settings.redis_address)
        self._backend = make_backend(settings)
        self._turned_at = time.monotonic()
        self._made = assemble(
            Given(
                settings=settings,
                connections=self._connections,
                backend=self._backend,
                filters=self._filters,
                metrics=self._metrics,
                channels=self._channels,
                gpus=self._gpus,
                version=self._version,
            )
        )
        self._worker, self._reporter, self._peeks = self._made.worker, self._made.reporter, self._made.peeks
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
        self._channels.start()
        self._gpus.start()
        waiting = watch_waiting(self._settings, self._made.watch.waiting)
        turning = (self._turn(), self._filters.run(), waiting, self._made.depths.run())
        beside = [asyncio.create_task(each) for each in turning]
        try:
            await self._worker.run(stop, hurry, self._settings.worker_drain / 1_000, self._peeks)
        finally:
            await end_tasks(beside)
            self._gpus.stop()
            await self._channels.aclose(TELL_S)
            await self._health.aclose()
            await self._filters.aclose()
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
            self._show(time.monotonic())
            await asyncio.sleep(1.0)

    def _show(self, now: float) -> None:
        """What is told of models, breakers, rates and GPUs."""
        metrics, made = self._metrics, self._made
        metrics.machine.rates(self._reporter.jobs.per_second(now), self._reporter.tokens.per_second(now))
        gpus = self._gpus.latest(now)
        metrics.machine.gpus(gpus)
        if gpus and self._settings.model_memory_bytes is None and is_local(self._settings.ollama_base_url):
            made.models.fits.total_from([gpu.memory_total_bytes for gpu in gpus])
        resident = made.models.keeper.resident
        metrics.models.resident(None if resident is None else dict.fromkeys(resident, None))
        for model, (in_use, limit) in made.models.places.permits().items():
            metrics.models.permits(model, in_use, limit)
        for key, reading in made.models.breakers.snapshot(now).items():
            metrics.guards.breaker_rate(key.model, reading.failure_rate)

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
            "gpus": self._gpus.reason or "readable",
            "models": self._models(),
            "breakers": self._breakers(now),
            "saturation": self._made.watch.gate.reason or None,
            "version": self._version,
            "python": sys.version.split()[0],
        } | self._channels.state()

    def _models(self) -> dict[str, Any]:
        plan, places = self._made.models.places.plan, self._made.models.places
        return {
            "managed": places.managed,
            "server_away": plan.away,
            "resident": self._made.models.keeper.resident,
            "open": sorted(plan.opened),
            "waited_for": sorted(places.demand),
            "doing": plan.doing or (f"making room for {plan.target}" if plan.target else None),
            "trouble": {model: f"{told.code}: {told.reason}" for model, told in plan.trouble.items()},
            "preload": [state.model_dump(exclude_none=True) for state in self._made.models.keeper.states() or []],
        }

    def _breakers(self, now: float) -> dict[str, Any]:
        return {
            key.model or "server": {"state": reading.state, "reason": reading.reason or None}
            for key, reading in self._made.models.breakers.snapshot(now).items()
        }


def is_local(url: str) -> bool:
    """Whether a server runs on this host, so that this host's GPUs are its own."""
    return (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "::1")
