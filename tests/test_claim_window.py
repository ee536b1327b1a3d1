"""The claim script's look into bodies, on a real Redis: which jobs a worker takes that may not take all of them."""

import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from llmpool_contract.element import decode
from llmpool_contract.models import folded
from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.types import Settlement
from tests.support.claiming import Q, embed, job, make_store, names, waiting

FILLER = "x" * 20_000
"""Makes a body too long to be decoded by the script."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connections = Connections(redis_url)
    yield connections.once()
    await connections.aclose()


async def test_only_capped_models_are_taken_and_the_rest_stays_as_it_was(redis: Redis) -> None:
    """What is passed over keeps its place and every byte, wherever in the list it is, headers of retries included."""
    store = make_store()
    await redis.rpush(Q.normal, job("x1", "x"))
    [retried] = (await store.claim(redis, Q, "t", 1)).claims
    await store.settle(redis, Q, "s", [Settlement.retried(retried, "x1", 0, counts=True)])
    await store.tend(redis, Q)
    odd = b'{ "id":"x2","model":"x", "n": 12345678901234567890, "e": [], "u": "\xc3\xa9" }'
    await redis.rpush(Q.normal, job("m1"), odd, job("m2", "m:latest"), job("y1", "y"), job("m3"), job("m4"))
    before = await redis.lrange(Q.normal, 0, -1)
    claimed = await store.claim(redis, Q, "u", 9, caps={"m:latest": 3})
    assert names(claimed) == ["m1", "m2", "m3"]
    assert await redis.lrange(Q.normal, 0, -1) == [before[0], odd, before[4], before[6]]
    assert set(claimed.passed) == {"x:latest", "y:latest"}
    assert (claimed.full, claimed.more) == (True, {"m:latest"})


async def test_since_when_a_model_waits_is_known_to_all(redis: Redis) -> None:
    """The time of the first pass stands, for every worker, until the model may be claimed."""
    store = make_store()
    await redis.rpush(Q.normal, job("x1", "x"))
    first = await store.claim(redis, Q, "u", 1, caps={"m:latest": 1})
    assert first.passed == {"x:latest": first.now_ms}
    await redis.hset(Q.waiting, "x:latest", "1000")
    again = await make_store().claim(redis, Q, "v", 1, caps={"m:latest": 1})
    assert again.passed == {"x:latest": 1_000}
    assert names(await store.claim(redis, Q, "w", 1, caps={"x:latest": 1})) == ["x1"]
    assert not await redis.exists(Q.waiting)


@pytest.mark.parametrize("units", [1, 2])
async def test_a_model_at_the_head_is_passed_over_however_few_are_wanted(redis: Redis, units: int) -> None:
    """A call that had all that it wanted still tells of what it met on its way."""
    await redis.rpush(Q.normal, job("x1", "x"), job("m1"), job("m2"), job("m3"))
    claimed = await make_store().claim(redis, Q, "t", units, caps={"m:latest": 9})
    assert names(claimed) == ["m1", "m2"][:units]
    assert (set(claimed.passed), claimed.full, claimed.more) == ({"x:latest"}, True, {"m:latest"})


async def test_any_other_model_has_its_own_places(redis: Redis) -> None:
    """``*`` is what all models without a cap share; none is passed over for its name then."""
    await redis.rpush(Q.normal, job("m1"), job("m2"), job("x1", "x"), job("y1", "y"), job("z1", "z"))
    claimed = await make_store().claim(redis, Q, "t", 9, caps={"m:latest": 1, "*": 2})
    assert (names(claimed), claimed.passed) == (["m1", "x1", "y1"], {})
    assert (await waiting(redis), claimed.full) == (["m2", "z1"], True)


async def test_no_caps_at_all_take_only_what_nobody_can_name(redis: Redis) -> None:
    """With no model open nothing is claimed but bodies without a readable model, which fail wherever they go."""
    await redis.rpush(Q.normal, job("m1"), b"{broken", job("m2"))
    claimed = await make_store().claim(redis, Q, "t", 9, caps={})
    assert [claim.element.body for claim in claimed.claims] == [b"{broken"]
    assert (await waiting(redis), set(claimed.passed), claimed.full) == (["m1", "m2"], {"m:latest"}, False)


UNREADABLE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"{broken", id="broken"),
    pytest.param(b'"model"', id="a-string"),
    pytest.param(b"[1,2]", id="an-array"),
    pytest.param(b"null", id="null"),
    pytest.param(b"1e400", id="infinite"),
    pytest.param(b'{"model":null,"tenant":null,"type":null}', id="null-fields"),
    pytest.param(b'{"model":7,"tenant":["a"],"type":{}}', id="fields-of-other-types"),
    pytest.param(b'{"model":""}', id="no-name"),
    pytest.param(b'{"model":"' + b"m" * 254 + b'"}', id="a-name-too-long"),
    pytest.param(b'{"model":"x","a":' + b"[" * 2_000 + b"]" * 2_000 + b"}", id="nested-too-deep"),
    pytest.param(b'\xff\xfe{"tenant":"a"', id="not-utf8"),
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_what_cannot_be_read_is_anybodys(redis: Redis, body: bytes) -> None:
    """Bodies that the script can't make sense of stop nothing: they are claimed, and refused by who can explain."""
    await redis.rpush(Q.normal, job("x", "x", tenant="a"), body, job("m1"))
    claimed = await make_store().claim(redis, Q, "t", 9, caps={"m:latest": 9})
    assert [claim.element.body for claim in claimed.claims] == [body, job("m1")]


NAMED = [
    pytest.param(job("1", "m"), id="without-a-tag"),
    pytest.param(job("1", "m:latest"), id="with-its-tag"),
    pytest.param(b'{"id":"1","model":"x","model":"m"}', id="twice-the-last-counts"),
    pytest.param(b'{"metadata":{"model":"x"},"model":"m"}', id="nested-ones-do-not"),
    pytest.param(b'{"m\\u006fdel":"\\u006d"}', id="escaped"),
    pytest.param(job("1", "m", messages=[{"content": FILLER}]), id="long-at-the-head"),
    pytest.param(json.dumps({"prompt": FILLER, "model": "m"}).encode(), id="long-at-the-tail"),
    pytest.param(json.dumps({"prompt": '","model":"x"' + FILLER, "model": "m"}).encode(), id="long-named-in-a-text"),
]


@pytest.mark.parametrize("body", NAMED)
async def test_a_model_is_known_by_its_name(redis: Redis, body: bytes) -> None:
    """The model that a worker would read is the one that the script sees: not another's, not a text's."""
    await redis.rpush(Q.normal, body)
    assert set((await make_store().claim(redis, Q, "t", 1, caps={"x:latest": 1})).passed) == {"m:latest"}
    assert len((await make_store().claim(redis, Q, "u", 1, caps={"m:latest": 1})).claims) == 1


async def test_a_long_body_that_hides_its_model_is_anybodys(redis: Redis) -> None:
    """A name in the middle of a long text isn't looked for: the worker that claims it puts it back for later."""
    hidden = json.dumps({"system": FILLER, "model": "x", "prompt": FILLER}).encode()
    await redis.rpush(Q.normal, hidden)
    assert len((await make_store().claim(redis, Q, "t", 1, caps={"m:latest": 1})).claims) == 1


@pytest.mark.parametrize("name", ["m", "m:7b", "host:5000/m", "host:5000/m:7b", "a/b/m"])
async def test_names_fold_as_the_contract_says(redis: Redis, name: str) -> None:
    """Lua and Python agree on what a model is called."""
    await redis.rpush(Q.normal, job("1", name))
    assert set((await make_store().claim(redis, Q, "t", 1, caps={})).passed) == {folded(name)}


async def test_embed_jobs_take_a_part_of_a_slot(redis: Redis) -> None:
    """An input is a unit, a job no more than a slot; jobs of other types, and long ones, take a whole one."""
    store = make_store(slot_units=4)
    long = embed("long", 1, prompt=FILLER)
    await redis.rpush(
        Q.normal, embed("1", 1), embed("9", 9), job("chat"), embed("2", 2), job("one", type="embed", input="x")
    )
    await redis.rpush(Q.normal, long, embed("last", 1))
    claimed = await store.claim(redis, Q, "t", 12)
    assert (names(claimed), claimed.full) == (["1", "9", "chat", "2", "one"], True)
    assert names(await store.claim(redis, Q, "u", 4)) == ["long"]


@pytest.mark.parametrize("more", [{}, {"tenant": "a"}], ids=["straight", "window"])
async def test_a_large_job_is_not_overtaken_for_good(redis: Redis, more: dict[str, str]) -> None:
    """Small jobs behind one that needs more than is free wait with it, or it would never find the room."""
    store = make_store(slot_units=4)
    await redis.rpush(Q.normal, embed("4", 4, **more), embed("1", 1, **more))
    await redis.rpush(Q.low, embed("low", 1, **more))
    claimed = await store.claim(redis, Q, "t", 3)
    assert (names(claimed), claimed.full) == ([], True)
    assert names(await store.claim(redis, Q, "u", 5)) == ["4", "1"]


async def test_nor_by_younger_ones_of_its_model(redis: Redis) -> None:
    """The same for a model's own places, over all three lists; other models go on."""
    store = make_store(slot_units=4)
    await redis.rpush(Q.normal, embed("m4", 4), embed("m1", 1), embed("n1", 1, "n"))
    await redis.rpush(Q.low, embed("low", 1), embed("n2", 1, "n"))
    claimed = await store.claim(redis, Q, "t", 9, caps={"m:latest": 3, "n:latest": 9})
    assert (names(claimed), claimed.more) == (["n1", "n2"], {"m:latest"})


async def test_the_window_ends(redis: Redis) -> None:
    """Behind 64 jobs of closed models nothing is found: they say what they wait for, and that is loaded in turn."""
    await redis.rpush(Q.normal, *[job(f"x{n}", "x") for n in range(64)], job("m1"))
    claimed = await make_store().claim(redis, Q, "t", 1, caps={"m:latest": 1})
    assert (names(claimed), set(claimed.passed), claimed.full) == ([], {"x:latest"}, False)
    await redis.lpop(Q.normal)
    assert names(await make_store().claim(redis, Q, "u", 1, caps={"m:latest": 1})) == ["m1"]


async def test_priorities_count_within_what_may_be_taken(redis: Redis) -> None:
    """Each list has its window; a higher one's closed models don't hide a lower one's open ones."""
    await redis.rpush(Q.high, job("h-x", "x"), job("h-m"))
    await redis.rpush(Q.normal, job("n-x", "x"), job("n-m"))
    await redis.rpush(Q.low, job("l-m"))
    assert names(await make_store().claim(redis, Q, "t", 2, caps={"m:latest": 9})) == ["h-m", "n-m"]
    assert [await waiting(redis, key) for key in (Q.high, Q.normal, Q.low)] == [["h-x"], ["n-x"], ["l-m"]]


async def test_oversized_bodies_in_a_window_are_buried(redis: Redis) -> None:
    """The size limit holds there, too, and a window that was nothing else isn't the end of the list."""
    store = make_store(job_max_bytes=500)
    await redis.rpush(Q.normal, job("x1", "x"), job("big", "m", prompt="x" * 600), job("m1"))
    claimed = await store.claim(redis, Q, "t", 9, caps={"m:latest": 9})
    assert (names(claimed), claimed.buried, await waiting(redis)) == (["m1"], 1, ["x1"])


async def test_a_reply_from_a_window_is_bounded(redis: Redis) -> None:
    """Bytes are counted there, too; what the reply has no room for stays in order."""
    store = make_store(reply_max_bytes=1_000)
    await redis.rpush(Q.normal, *[job(f"{n}", "m", tenant="a", prompt="x" * 600) for n in range(5)])
    claimed = await store.claim(redis, Q, "t", 5)
    assert (names(claimed), claimed.full, await waiting(redis)) == (["0", "1"], True, ["2", "3", "4"])


async def test_a_lost_reply_is_answered_again(redis: Redis) -> None:
    """Asked again with its token a call brings the jobs that it took out of the window, and no others."""
    store = make_store(tenants={"a": {"j": 2}})
    await redis.rpush(
        Q.normal, job("x1", "x"), *[job(f"{n}", "m", tenant="a") for n in range(4)], job("b1", tenant="b")
    )
    first = await store.claim(redis, Q, "t", 9, caps={"m:latest": 9})
    assert sorted(names(first)) == ["0", "1", "b1"]
    again = await store.claim(redis, Q, "t", 9, caps={"m:latest": 9})
    assert [(c.handle, c.element.body) for c in again.claims] == [(c.handle, c.element.body) for c in first.claims]
    assert await waiting(redis) == ["x1"]
    assert await redis.hlen(Q.claimed) == 3


async def test_what_was_done_is_done_when_nothing_else_came(redis: Redis) -> None:
    """A call that only held jobs back, asked again, gives no two of them one identity: jobs without an id have no
    other."""
    store = make_store(tenants={"a": {"j": 1}})
    bodies = [b'{"model":"m","tenant":"a","prompt":"same"}'] * 3
    await redis.rpush(Q.normal, *bodies[:1])
    await store.claim(redis, Q, "s", 1)
    for body in bodies[1:]:
        await redis.rpush(Q.normal, body)
        await store.claim(redis, Q, "t", 1)
    held = [decode(raw) for raw in await redis.zrange(Q.delayed, 0, -1)]
    assert [element.body for element in held] == bodies[1:]
    assert len({element.origin for element in held}) == 2
