"""The only file that knows Prometheus. Labels are bounded: queues and outcomes, never ids, tenants or free text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from .events import JobEvent

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.02, 0.08, 0.32, 1.28, 5.12, 20.48, 81.92, 327.68, 655.36)


class Metrics:
    """This process' metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self._jobs = Counter("llm_worker_jobs", "Claims that ended, by outcome.", ["queue", "outcome"], registry=here)
        self._running = Histogram(
            "llm_worker_job_duration_seconds", "One attempt at a job.", ["queue"], buckets=_SECONDS, registry=here
        )
        self._queued = Histogram(
            "llm_worker_job_queued_seconds",
            "From enqueued_at to the first claim.",
            ["queue"],
            buckets=_SECONDS,
            registry=here,
        )
        self._first = Histogram(
            "llm_worker_first_token_seconds", "From request to first text.", ["queue"], buckets=_SECONDS, registry=here
        )
        self._tokens = Counter(
            "llm_worker_tokens", "As the server counted them.", ["queue", "direction"], registry=here
        )
        self.oversized = Counter("llm_worker_oversized_jobs", "Bodies over JOB_MAX_BYTES.", ["queue"], registry=here)
        self.reaped = Counter("llm_worker_reaped_jobs", "Expired claims taken back.", ["queue"], registry=here)
        self.promoted = Counter("llm_worker_promoted_jobs", "Delayed jobs that fell due.", ["queue"], registry=here)
        self.redis_errors = Counter("llm_worker_redis_errors", "Calls that failed.", ["purpose"], registry=here)
        self.in_flight = Gauge("llm_worker_in_flight", "Jobs running now.", registry=here)
        self.capacity = Gauge("llm_worker_capacity", "Jobs that may run at once.", registry=here)
        self.draining = Gauge("llm_worker_draining", "1 while this worker takes nothing new.", registry=here)
        self.cpu = Gauge("llm_worker_process_cpu_cores", "Cores in use by this process.", registry=here)
        self.memory = Gauge("llm_worker_process_resident_memory_bytes", "Resident memory.", registry=here)

    def __call__(self, event: JobEvent) -> None:
        """Count one settled claim."""
        queue = event.queue
        self._jobs.labels(queue, event.outcome).inc()
        if event.running_s is not None:
            self._running.labels(queue).observe(event.running_s)
        if event.queued_s is not None and event.attempts == 0:
            self._queued.labels(queue).observe(event.queued_s)
        if event.first_token_s is not None:
            self._first.labels(queue).observe(event.first_token_s)
        if event.input_tokens is not None:
            self._tokens.labels(queue, "input").inc(event.input_tokens)
        if event.output_tokens is not None:
            self._tokens.labels(queue, "output").inc(event.output_tokens)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
