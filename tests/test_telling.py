"""What listeners are told: a bounded queue for each, that harms no job whatever the listener does."""

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_worker.telling import JobEvent, Teller
from llmpool_worker.telling.documents import FIELDS, document, timestamp
from llmpool_worker.telling.outbox import Delivery, Outbox, SendFailed
from llmpool_worker.telling.sampling import is_sampled
from tests.support.telling import Counts, event
from tests.support.waiting import eventually
from tests.test_documents import bare, section, table

QUICK = Delivery(capacity=10, batch=4, backoff_s=0.001, backoff_max_s=0.002)


class Sink:
    """Takes batches, or fails as it is told to."""

    name = "sink"

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.taken: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False

    async def send(self, batch: list[int]) -> None:
        await self.open.wait()
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, SendFailed) and failure.left is not None:
                self.taken += batch[: len(batch) - failure.left]
            raise failure
        self.taken += batch

    async def aclose(self) -> None:
        self.closed = True


async def told(outbox: Outbox[int], counts: Counts, sent: int) -> None:
    async def probe() -> bool:
        return counts["sent"] >= sent

    await eventually(probe, 5, f"{sent} sent")


async def test_outbox_keeps_order_and_batches():
    """Items arrive once and in their order, at most a batch at a time."""
    sink, counts = Sink(), Counts()
    outbox = Outbox(sink, counts, QUICK)
    outbox.start()
    for item in range(10):
        outbox.put(item)
    await told(outbox, counts, 10)
    await outbox.aclose(1)
    assert (sink.taken, sink.closed, counts) == (list(range(10)), True, Counter(sent=10))


async def test_outbox_drops_beyond_its_capacity():
    """A listener that hangs costs memory for `capacity` items; the rest is dropped and counted, and put never waits."""
    sink, counts = Sink(), Counts()
    sink.open.clear()
    outbox = Outbox(sink, counts, QUICK)
    outbox.start()
    for item in range(25):
        outbox.put(item)
    assert (outbox.dropped, outbox.state()["waiting"]) == (15, 10)
    sink.open.set()
    await told(outbox, counts, 10)
    await outbox.aclose(1)
    assert counts == Counter(sent=10, dropped=15)


async def test_outbox_sends_again_what_was_not_taken():
    """After a failure only what the listener didn't take is sent again, in order."""
    sink, counts = Sink(SendFailed("down"), SendFailed("half", left=2)), Counts()
    outbox = Outbox(sink, counts, QUICK)
    for item in range(6):
        outbox.put(item)
    outbox.start()
    await told(outbox, counts, 6)
    await outbox.aclose(1)
    assert (sink.taken, counts) == (list(range(6)), Counter(sent=6, failed=2))


@pytest.mark.parametrize(
    ("failures", "attempts", "lost"),
    [
        pytest.param([SendFailed("no", final=True)], None, 4, id="refused for good"),
        pytest.param([SendFailed("down")] * 3, 3, 4, id="tried too often"),
        pytest.param([KeyError("bug")], None, 4, id="a bug in the sink"),
        pytest.param([SendFailed("no", left=1, final=True)], None, 1, id="the last one refused"),
    ],
)
async def test_outbox_gives_up_a_batch_but_not_the_next(failures, attempts, lost):
    """A batch that can't be told is dropped and counted, and what comes after it is sent."""
    delivery = Delivery(capacity=10, batch=4, attempts=attempts, backoff_s=0.001, backoff_max_s=0.002)
    sink, counts = Sink(*failures), Counts()
    outbox = Outbox(sink, counts, delivery)
    for item in range(6):
        outbox.put(item)
    outbox.start()
    await told(outbox, counts, 6 - lost)
    await outbox.aclose(1)
    assert (sink.taken[-2:], counts["dropped"], counts["sent"]) == ([4, 5], lost, 6 - lost)


async def test_outbox_s_end_is_bounded():
    """A listener that hangs holds up the worker's end for the flush's time and no longer; what is left is counted."""
    sink, counts = Sink(), Counts()
    sink.open.clear()
    outbox = Outbox(sink, counts, QUICK)
    outbox.start()
    outbox.put(1)
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await outbox.aclose(0.05)
    assert (counts, sink.closed) == (Counter(dropped=1), True)


async def test_outbox_s_end_tries_once_more():
    """What waits out a long backoff when the worker ends gets one more try at once."""
    sink, counts = Sink(SendFailed("down")), Counts()
    outbox = Outbox(sink, counts, Delivery(backoff_s=1e6, backoff_max_s=1e6))
    outbox.put(1)
    outbox.start()

    async def failed() -> bool:
        return counts["failed"] == 1

    await eventually(failed, 5, "the first try")
    async with asyncio.timeout(5):
        await outbox.aclose(4)
    assert (sink.taken, counts) == ([1], Counter(sent=1, failed=1))


async def test_outbox_that_never_started_ends_at_once():
    """A worker whose start failed half-way still ends."""
    sink, counts = Sink(), Counts()
    outbox = Outbox(sink, counts, QUICK)
    outbox.put(1)
    await outbox.aclose(1e6)
    assert (counts, sink.closed) == (Counter(dropped=1), True)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded(failures, chance):
    """However many failures, a wait is between 0 and the longest one."""
    assert 0 <= Delivery(backoff_s=0.5, backoff_max_s=30).wait_s(failures, chance) <= 30


def test_a_hook_s_failure_ends_there():
    """One hook that raises keeps no other from hearing of the job."""
    heard: list[JobEvent] = []

    def broken(event: JobEvent) -> None:
        raise RuntimeError("bug")

    Teller([broken, heard.append]).tell(event())
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("changes", "asked", "fallback_from"),
    [
        pytest.param({"running_s": 1.0}, "m", None, id="its own model"),
        pytest.param({"running_s": 1.0, "model_used": "m"}, "m", None, id="the same by name"),
        pytest.param({"running_s": 1.0, "model_used": "small"}, "small", "m", id="a fallback"),
        pytest.param({"running_s": None}, None, None, id="refused before"),
        pytest.param({"running_s": 0.0}, None, None, id="stopped before"),
    ],
)
def test_the_model_that_was_asked(changes, asked, fallback_from):
    """A model counts as asked only where there was an attempt, and as a fallback only where it isn't the job's."""
    told = event(**changes)
    assert (told.asked, told.fallback_from) == (asked, fallback_from)


@pytest.mark.parametrize(
    ("changes", "speed"),
    [
        pytest.param({"output_tokens": 20, "eval_s": 2.0}, 10, id="by the server's time"),
        pytest.param({"output_tokens": 20, "running_s": 5.0, "first_token_s": 1.0}, 5, id="from the first token"),
        pytest.param({"output_tokens": 20, "eval_s": 0.0}, None, id="no time"),
        pytest.param({"output_tokens": None, "eval_s": 2.0}, None, id="not counted"),
        pytest.param({"output_tokens": 20, "eval_s": 2.0, "outcome": "failed"}, None, id="failed"),
    ],
)
def test_tokens_per_second(changes, speed):
    """The speed of generation leaves out what came before it, and is missing rather than wrong."""
    assert event(**changes).tokens_per_s == speed


def test_document_leaves_out_what_is_not_known():
    """A field without a value isn't there; one with 0 is."""
    told = document(event(attempts=0, queued_s=None, input_tokens=0, ended_at=0.5))
    assert "queued_seconds" not in told
    assert "rules" not in told
    assert (told["attempts"], told["input_tokens"], told["ended_at"]) == (0, 0, "1970-01-01T00:00:00.500Z")
    json.dumps(told)


def test_document_has_every_field_of_an_event():
    """What an event holds is told, but for what is told elsewhere in a message."""
    told = set(FIELDS.values()) | {"ended_at", "asked"}
    assert set(JobEvent.__slots__) - told == {"traceparent", "model_used"}


def test_timestamps_are_utc():
    """RFC 3339 with milliseconds and Z."""
    assert timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_samples_have_their_share(share):
    """Over many ids the sample has about the share asked for: none at 0, all at 1."""
    kept = sum(is_sampled(f"job-{n}", share) for n in range(20_000)) / 20_000
    assert kept == pytest.approx(share, abs=0.015 if 0 < share < 1 else 0)


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_larger_samples_hold_the_smaller(job_id, one, other):
    """The same job is in or out every time, and in every larger sample that one that it is in."""
    if is_sampled(job_id, min(one, other)):
        assert is_sampled(job_id, max(one, other))


def test_documents_list_every_field_of_an_event():
    """docs/telemetry.md has each field of the JSON, in its order, and no other."""
    rows = table(section("docs/telemetry.md", "A job's event"), "Field")
    assert [bare(row["Field"]) for row in rows] == [*FIELDS, "ended_at"]
