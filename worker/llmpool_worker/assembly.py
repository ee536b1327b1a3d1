"""Which part is made of what: settings in, a worker ready to run out."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from llmpool_contract import QueueKeys

from .admission import Admission
from .backends import Backend
from .cancels import CancelListener
from .clock import RedisClock
from .held import Held
from .intake import Intake, Peek
from .journeys import Journeys, Neighbours, Rules
from .leases import LeaseKeeper
from .policy import RetryPolicy
from .queue.connections import Connections
from .queue.store import Limits, QueueStore, Tended
from .reporter import Identity, Reporter
from .runner import RunLimits, Runner
from .settings import Settings
from .settler import Settler
from .slots import Slots
from .streams import Streams
from .telling import Teller
from .telling.logs import log_event
from .telling.metrics import Metrics
from .telling.troubles import Troubles
from .tending import Tender
from .worker import Parts, Worker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Assembled:
    """A worker and what its owner must start or read beside it."""

    worker: Worker
    reporter: Reporter
    peeks: list[Peek]


@dataclass(frozen=True, slots=True)
class Counted:
    """Callbacks that count and log what nobody else is told of."""

    metrics: Metrics

    def oversized(self, keys: QueueKeys, count: int) -> None:
        """Bodies went to the dead letters unread."""
        self.metrics.oversized.labels(keys.queue).inc(count)
        log.warning("jobs_too_large", queue=keys.queue, jobs=count)

    def tended(self, keys: QueueKeys, tended: Tended) -> None:
        """Expired claims came back, or delayed jobs fell due."""
        if tended.reaped:
            self.metrics.reaped.labels(keys.queue).inc(tended.reaped)
            log.warning("reaped", queue=keys.queue, jobs=tended.reaped)
        if tended.promoted:
            self.metrics.promoted.labels(keys.queue).inc(tended.promoted)


def assemble(s: Settings, connections: Connections, backend: Backend, metrics: Metrics, version: str) -> Assembled:
    """Make all parts and introduce them to each other. Opens nothing yet."""
    counted, failed = Counted(metrics), Troubles(metrics).of
    clock, held, queues = RedisClock(), Held(), list(s.queues)
    store = QueueStore(s.worker_id, make_limits(s))
    slots = Slots(s.worker_concurrency, clock)
    rules = Rules(s.queues, s.job_max_bytes, s.max_deliveries, s.worker_id)
    journeys = Journeys(rules, slots, held, Teller([metrics, log_event]))
    worker = Worker(slots, held, journeys)
    identity = Identity(s.worker_pool, s.worker_id, [keys.queue for keys in queues], version)

    claims = connections.once()
    intake = Intake(claims, store, clock, queues, worker.free, journeys.admit, failed("claim"), counted.oversized)
    streams = Streams(connections.repeating(), store, failed("stream"))
    parts = Parts(
        intake=intake,
        settler=Settler(connections.once(), store, queues, journeys.settled, failed("settle")),
        leases=LeaseKeeper(connections.repeating(), store, held, failed("renew")),
        tender=Tender(connections.repeating(), store, queues, counted.tended, failed("tend")),
        streams=streams,
        cancels=CancelListener(connections.subscriber(), queues, held, failed("cancel")),
        reporter=Reporter(
            connections.repeating(),
            store,
            clock,
            identity,
            worker.snapshot,
            worker.drain_wish,
            failed("report"),
        ),
    )
    runner = Runner(backend, streams, clock, make_run_limits(s), make_retries(s), s.worker_id)
    journeys.meet(
        Neighbours(
            admission=Admission(claims, store, clock),
            runner=runner,
            reporter=parts.reporter,
            settle=parts.settler.put,
            slot_free=intake.slot_free,
            job_delayed=parts.tender.soon,
            check_failed=failed("check"),
        )
    )
    worker.assemble(parts)
    return Assembled(worker, parts.reporter, intake.peeks(lambda: connections.peeker(s.job_max_bytes)))


def make_retries(s: Settings) -> RetryPolicy:
    """When a failed attempt is followed by another."""
    return RetryPolicy(s.ollama_max_retries, s.retry_backoff, s.retry_backoff_max)


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
