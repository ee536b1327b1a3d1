"""The worker's pure parts: what a failure comes to, when to look again, rates, and how a server's words are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_contract import QueueKeys, Result, Status
from llmpool_contract.element import Element
from llmpool_worker.admission import is_cloud
from llmpool_worker.answer import Answer, whole_characters
from llmpool_worker.backends.base import BackendError, Embeddings, ErrorKind
from llmpool_worker.backends.classify import status_error
from llmpool_worker.clock import RedisClock
from llmpool_worker.policy import POSTPONE_MS, Fate, RetryPolicy, fate_of
from llmpool_worker.queue.store import Tended
from llmpool_worker.queue.types import Claim, Settlement
from llmpool_worker.rates import Rate
from llmpool_worker.settings import check_redis_url, read_queues
from llmpool_worker.settler import MAX_BATCH, MAX_BATCH_BYTES, batch_size
from llmpool_worker.slots import AWAY_S, Slots
from llmpool_worker.tending import REAP_JITTER_S, until_next

POLICY = RetryPolicy(max_retries=3, base_ms=500, cap_ms=30_000)


def error(kind: ErrorKind, retry_after_s: float | None = None) -> BackendError:
    return BackendError(kind, "code", "reason", retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("attempts", "fate"), [(0, Fate.RETRY), (2, Fate.RETRY), (3, Fate.BURY), (9, Fate.BURY)], ids=str
)
def test_retries_are_counted(attempts: int, fate: Fate) -> None:
    """OLLAMA_MAX_RETRIES attempts follow the first one, and none more."""
    assert fate_of(error(ErrorKind.RETRYABLE), attempts, POLICY, 0.5)[0] is fate


@pytest.mark.parametrize("attempts", [0, 50])
def test_a_full_server_never_uses_attempts_up(attempts: int) -> None:
    """However often it is full, the job waits and is no dead letter."""
    fate, delay_ms = fate_of(error(ErrorKind.UNAVAILABLE), attempts, POLICY, 0.0)
    assert (fate, delay_ms) == (Fate.POSTPONE, POSTPONE_MS)
    assert fate_of(error(ErrorKind.UNAVAILABLE, 7.0), attempts, POLICY, 0.0) == (Fate.POSTPONE, 7_000)


def test_a_permanent_fault_is_final() -> None:
    """The same request would fail again."""
    assert fate_of(error(ErrorKind.PERMANENT), 0, POLICY, 0.5) == (Fate.BURY, 0)


@given(retries=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_full_jitter_stays_below_its_ceiling(retries: int, chance: float) -> None:
    """Uniform over [0, min(cap, base * 2^n])."""
    delay = POLICY.delay_ms(retries, chance)
    assert 0 <= delay < min(30_000, 500 * 2 ** min(retries, 60)) + 1


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, ErrorKind.PERMANENT, "refused"),
        (302, ErrorKind.PERMANENT, "refused"),
        (401, ErrorKind.PERMANENT, "refused"),
        (408, ErrorKind.RETRYABLE, "backend_failed"),
        (499, ErrorKind.RETRYABLE, "backend_cancelled"),
        (500, ErrorKind.RETRYABLE, "backend_failed"),
        (501, ErrorKind.PERMANENT, "refused"),
        (502, ErrorKind.RETRYABLE, "backend_failed"),
        (503, ErrorKind.UNAVAILABLE, "backend_busy"),
        (429, ErrorKind.UNAVAILABLE, "backend_busy"),
    ],
)
@pytest.mark.parametrize("body", [b'{"error":"why"}', b'{"error":{"message":"why"}}', b"<html>", b"", b"[]"])
def test_what_a_status_means(status: int, kind: ErrorKind, code: str, body: bytes) -> None:
    """Each status has one meaning for the job, whatever comes with it."""
    found = status_error(status, body)
    assert (found.kind, found.code) == (kind, code)
    assert ("why" in found.message) == (b"why" in body)
    assert "why" not in found.reason


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"error":"model \'x\' not found"}', ErrorKind.PERMANENT, "model_not_found"),
        (b"404 page not found", ErrorKind.RETRYABLE, "backend_failed"),
    ],
    ids=["the-servers-own", "of-something-between"],
)
def test_whose_404_it_is(body: bytes, kind: ErrorKind, code: str) -> None:
    """Only the model server's own 404 says that there is no such model; an ingress says 404 while a pod restarts."""
    found = status_error(404, body)
    assert (found.kind, found.code) == (kind, code)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7.0), ("9999", 60.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """A full server's wish is followed, within a bound."""
    assert status_error(503, b"{}", header).retry_after_s == seconds


@pytest.mark.parametrize(
    ("due", "lease_end", "chance", "expected"),
    [
        pytest.param(None, None, 0.5, 15.0, id="nothing-to-come"),
        pytest.param(1_500, None, 0.5, 0.501, id="a-due-job"),
        pytest.param(500, None, 0.5, 0.001, id="overdue"),
        pytest.param(None, 3_000, 0.5, 2.0 + 0.5 * REAP_JITTER_S, id="a-lease-end-with-jitter"),
        pytest.param(None, 900_000, 0.0, 15.0, id="never-longer-than-half-a-lease"),
    ],
)
def test_tending_sleeps_until_there_is_something(
    due: int | None, lease_end: int | None, chance: float, expected: float
) -> None:
    """No polling: the next due job or lease end, whichever is first."""
    assert until_next(Tended(1_000, 0, 0, due, lease_end), 15.0, chance) == pytest.approx(expected)


def test_rates_know_their_span() -> None:
    """A rate is over the time since work began, then over the last minute, and forgets what is older."""
    rate = Rate()
    assert rate.per_second(0) is None
    rate.begin(0)
    rate.add(10, 50)
    assert rate.per_second(10) == 5.0
    assert rate.per_second(65) == pytest.approx(50 / 60, abs=0.001)
    assert rate.per_second(200) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("\ud83d\ude00", "\U0001f600"), ("a\ud83d", "a\ufffd"), ("ok", "ok")],
    ids=["pair", "half", "none"],
)
def test_lone_surrogates_of_a_server_are_mended(text: str, expected: str) -> None:
    """What JSON can carry and UTF-8 can't never reaches a result."""
    assert whole_characters(text) == expected


def test_queue_names_and_types() -> None:
    """WORKER_QUEUES takes names, and names with the only type they take, in order."""
    assert read_queues("a, b=embed") == {QueueKeys("a"): None, QueueKeys("b"): "embed"}


@pytest.mark.parametrize("text", ["", "a,", "a b", "{a}", "a=shout", "a,a", "x" * 129])
def test_bad_queue_names_are_refused(text: str) -> None:
    """A name that can't be a key, a type that isn't one, and a name twice stop the start."""
    with pytest.raises(ValueError, match="queue"):
        read_queues(text)


@pytest.mark.parametrize(
    "url",
    ["redis://h:6379/0", "rediss://:p%2Fw@h/1?ssl_cert_reqs=none", "unix:///run/redis.sock", "redis://u:p@h?db=3"],
)
def test_addresses_of_redis(url: str) -> None:
    """What redis-py reads and the worker's own settings don't decide is let through."""
    check_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://h",
        "redis://",
        "redis://:pa/hunter2@h",
        "redis://h:notaport/0",
        "redis://h?decode_responses=true",
        "redis://h?protocol=3",
        "redis://h?socket_timeout=5",
        "redis://h?password=hunter2",
    ],
)
def test_bad_addresses_of_redis_are_refused_without_being_repeated(url: str) -> None:
    """An address may hold a password, also in a wrong place, so the reason says nothing of it."""
    with pytest.raises(ValueError, match=r"wanted|not an address|no host|option") as caught:
        check_redis_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "cloud"),
    [("gpt-oss:120b-cloud", True), ("x:cloud", True), ("cloud", False), ("host:5000/cloud/m:8b", False), ("m", False)],
)
def test_models_that_run_elsewhere(model: str, cloud: bool) -> None:
    """By the tag that Ollama gives them, and nothing else of the name."""
    assert is_cloud(model) is cloud


def settlement(size: int) -> Settlement:
    claim = Claim(QueueKeys("q"), "t:1", Element(b"{}", origin="t:1"), 0)
    return Settlement.answered(claim, Result(id="a", status=Status.SUCCEEDED, content="x" * size), streamed=False)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([10] * 200, MAX_BATCH), ([10] * 3, 3), ([MAX_BATCH_BYTES + 1, 10], 1), ([MAX_BATCH_BYTES // 2 - 100] * 3, 2)],
    ids=["many", "few", "one-that-is-huge", "two-that-fit"],
)
def test_settle_calls_are_bounded(sizes: list[int], expected: int) -> None:
    """In number and in bytes, and none is empty."""
    assert batch_size([settlement(size) for size in sizes]) == expected


def test_vectors_count_as_output() -> None:
    """An embedding's answer is bounded like a text."""
    answer = Answer(max_bytes=1_000)
    answer.take(Embeddings([[0.5] * 20]))
    with pytest.raises(BackendError, match="OUTPUT_MAX_BYTES"):
        answer.take(Embeddings([[0.5] * 40]))


def slots(running: int = 0) -> Slots:
    made = Slots(4, RedisClock())
    for _ in range(running):
        made.take(1)
    return made


def test_free_slots() -> None:
    """What is empty is free, until the worker stops or Redis takes no answers any more."""
    some = slots(running=1)
    assert some.free(0.0, unsettled=0) == 3
    assert some.free(0.0, unsettled=1_000) == 0
    some.stopping = True
    assert some.free(0.0, unsettled=0) == 0


def test_an_absent_server_is_asked_by_one_job_at_a_time() -> None:
    """None for a while, then one; the first that it takes opens all slots again."""
    some = slots()
    some.server_was_away(100.0)
    assert some.free(100.0 + AWAY_S / 2, unsettled=0) == 0
    assert some.free(100.0 + AWAY_S, unsettled=0) == 1
    some.take(1)
    assert some.free(100.0 + AWAY_S, unsettled=0) == 0
    some.give_back(1)
    some.server_was_there()
    assert some.free(100.0, unsettled=0) == 4


def test_a_drain_is_a_lease() -> None:
    """While the pool wishes it nothing is taken; the wish ends by itself."""
    clock = RedisClock()
    clock.heard(1_000_000)
    some = Slots(4, clock)
    some.wish_drain(1_060_000)
    assert some.free(0.0, unsettled=0) == 0
    clock.heard(1_060_000)
    assert some.free(0.0, unsettled=0) == 4
