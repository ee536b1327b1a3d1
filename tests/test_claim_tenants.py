"""Tenants at the claim script, on a real Redis: whose turn it is, and what each may have in a minute."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from llmpool_contract import Result, Status
from llmpool_contract.element import decode
from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.types import Claim, Settlement
from tests.support.claiming import Q, delayed, job, make_store, names, waiting

MINUTE_MS = 60_000
EARLY_MS = 5_000
"""A test that compares with the current minute's count begins with at least this much of it left."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connections = Connections(redis_url)
    yield connections.once()
    await connections.aclose()


async def now_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


async def used(redis: Redis, kind: str, tenant: str, *, now: int = 0, before: int = 0) -> int:
    """Write what a tenant used in the current and the previous minute; returns the minute's number. Not near its end:
    the test would begin in one and end in the next."""
    at = await now_ms(redis)
    if (left := MINUTE_MS - at % MINUTE_MS) < EARLY_MS:
        await asyncio.sleep(left / 1_000)
        at = await now_ms(redis)
    minute = at // MINUTE_MS
    await redis.hset(Q.used, mapping={f"{minute}|{kind}|{tenant}": now, f"{minute - 1}|{kind}|{tenant}": before})
    return minute


def result(claim: Claim, job_id: str) -> Result:
    return Result(id=job_id, status=Status.SUCCEEDED, handle=claim.handle, content="x")


# -- turns


async def test_tenants_take_turns(redis: Redis) -> None:
    """One who pushed a thousand jobs first isn't served a thousand times first; each one's own jobs stay in order."""
    await redis.rpush(Q.normal, *[job(f"a{n}", tenant="a") for n in range(4)], *[job(f"n{n}") for n in range(2)])
    await redis.rpush(Q.normal, *[job(f"b{n}", tenant="b") for n in range(2)])
    assert names(await make_store().claim(redis, Q, "t", 7)) == ["a0", "n0", "b0", "a1", "n1", "b1", "a2"]
    assert await waiting(redis) == ["a3"]


@pytest.mark.parametrize("others", ["b", None], ids=["a-tenant", "jobs-of-nobody"])
async def test_turns_go_on_from_claim_to_claim(redis: Redis, others: str | None) -> None:
    """Who was served last is known to the next call, of whichever worker: nobody's endless stream starves another."""
    more: dict[str, Any] = {} if others is None else {"tenant": others}
    await redis.rpush(
        Q.normal, *[job(f"a{n}", tenant="a") for n in range(8)], *[job(f"o{n}", **more) for n in range(8)]
    )
    served = [name for n in range(8) for name in names(await make_store().claim(redis, Q, f"t{n}", 1))]
    assert sorted(served) == ["a0", "a1", "a2", "a3", "o0", "o1", "o2", "o3"]
    assert all({left[0], right[0]} == {"a", "o"} for left, right in itertools.pairwise(served))


async def test_without_fairness_the_oldest_goes_first(redis: Redis) -> None:
    """TENANT_FAIRNESS off: first in, first out, whoever's they are, and nothing is remembered."""
    await redis.rpush(Q.normal, job("a0", tenant="a"), job("a1", tenant="a"), job("b0", tenant="b"))
    assert names(await make_store(fair=False).claim(redis, Q, "t", 2)) == ["a0", "a1"]
    assert not await redis.exists(Q.turns)


async def test_a_queue_without_tenants_remembers_none(redis: Redis) -> None:
    """Turns cost nothing where there is only one to take them, not even in a window."""
    await redis.rpush(Q.normal, job("x", "x"), job("m"))
    assert names(await make_store().claim(redis, Q, "t", 2, caps={"m:latest": 2})) == ["m"]
    assert not await redis.exists(Q.turns)


async def test_turns_are_bounded(redis: Redis) -> None:
    """The names that came last are kept; a name for each job fills no memory."""
    await redis.zadd(Q.turns, {f"old{n}": n for n in range(1_500)})
    await redis.rpush(Q.normal, job("a", tenant="a"))
    await make_store().claim(redis, Q, "t", 1)
    assert (await redis.zcard(Q.turns), await redis.zscore(Q.turns, "a") is not None) == (1_000, True)


# -- limits


async def test_one_call_keeps_to_the_limit(redis: Redis) -> None:
    """However much a call has room for, a tenant gets what it may have; the rest waits, in order, out of the way."""
    store = make_store(tenants={"*": {"j": 3}})
    await used(redis, "j", "a", now=1)
    await redis.rpush(Q.normal, *[job(f"a{n}", tenant="a") for n in range(5)], job("b0", tenant="b"), job("n0"))
    claimed = await store.claim(redis, Q, "t", 9)
    assert sorted(names(claimed)) == ["a0", "a1", "b0", "n0"]
    assert not claimed.full
    assert await waiting(redis) == []
    held = await delayed(redis)
    assert list(held) == ["a2", "a3", "a4"]
    assert [due - held["a2"] for due in held.values()] == [0, MINUTE_MS / 3, MINUTE_MS * 2 / 3]


async def test_what_is_held_back_comes_back_as_it_was(redis: Redis) -> None:
    """After its wait a job is at the front of its own list, uncounted and unmarked by it, its bytes the producer's."""
    store = make_store(tenants={"a": {"j": 1}})
    minute = await used(redis, "j", "a", now=1)
    body = b'{ "id":"a1", "type":"chat","model":"m","tenant":"a","n":12345678901234567890 }'
    await redis.rpush(Q.high, body)
    assert (await store.claim(redis, Q, "t", 1)).claims == []
    [due] = (await delayed(redis)).values()
    assert (minute + 1) * MINUTE_MS < due <= (minute + 1) * MINUTE_MS + 2
    await redis.zadd(Q.delayed, dict.fromkeys(await redis.zrange(Q.delayed, 0, -1), 1))
    await redis.delete(Q.used)
    await store.tend(redis, Q)
    assert decode((await redis.lrange(Q.high, 0, -1))[0]).body == body
    [claim] = (await store.claim(redis, Q, "u", 1)).claims
    element = claim.element
    assert (element.body, element.priority, element.deliveries, element.attempts) == (body, "high", 1, 0)


async def test_the_last_minute_counts_by_what_is_left_of_it(redis: Redis) -> None:
    """The window slides: of the previous minute's use the part that is still within sixty seconds is counted."""
    store = make_store(tenants={"a": {"j": 10}})
    minute = await used(redis, "j", "a", before=1_000, now=5)
    await redis.rpush(Q.normal, job("a0", tenant="a"))
    claimed = await store.claim(redis, Q, "t", 1)
    into = claimed.now_ms - minute * MINUTE_MS
    assert names(claimed) == []
    [due] = (await delayed(redis)).values()
    # 1000 x (1 - t / 60 s) + 5 < 10
    assert due == pytest.approx(claimed.now_ms - into + (1 - 5 / 1_000) * MINUTE_MS, abs=3)


async def test_tokens_are_counted_as_jobs_end(redis: Redis) -> None:
    """What the model server counted is charged by the settlement, once however often that is sent; then jobs wait."""
    store = make_store(tenants={"*": {"t": 100}})
    minute = await used(redis, "t", "a", now=90)
    await redis.rpush(Q.normal, job("a0", tenant="a"), job("a1", tenant="a"), job("b0", tenant="b"))
    first = (await store.claim(redis, Q, "t", 1)).claims[0]
    end = Settlement.answered(first, result(first, "a0"), streamed=False, tenant="a", tokens=10)
    for _ in range(2):
        assert await store.settle(redis, Q, "s", [end]) == [True]
    assert await redis.hget(Q.used, f"{minute}|t|a") == b"100"
    assert names(await store.claim(redis, Q, "u", 9)) == ["b0"]
    assert list(await delayed(redis)) == ["a1"]


async def test_who_has_no_token_limit_is_not_counted(redis: Redis) -> None:
    """Limits on jobs, or none, write no tokens."""
    store = make_store(tenants={"a": {"j": 100}, "*": {"t": 100}})
    await redis.rpush(Q.normal, job("a0", tenant="a"), job("n0"))
    claims = (await store.claim(redis, Q, "t", 2)).claims
    ends = [
        Settlement.answered(claim, result(claim, name), streamed=False, tenant=tenant, tokens=10)
        for claim, name, tenant in zip(claims, ("a0", "n0"), ("a", ""), strict=True)
    ]
    await store.settle(redis, Q, "s", ends)
    assert not [name for name in await redis.hkeys(Q.used) if b"|t|" in name]


async def test_a_lost_claim_is_charged_to_nobody(redis: Redis) -> None:
    """The late end of a job that somebody else has by now costs its tenant nothing: that one's will."""
    store = make_store(tenants={"*": {"t": 100}})
    await redis.rpush(Q.normal, job("a0", tenant="a"))
    [claim] = (await store.claim(redis, Q, "t", 1)).claims
    await redis.hdel(Q.claimed, claim.handle)
    end = Settlement.answered(claim, result(claim, "a0"), streamed=False, tenant="a", tokens=10)
    assert await store.settle(redis, Q, "s", [end]) == [False]
    assert not await redis.exists(Q.used)


@pytest.mark.parametrize("how", ["retry", "release"])
async def test_a_job_counts_once(redis: Redis, how: str) -> None:
    """A retry, or a job that a stopping worker gave back, neither counts again nor waits for its tenant's limit."""
    store = make_store(tenants={"a": {"j": 1}})
    minute = await used(redis, "j", "a")
    await redis.rpush(Q.normal, job("a0", tenant="a"))
    [claim] = (await store.claim(redis, Q, "t", 1)).claims
    again = Settlement.retried(claim, "a0", 0, counts=True) if how == "retry" else Settlement.released(claim, "a0")
    await store.settle(redis, Q, "s", [again])
    await store.tend(redis, Q)
    assert names(await store.claim(redis, Q, "u", 1)) == ["a0"]
    assert await redis.hget(Q.used, f"{minute}|j|a") == b"1"


async def test_a_tenants_own_limit_stands_for_the_others(redis: Redis) -> None:
    """A named tenant has its own numbers and none of the general ones; `*` as a name is one of the others."""
    store = make_store(tenants={"big": {"j": 5}, "free": {}, "*": {"j": 1}})
    for tenant in ("big", "free", "small", "*"):
        await redis.rpush(Q.normal, *[job(f"{tenant}-{n}", tenant=tenant) for n in range(6)])
    got = [name.split("-")[0] for name in names(await store.claim(redis, Q, "t", 64))]
    assert {tenant: got.count(tenant) for tenant in got} == {"big": 5, "free": 6, "small": 1, "*": 1}


async def test_a_tenant_over_its_limit_hides_nobody(redis: Redis) -> None:
    """A window full of its jobs is put aside, and the same call goes on to what is behind."""
    store = make_store(tenants={"a": {"j": 1}})
    await used(redis, "j", "a", now=1)
    await redis.rpush(Q.normal, *[job(f"a{n}", tenant="a") for n in range(64)], job("b0", tenant="b"))
    assert names(await store.claim(redis, Q, "t", 1)) == ["b0"]
    assert await redis.zcard(Q.delayed) == 64


async def test_old_minutes_are_cleared_away(redis: Redis) -> None:
    """The first use of a minute takes out what no longer counts, nothing that does, and isn't stopped by the rest."""
    store = make_store(tenants={"*": {"j": 100}})
    minute = await used(redis, "j", "a", now=1, before=2)
    await redis.hset(Q.used, mapping={f"{minute - 2}|j|a": 3, f"{minute - 9}|": "", "odd": "?"})
    await redis.rpush(Q.normal, job("b0", tenant="b"))
    await store.claim(redis, Q, "t", 1)
    fields = {f"{minute}|j|a", f"{minute - 1}|j|a", f"{minute}|j|b", f"{minute}|", "odd"}
    assert {name.decode() for name in await redis.hkeys(Q.used)} == fields
    assert 0 < await redis.pttl(Q.used) <= 180_000


async def test_a_name_of_many_bytes_is_a_tenant(redis: Redis) -> None:
    """The longest name that a job may have, in any script, is still somebody's whose limit counts."""
    tenant = "\U0001f600" * 128
    store = make_store(tenants={tenant: {"j": 1}})
    await redis.rpush(Q.normal, job("1", tenant=tenant), job("2", tenant=tenant))
    assert names(await store.claim(redis, Q, "t", 9)) == ["1"]
