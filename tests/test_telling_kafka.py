"""Kafka's events: CloudEvents in binary mode, and no broker that harms a job."""

import asyncio
import json
from collections import Counter

import pytest

from llmpool_worker.telling.kafka import KafkaEvents, KafkaSink, Security, make_producer, record
from llmpool_worker.telling.outbox import Delivery
from tests.support.telling import Counts, event
from tests.support.waiting import eventually
from tests.test_documents import bare, section, table

QUICK = Delivery(batch=10, backoff_s=0.001, backoff_max_s=0.002)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class FakeProducer:
    """A broker's side of our own small Protocol, with failures in their order: of start, of records."""

    def __init__(
        self,
        starts: list[Exception] | None = None,
        records: list[Exception | None] | None = None,
        refusals: list[Exception] | None = None,
    ) -> None:
        self.starts, self.records, self.refusals = starts or [], records or [], refusals or []
        self.taken: list[tuple[str, bytes, bytes, dict[str, bytes]]] = []
        self.started = self.stopped = 0

    async def start(self) -> None:
        self.started += 1
        if self.starts:
            raise self.starts.pop(0)

    async def send(self, topic, value, key, *, headers):
        if self.refusals:
            raise self.refusals.pop(0)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self.records.pop(0) if self.records else None
        if error is None:
            self.taken.append((topic, key, value, dict(headers)))
            answer.set_result(None)
        else:
            answer.set_exception(error)
        return answer

    async def stop(self) -> None:
        self.stopped += 1


async def tell(producer: FakeProducer, *events, sent: int | None = None) -> Counts:
    """All events, until they are taken."""
    counts = Counts()
    kafka = KafkaEvents(KafkaSink(lambda: producer, "events", "/pools/local/default/workers/w1"), counts, QUICK)
    kafka.outbox.start()
    for one in events:
        kafka(one)

    async def all_sent() -> bool:
        return counts["sent"] == (len(events) if sent is None else sent)

    await eventually(all_sent, 5, "all events taken")
    await kafka.outbox.aclose(1)
    return counts


async def test_an_event_is_a_cloud_event():
    """Binary mode: the four required attributes and more as headers, JSON as the value, the job's id as the key."""
    producer = FakeProducer()
    await tell(producer, event(traceparent=TRACEPARENT, outcome="failed", code="timeout"))
    ((topic, key, value, headers),) = producer.taken
    assert (topic, key) == ("events", b"j1")
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": b"token:1:failed",
        "ce_source": b"/pools/local/default/workers/w1",
        "ce_type": b"dev.llmpool.job.failed",
        "ce_subject": b"j1",
        "ce_time": b"2023-11-14T22:13:20.000Z",
        "ce_traceparent": TRACEPARENT.encode(),
        "traceparent": TRACEPARENT.encode(),
        "content-type": b"application/json",
    }
    told = json.loads(value)
    assert (told["outcome"], told["code"], told["running_seconds"]) == ("failed", "timeout", 2.0)


def test_a_job_without_a_trace_has_no_header_of_it():
    """A missing traceparent is left out, not empty."""
    _, _, headers = record(event(), "/s")
    assert not {"traceparent", "ce_traceparent"} & dict(headers).keys()


async def test_postponed_jobs_are_no_events():
    """While a model server is away its jobs, looked at again every few seconds, don't flood the topic."""
    producer = FakeProducer()
    await tell(producer, event(outcome="postponed"), event(), sent=1)
    assert len(producer.taken) == 1


async def test_connecting_is_tried_again():
    """A broker that isn't there at first gets the events later; each failed start is cleaned up after."""
    from aiokafka.errors import KafkaConnectionError

    producer = FakeProducer(starts=[KafkaConnectionError("no broker"), OSError("no route")])
    counts = await tell(producer, event(), event())
    assert (counts, producer.started, producer.stopped) == (Counter(sent=2, failed=2), 3, 3)


async def test_records_from_the_first_that_failed_are_sent_again():
    """No event is lost when a broker fails in the middle of a batch; a repeat has the same ce_id."""
    from aiokafka.errors import KafkaTimeoutError

    producer = FakeProducer(records=[None, KafkaTimeoutError("late"), None])
    counts = await tell(producer, *(event(handle=f"t:{n}") for n in range(3)))
    told = [headers["ce_id"] for _, _, _, headers in producer.taken]
    assert set(told) == {b"t:0:succeeded", b"t:1:succeeded", b"t:2:succeeded"}
    assert counts == Counter(sent=3, failed=1)


@pytest.mark.parametrize(("error", "connections"), [("ProducerClosed", 2), ("KafkaTimeoutError", 1)])
async def test_a_producer_that_ended_is_replaced(error, connections):
    """A producer that takes nothing any more gives way to a new one; one that is only slow stays."""
    from aiokafka import errors

    producer = FakeProducer(refusals=[getattr(errors, error)("not now")])
    counts = await tell(producer, event())
    assert (counts, producer.started) == (Counter(sent=1, failed=1), connections)


async def test_no_broker_harms_nothing():
    """With the real aiokafka and nobody at the address: events wait, the end is bounded, and all of it is counted."""
    counts = Counts()
    kafka = KafkaEvents(KafkaSink(lambda: make_producer("127.0.0.1:1", "w1", Security()), "t", "/s"), counts)
    kafka.outbox.start()
    kafka(event())

    async def failed() -> bool:
        return counts["failed"] > 0

    await eventually(failed, 10, "a failed try")
    assert kafka.outbox.state() == {"waiting": 1, "dropped": 0, "failing": True}
    async with asyncio.timeout(10):
        await kafka.outbox.aclose(1)
    assert counts["dropped"] == 1


@pytest.mark.parametrize(
    ("security", "wanted"),
    [
        pytest.param(Security(), {"security_protocol": "PLAINTEXT"}, id="none"),
        pytest.param(
            Security("SASL_PLAINTEXT", "SCRAM-SHA-512", "u", "p"),
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "u",
                "sasl_plain_password": "p",
            },
            id="password",
        ),
    ],
)
def test_security_options(security, wanted):
    """The settings reach aiokafka under its names."""
    assert security.options() == wanted


def test_tls_checks_the_broker_s_name():
    """TLS means that certificate and host name are checked."""
    context = Security("SASL_SSL", username="u", password="p").options()["ssl_context"]
    assert (context.check_hostname, context.verify_mode.name) == (True, "CERT_REQUIRED")


def test_documents_list_every_header():
    """docs/telemetry.md has each header of a record, in its order, and no other."""
    rows = table(section("docs/telemetry.md", "Kafka"), "Header")
    written = [bare(name) for row in rows for name in row["Header"].split(", ")]
    assert written == [name for name, _ in record(event(traceparent=TRACEPARENT), "/s")[2]]
