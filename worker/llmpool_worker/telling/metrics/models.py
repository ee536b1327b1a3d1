"""Models: loads, residency, swaps, permits, embedding calls."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .labels import NAN, KnownLabels

_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048)


class ModelMetrics:
    """What is done with models, beside asking them."""

    def __init__(self, registry: CollectorRegistry, models: KnownLabels) -> None:
        self._models = models
        here = registry
        self._loads = Counter(
            "llm_worker_model_loads", "By outcome: loaded or failed.", ["model", "outcome"], registry=here
        )
        self._load = Histogram(
            "llm_worker_model_load_seconds",
            "Loads that this worker asked for and that succeeded, seconds.",
            ["model"],
            buckets=_SECONDS,
            registry=here,
        )
        self._unloads = Counter(
            "llm_worker_model_unloads", "Unloads that this worker asked for.", ["model"], registry=here
        )
        self._swaps = Counter("llm_worker_model_swaps", "Times that models made room for others.", registry=here)
        self._count = Gauge("llm_worker_models_resident", "Models in the server's memory.", registry=here)
        self._count.set(NAN)
        self._resident = Gauge("llm_worker_model_resident", "1: in memory; no series: not.", ["model"], registry=here)
        self._bytes = Gauge(
            "llm_worker_model_resident_bytes",
            "A resident model's memory, as the server tells it.",
            ["model"],
            registry=here,
        )
        self._permits = Gauge(
            "llm_worker_model_permits",
            "Requests that may run at once, and those that do.",
            ["model", "state"],
            registry=here,
        )
        self._batch = Histogram(
            "llm_worker_embed_call_inputs",
            "Inputs of one embedding call: _count is calls, _sum is inputs.",
            ["model"],
            buckets=_INPUTS,
            registry=here,
        )

    def know(self, *models: str) -> None:
        """Models that are real (configured, listed by the server): only these get a label of their own."""
        for model in models:
            self._models.know(model)

    def loaded(self, model: str, seconds: float) -> None:
        """A load that this worker asked for."""
        self._models.know(model)
        self._loads.labels(model=self._models.of(model), outcome="loaded").inc()
        self._load.labels(self._models.of(model)).observe(seconds)

    def load_failed(self, model: str) -> None:
        """The same, in vain."""
        self._loads.labels(model=self._models.of(model), outcome="failed").inc()

    def unloaded(self, model: str) -> None:
        """An unload that this worker asked for."""
        self._unloads.labels(self._models.of(model)).inc()

    def swapped(self) -> None:
        """Some models made room for others."""
        self._swaps.inc()

    def resident(self, models: Mapping[str, int | None] | None) -> None:
        """What is in the server's memory, with bytes where it tells them. None: it can't be asked."""
        self._resident.clear()
        self._bytes.clear()
        self._count.set(NAN if models is None else len(models))
        for model, size in (models or {}).items():
            self.know(model)
            self._resident.labels(self._models.of(model)).set(1)
            if size is not None:
                self._bytes.labels(self._models.of(model)).inc(size)

    def permits(self, model: str, in_use: int, limit: int | None) -> None:
        """In-flight permits of a model; ``limit`` None: unlimited."""
        label = self._models.of(model)
        self._permits.labels(label, "in_use").set(in_use)
        if limit is not None:
            self._permits.labels(label, "limit").set(limit)

    def embed_call(self, model: str, inputs: int) -> None:
        """One call to the server, of so many inputs."""
        self._batch.labels(self._models.of(model)).observe(inputs)
