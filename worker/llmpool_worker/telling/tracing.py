"""Traces over OTLP/HTTP (extra ``tracing``): made after the fact, from what is known once a claim is settled.

Each attempt is a CONSUMER span, child of the job's own ``traceparent`` and linked to it; the model call in it is a
CLIENT span by the GenAI conventions. Neither holds a word of a prompt or an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import names
from .documents import NOT_NEWS
from .events import JobEvent
from .outbox import Counted, Delivery, Outbox, SendFailed
from .spans import Origin, client_attributes, consumer_attributes, error_of, operation_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

EXPORT_TIMEOUT_S = 5.0
"""One export with the exporter's own repeats, seconds."""

DELIVERY = Delivery(capacity=8_192, batch=512, attempts=10)
"""A collector that refuses a batch for good can't be told from one that is away: so no batch is tried for ever."""


class Tracing:
    """The hook. The share of jobs that it traces is PERFORMANCE_SAMPLE_RATE, where a job has no parent to decide."""

    def __init__(
        self, exporter: SpanExporter, origin: Origin, share: float, counted: Counted, delivery: Delivery = DELIVERY
    ) -> None:
        self._origin = origin
        self.outbox = Outbox(OtlpSink(exporter), counted, delivery)
        self._provider = make_provider(self.outbox, origin, share)
        self._tracer: Tracer = self._provider.get_tracer("llmpool_worker", origin.version)

    def __call__(self, event: JobEvent) -> None:
        """Make the spans and queue them; costs some 100 microseconds where the job is traced."""
        from opentelemetry import trace

        if event.outcome in NOT_NEWS:
            return
        parent = context_of(event.traceparent)
        came_from = trace.get_current_span(parent).get_span_context()
        began = event.ended_at - (event.slot_wait_s or 0.0) - (event.running_s or 0.0)
        span = self._tracer.start_span(
            f"{names.PROCESS} {event.queue}",
            parent,
            trace.SpanKind.CONSUMER,
            consumer_attributes(event),
            links=[trace.Link(came_from)] if came_from.is_valid else [],
            start_time=_ns(began),
        )
        if span.is_recording():
            if event.asked is not None:
                self._model_call(event, trace.set_span_in_context(span, parent))
            _end(span, event)

    def _model_call(self, event: JobEvent, parent: Any) -> None:
        from opentelemetry.trace import SpanKind

        span = self._tracer.start_span(
            f"{operation_of(event)} {event.asked}",
            parent,
            SpanKind.CLIENT,
            client_attributes(event, self._origin),
            start_time=_ns(event.ended_at - (event.running_s or 0.0)),
        )
        _end(span, event)


def _end(span: Any, event: JobEvent) -> None:
    from opentelemetry.trace import Status, StatusCode

    if error_of(event) is not None:
        span.set_status(Status(StatusCode.ERROR, event.reason))
    span.end(_ns(event.ended_at))


def _ns(unix_s: float) -> int:
    return int(unix_s * 1_000_000_000)


def context_of(traceparent: str | None) -> Any:
    """An OpenTelemetry context that holds the job's own trace; an empty one where it has none that can be read."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Never the current context: what this task happens to be inside of has nothing to do with the job.
    carrier = {} if traceparent is None else {names.TRACEPARENT: traceparent}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def make_provider(outbox: Outbox[ReadableSpan], origin: Origin, share: float) -> TracerProvider:
    """A provider of our own, which puts each span that ends into ``outbox``. The process' global one stays as it is."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    class Handover(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            outbox.put(span)

    resource = Resource.create(
        {
            names.SERVICE_NAME: origin.service,
            names.SERVICE_VERSION: origin.version,
            names.SERVICE_INSTANCE: origin.worker,
            names.POOL: origin.pool,
        }
    )
    provider = TracerProvider(ParentBasedTraceIdRatio(share), resource, shutdown_on_exit=False)
    provider.add_span_processor(Handover())
    return provider


class OtlpSink:
    """Exports in a thread: the exporter's HTTP client blocks."""

    name = "tracing"

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    async def send(self, batch: Sequence[ReadableSpan]) -> None:
        """One export."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        if await asyncio.to_thread(self._exporter.export, batch) is not SpanExportResult.SUCCESS:
            raise SendFailed("the collector didn't take the spans")

    async def aclose(self) -> None:
        """Ends the wait between two of the exporter's own repeats."""
        self._exporter.shutdown()


def make_exporter(endpoint: str, timeout_s: float = EXPORT_TIMEOUT_S, *, quiet: bool = True) -> SpanExporter:
    """To ``<endpoint>/v1/traces``; headers and certificates come from OpenTelemetry's own variables. ``quiet``: it says
    nothing on stderr."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if quiet:  # it tells of each failure: the outbox does that once, in our own form
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=timeout_s)
