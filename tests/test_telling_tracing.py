"""Traces against a receiver that speaks OTLP over HTTP: the spans of a job, as a collector gets them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from llmpool_worker.telling.outbox import Delivery
from llmpool_worker.telling.spans import Origin
from llmpool_worker.telling.tracing import Tracing, make_exporter
from tests.support.telling import Counts, event
from tests.support.waiting import eventually

ORIGIN = Origin("llm-worker", "1.2.3", "w1", "local/default", "ollama", "http://ollama:11434")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
QUICK = Delivery(batch=10, attempts=3, backoff_s=0.001, backoff_max_s=0.002)


class Collector:
    """Keeps what it is sent, and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.statuses: list[int] = []
        app = web.Application()
        app.add_routes([web.post("/v1/traces", self._take)])
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            assert request.content_type == "application/x-protobuf"
            self.requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(status=status)

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, object]:
        return values(self.requests[0].resource_spans[0].resource)


def values(holder) -> dict[str, object]:
    """Attributes as Python's values."""
    found: dict[str, object] = {}
    for pair in holder.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    await found.server.start_server()
    yield found
    await found.server.close()


async def trace(collector: Collector, *events, share: float = 1.0) -> Counts:
    """Tell all events and end, as a worker does."""
    counts = Counts()
    tracing = Tracing(make_exporter(str(collector.server.make_url("/"))), ORIGIN, share, counts, QUICK)
    tracing.outbox.start()
    for one in events:
        tracing(one)

    async def settled() -> bool:
        return not tracing.outbox.state()["waiting"]

    await eventually(settled, 5, "all spans taken or given up")
    await tracing.outbox.aclose(1)
    return counts


async def test_a_job_is_two_spans_of_its_producer_s_trace(collector):
    """The attempt is a child of the producer's span and linked to it, the model call a child of the attempt; both have
    the times of what they tell of."""
    await trace(collector, event(traceparent=SAMPLED, slot_wait_s=0.5, ended_at=1_000.0))
    client, consumer = collector.spans
    assert (consumer.name, consumer.kind) == ("process llm-chat", Span.SPAN_KIND_CONSUMER)
    assert (client.name, client.kind) == ("chat m", Span.SPAN_KIND_CLIENT)
    assert {span.trace_id.hex() for span in (consumer, client)} == {TRACE}
    assert consumer.parent_span_id.hex() == PARENT
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in consumer.links] == [(TRACE, PARENT)]
    assert client.parent_span_id == consumer.span_id
    times = [t / 1e9 for t in (consumer.start_time_unix_nano, client.start_time_unix_nano, client.end_time_unix_nano)]
    assert times == [997.5, 998.0, 1_000.0]
    assert consumer.end_time_unix_nano == client.end_time_unix_nano


async def test_attributes_by_the_conventions(collector):
    """Messaging's and GenAI's names, the pool's own beside them; nothing that isn't known."""
    told = event(
        attempts=1,
        deliveries=2,
        input_tokens=5,
        output_tokens=7,
        finish_reason="stop",
        first_token_s=0.25,
        load_s=0.125,
        model_used="small",
        rules=("no-cards",),
        tenant="school-7",
    )
    await trace(collector, told)
    client, consumer = (values(span) for span in collector.spans)
    assert consumer == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "llm-chat",
        "messaging.message.id": "j1",
        "llmpool.handle": "token:1",
        "llmpool.outcome": "succeeded",
        "llmpool.attempts": 1,
        "llmpool.deliveries": 2,
        "llmpool.tenant": "school-7",
        "llmpool.rules": ["no-cards"],
    }
    assert client == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "small",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 7,
        "server.address": "ollama",
        "server.port": 11434,
        "llmpool.load_seconds": 0.125,
        "llmpool.fallback_from": "m",
    }


async def test_the_resource_names_the_worker(collector):
    """Service, version, instance and pool are told once for all spans."""
    await trace(collector, event())
    wanted = {
        "service.name": "llm-worker",
        "service.version": "1.2.3",
        "service.instance.id": "w1",
        "llmpool.pool": "local/default",
    }
    assert wanted.items() <= collector.resource.items()


@pytest.mark.parametrize(
    ("changes", "spans", "error"),
    [
        pytest.param({"outcome": "failed", "code": "timeout"}, 2, "timeout", id="failed"),
        pytest.param({"outcome": "retried", "code": "backend_broke"}, 2, "backend_broke", id="retried"),
        pytest.param({"outcome": "failed", "code": "invalid", "running_s": None}, 1, "invalid", id="refused unasked"),
        pytest.param({"outcome": "cancelled", "code": "cancelled"}, 2, None, id="cancelled"),
        pytest.param({"outcome": "lost"}, 2, "lost", id="lost"),
        pytest.param({"outcome": "postponed", "code": "backend_busy"}, 0, None, id="postponed"),
    ],
)
async def test_errors_are_marked(collector, changes, spans, error):
    """What failed is an error by its code; what nobody wanted is none; a model that wasn't asked has no span."""
    await trace(collector, event(**changes))
    assert len(collector.spans) == spans
    for span in collector.spans:
        assert values(span).get("error.type") == error
        assert span.status.code == (Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET)


@pytest.mark.parametrize(
    ("traceparent", "share", "spans"),
    [
        pytest.param(SAMPLED, 0.0, 2, id="parent sampled, share 0"),
        pytest.param(UNSAMPLED, 1.0, 0, id="parent unsampled, share 1"),
        pytest.param(None, 1.0, 2, id="no parent, share 1"),
        pytest.param(None, 0.0, 0, id="no parent, share 0"),
        pytest.param("nonsense", 1.0, 2, id="no parent that can be read"),
    ],
)
async def test_the_parent_decides_what_is_sampled(collector, traceparent, share, spans):
    """PERFORMANCE_SAMPLE_RATE counts where the producer has decided nothing."""
    await trace(collector, event(traceparent=traceparent), share=share)
    assert len(collector.spans) == spans


@pytest.mark.parametrize(
    ("statuses", "taken", "dropped"),
    [
        pytest.param([500, 200], 2, 0, id="an error, then well"),
        pytest.param([400] * 3, 0, 2, id="refused each time"),
    ],
)
async def test_a_collector_that_fails(collector, statuses, taken, dropped):
    """A failing collector is asked again, but not for ever; what it never took is counted."""
    collector.statuses = statuses
    counts = await trace(collector, event())
    assert (len(collector.spans), counts["dropped"]) == (taken, dropped)


async def test_no_collector_harms_nothing():
    """Nobody at the address: spans wait, and the end is bounded."""
    counts = Counts()
    tracing = Tracing(make_exporter("http://127.0.0.1:1", timeout_s=0.3), ORIGIN, 1.0, counts)
    tracing.outbox.start()
    tracing(event())

    async def failed() -> bool:
        return counts["failed"] > 0

    await eventually(failed, 10, "a failed try")
    async with asyncio.timeout(10):
        await tracing.outbox.aclose(0.1)
    assert counts["sent"] == 0
