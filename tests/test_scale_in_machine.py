"""Scale-in under any load, the operator killed between any two of its writes: nothing is cut, all comes to rest."""

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmpool_operator.act.drains import LEASE_MS
from tests.support.scale_world import PATIENCE, Killed, Operator, World, at_rest

MOST = 6
JOB_S = st.integers(1, int(PATIENCE) - 1)


class ScaleIn(RuleBasedStateMachine):
    """A size that changes as it likes, jobs, pods in every state, and operators that die."""

    @initialize(replicas=st.integers(0, MOST))
    def begin(self, replicas: int) -> None:
        self.world = World(replicas=replicas)
        self.world.sync()
        for name in self.world.workers:
            for _ in range(3):
                self.world.advance(name)
        self.world.pass_time(2)
        self.wanted = replicas
        self.operators = [Operator(self.world)]

    @property
    def operator(self) -> Operator:
        return self.operators[-1]

    @rule(wanted=st.integers(0, MOST))
    def want(self, wanted: int) -> None:
        self.wanted = wanted

    @rule(seconds=st.integers(1, 8))
    def run(self, seconds: int) -> None:
        """Turns, one a second."""
        for _ in range(seconds):
            self.operator.turn(self.wanted)
            self.world.pass_time(1)

    @rule(writes=st.integers(0, 6), wanted=st.integers(0, MOST), seconds=st.integers(1, 20))
    def die(self, writes: int, wanted: int, seconds: int) -> None:
        """A few turns in which the operator dies after so many writes; the next one begins with nothing."""
        self.wanted = wanted
        self.operator.dies_after = writes
        try:
            for _ in range(seconds):
                self.operator.turn(self.wanted)
                self.world.pass_time(1)
        except Killed:
            pass
        self.operators.append(Operator(self.world))

    @rule(seconds=st.integers(1, 30))
    def nobody_is_there(self, seconds: int) -> None:
        """Time without an operator: drains lapse, and workers go on."""
        self.world.pass_time(seconds)

    @rule(jobs=st.lists(JOB_S, min_size=1, max_size=4))
    def work_comes(self, jobs: list[int]) -> None:
        for seconds in jobs:
            self.world.claim(seconds)

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), steps=st.integers(1, 3))
    def a_pod_moves_on(self, data: st.DataObject, steps: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.workers)))
        for _ in range(steps):
            self.world.advance(name)

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), ready=st.booleans(), silent=st.booleans())
    def a_pod_is_troubled(self, data: st.DataObject, ready: bool, silent: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.workers)))
        self.world.set_ready(name, ready=ready)
        self.world.workers[name].silent = silent

    @rule(there=st.booleans(), seconds=st.integers(1, 20))
    def redis_comes_and_goes(self, there: bool, seconds: int) -> None:
        self.world.redis_is_there = there
        for _ in range(seconds):
            self.operator.turn(self.wanted)
            self.world.pass_time(1)
        self.world.redis_is_there = True

    @invariant()
    def nothing_is_cut(self) -> None:
        """No pod goes with a job that has not had drainSeconds."""
        assert self.world.cut == []

    @invariant()
    def never_below_what_is_wanted(self) -> None:
        assert all(replicas >= wanted for operator in self.operators for replicas, wanted in operator.shrunk_to)

    def teardown(self) -> None:
        """With an operator that lives, all comes to rest: the wanted size, no drain on anybody, no mark, and everybody
        who stays takes jobs."""
        if not hasattr(self, "world"):
            return
        self.world.redis_is_there = True
        for worker in self.world.workers.values():
            worker.silent = False
        for _ in range(int(PATIENCE) + LEASE_MS // 1000 + 10):
            self.operator.turn(self.wanted)
            self.world.pass_time(1)
        assert self.world.cut == []
        assert at_rest(self.world, self.wanted)


TestScaleIn = ScaleIn.TestCase
TestScaleIn.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)


LOADS = ((), (), (10, 10, 10), (20,), (50, 50, 50, 50))


def busy_world() -> World:
    """Five workers, two of them idle, the others with jobs of so many seconds."""
    world = World(replicas=len(LOADS))
    world.sync()
    for name, jobs in zip(list(world.workers), LOADS, strict=True):
        for _ in range(3):
            world.advance(name)
        world.workers[name].jobs = [world.now + seconds for seconds in jobs]
    world.pass_time(2)
    return world


def turns_until_death(world: World, writes: int) -> bool:
    """An operator that shrinks the pool to one and dies after so many writes. Whether it did before it was done."""
    operator = Operator(world)
    operator.dies_after = writes
    try:
        for _ in range(40):
            operator.turn(1)
            world.pass_time(1)
    except Killed:
        return True
    return False


@pytest.mark.parametrize("away", [0, 4, 16], ids="away-{}s".format)
@pytest.mark.parametrize("wanted", [0, 1, 3, 5], ids="then-{}".format)
def test_an_operator_killed_after_each_of_its_writes(wanted: int, away: int) -> None:
    """Whichever write was the last, and whatever is wanted by then, the next operator ends where it should."""
    for writes in count():
        world = busy_world()
        killed = turns_until_death(world, writes)
        world.pass_time(away)
        successor = Operator(world)
        for _ in range(int(PATIENCE) + LEASE_MS // 1000 + 5):
            successor.turn(wanted)
            world.pass_time(1)
        assert world.cut == [], f"killed after {writes} writes"
        assert at_rest(world, wanted), f"killed after {writes} writes"
        if not killed:
            break
    assert writes > 8


def test_nobody_comes_after_an_operator_that_died() -> None:
    """Its drains lapse within their lease, and all workers that are left take jobs again."""
    for writes in count():
        world = busy_world()
        if not turns_until_death(world, writes):
            break
        world.pass_time(LEASE_MS / 1000 + 2)
        assert world.cut == []
        assert all(worker.drain_until <= world.now for worker in world.workers.values())
        assert len(world.workers) == world.replicas
