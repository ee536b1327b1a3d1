"""The composition root: settings in, a running worker out."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import structlog

from .admission import Admission
from .backends import Backend
from .cancels import CancelListener
from .clock import RedisClock
from .health import HealthServer
from .held import Held
from .intake import Intake, Peek
from .leases import LeaseKeeper
from .policy import RetryPolicy
from .queue.connections import Connections
from .queue.store import Limits, QueueStore, Tended
from .reporter import Reporter
from .runner import RunLimits, Runner
from .settings import Settings
from .settler import Settler
from .streams import Streams
from .telling import Teller
from .telling.logs import log_event
from .telling.metrics import Metrics
from .tending import Tender
from .worker import Worker

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
        self._worker, self._reporter, self._peeks = self._assemble()
        self._health = HealthServer(settings.health_host, settings.health_port, self.health, self._metrics.text)

    def _assemble(self) -> tuple[Worker, Reporter, list[Peek]]:
        s, opened, failed = self._settings, self._connections, self._failed
        queues, clock, held = s.queues, RedisClock(), Held()
        store = QueueStore(s.worker_id, make_limits(s))
        worker = Worker(
            queues,
            s.worker_concurrency,
            clock,
            held,
            Teller([self._metrics, log_event]),
            worker_id=s.worker_id,
            job_max_bytes=s.job_max_bytes,
            max_deliveries=s.max_deliveries,
        )
        streams = Streams(opened.repeating(), store, failed("stream"))
        retry = RetryPolicy(s.ollama_max_retries, s.retry_backoff, s.retry_backoff_max)
        runner = Runner(self._backend, streams, clock, make_run_limits(s), retry, s.worker_id)
        names = [keys.queue for keys in queues]
        reporter = Reporter(
            opened.repeating(),
            store,
            clock,
            s.worker_pool,
            s.worker_id,
            names,
            self._version,
            worker.snapshot,
            worker.drain_wish,
            failed("report"),
        )
        claims = opened.once()
        intake = Intake(
            claims, store, clock, list(queues), worker.free, worker.admit, failed("claim"), self._count_oversized
        )
        worker.assemble(
            intake,
            Admission(claims, store, clock),
            runner,
            Settler(opened.once(), store, list(queues), worker.settled, failed("settle")),
            LeaseKeeper(opened.repeating(), store, held, failed("renew")),
            Tender(opened.repeating(), store, list(queues), self._count_tended, failed("tend")),
            streams,
            CancelListener(opened.subscriber(), list(queues), held, failed("cancel")),
            reporter,
        )
        peeks = intake.peeks(lambda _name: opened.peeker(s.job_max_bytes))
        return worker, reporter, peeks

    def _failed(self, purpose: str) -> Callable[[], None]:
        return self._metrics.redis_errors.labels(purpose).inc

    def _count_oversized(self, keys: Any, count: int) -> None:
        self._metrics.oversized.labels(keys.queue).inc(count)
        log.warning("jobs_too_large", queue=keys.queue, jobs=count, allowed_bytes=self._settings.job_max_bytes)

    def _count_tended(self, keys: Any, tended: Tended) -> None:
        if tended.reaped:
            self._metrics.reaped.labels(keys.queue).inc(tended.reaped)
            log.warning("reaped", queue=keys.queue, jobs=tended.reaped)
        if tended.promoted:
            self._metrics.promoted.labels(keys.queue).inc(tended.promoted)

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
        metrics.capacity.set(worker.concurrency)
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
            "errors": dict(worker.last_errors),
            "memory_bytes": self._reporter.memory_bytes,
            "cpu": self._reporter.cpu,
            "version": self._version,
            "python": sys.version.split()[0],
        }


def make_limits(s: Settings) -> Limits:
    """What the scripts keep to."""
    return Limits(
        lease_ms=s.worker_lease,
        job_max_bytes=s.job_max_bytes,
        result_ttl_ms=s.result_ttl,
        stream_ttl_ms=s.stream_ttl,
        dead_max_entries=s.dead_max_entries,
        dead_max_bytes=s.dead_max_bytes,
    )


def make_run_limits(s: Settings) -> RunLimits:
    """What one attempt keeps to."""
    return RunLimits(
        timeout_s=s.worker_timeout / 1_000,
        request_s=s.ollama_timeout / 1_000,
        stall_s=s.ollama_stall_timeout / 1_000,
        output_max_bytes=s.output_max_bytes,
    )


def make_backend(s: Settings) -> Backend:
    """The one that BACKEND names. Imports what it needs and no more."""
    if s.backend == "echo":
        from .backends.echo import EchoBackend

        return EchoBackend(s.echo_token_delay / 1_000)
    from .backends.http import HttpServer

    server = HttpServer(
        s.ollama_base_url, connect_timeout_s=s.ollama_connect_timeout / 1_000, connections=s.worker_concurrency
    )
    if s.backend == "openai":
        from .backends.openai import OpenAIBackend

        return OpenAIBackend(server, batch_size=s.worker_batch_size)
    from .backends.ollama import OllamaBackend

    return OllamaBackend(server, batch_size=s.worker_batch_size)
