"""What the leader does next: each rule by itself, and all together with a played server and workers."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmpool_worker.models.deciding import NOTHING, Facts, Rules, Step, longest, next_step, preload_without_room
from llmpool_worker.models.fit import Fits, Memory
from llmpool_worker.models.places import Places
from llmpool_worker.models.types import Plan
from tests.support import virtual_time
from tests.support.model_world import Job, World

A, B, C, P = "a:1b", "b:1b", "c:1b", "p:1b"
NOW = 1_000.0
RULES = Rules(max_wait_s=60, quantum_s=30, idle_s=300)
ALONE = Memory(max_loaded=1)
PAIR = Memory(total_bytes=10**12, max_loaded=2)
ROOMY = Memory(total_bytes=10**12)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Thousands of lines about models that come and go."""
    with structlog.testing.capture_logs():
        yield


def facts(**given: Any) -> Facts:
    """A server that holds A, which is open and at work, unless something else is given."""
    known = Facts(
        now=NOW,
        resident=frozenset({A}),
        opened={A: NOW - 10},
        target=None,
        demand={},
        at_work=frozenset({A}),
        in_flight={A: 1},
        settled=True,
        used={A: NOW},
        ours=frozenset({A}),
    )
    names = {name: frozenset(value) if isinstance(value, set) else value for name, value in given.items()}
    return replace(known, **names)


def fits(memory: Memory) -> Fits:
    """With every model's file 1 GB, where a total is given."""
    made = Fits(memory)
    if memory.total_bytes is not None:
        made.on_disk(dict.fromkeys([A, B, C, P], 10**9))
    return made


def waits(seconds: float, *models: str) -> dict[str, float]:
    return dict.fromkeys(models or (B,), NOW - seconds)


IDLE = {"at_work": set(), "in_flight": {}}

AIMS = [
    pytest.param(facts(), ALONE, NOTHING, id="nobody waits"),
    pytest.param(facts(opened={}, resident={A}), ALONE, Step("", open=frozenset({A})), id="a resident model is opened"),
    pytest.param(
        facts(opened={A: 0.0, B: 0.0}), ALONE, Step("", shut=frozenset({B})), id="a model that is gone is shut"
    ),
    pytest.param(facts(demand=waits(1)), ROOMY, Step("", aim=B), id="there is room: at once"),
    pytest.param(facts(demand=waits(1)), ALONE, NOTHING, id="the other has work"),
    pytest.param(facts(demand=waits(1), at_work=set()), ALONE, Step("", aim=B), id="the other has none left"),
    pytest.param(facts(demand=waits(60)), ALONE, Step("", aim=B), id="waited for max_wait"),
    pytest.param(facts(demand=waits(59)), ALONE, NOTHING, id="not quite max_wait"),
    pytest.param(facts(demand=waits(1), opened={A: NOW - 30}), ALONE, Step("", aim=B), id="the quantum is over"),
    pytest.param(facts(demand=waits(1), opened={A: NOW - 29}), ALONE, NOTHING, id="not quite the quantum"),
    pytest.param(
        facts(demand=waits(90), opened={A: NOW - 2}, used={A: NOW - 3}, in_flight={}),
        ALONE,
        NOTHING,
        id="past max_wait, and the other has had no job yet",
    ),
    pytest.param(
        facts(demand=waits(90), opened={A: NOW - 5}, used={A: NOW - 6}, in_flight={}),
        ALONE,
        Step("", aim=B),
        id="past max_wait, and the other's jobs find no place",
    ),
    pytest.param(
        facts(demand=waits(70, C) | waits(80, B), trouble={B}), ALONE, Step("", aim=C), id="longest wait, no trouble"
    ),
    pytest.param(facts(demand=waits(70, C) | waits(80, B)), ALONE, Step("", aim=B), id="longest wait"),
    pytest.param(facts(demand=waits(90), trouble={B}), ALONE, NOTHING, id="what can't be loaded isn't tried"),
    pytest.param(
        facts(demand=waits(1), resident={A, C}, opened={A: NOW, C: NOW}), PAIR, Step("", aim=B), id="one of two is idle"
    ),
    pytest.param(
        facts(demand=waits(1), resident={A, C}, opened={A: NOW, C: NOW}, at_work={A, C}), PAIR, NOTHING, id="both work"
    ),
    pytest.param(facts(demand=waits(1), at_work=set()), Memory(), Step("", aim=B), id="unknown fit: while none works"),
    pytest.param(facts(demand=waits(1)), Memory(), NOTHING, id="unknown fit: not into others' work"),
]

BARRIER = [
    pytest.param({}, Step("", shut=frozenset({A})), id="shut what must go"),
    pytest.param({"opened": {}}, Step("", wait=True), id="wait for what runs"),
    pytest.param({"opened": {}, "in_flight": {}, "settled": False}, Step("", wait=True), id="wait for all to hear"),
    pytest.param({"opened": {}, "in_flight": {}}, Step("", unload=A), id="unload"),
    pytest.param({"opened": {}, "in_flight": {}, "resident": set(), "ours": set()}, Step("", load=B), id="load"),
    pytest.param(
        {"opened": {}, "resident": {B}}, Step("", open=frozenset({B}), drop_aim=True), id="open what was loaded"
    ),
    pytest.param({"opened": {}, "in_flight": {}, "ours": set()}, Step("", load=B), id="others' models aren't unloaded"),
    pytest.param({"trouble": {B}}, Step("", drop_aim=True), id="given up: it can't be loaded"),
    pytest.param({"demand": {}}, Step("", drop_aim=True), id="given up: nobody asks any more"),
    pytest.param({"demand": {}, "preload": (B,)}, Step("", shut=frozenset({A})), id="kept: it is on the preload list"),
]

PRELOADS = [
    pytest.param(facts(preload=(P,)), ROOMY, Step("", aim=P), id="beside others at work"),
    pytest.param(facts(preload=(P,)), Memory(), Step("", aim=P), id="unknown fit: tried"),
    pytest.param(facts(preload=(P,)), ALONE, NOTHING, id="not into others' work"),
    pytest.param(facts(preload=(P,), **IDLE), ALONE, NOTHING, id="what jobs asked for just now stays a quantum"),
    pytest.param(facts(preload=(P,), at_work=set()), ALONE, NOTHING, id="what runs isn't at work elsewhere, yet stays"),
    pytest.param(
        facts(preload=(P,), **IDLE, used={A: NOW - 31}), ALONE, Step("", aim=P), id="in place of what nobody asks for"
    ),
    pytest.param(
        facts(preload=(A, P), **IDLE, used={A: 0.0}), ALONE, NOTHING, id="not in place of another of the list"
    ),
    pytest.param(facts(preload=(P, C), trouble={P}), ROOMY, Step("", aim=C), id="the next one where one can't be had"),
]

LONG_AGO = {A: NOW - 300}
IDLES = [
    pytest.param(facts(**IDLE, used=LONG_AGO), Step("", shut=frozenset({A})), id="shut first"),
    pytest.param(facts(**IDLE, used=LONG_AGO, opened={}), Step("", unload=A), id="then unload"),
    pytest.param(facts(**IDLE, used=LONG_AGO, opened={}, settled=False), NOTHING, id="not before all have heard"),
    pytest.param(facts(**IDLE, used={A: NOW - 299}), NOTHING, id="not quite idle enough"),
    pytest.param(facts(used=LONG_AGO, at_work=set()), NOTHING, id="at work"),
    pytest.param(facts(used=LONG_AGO, in_flight={}), NOTHING, id="jobs of it wait behind others"),
    pytest.param(facts(**IDLE, used=LONG_AGO, ours=set()), NOTHING, id="loaded by somebody else"),
    pytest.param(facts(**IDLE, used=LONG_AGO, preload=(A,)), NOTHING, id="on the preload list"),
    pytest.param(
        facts(**IDLE, used=LONG_AGO, opened={}, demand=waits(0, A)), Step("", open=frozenset({A})), id="asked for again"
    ),
]


def same(step: Step, wanted: Step) -> bool:
    """But for the words."""
    return replace(step, reason="") == replace(wanted, reason="")


@pytest.mark.parametrize(("known", "memory", "wanted"), AIMS)
def test_who_goes_next(known: Facts, memory: Memory, wanted: Step) -> None:
    """A model has the server when there is room, nothing else works, or its time has come; longest wait first."""
    assert same(next_step(known, RULES, fits(memory)), wanted)


@pytest.mark.parametrize(("given", "wanted"), BARRIER)
def test_a_change_is_a_barrier(given: dict[str, Any], wanted: Step) -> None:
    """Shut, wait for jobs, wait for workers, unload, load, open: each once the one before is done."""
    known = facts(**{"target": B, "demand": waits(1), **given})
    assert same(next_step(known, RULES, fits(ALONE)), wanted)


@pytest.mark.parametrize(("known", "memory", "wanted"), PRELOADS)
def test_preloading(known: Facts, memory: Memory, wanted: Step) -> None:
    """Models of the list are loaded where that costs nobody's work."""
    assert same(next_step(known, RULES, fits(memory)), wanted)


@pytest.mark.parametrize(("known", "wanted"), IDLES)
def test_idle_models_go(known: Facts, wanted: Step) -> None:
    """Only what these workers loaded, what nobody asks for and no list names, and behind a barrier as well."""
    assert same(next_step(known, RULES, fits(ALONE)), wanted)


def test_never_idle() -> None:
    """Without a limit models stay for ever."""
    assert next_step(facts(**IDLE, used={A: 0.0}), replace(RULES, idle_s=None), fits(ALONE)) == NOTHING


def test_an_unknown_fit_is_tried_behind_a_barrier() -> None:
    """Nothing is unloaded for it, nothing runs meanwhile, and what it came to is known from then on."""
    learning, known = Fits(Memory()), facts(target=B, demand=waits(90))
    assert same(next_step(known, RULES, learning), Step("", shut=frozenset({A})))
    assert same(next_step(replace(known, opened={}), RULES, learning), Step("", wait=True))
    assert same(next_step(replace(known, opened={}, in_flight={}), RULES, learning), Step("", load=B))
    learning.loaded(B, before=[A], after=[B])
    assert same(next_step(replace(known, opened={}, in_flight={}), RULES, learning), Step("", unload=A))


def test_what_goes_first() -> None:
    """Not what works; then not what is preloaded; then what is ours; then what was unused for longest."""
    three = Memory(total_bytes=10**12, max_loaded=3)
    known = facts(
        resident={A, C, P},
        opened={},
        demand=waits(90),
        in_flight={},
        target=B,
        ours=frozenset({A, C, P}),
        used={A: NOW, C: NOW - 5, P: NOW - 9},
        preload=(P,),
    )
    assert next_step(known, RULES, fits(three)).unload == C
    assert next_step(replace(known, at_work=frozenset({A, C})), RULES, fits(three)).unload == P


def test_a_list_without_room() -> None:
    """Models that don't fit beside those of the list that are there are told of; those that wait for others aren't."""
    assert preload_without_room(facts(preload=(A, B)), fits(ALONE)) == {B}
    assert preload_without_room(facts(preload=(B, C)), fits(ALONE)) == frozenset()
    assert preload_without_room(facts(preload=(A, B)), fits(ROOMY)) == frozenset()


def test_the_longest_wait_counts() -> None:
    """Of several workers' times of one model the earliest."""
    assert longest([{A: 5.0, B: 2.0}, {A: 3.0}, {}]) == {A: 3.0, B: 2.0}


# -- all together, in virtual time


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """A server for ``room`` of ``count`` models, workers, and jobs that come all at once or one by one."""
    count = draw(st.integers(2, 4))
    return {
        "count": count,
        "room": draw(st.integers(1, count)),
        "told": draw(st.booleans()),
        "load_s": draw(st.sampled_from([0.5, 5.0, 20.0])),
        "job_s": draw(st.sampled_from([0.2, 2.0, 10.0])),
        "gap_s": draw(st.sampled_from([0.0, 0.5, 5.0])),
        "workers": draw(st.integers(1, 3)),
        "slots": draw(st.integers(1, 3)),
        "preload": draw(st.booleans()),
        "rules": draw(st.sampled_from([RULES, Rules(10, 5, 20), Rules(0, 0, 1), Rules(5, 60, None)])),
        "lag_s": draw(st.sampled_from([0.02, 0.5])),
        "seed": draw(st.integers(0, 10_000)),
    }


async def play(given: dict[str, Any], jobs: int) -> World:
    """Until all jobs are done, or an hour has passed."""
    count, room, chance = given["count"], given["room"], random.Random(given["seed"])
    memory = Memory(max_loaded=room if given["told"] else None)
    world = World(given["rules"], memory, room=room, load_s=given["load_s"], lag_s=given["lag_s"], seed=given["seed"])
    for number in range(given["workers"]):
        world.start(f"w{number}", given["slots"], ("m0:1b",) if given["preload"] else ())
    for _ in range(jobs):
        world.push(Job(f"m{chance.randrange(count)}:1b", chance.uniform(0.1, 1.0) * given["job_s"]))
        await asyncio.sleep(chance.uniform(0.0, 2 * given["gap_s"]))
    await world.until_done(jobs, 3_600)
    await world.stop()
    return world


@given(worlds())
@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
def test_any_load_is_served(given: dict[str, Any]) -> None:
    """No model is pushed out or unloaded under its job, no job comes to a model that isn't there, all jobs end, and a
    model's jobs wait no longer than max_wait and what is before them then."""
    world = virtual_time.run(play(given, jobs=40))
    assert world.server.wrong == []
    # Behind each other model: its load, time for its first job, and a job that still runs at the barrier.
    each = given["load_s"] + 2 * given["job_s"] + 8 + 20 * given["lag_s"]
    bound = max(given["rules"].max_wait_s, 5.0) + given["count"] * each
    assert all(waited <= bound for waited in world.queue.longest_wait.values()), (world.queue.longest_wait, bound)


@pytest.mark.parametrize("workers", [1, 3])
def test_two_models_without_room_for_both(workers: int) -> None:
    """A deep mixed queue is served at 80 % of what it would be without any load, and in few loads."""
    given = {"count": 2, "room": 1, "told": True, "load_s": 5.0 / workers, "job_s": 1.0, "gap_s": 0.0, "lag_s": 0.02}
    given |= {"seed": 1, "workers": workers, "slots": 1, "preload": False, "rules": RULES}

    async def measure() -> tuple[float, World]:
        world = await play(given, jobs=300)
        return asyncio.get_running_loop().time(), world

    took, world = virtual_time.run(measure())
    assert world.work_s / workers / took >= 0.8, (took, world.server.loads)
    assert world.server.wrong == []


def test_the_next_leader_goes_on() -> None:
    """A leader that dies in the middle of a change leaves a plan that another goes on from."""

    async def main() -> World:
        world = World(RULES, Memory(max_loaded=1), room=1, load_s=10.0, lag_s=0.02, seed=3)
        for name in ("w0", "w1"):
            world.start(name, 2)
        for number in range(20):
            world.push(Job((A, B)[number % 2], 1.0))
        while not world.server.loads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        leader = world.meeting.leader
        assert leader is not None
        _, task = world.workers.pop(leader)
        task.cancel()
        await asyncio.wait([task])
        world.meeting.gone(leader)
        await world.until_done(20, 600)
        await world.stop()
        return world

    world = virtual_time.run(main())
    assert world.server.wrong == []
    assert len(world.server.loads) <= 4


def test_a_past_wait_isnt_told_again() -> None:
    """A worker that had no slot to look again doesn't ask for a model that was open since it passed its jobs over."""
    places = Places(managed=True, batch=1, limit_of=lambda model: None, refused=lambda model: False)
    places.looked("q", {B: 1_000}, frozenset(), full=False)
    assert places.report(()).demand == {B: 1.0}
    places.heard(Plan(1, opened=frozenset({B})), {})
    assert places.report(()).demand == {}
    assert places.report(()).at_work == {B}, "until it has looked"
    places.heard(Plan(2, opened=frozenset({A})), {})
    assert places.report(()).demand == {}
