"""Workers that share one model server, on a real Redis: limits are kept, nobody starves, and one of them leads."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from llmpool_contract import BackendKeys
from llmpool_worker.models.places import Places
from llmpool_worker.models.store import BackendStore
from llmpool_worker.models.types import MemberReport, Plan, Synced, Wish

KEYS = BackendKeys("s")
M, OTHER = "m:1b", "other:1b"
PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Member:
    """One worker's places at a server where every model has the same limit, and the calls that it makes."""

    def __init__(self, name: str, limit: int, slots: int = 4, turn_ms: int = 0) -> None:
        self.name, self.slots = name, slots
        self.store = BackendStore(KEYS, name, turn_ms)
        self.places = Places(managed=True, batch=1, limit_of=lambda model: limit, refused=lambda model: False)
        self.running = 0
        self.claim: int | None = None
        """Jobs that a claim on its way may bring."""

    async def sync(self, client: redis.asyncio.Redis) -> Synced:
        """Report and hear."""
        wishes = self.places.wishes(self.slots - self.running)
        synced = await self.store.sync(client, self.places.report(()), wishes)
        self.places.heard(synced.plan, synced.held)
        return synced

    def claim_begins(self) -> None:
        """Send a claim for all that there is room for."""
        caps = self.places.caps(self.slots - self.running)
        assert caps is not None
        self.claim = caps.get(M, 0)
        self.places.claim_begins()

    def claim_brings(self, jobs: int, *, more: bool) -> None:
        """Its answer."""
        assert self.claim is not None
        for _ in range(min(jobs, self.claim)):
            self.running += 1
            self.places.began(M, 1)
        self.claim = None
        self.places.looked("q", {}, frozenset({M}) if more else frozenset(), full=False)
        self.places.claim_ends()

    def job_ends(self) -> None:
        """One of those that run."""
        self.running -= 1
        self.places.ended(M, 1)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A connection to an empty Redis."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


async def open_models(client: redis.asyncio.Redis, *models: str) -> None:
    """A plan that opens these."""
    opened = Plan(opened=frozenset(models), resident=frozenset(models))
    await client.hset(KEYS.plan, mapping={**opened.to_fields(), "epoch": "1"})


async def lapse(client: redis.asyncio.Redis, *workers: str) -> None:
    """Their memberships ended long ago, and with them the lead of one of them."""
    await client.zadd(KEYS.alive, dict.fromkeys(workers, 1.0))
    leader = await client.hget(KEYS.plan, "leader")
    if leader is not None and leader.decode() in workers:
        await client.hset(KEYS.plan, "leader_until", "1")


async def kept(client: redis.asyncio.Redis, model: str = M) -> dict[str, int]:
    """Places that Redis counts as taken, by worker."""
    found = await client.hgetall(KEYS.permits)
    names = {name.decode().partition("\n")[::2]: int(value.split()[0]) for name, value in found.items()}
    return {worker: places for (of, worker), places in names.items() if of == model}


class SharingMachine(RuleBasedStateMachine):
    """Workers claim under what they last heard, are slow to report, die, and come back with nothing."""

    url: str
    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(self.url)
        self.members: dict[str, Member] = {}

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    @initialize()
    def begin(self) -> None:
        self.do(self.redis.flushall())
        self.do(open_models(self.redis, M))
        for name in ("a", "b", "c"):
            self.members[name] = Member(name, self.LIMIT)
            self.members[name].places.looked("q", {}, frozenset({M}), full=True)

    def teardown(self) -> None:
        self.do(self.redis.aclose())
        self.loop.close()

    who = st.sampled_from(["a", "b", "c"])

    @rule(name=who)
    def sync(self, name: str) -> None:
        """One worker's turn."""
        self.do(self.members[name].sync(self.redis))

    @rule(name=who)
    def claim_begins(self, name: str) -> None:
        """A claim is sent under what was heard last."""
        if self.members[name].claim is None:
            self.members[name].claim_begins()

    @rule(name=who, jobs=st.integers(0, 4), more=st.booleans())
    def claim_brings(self, name: str, jobs: int, more: bool) -> None:
        """Its answer comes, perhaps much later."""
        if self.members[name].claim is not None:
            self.members[name].claim_brings(jobs, more=more)

    @rule(name=who)
    def job_ends(self, name: str) -> None:
        """A job has run."""
        if self.members[name].running:
            self.members[name].job_ends()

    @rule()
    def all_sync(self) -> None:
        """A turn of each."""
        for member in self.members.values():
            self.do(member.sync(self.redis))

    @rule(name=who, rarely=st.integers(0, 4))
    def dies(self, name: str, rarely: int) -> None:
        """Killed; its successor of the same name knows nothing."""
        if rarely:
            return
        self.do(lapse(self.redis, name))
        self.members[name] = Member(name, self.LIMIT)

    @rule(name=who, rarely=st.integers(0, 4))
    def leaves(self, name: str, rarely: int) -> None:
        """Ended in order: all that it held is free at once."""
        if rarely:
            return
        self.do(self.members[name].store.leave(self.redis))
        assert name not in self.do(kept(self.redis))
        self.members[name] = Member(name, self.LIMIT)

    @invariant()
    def never_above_the_limit(self) -> None:
        """Neither what runs or may come with a claim, nor what Redis has given away."""
        under_way = sum(member.running + (member.claim or 0) for member in self.members.values())
        assert under_way <= self.LIMIT
        assert sum(self.do(kept(self.redis)).values()) <= self.LIMIT


def test_limits_hold_in_any_order(redis_url: str) -> None:
    """However turns, claims, ends and deaths follow one another, all workers together stay within a shared limit."""
    SharingMachine.url = redis_url
    run_state_machine_as_test(SharingMachine, settings=settings(PATIENT, max_examples=40, stateful_step_count=40))


@given(limit=st.integers(1, 4), count=st.integers(2, 4), seed=st.integers(0, 10_000))
@settings(PATIENT, max_examples=25)
def test_nobody_starves(redis_server: Any, limit: int, count: int, seed: int) -> None:
    """Each worker with work runs a job every few turns, also with fewer places than workers, while the others take
    their next job as soon as one has ended; and no place stays empty for long."""

    async def play() -> None:
        chance = random.Random(seed)
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            await client.flushall()
            await open_models(client, M)
            members = [Member(f"w{n}", limit) for n in range(count)]
            for member in members:
                member.places.looked("q", {}, frozenset({M}), full=False)
            ran, busy = dict.fromkeys((m.name for m in members), 0), 0
            last, rounds = dict.fromkeys(ran, 0), 60
            for turn in range(rounds):
                for member in chance.sample(members, count):
                    for _ in range(member.running):
                        if chance.random() < 0.5:
                            member.job_ends()
                    await member.sync(client)
                    member.claim_begins()
                    before = member.running
                    member.claim_brings(4, more=True)
                    if member.running > before:
                        ran[member.name] += 1
                        assert turn - last[member.name] <= 12 * count, (member.name, turn, last)
                        last[member.name] = turn
                busy += sum(m.running for m in members)
                assert sum(m.running for m in members) <= limit
            assert all(rounds - turn <= 12 * count for turn in last.values()), last
            assert busy >= 0.5 * rounds * limit

    asyncio.run(play())


async def test_a_claim_on_its_way_keeps_its_places(client: redis.asyncio.Redis) -> None:
    """Nobody is given a place that a claim may fill which was sent before its worker heard that others wait."""
    await open_models(client, M)
    a, b = Member("a", 3), Member("b", 3)
    for member in (a, b):
        member.places.looked("q", {}, frozenset({M}), full=True)
        await member.sync(client)
    a.claim_begins()
    for member in (a, b, a, b):
        await member.sync(client)
    assert (b.places.caps(4) or {})[M] == 0
    a.claim_brings(1, more=True)
    for member in (a, b):
        await member.sync(client)
    assert (b.places.caps(4) or {})[M] == 1


async def test_equal_shares(client: redis.asyncio.Redis) -> None:
    """Where one worker holds all places and others come with work, each ends with an equal share."""
    await open_models(client, M)
    members = [Member(name, 6, slots=6) for name in ("a", "b", "c")]
    members[0].places.looked("q", {}, frozenset({M}), full=False)
    await members[0].sync(client)
    for member in members:
        member.places.looked("q", {}, frozenset({M}), full=False)
    for _ in range(4):
        for member in members:
            await member.sync(client)
    assert await kept(client) == {"a": 2, "b": 2, "c": 2}


async def test_a_place_stays_for_a_turn(client: redis.asyncio.Redis) -> None:
    """With one place for two workers it isn't handed over before its holder has had it for a while."""
    await open_models(client, M)
    a, b = Member("a", 1, turn_ms=60_000), Member("b", 1, turn_ms=60_000)
    for member in (a, b):
        member.places.looked("q", {}, frozenset({M}), full=False)
    for _ in range(3):
        for member in (a, b):
            await member.sync(client)
    assert (a.places.caps(4) or {})[M] == 1
    assert (b.places.caps(4) or {})[M] == 0
    a.store = BackendStore(KEYS, "a", 0)
    await a.sync(client)
    assert (a.places.caps(4) or {})[M] == 0, "its turn is over, and the other waits"
    await a.sync(client)
    await b.sync(client)
    assert (b.places.caps(4) or {})[M] == 1


async def test_an_idle_worker_gives_back(client: redis.asyncio.Redis) -> None:
    """Places kept for nothing go to who has work, all but one that a claim on its way may fill."""
    await open_models(client, M)
    idle, busy = Member("idle", 4), Member("busy", 4)
    await idle.sync(client)
    await idle.sync(client)
    assert await kept(client) == {"idle": 4}
    busy.places.looked("q", {}, frozenset({M}), full=False)
    await busy.sync(client)
    await busy.sync(client)
    idle.claim_begins()
    await idle.sync(client)
    assert idle.places.gives_back
    await idle.sync(client)
    assert (await kept(client))["idle"] == 4, "the claim was sent while they were its own"
    idle.claim_brings(1, more=False)
    await idle.sync(client)
    await busy.sync(client)
    assert await kept(client) == {"idle": 1, "busy": 3}


async def test_limits_are_of_one_model(client: redis.asyncio.Redis) -> None:
    """What is held of one model takes nothing from another."""
    await open_models(client, M, OTHER)
    a, b = BackendStore(KEYS, "a"), BackendStore(KEYS, "b")
    first = await a.sync(client, MemberReport(), [Wish(M, 0, 2, 2, has_work=True), Wish(OTHER, 0, 1, 2, has_work=True)])
    second = await b.sync(
        client, MemberReport(), [Wish(M, 0, 2, 2, has_work=True), Wish(OTHER, 0, 2, 2, has_work=True)]
    )
    assert first.held == {M: 2, OTHER: 1}
    assert second.held == {M: 0, OTHER: 1}


async def news_of(client: redis.asyncio.Redis, heard: Any) -> list[bytes]:
    """Who has called the others since this was asked last."""
    await client.publish(KEYS.news, "end")
    names: list[bytes] = []
    while True:
        message = await heard.get_message(ignore_subscribe_messages=True, timeout=5)
        if message and message["data"] == b"end":
            return names
        if message:
            names.append(message["data"])


async def test_a_waiter_is_told_of_by_news(client: redis.asyncio.Redis) -> None:
    """Who comes to wait, and who gives a place back, calls the others; a turn without news calls nobody."""
    await open_models(client, M)
    a, b = BackendStore(KEYS, "a", 0), BackendStore(KEYS, "b", 0)
    async with client.pubsub() as heard:
        await heard.subscribe(KEYS.news)

        await a.sync(client, MemberReport(), [Wish(M, 0, 1, 1, has_work=True)])
        await b.sync(client, MemberReport(), [])
        assert await news_of(client, heard) == [b"a", b"b"], "two workers came"
        await a.sync(client, MemberReport(), [Wish(M, 1, 1, 1, has_work=True)])
        assert await news_of(client, heard) == []
        await b.sync(client, MemberReport(), [Wish(M, 0, 1, 1, has_work=True)])
        assert await news_of(client, heard) == [b"b"], "it waits"
        await b.sync(client, MemberReport(), [Wish(M, 0, 1, 1, has_work=True)])
        assert await news_of(client, heard) == []
        await a.sync(client, MemberReport(), [Wish(M, 0, 1, 1, has_work=True)])
        assert (await news_of(client, heard))[0] == b"a", "it gave its place back"


async def test_a_barrier_is_told_of_progress(client: redis.asyncio.Redis) -> None:
    """While a change of models waits for workers, what they report calls the leader; during a load it doesn't."""
    a, b = BackendStore(KEYS, "a"), BackendStore(KEYS, "b")
    plan = (await a.sync(client, MemberReport(), [])).plan
    await b.sync(client, MemberReport(), [])
    await a.write(client, replace(plan, target=M))
    async with client.pubsub() as heard:
        await heard.subscribe(KEYS.news)
        await b.sync(client, MemberReport(epoch=0, in_flight={OTHER: 1}), [])
        await b.sync(client, MemberReport(epoch=0, in_flight={OTHER: 1}), [])
        await b.sync(client, MemberReport(epoch=1), [])
        assert await news_of(client, heard) == [b"b", b"b"], "a repeat is no news"
        await a.write(client, replace(plan, epoch=1, target=M, doing=f"loading {M}"))
        await b.sync(client, MemberReport(epoch=2), [])
        assert await news_of(client, heard) == [b"a"]


async def test_one_leads(client: redis.asyncio.Redis) -> None:
    """The first one leads while it is there; then the next that reports. Only the leader hears all reports."""
    a, b = BackendStore(KEYS, "a"), BackendStore(KEYS, "b")
    first = await a.sync(client, MemberReport(epoch=3), [])
    second = await b.sync(client, MemberReport(in_flight={M: 2}), [])
    again = await a.sync(client, MemberReport(), [])
    assert (first.leads, second.leads, again.leads) == (True, False, True)
    assert second.members == {}
    assert again.members == {"a": MemberReport(), "b": MemberReport(in_flight={M: 2})}
    await lapse(client, "a")
    taken_over = await b.sync(client, MemberReport(), [])
    assert taken_over.leads
    assert set(taken_over.members) == {"b"}
    assert not (await a.sync(client, MemberReport(), [])).leads


@given(moves=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["sync", "lapse", "leave"])), max_size=40))
@settings(PATIENT, max_examples=25)
def test_never_two_leaders(redis_server: Any, moves: list[tuple[str, str]]) -> None:
    """Among those who live, one at most believes that it leads and is taken at its word."""

    async def play() -> None:
        async with redis.asyncio.Redis.from_url(redis_server.url) as client:
            await client.flushall()
            stores = {name: BackendStore(KEYS, name) for name in "abc"}
            plans: dict[str, Plan] = {}
            for name, move in moves:
                if move == "sync":
                    synced = await stores[name].sync(client, MemberReport(), [])
                    plans[name] = synced.plan
                elif move == "lapse":
                    await lapse(client, name)
                else:
                    await stores[name].leave(client)
            written = [name for name, plan in plans.items() if await stores[name].write(client, plan)]
            assert len(written) <= 1

    asyncio.run(play())


async def test_an_old_plan_is_refused(client: redis.asyncio.Redis) -> None:
    """A plan counts only where it was decided on the one before it, by who leads."""
    a, b = BackendStore(KEYS, "a"), BackendStore(KEYS, "b")
    plan = (await a.sync(client, MemberReport(), [])).plan
    await b.sync(client, MemberReport(), [])
    assert await b.write(client, plan) == 0, "it doesn't lead"
    wanted = Plan(epoch=plan.epoch, opened=frozenset({M}), resident=frozenset({M}), target=OTHER, doing="loading")
    assert await a.write(client, wanted) == 1
    assert await a.write(client, wanted) == 0, "a repeat, decided on the old one"
    heard = (await b.sync(client, MemberReport(), [])).plan
    assert heard == Plan(1, opened=wanted.opened, resident=wanted.resident, target=OTHER, doing="loading")


async def test_leaving_frees_all(client: redis.asyncio.Redis) -> None:
    """A worker that leaves holds nothing and doesn't lead any more, and the plan stays for the next; the last one takes
    it along."""
    await open_models(client, M)
    a, b = BackendStore(KEYS, "a"), BackendStore(KEYS, "b")
    await a.sync(client, MemberReport(), [Wish(M, 2, 2, 2, has_work=True)])
    await b.sync(client, MemberReport(), [])
    await a.leave(client)
    assert await kept(client) == {}
    synced = await b.sync(client, MemberReport(), [Wish(M, 0, 2, 2, has_work=True)])
    assert synced.leads
    assert synced.held == {M: 2}
    assert synced.plan.opened == {M}
    assert set(synced.members) == {"b"}
    await b.leave(client)
    assert await client.keys("{backend:*") == []


async def test_the_dead_free_their_places(client: redis.asyncio.Redis) -> None:
    """What a killed worker held is the others' once its membership has ended, not before."""
    await open_models(client, M)
    a, b = BackendStore(KEYS, "a"), BackendStore(KEYS, "b")
    await a.sync(client, MemberReport(), [Wish(M, 2, 2, 2, has_work=True)])
    wish = [Wish(M, 0, 2, 2, has_work=True)]
    assert (await b.sync(client, MemberReport(), wish)).held == {M: 0}
    await lapse(client, "a")
    assert (await b.sync(client, MemberReport(), wish)).held == {M: 2}


async def test_keys_outlive_a_quiet_day(client: redis.asyncio.Redis) -> None:
    """Every turn puts off the end of all keys, so that a plan that nobody changes isn't forgotten under its workers."""
    await open_models(client, M)
    store = BackendStore(KEYS, "a")
    await store.sync(client, MemberReport(), [Wish(M, 0, 1, 1, has_work=True)])
    names = [KEYS.members, KEYS.alive, KEYS.plan, KEYS.permits]
    for name in names:
        await client.pexpire(name, 1_000)
    await store.sync(client, MemberReport(), [Wish(M, 0, 1, 1, has_work=True)])
    assert all([await client.pttl(name) > 3_600_000 for name in names])
