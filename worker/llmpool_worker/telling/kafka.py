"""Kafka: a CloudEvent for each job that came to something (extra ``kafka``). Without a broker, jobs go on as ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import names
from .documents import NOT_NEWS, document, timestamp
from .events import JobEvent
from .outbox import CLOSE_S, Counted, Delivery, Outbox, SendFailed

REQUEST_MS = 10_000
"""What one record may take, a search for the topic's leader included, ms."""

Headers = list[tuple[str, bytes]]


class Producer(Protocol):
    """What this file needs of aiokafka's."""

    async def start(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes, *, headers: Headers) -> Awaitable[object]:
        """Queue one record; the answer is done once the broker has it."""

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Security:
    """How to get in, in aiokafka's words."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of a producer. Raises OSError (ssl.SSLError is one) for a file that can't be used."""
        given: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            given["ssl_context"] = context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        if self.protocol.startswith("SASL"):
            given["sasl_mechanism"] = self.mechanism
            given["sasl_plain_username"], given["sasl_plain_password"] = self.username, self.password
        return given


def record(event: JobEvent, source: str) -> tuple[bytes, bytes, Headers]:
    """(key, value, headers) in CloudEvents' binary mode. Pure. A repeat has the same ``ce_id``."""
    headers = {
        names.CE_SPECVERSION: names.SPECVERSION,
        names.CE_ID: f"{event.handle}:{event.outcome}",
        names.CE_SOURCE: source,
        names.CE_TYPE: names.EVENT_TYPE + event.outcome,
        names.CE_SUBJECT: event.job_id,
        names.CE_TIME: timestamp(event.ended_at),
        names.CONTENT_TYPE: names.JSON,
    }
    if event.traceparent is not None:
        headers |= {names.CE_TRACEPARENT: event.traceparent, names.TRACEPARENT: event.traceparent}
    encoded = [(name, value.encode()) for name, value in headers.items()]
    return event.job_id.encode(), json.dumps(document(event), ensure_ascii=False).encode(), encoded


class KafkaSink:
    """Connects with the first event, and anew after each failure to connect."""

    name = "kafka"

    def __init__(self, make: Callable[[], Producer], topic: str, source: str) -> None:
        self._make, self._topic, self._source = make, topic, source
        self._producer: Producer | None = None

    async def send(self, batch: Sequence[JobEvent]) -> None:
        """All at once: the producer groups them by partition."""
        from aiokafka.errors import KafkaError, KafkaTimeoutError

        under_way: list[Awaitable[object]] = []
        refused: BaseException | None = None
        try:
            producer = await self._connected()
            for event in batch:
                key, value, headers = record(event, self._source)
                under_way.append(await producer.send(self._topic, value, key, headers=headers))
        except (KafkaError, OSError) as error:
            refused = error
        answers = await asyncio.gather(*under_way, return_exceptions=True)
        if refused is not None and not isinstance(refused, KafkaTimeoutError):
            await self._disconnect()  # a producer whose own task has ended takes nothing any more
        for taken, answer in enumerate([*answers, refused]):
            if isinstance(answer, BaseException):
                # What came after it may have arrived: sent again, it has the same ce_id.
                raise SendFailed(f"{type(answer).__name__}: {answer}", left=len(batch) - taken)

    async def _connected(self) -> Producer:
        if self._producer is None:
            producer = self._make()
            try:
                await producer.start()
            except BaseException:  # also a cancellation: half a connection is nobody's
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _disconnect(self) -> None:
        from aiokafka.errors import KafkaError

        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await producer.stop()

    async def aclose(self) -> None:
        """Let go of the brokers."""
        await self._disconnect()


def make_producer(brokers: str, worker: str, security: Security, *, quiet: bool = True) -> Producer:
    """aiokafka's. Needs a running loop. ``quiet``: it says nothing on stderr."""
    from aiokafka import AIOKafkaProducer

    if quiet:  # it tells of each try to connect: the outbox does that once, in our own form
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    producer: Producer = AIOKafkaProducer(
        bootstrap_servers=brokers.split(","),
        client_id=f"llmpool-{worker}",
        request_timeout_ms=REQUEST_MS,
        acks="all",
        **security.options(),
    )
    return producer


class KafkaEvents:
    """The hook."""

    def __init__(self, sink: KafkaSink, counted: Counted, delivery: Delivery | None = None) -> None:
        self.outbox = Outbox[JobEvent](sink, counted, delivery)

    def __call__(self, event: JobEvent) -> None:
        """Queue it."""
        if event.outcome not in NOT_NEWS:
            self.outbox.put(event)
