"""Notifications and analytics, told to a real HTTP server: well, slow, failing, redirecting, and away."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmpool_worker.telling.analytics import MAX_JOBS, Analytics, Batch
from llmpool_worker.telling.events import BreakerChange
from llmpool_worker.telling.notices import MAX_KEYS, Coalescer, Notifier
from llmpool_worker.telling.outbox import Delivery
from llmpool_worker.telling.signing import signing_key
from llmpool_worker.telling.webhook import Webhook
from tests.support.telling import Counts, event
from tests.support.waiting import eventually

QUICK = Delivery(capacity=20, batch=1, attempts=3, backoff_s=0.001, backoff_max_s=0.002)
INTERVAL_S = 60.0


class Receiver:
    """Somebody's HTTP server. `statuses` are its next answers; after them 204."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.letters: list[dict[str, object]] = []
        self.requests: list[tuple[web.Request, bytes]] = []
        self.hang = False
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", self._take)])
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request, body))
        if self.hang:
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 204
        if status < 300:
            self.letters.append(json.loads(body))
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status in (302, 307) else None)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/hook"))

    async def got(self, letters: int) -> None:
        async def probe() -> bool:
            return len(self.letters) >= letters

        await eventually(probe, 5, f"{letters} letters")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    await found.server.start_server()
    yield found
    await found.server.close()


def notifier(url: str, counts: Counts, **options) -> Notifier:
    sink = Webhook("notifications", url, **options)
    return Notifier(sink, "w1", "local/default", INTERVAL_S, counts, QUICK)


async def done(counts: Counts, **wanted: int) -> None:
    async def probe() -> bool:
        return all(counts[name] >= count for name, count in wanted.items())

    await eventually(probe, 5, f"{wanted}")


async def test_a_failure_is_told_at_once(receiver):
    """The first failure of a kind is posted without a wait, with what is known of the job and none of its text."""
    told = notifier(receiver.url, Counts())
    told.start()
    told(event(outcome="failed", code="timeout", reason="the job's time is over", attempts=2))
    await receiver.got(1)
    await told.aclose(1)
    (letter,) = receiver.letters
    assert letter["type"] == "llmpool.job.failed"
    assert letter["data"] == {
        "worker": "w1",
        "pool": "local/default",
        "count": 1,
        "first_at": "2023-11-14T22:13:20.000Z",
        "last_at": "2023-11-14T22:13:20.000Z",
        "id": "j1",
        "handle": "token:1",
        "queue": "llm-chat",
        "code": "timeout",
        "reason": "the job's time is over",
        "model": "m",
        "type": "chat",
        "attempts": 2,
    }


async def test_failures_of_a_kind_are_gathered(receiver):
    """A thousand failures of one kind are two letters: the first, and at the end the rest with their count."""
    told = notifier(receiver.url, Counts())
    told.start()
    told(event(outcome="failed", code="timeout", job_id="first"))
    await receiver.got(1)
    for n in range(999):
        told(event(outcome="failed", code="timeout", job_id=f"j{n}"))
    told(event(outcome="failed", code="invalid"))
    await receiver.got(2)
    await told.aclose(1)
    counts = [(letter["data"]["code"], letter["data"]["count"]) for letter in receiver.letters]
    assert counts == [("timeout", 1), ("invalid", 1), ("timeout", 999)]
    assert receiver.letters[2]["data"]["id"] == "j998"


async def test_what_else_is_news_and_what_is_not(receiver):
    """Breakers that open or close and unread bodies are told; trials, retries and successes aren't."""
    told = notifier(receiver.url, Counts())
    told.start()
    for outcome in ("succeeded", "retried", "postponed", "cancelled", "expired"):
        told(event(outcome=outcome))
    told.breaker_changed(BreakerChange("m", "half_open"))
    told.breaker_changed(BreakerChange("m", "open", failure_ratio=0.5))
    told.breaker_changed(BreakerChange(None, "closed"))
    told.buried_unread("llm-chat", 3)
    await receiver.got(3)
    await told.aclose(1)
    news = {(letter["type"], letter["data"].get("model"), letter["data"]["count"]) for letter in receiver.letters}
    assert news == {
        ("llmpool.breaker.open", "m", 1),
        ("llmpool.breaker.closed", None, 1),
        ("llmpool.job.failed", None, 3),
    }


async def test_signed_by_standard_webhooks(receiver):
    """The signature is HMAC-SHA256 of id, time and body; a repeat has the same id and the same body."""
    receiver.statuses = [500]
    key, counts = b"a key of bytes", Counts()
    told = notifier(receiver.url, counts, key=key)
    told.start()
    told(event(outcome="failed"))
    await receiver.got(1)
    await told.aclose(1)
    (first, body), (again, same_body) = receiver.requests
    assert (first.headers["webhook-id"], body) == (again.headers["webhook-id"], same_body)
    signed = f"{again.headers['webhook-id']}.{again.headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert again.headers["webhook-signature"] == f"v1,{wanted}"


async def test_unsigned_without_a_secret(receiver):
    """No secret, no signature."""
    told = notifier(receiver.url, Counts())
    told.start()
    told(event(outcome="failed"))
    await receiver.got(1)
    await told.aclose(1)
    assert "webhook-signature" not in receiver.requests[0][0].headers


@pytest.mark.parametrize("status", [302, 307])
async def test_redirects_are_not_followed(receiver, status):
    """A receiver can't send this worker's requests to another address: a redirect is a refusal."""
    receiver.statuses, counts = [status], Counts()
    told = notifier(receiver.url, counts)
    told.start()
    told(event(outcome="failed"))
    await done(counts, dropped=1)
    await told.aclose(1)
    assert [request.path for request, _ in receiver.requests] == ["/hook"]


@pytest.mark.parametrize(
    ("statuses", "requests", "dropped"),
    [
        pytest.param([500, 503, 200], 3, 0, id="well again"),
        pytest.param([429, 408, 201], 3, 0, id="busy, then well"),
        pytest.param([500] * 3, 3, 1, id="failing each time"),
        pytest.param([400], 1, 1, id="refused"),
        pytest.param([404], 1, 1, id="not there"),
    ],
)
async def test_tries_are_bounded(receiver, statuses, requests, dropped):
    """Failures of the server are tried again, refusals aren't, and neither for ever."""
    receiver.statuses, counts = statuses, Counts()
    told = notifier(receiver.url, counts)
    told.start()
    told(event(outcome="failed"))
    await done(counts, sent=1 - dropped, dropped=dropped)
    await told.aclose(1)
    assert (len(receiver.requests), counts["dropped"]) == (requests, dropped)


async def test_a_slow_receiver(receiver):
    """Who never answers costs the time of each try, and the worker's end no more than its bound."""
    receiver.hang, counts = True, Counts()
    told = notifier(receiver.url, counts, timeout_s=0.05)
    told.start()
    told(event(outcome="failed"))
    await done(counts, failed=1)
    async with asyncio.timeout(5):
        await told.aclose(0.2)
    assert counts["dropped"] == 1


async def test_nobody_there():
    """Nobody at the address: given up after its tries, and counted."""
    counts = Counts()
    told = notifier("http://127.0.0.1:1/secret-path", counts)
    told.start()
    told(event(outcome="failed"))
    await done(counts, failed=3, dropped=1)
    await told.aclose(1)


async def test_failures_are_logged_once_and_without_the_address(receiver, capsys):
    """One line when it begins to fail and one when it works again, neither with a webhook's secret path."""
    receiver.statuses, counts = [500, 500], Counts()
    told = notifier(receiver.url.replace("hook", "secret-path"), counts)
    told.start()
    told(event(outcome="failed"))
    await receiver.got(1)
    await done(counts, sent=1)
    await told.aclose(1)
    out = "".join(capsys.readouterr())
    assert (out.count("telling_failed"), out.count("telling_works_again")) == (1, 1)
    assert "secret-path" not in out


class CoalescerStates(RuleBasedStateMachine):
    """Any order of news and of time."""

    def __init__(self) -> None:
        super().__init__()
        self.coalescer = Coalescer(10.0)
        self.now = 0.0
        self.added = self.told = 0
        self.told_at: dict[str, float] = {}

    @rule(key=st.sampled_from("abc"), count=st.integers(1, 5))
    def add(self, key, count):
        self.coalescer.add(("queue", key), key, {}, self.now, count)
        self.added += count

    @rule(quarters=st.integers(0, 60))
    def pass_time(self, quarters):
        self.now += quarters / 4  # sums that floats have exactly

    @rule()
    def tell(self):
        for notice in self.coalescer.due(self.now):
            assert self.now - self.told_at.get(notice.type, -10.0) >= 10.0
            self.told_at[notice.type] = self.now
            self.told += notice.count
        wait = self.coalescer.wait_s(self.now)
        assert wait is None or 0 < wait <= 10.0

    @invariant()
    def nothing_is_told_twice(self):
        assert self.told <= self.added

    def teardown(self):
        assert self.told + sum(notice.count for notice in self.coalescer.all()) == self.added


TestCoalescer = CoalescerStates.TestCase
"""Each piece of news is in exactly one notice, and notices of a kind are an interval apart."""


def test_kinds_are_bounded():
    """However many kinds there are, as many are told apart as fit, and the rest together: none is lost."""
    coalescer = Coalescer(INTERVAL_S)
    for n in range(MAX_KEYS * 3):
        coalescer.add((f"q{n}", "timeout"), "llmpool.job.failed", {}, 0.0)
    notices = coalescer.due(0.0)
    assert (len(notices), sum(notice.count for notice in notices)) == (MAX_KEYS + 1, MAX_KEYS * 3)


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        pytest.param("plain text", b"plain text", id="text"),
        pytest.param("whsec_" + base64.b64encode(b"bytes").decode(), b"bytes", id="base64"),
    ],
)
def test_signing_keys(secret, key):
    """A secret is a text, or Base64 as Standard Webhooks' tools make it."""
    assert signing_key(secret) == key


def test_a_wrong_secret_is_not_repeated():
    """The error of a secret that can't be read says nothing of it."""
    with pytest.raises(ValueError, match="Base64") as refused:
        signing_key("whsec_not!base64")
    assert "not!base64" not in str(refused.value)


def test_analytics_counts_all_and_keeps_a_sample():
    """`counts` are of all jobs, whatever the sample; `jobs` are of the sample alone."""
    batch = Batch(0.0, 0.0)
    for outcome in ("succeeded", "succeeded", "failed"):
        batch.add(event(outcome=outcome))
    told = batch.document(1.0)
    assert told["jobs"] == []
    assert told["counts"] == [
        {"queue": "llm-chat", "outcome": "failed", "jobs": 1},
        {"queue": "llm-chat", "outcome": "succeeded", "jobs": 2},
    ]


@given(st.lists(st.sampled_from(["succeeded", "failed", "postponed"])))
def test_analytics_counts_add_up(outcomes):
    """Every event is counted once."""
    batch = Batch(1.0, 0.0)
    for outcome in outcomes:
        batch.add(event(outcome=outcome))
    told = batch.document(1.0)
    assert sum(row["jobs"] for row in told["counts"]) == len(outcomes)
    assert len(told["jobs"]) == len(outcomes) - outcomes.count("postponed")


async def test_analytics_are_posted_in_batches(receiver):
    """A batch each interval, earlier where it is full, and the last one at the end; none where nothing happened."""
    sink = Webhook("analytics", receiver.url)
    analytics = Analytics(sink, "w1", "local/default", 1.0, 0.05, Counts(), QUICK)
    analytics.start()
    for n in range(MAX_JOBS + 1):
        analytics(event(job_id=f"j{n}"))
    await receiver.got(2)
    analytics(event(job_id="last"))
    await analytics.aclose(1)
    sizes = [len(letter["data"]["jobs"]) for letter in receiver.letters]
    assert (sizes, receiver.letters[2]["data"]["jobs"][0]["id"]) == ([MAX_JOBS, 1, 1], "last")
    first = receiver.letters[0]
    assert (first["type"], first["data"]["worker"], first["data"]["sample_rate"]) == ("llmpool.analytics", "w1", 1.0)
