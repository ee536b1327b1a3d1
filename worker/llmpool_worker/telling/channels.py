"""Everybody who is told beside logs and metrics, made from the settings: the one to start, to close and to ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from .debug import LoopWatch, Timeline
from .events import BreakerChange, Hook
from .outbox import Counted, Outbox

if TYPE_CHECKING:
    from llmpool_worker.settings import Settings

    from .analytics import Analytics
    from .kafka import KafkaEvents
    from .notices import Notifier
    from .tracing import Tracing


class Part(Protocol):
    """A channel with tasks."""

    def start(self) -> None: ...

    async def aclose(self, timeout_s: float) -> None: ...


class Channels:
    """Without any setting of theirs there are none, and nothing of what they need is imported."""

    def __init__(
        self,
        *,
        kafka: KafkaEvents | None = None,
        tracing: Tracing | None = None,
        notifier: Notifier | None = None,
        analytics: Analytics | None = None,
        timeline: Timeline | None = None,
        watch: LoopWatch | None = None,
    ) -> None:
        self._notifier, self._watch = notifier, watch
        self.hooks: list[Hook] = [h for h in (kafka, tracing, notifier, analytics, timeline) if h is not None]
        outboxes: list[Outbox[Any]] = [c.outbox for c in (kafka, tracing, notifier, analytics) if c is not None]
        self._outboxes = {outbox.name: outbox for outbox in outboxes}
        parts: list[Part | None] = [
            kafka.outbox if kafka else None,
            tracing.outbox if tracing else None,
            notifier,
            analytics,
        ]
        self._parts = [part for part in parts if part is not None]

    def start(self) -> None:
        """Begin to tell. Needs a running loop."""
        for part in self._parts:
            part.start()
        if self._watch is not None:
            self._watch.start()

    async def aclose(self, timeout_s: float) -> None:
        """Tell what there still is to tell, all at once and each within ``timeout_s``, and let go."""
        if self._watch is not None:
            await self._watch.aclose()
        await asyncio.gather(*(part.aclose(timeout_s) for part in self._parts))

    def breaker_changed(self, change: BreakerChange) -> None:
        """A circuit breaker took another state."""
        if self._notifier is not None:
            self._notifier.breaker_changed(change)

    def buried_unread(self, queue: str, count: int) -> None:
        """Bodies over JOB_MAX_BYTES became dead letters."""
        if self._notifier is not None:
            self._notifier.buried_unread(queue, count)

    def state(self) -> dict[str, Any]:
        """For /health: each channel's queue, and in debug mode the loop's hold-ups."""
        told: dict[str, Any] = {name: outbox.state() for name, outbox in self._outboxes.items()}
        return {"telling": told} | ({"debug": self._watch.state()} if self._watch is not None else {})


def make_channels(s: Settings, counted: Counted, version: str) -> Channels:
    """Imports what the settings ask for and no more. Opens no connection yet."""
    return Channels(
        kafka=_kafka(s, counted) if s.kafka_brokers else None,
        tracing=_tracing(s, counted, version) if s.otel_exporter_otlp_endpoint else None,
        notifier=_notifier(s, counted) if s.notify_url else None,
        analytics=_analytics(s, counted) if s.analytics_url else None,
        timeline=Timeline(s.performance_sample_rate) if s.enable_debug_mode else None,
        watch=LoopWatch() if s.enable_debug_mode else None,
    )


def _kafka(s: Settings, counted: Counted) -> KafkaEvents:
    from .kafka import KafkaEvents, KafkaSink, Producer, Security, make_producer

    password = s.kafka_sasl_password
    security = Security(
        protocol=s.kafka_security_protocol,
        mechanism=s.kafka_sasl_mechanism,
        username=s.kafka_sasl_username,
        password=password.get_secret_value() if password else None,
        ca_file=s.kafka_ssl_ca_file,
        cert_file=s.kafka_ssl_cert_file,
        key_file=s.kafka_ssl_key_file,
    )
    source = f"/pools/{s.worker_pool}/workers/{s.worker_id}"
    brokers, quiet = s.kafka_brokers or "", not s.enable_debug_mode

    def make() -> Producer:
        return make_producer(brokers, s.worker_id, security, quiet=quiet)

    return KafkaEvents(KafkaSink(make, s.kafka_topic, source), counted)


def _tracing(s: Settings, counted: Counted, version: str) -> Tracing:
    from .spans import Origin
    from .tracing import Tracing, make_exporter

    origin = Origin(s.otel_service_name, version, s.worker_id, s.worker_pool, s.backend, s.ollama_base_url)
    exporter = make_exporter(s.otel_exporter_otlp_endpoint or "", quiet=not s.enable_debug_mode)
    return Tracing(exporter, origin, s.performance_sample_rate, counted)


def _notifier(s: Settings, counted: Counted) -> Notifier:
    from .notices import Notifier
    from .webhook import Webhook

    url = s.notify_url.get_secret_value() if s.notify_url else ""
    sink = Webhook("notifications", url, s.notify_key())
    return Notifier(sink, s.worker_id, s.worker_pool, s.notify_interval / 1_000, counted)


def _analytics(s: Settings, counted: Counted) -> Analytics:
    from .analytics import Analytics
    from .webhook import Webhook

    sink = Webhook("analytics", s.analytics_url.get_secret_value() if s.analytics_url else "")
    share, interval_s = s.performance_sample_rate, s.analytics_interval / 1_000
    return Analytics(sink, s.worker_id, s.worker_pool, share, interval_s, counted)
