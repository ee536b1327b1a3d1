"""The worker as a process, its machine's GPUs, and its queues as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge

from llmpool_contract.report import GPUReport

from .labels import NAN

QUEUE_STATES = ("ready", "delayed", "in_flight", "dead")


class MachineMetrics:
    """Gauges. What isn't known has no series: missing is never zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"llm_worker_{name}", text, labels, registry=registry)

        self._info = gauge("info", "1, with what this worker is.", "version", "backend")
        self.in_flight = gauge("in_flight", "Jobs running now.")
        self.capacity = gauge("capacity", "Jobs that may run at once.")
        self.draining = gauge("draining", "1 while this worker takes nothing new.")
        self.cpu = gauge("process_cpu_cores", "Cores in use by this process.")
        self.memory = gauge("process_resident_memory_bytes", "Resident memory.")
        self.cpu.set(NAN)
        self.memory.set(NAN)
        self._queue = gauge(
            "queue_jobs", "A queue as it stands in Redis, the same for each of its workers: take max.", "queue", "state"
        )
        self._oldest = gauge(
            "queue_oldest_seconds",
            "Age of the oldest job at a list's head, by its enqueued_at; no series: none waits or says. Take max.",
            "queue",
        )
        self._rates = gauge("processing_rate", "Per second, over the last minute of work.", "what")
        self._gpu_busy = gauge("gpu_utilization_ratio", "Time in which a kernel ran, 0..1: busy, not load.", "gpu")
        self._gpu_used = gauge("gpu_memory_used_bytes", "Memory in use on a GPU, by whomever.", "gpu")
        self._gpu_total = gauge("gpu_memory_total_bytes", "Memory of a GPU.", "gpu")

    def info(self, version: str, backend: str) -> None:
        """Once, at the start."""
        self._info.labels(version, backend).set(1)

    def depth(self, queue: str, jobs: Mapping[str, int | None], oldest_s: float | None) -> None:
        """Jobs of a queue by state, and the age of the oldest that waits, seconds; None, or no state: not known."""
        for state in QUEUE_STATES:
            _set(self._queue, jobs.get(state), queue, state)
        _set(self._oldest, oldest_s, queue)

    def rates(self, jobs: float | None, tokens: float | None) -> None:
        """Settled jobs and output tokens per second; None: no work yet."""
        _set(self._rates, jobs, "jobs")
        _set(self._rates, tokens, "tokens")

    def gpus(self, reports: Sequence[GPUReport] | None) -> None:
        """One reading of all GPUs; None: there is no way to read any."""
        for gauge in (self._gpu_busy, self._gpu_used, self._gpu_total):
            gauge.clear()  # a GPU that is gone must not go on with its last reading
        for report in reports or ():
            label = str(report.index)
            _set(self._gpu_busy, report.utilization, label)
            _set(self._gpu_used, report.memory_used_bytes, label)
            _set(self._gpu_total, report.memory_total_bytes, label)


def _set(gauge: Gauge, value: float | None, *labels: str) -> None:
    if value is not None:
        gauge.labels(*labels).set(value)
    else:
        gauge.remove(*labels)
