"""What stands beside a job's id while it waits for another try, on a real Redis."""

import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from llmpool_contract import JobError, Result, Status
from llmpool_contract.mark import Mark, Note, read_mark
from llmpool_worker.asking import NotNow, model_not_open, no_budget
from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.types import Claim, Settlement, Verdict
from tests.support.claiming import Q, job, make_store, names

NOTE = json.dumps({"code": "breaker_open", "reason": "a | b", "waits_for": {"breaker": "m"}})


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connections = Connections(redis_url)
    yield connections.once()
    await connections.aclose()


async def retried(redis: Redis, note: str = NOTE) -> Claim:
    """Job `a` ran, and waits for its next try."""
    store = make_store()
    await redis.rpush(Q.normal, job("a"))
    [claim] = (await store.claim(redis, Q, "t", 1)).claims
    assert await store.check(redis, Q, [(claim, "a")]) == [Verdict.RUN]
    end = Settlement.retried(claim, "a", 0, counts=False, note=note)
    assert await store.settle(redis, Q, "s", [end]) == [True]
    return claim


async def test_a_note_stands_beside_the_mark(redis: Redis) -> None:
    """Origin, handle, then the note as it was given, for as long as a result would be kept."""
    await retried(redis)
    assert await redis.get(Q.id("a")) == f"t:1 t:1 {NOTE}".encode()
    assert 0 < await redis.pttl(Q.id("a")) <= make_store().limits.result_ttl_ms


async def test_a_retry_without_a_note_leaves_the_mark(redis: Redis) -> None:
    """The id is its job's all the same."""
    await retried(redis, note="")
    assert await redis.get(Q.id("a")) == b"t:1 t:1"


async def test_a_noted_id_is_still_taken(redis: Redis) -> None:
    """A second job with it never runs, and as a dead letter it touches neither mark nor answer."""
    await retried(redis)
    store = make_store()
    await redis.rpush(Q.high, job("a"))
    [twin] = (await store.claim(redis, Q, "u", 1)).claims
    assert await store.check(redis, Q, [(twin, "a")]) == [Verdict.DUPLICATE]
    failed = Result(id="a", status=Status.FAILED, error=JobError(code="invalid", message="m"))
    await store.settle(redis, Q, "s2", [Settlement.buried(twin, "invalid", "m", failed)])
    assert await redis.exists(Q.result("a")) == 0
    assert await redis.get(Q.id("a")) == f"t:1 t:1 {NOTE}".encode()


async def test_the_next_try_takes_the_note_away(redis: Redis) -> None:
    """Once it runs again it waits for nothing: the check writes the mark anew, with the handle that has it now."""
    await retried(redis)
    store = make_store()
    await store.tend(redis, Q)
    claimed = await store.claim(redis, Q, "u", 1)
    assert names(claimed) == ["a"]
    assert await store.check(redis, Q, [(claimed.claims[0], "a")]) == [Verdict.RUN]
    assert await redis.get(Q.id("a")) == b"t:1 u:1"


async def test_who_lost_the_claim_notes_nothing(redis: Redis) -> None:
    """A late retry changes neither the queue nor what stands beside the id."""
    claim = await retried(redis)
    before = await redis.get(Q.id("a"))
    late = Settlement.retried(claim, "a", 0, counts=True, note='{"code":"late"}')
    assert await make_store().settle(redis, Q, "s3", [late]) == [False]
    assert await redis.get(Q.id("a")) == before


@pytest.mark.parametrize("error", [no_budget(1.0), model_not_open("m:1b")], ids=["budget", "model"])
def test_what_a_worker_waits_for_is_readable(error: NotNow) -> None:
    """The note that a worker leaves says the same to those who ask."""
    note = Note(code=error.code, reason=error.reason, at_ms=1, waits_for=error.waits_for)
    mark = read_mark(Mark("t:1", "t:1", note).to_bytes())
    assert mark is not None
    assert (mark.note, mark.note_fault) == (note, None)
