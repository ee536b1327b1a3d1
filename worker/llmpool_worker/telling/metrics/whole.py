"""All metrics of one worker, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import generate_latest

from llmpool_contract.models import folded
from llmpool_worker.telling.events import JobEvent

from .guards import GuardMetrics
from .jobs import JobMetrics
from .labels import KnownLabels
from .machine import MachineMetrics
from .models import ModelMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The hook that counts, and by theme what others call: ``models``, ``guards``, ``machine``."""

    def __init__(self, models: Iterable[str] = ()) -> None:
        """``models``: those that are configured, so that they have labels of their own from the start."""
        self.registry = here = CollectorRegistry()
        known = KnownLabels(models)
        self.jobs = JobMetrics(here, known)
        self.models = ModelMetrics(here, known)
        self.guards = GuardMetrics(here, known)
        self.machine = MachineMetrics(here)
        self.oversized = Counter("llm_worker_oversized_jobs", "Bodies over JOB_MAX_BYTES.", ["queue"], registry=here)
        self.reaped = Counter("llm_worker_reaped_jobs", "Expired claims taken back.", ["queue"], registry=here)
        self.promoted = Counter("llm_worker_promoted_jobs", "Delayed jobs that fell due.", ["queue"], registry=here)
        self.redis_errors = Counter("llm_worker_redis_errors", "Calls that failed.", ["purpose"], registry=here)
        self._told = Counter(
            "llm_worker_told",
            "Events, spans and letters by channel: sent or dropped; failed counts tries.",
            ["channel", "outcome"],
            registry=here,
        )
        machine = self.machine
        self.in_flight, self.capacity, self.draining = machine.in_flight, machine.capacity, machine.draining
        self.cpu, self.memory, self.depth = machine.cpu, machine.memory, machine.depth

    def __call__(self, event: JobEvent) -> None:
        """Count one settled claim."""
        self.jobs.count(event)
        if event.code == "retry_budget":
            self.guards.retry_refused(event.queue)
        elif event.code == "breaker_open" and event.model is not None:
            self.guards.breaker_refused(folded(event.model))

    def told(self, channel: str, outcome: str, count: int) -> None:
        """What became of things that a channel was to tell."""
        self._told.labels(channel, outcome).inc(count)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
