"""Jobs: how many came to what, how long each part took, what models were used for them."""

from __future__ import annotations

from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from llmpool_worker.telling.events import JobEvent

from .labels import FirstLabels, KnownLabels

SECONDS = (0.005, 0.02, 0.08, 0.32, 1.28, 5.12, 20.48, 81.92, 327.68, 655.36)
_SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0)
_PHASES = {"load": "load_s", "prompt": "prompt_s", "generate": "eval_s"}
_NO_ERRORS = frozenset({"succeeded", "cancelled", "expired"})
"""Outcomes whose code, if they have one, says nothing more."""


M = TypeVar("M", Counter, Histogram)


class Children(Generic[M]):
    """A metric's children by their labels. Prometheus' own look-up takes longer than the count itself, and this is
    done a dozen times for each job."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._made: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        """The child, as the metric would give it."""
        child = self._made.get(values)
        if child is None:
            child = self._made[values] = self._metric.labels(*values)
        return child


class JobMetrics:
    """Counts settled claims."""

    def __init__(self, registry: CollectorRegistry, models: KnownLabels) -> None:
        self._models, self._codes = models, FirstLabels()

        def counter(name: str, text: str, *labels: str) -> Children[Counter]:
            return Children(Counter(f"llm_worker_{name}", text, labels, registry=registry))

        def seconds(name: str, text: str, *labels: str) -> Children[Histogram]:
            name = f"llm_worker_{name}_seconds"
            return Children(Histogram(name, text, labels, buckets=SECONDS, registry=registry))

        self._jobs = counter("jobs", "Claims that ended, by outcome.", "queue", "outcome")
        self._errors = counter("job_errors", "Claims that ended in an error, by its code.", "queue", "code")
        self._running = seconds("job_duration", "One attempt at a job, seconds.", "queue")
        self._queued = seconds("job_queued", "From enqueued_at to the first claim, seconds.", "queue")
        self._slot_wait = seconds("job_slot_wait", "From a claim to its attempt's beginning, seconds.", "queue")
        self._first = seconds("first_token", "From the request to the first text, seconds.", "queue")
        self._tokens = counter("tokens", "As the server counted them.", "queue", "direction")
        self._requests = counter("model_requests", "Attempts by the model that was asked.", "model", "outcome")
        self._request = seconds("model_request", "One attempt that succeeded, seconds.", "model")
        self._phase = seconds(
            "model_phase", "What the server says of load, prompt, generate; seconds.", "model", "phase"
        )
        self._model_tokens = counter("model_tokens", "As the server counted them.", "model", "direction")
        name, text = "llm_worker_model_tokens_per_second", "Output tokens per second of generation."
        self._speed = Children(Histogram(name, text, ["model"], buckets=_SPEEDS, registry=registry))
        self._fallbacks = counter("fallbacks", "Attempts at another model than the job asks for.", "model", "used")

    def count(self, event: JobEvent) -> None:
        """One settled claim."""
        self._of_queue(event)
        if event.asked is not None:
            self._of_model(event, event.asked)

    def _of_queue(self, event: JobEvent) -> None:
        queue = event.queue
        self._jobs.labels(queue, event.outcome).inc()
        if event.code is not None and event.outcome not in _NO_ERRORS:
            self._errors.labels(queue, self._codes.of(event.code)).inc()
        for histogram, value in (
            (self._running, event.running_s),
            (self._queued, event.queued_s if event.attempts == 0 else None),
            (self._slot_wait, event.slot_wait_s),
            (self._first, event.first_token_s),
        ):
            if value is not None:
                histogram.labels(queue).observe(value)
        _count_tokens(self._tokens, queue, event)

    def _of_model(self, event: JobEvent, asked: str) -> None:
        if event.outcome == "succeeded":
            self._models.know(asked)  # it has answered, so it is there
        model = self._models.of(asked)
        self._requests.labels(model, event.outcome).inc()
        if event.outcome == "succeeded" and event.running_s is not None:
            self._request.labels(model).observe(event.running_s)
        for phase, field in _PHASES.items():
            if (value := getattr(event, field)) is not None:
                self._phase.labels(model, phase).observe(value)
        _count_tokens(self._model_tokens, model, event)
        if (speed := event.tokens_per_s) is not None:
            self._speed.labels(model).observe(speed)
        if event.fallback_from is not None:
            self._fallbacks.labels(self._models.of(event.fallback_from), model).inc()


def _count_tokens(counter: Children[Counter], label: str, event: JobEvent) -> None:
    for direction, tokens in (("input", event.input_tokens), ("output", event.output_tokens)):
        if tokens is not None:
            counter.labels(label, direction).inc(tokens)
