"""The queue's scripts on a real Redis: what a claim, a lease and a settlement promise."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from llmpool_contract import JobError, PoolKeys, QueueKeys, Result, Status
from llmpool_contract.element import decode
from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.store import LOW_FIRST, Limits, QueueStore
from llmpool_worker.queue.types import Claim, Hold, Settlement, StreamChunk, Verdict
from tests.support.redis_server import RedisServer

Q = QueueKeys("llm-chat")
BODY = b'{"id":"a","type":"chat"}'


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connections = Connections(redis_url)
    yield connections.once()
    await connections.aclose()


@pytest.fixture
def store() -> QueueStore:
    return make_store()


def make_store(**limits: int) -> QueueStore:
    return QueueStore("w1", Limits(**{"lease_ms": 30_000, "job_max_bytes": 1_000, **limits}))


def result(claim: Claim, job_id: str = "a", status: Status = Status.SUCCEEDED) -> Result:
    return Result(id=job_id, status=status, handle=claim.handle, content="x")


async def one_claim(redis: Redis, store: QueueStore, token: str = "t") -> Claim:
    [claim] = (await store.claim(redis, Q, token, 1)).claims
    return claim


async def lapse(redis: Redis) -> None:
    """All leases end now."""
    for handle in await redis.zrange(Q.lease, 0, -1):
        await redis.zadd(Q.lease, {handle: 1})


async def test_claim_takes_from_the_left_and_keeps_every_byte(redis: Redis, store: QueueStore) -> None:
    """Jobs leave in the order of their pushes, with a lease each, and a body is what the producer wrote."""
    odd = b'{"id": 12345678901234567890, "stop": [], "x": "\xff\x00"}'
    await redis.rpush(Q.normal, BODY, odd)
    claimed = await store.claim(redis, Q, "t", 5)
    assert [c.element.body for c in claimed.claims] == [BODY, odd]
    assert [c.handle for c in claimed.claims] == ["t:1", "t:2"]
    assert claimed.claims[0].element.deliveries == 1
    assert claimed.claims[0].element.first_claimed_ms == claimed.now_ms
    assert await redis.zscore(Q.lease, "t:1") == claimed.now_ms + 30_000
    assert decode(await redis.hget(Q.claimed, "t:2")).body == odd
    assert await redis.llen(Q.normal) == 0


async def test_claim_repeated_with_its_token_brings_the_same_jobs(redis: Redis, store: QueueStore) -> None:
    """A lost reply strands nothing: asked again, the script answers the same handles and takes no further job."""
    await redis.rpush(Q.normal, *[b'{"n":%d}' % n for n in range(5)])
    first = await store.claim(redis, Q, "t", 2)
    again = await store.claim(redis, Q, "t", 2)
    assert [(c.handle, c.element.body) for c in again.claims] == [(c.handle, c.element.body) for c in first.claims]
    assert await redis.llen(Q.normal) == 3
    assert await redis.hlen(Q.claimed) == 2


async def test_priorities_and_their_exception(redis: Redis, store: QueueStore) -> None:
    """High before normal before low; a low-first claim begins with low."""
    for name, body in ((Q.low, b"l"), (Q.normal, b"n"), (Q.high, b"h")):
        await redis.rpush(name, body, body)
    bodies = [c.element.body for c in (await store.claim(redis, Q, "t", 3)).claims]
    assert bodies == [b"h", b"h", b"n"]
    bodies = [c.element.body for c in (await store.claim(redis, Q, "u", 3, order=LOW_FIRST)).claims]
    assert bodies == [b"l", b"l", b"n"]


async def test_oversized_bodies_never_leave_redis(redis: Redis, store: QueueStore) -> None:
    """Beyond the limit a body becomes a dead letter inside the claim, cut, with its size; its neighbours go on."""
    await redis.rpush(Q.normal, b"x" * 50_000, BODY)
    claimed = await store.claim(redis, Q, "t", 5)
    assert (claimed.buried, [c.element.body for c in claimed.claims]) == (1, [BODY])
    [(_, letter)] = await redis.xrange(Q.dead)
    assert (letter[b"code"], letter[b"size"], len(letter[b"body"])) == (b"too_large", b"50000", 4_096)


async def test_reply_is_bounded_in_bytes(redis: Redis) -> None:
    """A claim stops at the reply's bound, whatever it may still take: a burst of large jobs doesn't fill a worker."""
    store = make_store(reply_max_bytes=2_000)
    await redis.rpush(Q.normal, *[b"x" * 900] * 10)
    assert len((await store.claim(redis, Q, "t", 10)).claims) == 3
    assert await redis.llen(Q.normal) == 7


@pytest.mark.parametrize("key", [Q.claimed, Q.lease, Q.dead, Q.stats, Q.high, Q.low])
async def test_a_key_of_the_wrong_type_changes_nothing(redis: Redis, store: QueueStore, key: str) -> None:
    """Scripts don't roll back, so they look before they touch: the jobs are all where they were."""
    await redis.set(key, "somebody else's")
    await redis.rpush(Q.normal, BODY)
    with pytest.raises(ResponseError, match=r"WRONGTYPE.*wanted a"):
        await store.claim(redis, Q, "t", 1)
    assert await redis.lrange(Q.normal, 0, -1) == [BODY]


async def test_settle_answers_once(redis: Redis, store: QueueStore) -> None:
    """Result, end of claim and lease, and the waiters' wake-up are one step; the same call again changes nothing."""
    await redis.rpush(Q.normal, BODY)
    claim = await one_claim(redis, store)
    await store.check(redis, Q, [(claim, "a")])
    async with redis.pubsub(ignore_subscribe_messages=True) as waiter:
        await waiter.subscribe(Q.events)
        await waiter.get_message(timeout=1)
        end = Settlement.answered(claim, result(claim), streamed=False)
        assert await store.settle(redis, Q, "s", [end]) == [True]
        assert await store.settle(redis, Q, "s", [end]) == [True]
        message = await waiter.get_message(timeout=1)
        assert message is not None
        assert message["data"] == b"a"
        assert await waiter.get_message(timeout=0.05) is None
    stored = json.loads(await redis.get(Q.result("a")))
    assert (stored["status"], stored["handle"]) == ("succeeded", "t:1")
    assert 0 < await redis.pttl(Q.result("a")) <= 86_400_000
    assert await redis.exists(Q.claimed, Q.lease, Q.id("a")) == 0


async def test_a_late_result_is_refused(redis: Redis, store: QueueStore) -> None:
    """After its lease a claim can't settle: whoever has the job now answers it, once."""
    await redis.rpush(Q.normal, BODY)
    late = await one_claim(redis, store, "old")
    await lapse(redis)
    assert (await store.tend(redis, Q)).reaped == 1
    new = await one_claim(redis, store, "new")
    assert (new.element.origin, new.element.deliveries) == ("old:1", 2)
    assert await store.settle(redis, Q, "s1", [Settlement.answered(late, result(late), streamed=False)]) == [False]
    assert await redis.exists(Q.result("a")) == 0
    assert await store.settle(redis, Q, "s2", [Settlement.answered(new, result(new), streamed=False)]) == [True]
    assert json.loads(await redis.get(Q.result("a")))["handle"] == "new:1"
    assert await redis.hget(Q.stats, "fenced") == b"1"


async def test_reaped_jobs_go_first_and_in_order(redis: Redis, store: QueueStore) -> None:
    """What a dead worker held goes back to the consume end: it has waited already."""
    await redis.rpush(Q.normal, b"1", b"2", b"3")
    await store.claim(redis, Q, "t", 2)
    await lapse(redis)
    await store.tend(redis, Q)
    assert [decode(raw).body for raw in await redis.lrange(Q.normal, 0, -1)] == [b"1", b"2", b"3"]


async def test_claims_without_a_lease_are_found(redis: Redis, store: QueueStore) -> None:
    """A claim whose lease is gone, for whatever reason, gets one, and comes back when that ends."""
    await redis.rpush(Q.normal, BODY)
    await one_claim(redis, store)
    await redis.delete(Q.lease)
    await store.tend(redis, Q)
    assert await redis.zcard(Q.lease) == 1
    await lapse(redis)
    await store.tend(redis, Q)
    assert await redis.llen(Q.normal) == 1


async def test_retry_waits_and_counts(redis: Redis, store: QueueStore) -> None:
    """A retry is delayed, keeps its place's priority and its identity, and costs an attempt but no delivery."""
    await redis.rpush(Q.high, BODY)
    claim = await one_claim(redis, store)
    await store.settle(redis, Q, "s", [Settlement.retried(claim, "a", 60_000, counts=True)])
    tended = await store.tend(redis, Q)
    assert tended.promoted == 0
    assert tended.next_due_ms is not None
    assert 0 < tended.next_due_ms - tended.now_ms <= 60_000
    [member] = await redis.zrange(Q.delayed, 0, -1)
    await redis.zadd(Q.delayed, {member: 1})
    assert (await store.tend(redis, Q)).promoted == 1
    assert await redis.llen(Q.high) == 1
    again = await one_claim(redis, store, "u")
    element = again.element
    assert (element.attempts, element.deliveries, element.origin, element.job_id) == (1, 1, "t:1", "a")
    assert element.first_claimed_ms == claim.element.first_claimed_ms


async def test_release_costs_nothing(redis: Redis, store: QueueStore) -> None:
    """A job that a stopping worker gives back is first again, with no attempt and no delivery more."""
    await redis.rpush(Q.normal, b"1", b"2")
    claim = await one_claim(redis, store)
    await store.settle(redis, Q, "s", [Settlement.released(claim)])
    again = await one_claim(redis, store, "u")
    assert (again.element.body, again.element.attempts, again.element.deliveries) == (b"1", 0, 1)


async def test_dead_letters_wake_their_waiter(redis: Redis, store: QueueStore) -> None:
    """A dead letter keeps reason and body, and its failed result comes in the same step."""
    await redis.rpush(Q.normal, BODY)
    claim = await one_claim(redis, store)
    failed = Result(id="a", status=Status.FAILED, error=JobError(code="timeout", message="m"), handle=claim.handle)
    await store.settle(redis, Q, "s", [Settlement.buried(claim, "timeout", "m", failed)])
    [(_, letter)] = await redis.xrange(Q.dead)
    assert (letter[b"code"], letter[b"reason"], letter[b"id"], letter[b"body"]) == (b"timeout", b"m", b"a", BODY)
    assert json.loads(await redis.get(Q.result("a")))["status"] == "failed"
    assert int(await redis.hget(Q.stats, "dead_bytes")) == len(BODY) + 1


@pytest.mark.parametrize("limits", [{"dead_max_entries": 3}, {"dead_max_bytes": 35}])
async def test_dead_letters_are_bounded_and_evictions_counted(redis: Redis, limits: dict[str, int]) -> None:
    """The oldest go when entries or bytes pass their bound, and each is counted."""
    store = make_store(**limits)
    await redis.rpush(Q.normal, *[b"%010d" % n for n in range(6)])
    claims = (await store.claim(redis, Q, "t", 6)).claims
    await store.settle(redis, Q, "s", [Settlement.buried(c, "invalid", "r", None) for c in claims])
    assert [letter[b"body"] for _, letter in await redis.xrange(Q.dead)] == [b"%010d" % n for n in (3, 4, 5)]
    assert await redis.hget(Q.stats, "dead_evicted") == b"3"
    assert await redis.hget(Q.stats, "dead_bytes") == b"33"


async def test_check_sorts_a_batch(redis: Redis, store: QueueStore) -> None:
    """Live twins, answered ids, cancels and lost claims are told apart; a job is never its own duplicate."""
    await redis.rpush(Q.normal, *[b"%d" % n for n in range(5)])
    one, twin, answered, cancelled, lost = (await store.claim(redis, Q, "t", 5)).claims
    await redis.set(Q.result("done"), "{}")
    await redis.set(Q.cancel("c"), "1")
    await redis.hdel(Q.claimed, lost.handle)
    batch = [(one, "a"), (twin, "a"), (answered, "done"), (cancelled, "c"), (lost, "l")]
    assert await store.check(redis, Q, batch) == [
        Verdict.RUN,
        Verdict.DUPLICATE,
        Verdict.ANSWERED,
        Verdict.CANCELLED,
        Verdict.LOST,
    ]
    assert await store.check(redis, Q, [(one, "a")]) == [Verdict.RUN]
    await redis.set(Q.id("q"), "queued")
    assert await store.check(redis, Q, [(one, "q")]) == [Verdict.RUN]


async def test_the_twin_stays_out_while_the_first_is_retried(redis: Redis, store: QueueStore) -> None:
    """An id is taken for as long as its job lives, in whatever place it waits."""
    await redis.rpush(Q.normal, b"1", b"2")
    first = await one_claim(redis, store, "t")
    await store.check(redis, Q, [(first, "a")])
    await store.settle(redis, Q, "s", [Settlement.retried(first, "a", 60_000, counts=True)])
    twin = await one_claim(redis, store, "u")
    assert await store.check(redis, Q, [(twin, "a")]) == [Verdict.DUPLICATE]


async def test_renewal_tells_what_is_held(redis: Redis, store: QueueStore) -> None:
    """A held lease moves, a lost one is said to be lost and is not brought back, a wished cancel is passed on."""
    await redis.rpush(Q.normal, b"1", b"2", b"3")
    held, lost, cancelled = (await store.claim(redis, Q, "t", 3)).claims
    await redis.hdel(Q.claimed, lost.handle)
    await redis.set(Q.cancel("c"), "1")
    await lapse(redis)
    holds = await store.renew(redis, Q, [(held, "a"), (lost, "b"), (cancelled, "c")])
    assert holds == [Hold.HELD, Hold.LOST, Hold.CANCELLED]
    assert await redis.zscore(Q.lease, held.handle) > 1
    assert await redis.zscore(Q.lease, lost.handle) == 1


async def test_stream_pieces_are_never_doubled_and_never_late(redis: Redis, store: QueueStore) -> None:
    """A repeated append adds nothing twice; after the claim is lost nothing is added at all."""
    await redis.rpush(Q.normal, BODY)
    claim = await one_claim(redis, store)
    chunk = StreamChunk(claim, "a", 0, [("reset", ""), ("text", "one")])
    assert await store.append(redis, chunk)
    assert await store.append(redis, chunk)
    assert await store.append(redis, StreamChunk(claim, "a", 2, [("text", "two")]))
    pieces = [(fields[b"kind"], fields[b"text"]) for _, fields in await redis.xrange(Q.stream("a"))]
    assert pieces == [(b"reset", b""), (b"text", b"one"), (b"text", b"two")]
    await redis.hdel(Q.claimed, claim.handle)
    assert not await store.append(redis, StreamChunk(claim, "a", 3, [("text", "late")]))
    assert await redis.xlen(Q.stream("a")) == 3


async def test_scripts_survive_a_flush(redis: Redis, store: QueueStore) -> None:
    """A server that has forgotten the scripts is taught them again."""
    await redis.rpush(Q.normal, BODY)
    await redis.script_flush()
    claim = await one_claim(redis, store)
    await redis.script_flush()
    assert await store.settle(redis, Q, "s", [Settlement.released(claim)]) == [True]


async def test_a_full_redis_still_lets_jobs_end(store: QueueStore) -> None:
    """At maxmemory producers are refused, and the jobs that are there are claimed and settled: removals come first."""
    with RedisServer(config={"maxmemory-policy": "noeviction"}) as server:
        connections = Connections(server.url)
        redis = connections.once()
        await redis.rpush(Q.normal, BODY)
        await redis.config_set("maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            await redis.rpush(Q.normal, BODY)
        await redis.config_set("maxmemory", "0")
        for sha in (store._claim, store._settle):
            await redis.script_load(sha.text)
        await redis.config_set("maxmemory", "1")
        claim = await one_claim(redis, store)
        end = Settlement.answered(claim, result(claim), streamed=False)
        assert await store.settle(redis, Q, "s", [end]) == [True]
        assert await redis.exists(Q.result("a")) == 1
        lost = Settlement.released(claim)
        assert await store.settle(redis, Q, "s2", [lost, lost]) == [False, False]
        await connections.aclose()


async def test_producers_can_not_forge_a_header(redis: Redis, store: QueueStore) -> None:
    """A body that looks half like an element is a body; its claim has an identity of its own."""
    await redis.rpush(Q.normal, b"\x011|x")
    claim = await one_claim(redis, store)
    assert (claim.element.body, claim.element.origin) == (b"\x011|x", "t:1")


async def test_reports_of_the_dead_are_cleared_away(redis: Redis, store: QueueStore) -> None:
    """A worker's first report takes away those of workers that died, and leaves the living and the unreadable."""
    pool = PoolKeys("local/default")
    now = int((await redis.time())[0]) * 1_000
    reports = {"dead": now - 3_700_000, "alive": now - 60_000}
    await redis.hset(
        pool.workers, mapping={name: f'{{"worker":"{name}","at_ms":{at}}}' for name, at in reports.items()}
    )
    await redis.hset(pool.workers, "odd", "?")
    await redis.hset(pool.config, "drain:w1", "123")
    assert (await store.report(redis, pool, '{"at_ms":1}', first=False)).drain_until_ms == 123
    assert await redis.hlen(pool.workers) == 4
    await store.report(redis, pool, f'{{"at_ms":{now}}}', first=True)
    assert set(await redis.hkeys(pool.workers)) == {b"alive", b"odd", b"w1"}
    await store.report(redis, pool, "", first=False)
    assert set(await redis.hkeys(pool.workers)) == {b"alive", b"odd"}


FORGED = [
    pytest.param(b"\x011|\xff|n|1|0|5|0|0|{}", id="origin-not-ascii"),
    pytest.param(b"\x011|a:1|n|1|0|" + b"9" * 400 + b"|0|0|{}", id="400-digits"),
    pytest.param(b"\x011|a:1|n|" + b"9" * 20 + b"|0|5|0|0|{}", id="20-digit-deliveries"),
    pytest.param(b"\x011|a b|n|1|0|5|0|0|{}", id="origin-with-a-space"),
]


@pytest.mark.parametrize("raw", FORGED)
async def test_a_forged_header_is_a_body(redis: Redis, store: QueueStore, raw: bytes) -> None:
    """Whatever a producer pushes can be claimed: it ends as a malformed job, and ends no worker."""
    await redis.rpush(Q.normal, raw)
    claim = await one_claim(redis, store)
    assert (claim.element.body, claim.element.origin, claim.element.deliveries) == (raw, "t:1", 1)
    assert decode(raw).body == raw


async def test_a_claim_repeated_after_its_lease_takes_nothing_away(redis: Redis, store: QueueStore) -> None:
    """Some of its handles were reaped, some not yet: what the repeat takes anew never goes over those."""
    await redis.rpush(Q.normal, *[b"%d" % n for n in range(8)])
    await store.claim(redis, Q, "t", 3)
    await redis.zadd(Q.lease, {"t:1": 1})
    await store.tend(redis, Q)
    again = await store.claim(redis, Q, "t", 3)
    assert len({c.handle for c in again.claims} | {"t:2", "t:3"}) == 5
    claimed = [decode(raw).body for raw in await redis.hvals(Q.claimed)]
    waiting = [decode(raw).body for raw in await redis.lrange(Q.normal, 0, -1)]
    assert sorted(claimed + waiting) == [b"%d" % n for n in range(8)]


async def test_a_repeat_that_wants_less_still_brings_all(redis: Redis, store: QueueStore) -> None:
    """What the lost reply held is ours already, however few slots are free by now."""
    await redis.rpush(Q.normal, *[b"%d" % n for n in range(5)])
    await store.claim(redis, Q, "t", 5)
    assert len((await store.claim(redis, Q, "t", 1)).claims) == 5


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "running"])
async def test_a_malformed_twin_destroys_no_answer(redis: Redis, store: QueueStore, answered: bool) -> None:
    """A dead letter that bears the id of another job leaves that one's result, and its mark, as they are."""
    await redis.rpush(Q.normal, BODY, b"twin")
    first, twin = (await store.claim(redis, Q, "t", 2)).claims
    await store.check(redis, Q, [(first, "a")])
    if answered:
        await store.settle(redis, Q, "s1", [Settlement.answered(first, result(first), streamed=False)])
    failed = Result(id="a", status=Status.FAILED, error=JobError(code="invalid", message="m"))
    assert await store.settle(redis, Q, "s2", [Settlement.buried(twin, "invalid", "m", failed)]) == [True]
    assert await redis.xlen(Q.dead) == 1
    if not answered:
        assert await redis.exists(Q.result("a")) == 0
        await store.settle(redis, Q, "s3", [Settlement.answered(first, result(first), streamed=False)])
    assert json.loads(await redis.get(Q.result("a")))["status"] == "succeeded"


async def test_an_ids_key_of_another_type_stops_nothing(redis: Redis, store: QueueStore) -> None:
    """Somebody else's key in the place of an id's mark is taken for no mark."""
    await redis.rpush(Q.normal, BODY)
    await redis.lpush(Q.id("a"), "odd")
    claim = await one_claim(redis, store)
    assert await store.check(redis, Q, [(claim, "a")]) == [Verdict.RUN]


async def test_a_batch_is_given_back_in_its_order(redis: Redis, store: QueueStore) -> None:
    """What a stopping worker gives back together is in front as it was."""
    await redis.rpush(Q.normal, b"1", b"2", b"3", b"4")
    claims = (await store.claim(redis, Q, "t", 3)).claims
    await store.settle(redis, Q, "s", [Settlement.released(claim) for claim in claims])
    assert [decode(raw).body for raw in await redis.lrange(Q.normal, 0, -1)] == [b"1", b"2", b"3", b"4"]


async def test_a_deleted_dead_letter_stream_is_no_debt(redis: Redis) -> None:
    """After somebody deleted the stream its bytes are counted from zero, and nothing new is evicted for the old."""
    store = make_store(dead_max_bytes=50)
    for token in ("t", "u"):
        await redis.rpush(Q.normal, b"%040d" % 0)
        claim = await one_claim(redis, store, token)
        await store.settle(redis, Q, token, [Settlement.buried(claim, "invalid", "r", None)])
        if token == "t":
            await redis.delete(Q.dead)
    assert (await redis.xlen(Q.dead), await redis.hget(Q.stats, "dead_bytes")) == (1, b"41")
    assert await redis.hget(Q.stats, "dead_evicted") is None


@pytest.mark.parametrize(
    ("heads", "oldest_s"),
    [
        pytest.param({}, None, id="nothing waits"),
        pytest.param({Q.normal: b'{"id":"a"}'}, None, id="nobody says"),
        pytest.param({Q.normal: b"not JSON", Q.low: b'["enqueued_at", 1]'}, None, id="no jobs at all"),
        pytest.param({Q.normal: b'{"enqueued_at":%d}', Q.low: b'{"enqueued_at":4e12}'}, 60, id="one says"),
        pytest.param({Q.normal: b'{"enqueued_at":"x","x":"' + b"x" * 20_000 + b'"}'}, None, id="too long to look"),
    ],
)
async def test_the_depth_of_a_queue(
    redis: Redis, store: QueueStore, heads: dict[str, bytes], oldest_s: float | None
) -> None:
    """All that is in a queue is counted, without a change; the age is that of the heads whose producers tell it."""
    seconds, _ = await redis.time()
    await redis.rpush(Q.normal, BODY)
    await one_claim(redis, store)
    await redis.xadd(Q.dead, {"code": "x"})
    await redis.zadd(Q.delayed, {"later": 9e12})
    for key, body in heads.items():
        await redis.rpush(key, body.replace(b"%d", str(int(seconds) - 60).encode()))
    depth = await store.depth(redis, Q)
    assert (depth.ready, depth.delayed, depth.in_flight, depth.dead) == (len(heads), 1, 1, 1)
    assert depth == replace(await store.depth(redis, Q), oldest_s=depth.oldest_s)
    if oldest_s is None:
        assert depth.oldest_s is None
    else:
        assert depth.oldest_s is not None
        assert oldest_s <= depth.oldest_s < oldest_s + 60
