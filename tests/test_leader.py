"""The election, in virtual time: several processes, one Lease, an API server that loses what it likes."""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpool_operator.election import Candidate, Terms, first_transition
from llmpool_operator.kube import APIError, Object
from llmpool_operator.leader import Leader, LeadershipLost, Unelected
from tests.support.virtual_time import run

WALL = 1_800_000_000.0
PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/op"
TERMS = Terms(15)


class Leases:
    """One Lease behind an API server. `delay` gives the seconds before and after the work, `fault` what goes wrong."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.version = 0
        self.calls: list[str] = []
        self.fault: Callable[[str], str] = lambda _: ""
        self.delay: Callable[[], float] = lambda: 0.0

    async def get(self, path: str) -> Object:
        assert path == PATH
        return await self._call("get", self._read)

    async def create(self, path: str, body: Object) -> Object:
        assert path == PATH.rpartition("/")[0]
        return await self._call("create", lambda: self._create(body))

    async def merge(self, path: str, body: Object) -> Object:
        assert path == PATH
        return await self._call("merge", lambda: self._merge(body))

    async def _call(self, verb: str, work: Callable[[], Object]) -> Object:
        self.calls.append(verb)
        fault = self.fault(verb)
        await asyncio.sleep(self.delay())
        if fault == "silence":
            await asyncio.sleep(3600)
        if fault.isdigit():
            raise APIError(int(fault), "Scripted", verb)
        answer = work()
        await asyncio.sleep(self.delay())
        if fault == "lost":
            raise APIError(0, "Unreachable", verb)
        return answer

    def _read(self) -> Object:
        if self.lease is None:
            raise APIError(404, "NotFound", "no lease")
        return {**self.lease, "spec": {**self.lease["spec"]}}

    def _create(self, body: Object) -> Object:
        if self.lease is not None:
            raise APIError(409, "AlreadyExists", "")
        return self._store(f"uid{self.version}", body["spec"])

    def _merge(self, body: Object) -> Object:
        held = self._read()
        if any(held["metadata"][name] != value for name, value in body["metadata"].items()):
            raise APIError(409, "Conflict", "")
        return self._store(held["metadata"]["uid"], {**held["spec"], **body["spec"]})

    def _store(self, uid: str, spec: Object) -> Object:
        self.version += 1
        self.lease = {"metadata": {"uid": uid, "resourceVersion": str(self.version)}, "spec": dict(spec)}
        return self._read()


def leader(leases: Leases, name: str, *, offset: float = 0.0, wall: float = WALL) -> Leader:
    """A candidate whose clocks are off by so much."""
    return Leader(
        leases,
        namespace="ns",
        name="op",
        terms=TERMS,
        identity=name,
        failed=lambda _: None,
        clock=lambda: asyncio.get_running_loop().time() + offset,
        wall=lambda: wall + asyncio.get_running_loop().time(),
    )


def at() -> float:
    return asyncio.get_running_loop().time()


async def ended(task: asyncio.Task[None]) -> str:
    with pytest.raises(LeadershipLost) as caught:
        await task
    return str(caught.value)


async def abandon(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_terms_leave_no_overlap() -> None:
    """A leader stops before anybody may take over, and a slow call and another fit in before that."""
    assert TERMS.deadline < TERMS.lease
    assert TERMS.call + TERMS.retry / 2 + TERMS.renew < TERMS.deadline
    assert TERMS.call > 5.0
    assert TERMS.lease + TERMS.retry < 20


def test_the_first_leads_at_once_and_the_second_after_a_death() -> None:
    """kill -9 costs the lease and one look, 20 s at most, wherever the second one is in its turn."""

    async def main(look: float) -> None:
        leases = Leases()
        first, second = leader(leases, "a"), leader(leases, "b", offset=-777.0, wall=WALL - 900)
        one = asyncio.create_task(first.run())
        await first.leads()
        assert at() < 0.1
        await asyncio.sleep(look)
        two = asyncio.create_task(second.run())
        await asyncio.sleep(40)
        assert not second.leading
        killed = at()
        await abandon(one)
        await second.leads()
        assert 8 < at() - killed <= 17.5
        assert second.transition() == first.transition() + 1
        await abandon(two)

    for look in (0.0, 0.7, 1.3, 1.9, 3.1):
        run(main(look))


def test_a_lease_that_is_given_back_is_taken_at_the_next_look() -> None:
    """A clean stop costs the next one 3 s at most, and the transition rises."""

    async def main() -> None:
        leases = Leases()
        first, second = leader(leases, "a"), leader(leases, "b")
        one, two = asyncio.create_task(first.run()), asyncio.create_task(second.run())
        await asyncio.sleep(30)
        assert [first.leading, second.leading] == [True, False]
        await abandon(one)
        await first.release()
        assert not first.leading
        released = at()
        await second.leads()
        assert at() - released <= 3
        assert second.transition() > first.transition()
        await abandon(two)

    run(main())


@pytest.mark.parametrize("seconds", [pytest.param(5.0, id="5 s"), pytest.param(0.3, id="0.3 s")])
def test_a_slow_api_server_ends_no_leadership(seconds: float) -> None:
    """Answers that take 5 s keep the lease renewed."""

    async def main() -> None:
        leases = Leases()
        leases.delay = lambda: seconds / 2
        only = leader(leases, "a")
        task = asyncio.create_task(only.run())
        await only.leads()
        for _ in range(300):
            await asyncio.sleep(1)
            assert only.leading
            assert not task.done()
        await abandon(task)

    run(main())


@pytest.mark.parametrize("fault", ["silence", "503", "403", "429", "0"])
def test_who_cannot_renew_stops_before_anybody_else_begins(fault: str) -> None:
    """Writing ends at the deadline by the leader's own clock, and the process with it; another begins afterwards."""

    async def main() -> None:
        leases = Leases()
        first, second = leader(leases, "a"), leader(leases, "b")
        one = asyncio.create_task(first.run())
        await first.leads()
        await asyncio.sleep(33)
        leases.fault = lambda _: fault
        cut = at()
        while first.leading:  # noqa: ASYNC110 - the clock decides it, and nobody is told
            await asyncio.sleep(0.05)
        assert 8 < at() - cut <= TERMS.deadline
        assert "not renewed for 13 s" in await ended(one)
        assert at() - cut < 20
        leases.fault = lambda _: ""
        two = asyncio.create_task(second.run())
        await second.leads()
        await abandon(two)

    run(main())


def test_one_that_stood_still_writes_nothing_more() -> None:
    """After SIGSTOP for longer than the lease the very first question is answered no, before any timer has run."""
    skipped = 0.0

    async def main() -> None:
        nonlocal skipped
        leases = Leases()
        first = leader(leases, "a")
        first._clock = lambda: at() + skipped
        task = asyncio.create_task(first.run())
        await first.leads()
        skipped = 20.0
        assert not first.leading
        assert "not renewed" in await ended(task)

    run(main())


@pytest.mark.parametrize("verb", ["create", "merge"])
def test_a_lost_answer_is_no_loss(verb: str) -> None:
    """A claim or a renewal that was done and not answered is found out, and nobody waits for a lease of his own."""

    async def main() -> None:
        leases = Leases()
        only = leader(leases, "a")
        lost = iter(["lost"])
        leases.fault = lambda called: next(lost, "") if called == verb else ""
        task = asyncio.create_task(only.run())
        await only.leads()
        assert at() < 3
        before = only.transition()
        for _ in range(60):
            await asyncio.sleep(1)
            assert only.leading
        assert only.transition() == before
        await abandon(task)

    run(main())


def test_somebody_elses_name_in_the_lease_ends_it() -> None:
    """Whoever took the lease, by hand or by a bug, leads; the process says who."""

    async def main() -> None:
        leases = Leases()
        only = leader(leases, "a")
        task = asyncio.create_task(only.run())
        await only.leads()
        assert leases.lease is not None
        leases._store("uid0", {**leases.lease["spec"], "holderIdentity": "b"})
        assert "b holds the lease" in await ended(task)
        assert not only.leading

    run(main())


def test_a_deleted_lease_is_put_back_by_its_leader() -> None:
    """`kubectl delete lease` ends nothing, and the fencing number stays."""

    async def main() -> None:
        leases = Leases()
        only = leader(leases, "a")
        task = asyncio.create_task(only.run())
        await only.leads()
        before = only.transition()
        leases.lease = None
        await asyncio.sleep(10)
        assert only.leading
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == before == only.transition()
        await abandon(task)

    run(main())


def test_a_deleted_lease_is_not_taken_from_its_leader() -> None:
    """Who has seen a leader waits for the end of its lease, deleted or not: it may not know of that yet."""

    async def main() -> None:
        leases = Leases()
        first, second = leader(leases, "a"), leader(leases, "b")
        tasks = [asyncio.create_task(one.run()) for one in (first, second)]
        await asyncio.sleep(21)
        before = first.transition()
        for _ in range(5):
            leases.lease = None
            await asyncio.sleep(7)
            assert [first.leading, second.leading] == [True, False]
        await abandon(tasks[0])
        leases.lease = None
        await second.leads()
        assert second.transition() > before
        await abandon(*tasks)

    run(main())


def test_an_election_without_rights_goes_on_asking() -> None:
    """403 leads nobody, is counted each time, and costs a call each two seconds, no more."""

    async def main() -> None:
        leases, failures = Leases(), []
        leases.fault = lambda _: "403"
        only = leader(leases, "a")
        only._failed = failures.append
        task = asyncio.create_task(only.run())
        await asyncio.sleep(60)
        assert not only.leading
        assert only.age < 3
        assert 25 <= len(failures) <= 31
        leases.fault = lambda _: ""
        await only.leads()
        await abandon(task)

    run(main())


@pytest.mark.parametrize(
    ("spec", "least", "most"),
    [
        pytest.param({}, 0, 0.1, id="an empty one"),
        pytest.param({"holderIdentity": ""}, 0, 0.1, id="given back"),
        pytest.param({"holderIdentity": "x"}, 14, 18, id="no duration"),
        pytest.param({"holderIdentity": "x", "leaseDurationSeconds": 2}, 1.9, 5, id="a shorter one"),
        pytest.param({"holderIdentity": "x", "leaseDurationSeconds": 2**31 - 1}, 299, 303, id="without end"),
        pytest.param({"holderIdentity": "x", "renewTime": "2099-01-01T00:00:00.000000Z"}, 14, 18, id="of the future"),
    ],
)
def test_foreign_leases_are_waited_for(spec: Object, least: float, most: float) -> None:
    """Whatever stands in the Lease, it is taken once it was unchanged for as long as it says, within bounds."""

    async def main() -> None:
        leases = Leases()
        leases._store("uid", spec)
        only = leader(leases, "a")
        task = asyncio.create_task(only.run())
        await only.leads()
        assert least <= at() <= most
        await abandon(task)

    run(main())


def test_transitions_rise_past_deletions_and_elections_that_were_off() -> None:
    """What is fenced by the number remembers it for longer than the Lease lives."""
    old = Candidate("a", TERMS)
    old.saw({"metadata": {}, "spec": {"holderIdentity": "z", "leaseTransitions": first_transition(WALL) + 7}}, 0.0)
    assert old.claim(WALL)["leaseTransitions"] == first_transition(WALL) + 8
    fresh = Candidate("a", TERMS)
    assert fresh.claim(WALL)["leaseTransitions"] == first_transition(WALL)
    assert Unelected(lambda: WALL + 10).transition() == first_transition(WALL) + 1
    from_counting = Candidate("a", TERMS)
    from_counting.saw({"metadata": {}, "spec": {"holderIdentity": "z", "leaseTransitions": 3}}, 0.0)
    assert from_counting.claim(WALL)["leaseTransitions"] == first_transition(WALL)
    assert first_transition(WALL * 4) < 2**31


class World:
    """Processes that come, stand still and die, on machines whose clocks are hours apart."""

    def __init__(self, seed: int, trouble: float) -> None:
        self.random = random.Random(seed)
        self.leases = Leases()
        self.leases.delay = lambda: self.random.choice([0.0, 0.01, 0.2, 2.0])
        self.leases.fault = self._fault
        self.trouble = trouble
        self.living: dict[str, tuple[Leader, asyncio.Task[None]]] = {}
        self.transitions: list[tuple[int, str]] = []
        self.born = 0

    def _fault(self, _verb: str) -> str:
        if self.random.random() >= self.trouble:
            return ""
        return self.random.choice(["silence", "503", "lost", "0", "409"])

    def bear(self) -> None:
        self.born += 1
        name = f"p{self.born}"
        one = leader(
            self.leases, name, offset=self.random.uniform(-1e5, 1e5), wall=WALL + self.random.uniform(-7e3, 7e3)
        )
        self.living[name] = one, asyncio.create_task(one.run())

    async def check(self) -> None:
        """At most one leads, and each new one has a higher number than all before."""
        leading = [(one.transition(), name) for name, (one, _) in self.living.items() if one.leading]
        assert len(leading) <= 1, leading
        for now in leading:
            if self.transitions and self.transitions[-1][1] == now[1]:
                assert self.transitions[-1] == now
            elif not self.transitions or self.transitions[-1] != now:
                assert not self.transitions or now > self.transitions[-1]
                self.transitions.append(now)
        for name in [name for name, (_, task) in self.living.items() if task.done()]:
            _, task = self.living.pop(name)
            await ended(task)

    async def strike(self) -> None:
        """Something happens to one of them."""
        what = self.random.random()
        if len(self.living) < 3:
            self.bear()
        elif what < 0.1:
            name = self.random.choice(list(self.living))
            one, task = self.living.pop(name)
            await abandon(task)
            if self.random.random() < 0.5:
                await one.release()


@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.1, 0.4]))
@settings(max_examples=20, deadline=None)
def test_never_two(seed: int, trouble: float) -> None:
    """Whatever is lost, late or killed: never two leaders at one moment, transitions rise, and somebody leads again."""

    async def main() -> None:
        world = World(seed, trouble)
        for _ in range(800):
            if world.random.random() < 0.2:
                await world.strike()
            await asyncio.sleep(world.random.uniform(0, 0.6))
            await world.check()
        world.leases.fault = lambda _: ""
        world.bear()
        for _ in range(200):
            await asyncio.sleep(0.2)
            await world.check()
        assert [one for one, _ in world.living.values() if one.leading]
        await abandon(*(task for _, task in world.living.values()))

    run(main())
