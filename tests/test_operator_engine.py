"""One pool's turn, with a target that is a list of calls."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide.types import History, Missing, Observation, PodReading, QueueBacklog, Recommendation
from llmpool_operator.engine import PoolEngine
from llmpool_operator.targets.base import NOT_READ, Found, Resized, Sighting, Size, TargetError, Turn

NOW = 1_000_000.0


@dataclass
class ListTarget:
    """Does as it is told, unless it is told to fail."""

    intended: int = 0
    unknown: Missing | None = None
    refuses: TargetError | None = None
    refuses_afterwards: TargetError | None = None
    found: Found | None = None
    at_least: int = 0
    draining: int = 0
    waits: tuple[str, ...] = ()
    unschedulable: int = 0
    pods: tuple[PodReading, ...] | Missing = NOT_READ
    resized: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    async def size(self, sighting: Sighting, now: float) -> Size | Missing:
        found, self.found = self.found, None
        more = {"unschedulable": self.unschedulable, "pods": self.pods}
        return self.unknown or Size(self.intended, self.intended, self.intended, found, **more)

    async def resize(self, replicas: int) -> Resized:
        if self.refuses is not None:
            raise self.refuses
        self.resized.append(replicas)
        self.intended = max(replicas, self.at_least)
        return Resized(self.intended, self.draining, self.waits, self.refuses_afterwards)

    async def report(self, turn: Turn) -> None:
        self.turns.append(turn)


def spec(**scaling: Any) -> LLMWorkerPoolSpec:
    given = {"maxReplicas": 100, "idleSeconds": 60, **scaling}
    return LLMWorkerPoolSpec.model_validate(
        {"queues": [{"name": "q"}], "redis": {"url": "redis://r"}, "scaling": given}
    )


def saw(jobs: int | Missing, at: float = NOW) -> Sighting:
    backlog = jobs if isinstance(jobs, Missing) else QueueBacklog(jobs, 0, 0, None)
    return Sighting(Observation(at, {"q": backlog}), Missing("not read"))


async def test_a_turn_resizes_and_tells() -> None:
    """From a reading to the target's size in one call, reported with before and after."""
    target = ListTarget()
    engine = PoolEngine(spec(), target)
    turn = await engine.turn(saw(25), NOW)
    assert target.resized == [5]
    assert turn.resized == (0, 5)
    assert target.turns == [turn]
    assert [event.change for event in engine.history.events] == [5]


@pytest.mark.parametrize(
    ("intended", "pods", "asked"),
    [
        pytest.param(4, NOT_READ, 6, id="counted by the target"),
        pytest.param(4, (PodReading(True), PodReading(False)), 2, id="by the pods"),
        pytest.param(4, Missing("PodsNotListed"), None, id="pods that couldn't be read"),
    ],
)
async def test_a_level_counts_ready_workers(
    intended: int, pods: tuple[PodReading, ...] | Missing, asked: int | None
) -> None:
    """A metric that is a ratio times the ready workers has a value for targets that read no single pods, too."""
    metric = {"type": "Prometheus", "prometheus": {"query": "load", "value": 2}}
    document = {"queues": [{"name": "q"}], "redis": {"url": "redis://r"}, "prometheus": {"url": "http://p"}}
    level = LLMWorkerPoolSpec.model_validate({**document, "scaling": {"metrics": [metric]}})
    engine = PoolEngine(level, ListTarget(intended, pods=pods))
    seen = Observation(NOW, {"q": QueueBacklog(0, 0, 0, None)}, queries={"load": Fraction(3)})
    turn = await engine.turn(Sighting(seen, Missing("not read")), NOW)
    assert turn.decision is not None
    assert turn.decision.metrics[0].replicas == asked


async def test_an_unknown_size_is_left_alone() -> None:
    """Without knowing how many workers there are, none are asked for."""
    target = ListTarget(unknown=Missing("APIUnreachable"))
    turn = await PoolEngine(spec(), target).turn(saw(25), NOW)
    assert (target.resized, turn.decision) == ([], None)
    assert turn.size == Missing("APIUnreachable")


async def test_missing_metrics_hold() -> None:
    """A reading that is missing is not a zero: the target is asked for what it has."""
    target = ListTarget(intended=7)
    turn = await PoolEngine(spec(), target).turn(saw(Missing("RedisUnreachable")), NOW)
    assert target.resized == [7]
    assert turn.resized is None
    assert turn.decision is not None
    assert turn.decision.hold


async def test_a_resize_that_failed_did_not_happen() -> None:
    """A refused resize is told, leaves no scale event behind, and the next turn makes up for it."""
    target = ListTarget(refuses=TargetError("Forbidden", "no rights"))
    engine = PoolEngine(spec(), target)
    turn = await engine.turn(saw(25), NOW)
    assert turn.failure is target.refuses
    assert engine.history.events == ()
    target.refuses = None
    assert (await engine.turn(saw(25, NOW + 1), NOW + 1)).resized == (0, 5)


async def test_a_size_changed_by_hand_is_taken_up_and_recorded() -> None:
    """The engine goes on from what it finds by HPA's rules, and counts the change as a scale event."""
    target = ListTarget()
    engine = PoolEngine(spec(), target)
    await engine.turn(saw(25), NOW)
    target.intended, target.found = 8, Found(5, 8, "kubectl")
    turn = await engine.turn(saw(25, NOW + 1), NOW + 1)
    assert (turn.found, turn.found_by) == ((5, 8), "kubectl")
    assert turn.resized == (8, 5), "nobody proposed 8 within the window"
    assert [event.change for event in engine.history.events] == [5, 3, -3]


async def test_a_restart_does_not_scale_down_early() -> None:
    """A history of another process counts as of now: its last proposal holds for a whole window again."""
    old = History(recommendations=(Recommendation(NOW - 10_000, 9),), empty_since=NOW - 10_000)
    target = ListTarget(intended=9)
    engine = PoolEngine(spec(), target, old, resuming=True)
    await engine.turn(saw(0), NOW)
    assert target.intended == 9
    for later in (20, 40, 59):
        await engine.turn(saw(0, NOW + later), NOW + later)
    assert target.intended == 9
    await engine.turn(saw(0, NOW + 61), NOW + 61)
    assert target.intended == 0, "idleSeconds later, all of it known"


async def test_emptiness_that_nobody_looked_at_is_not_known() -> None:
    """While the target can't be read, jobs may come and go unseen: idleSeconds begin anew after such a gap."""
    target = ListTarget(intended=2)
    engine = PoolEngine(spec(), target)
    for later in (0, 20):
        await engine.turn(saw(0, NOW + later), NOW + later)
    target.unknown = Missing("APIUnreachable")
    for later in (40, 60):
        await engine.turn(saw(9, NOW + later), NOW + later)
    target.unknown = None
    for later in (70, 90, 110, 129):
        await engine.turn(saw(0, NOW + later), NOW + later)
        assert target.intended == 2
    await engine.turn(saw(0, NOW + 131), NOW + 131)
    assert target.intended == 0


async def test_a_size_that_came_about_counts_in_spite_of_a_failure() -> None:
    """Where only something else failed, the resize is told and remembered, and not taken for a foreign hand's."""
    target = ListTarget(refuses_afterwards=TargetError("Refused", "apply: no", sized=True))
    engine = PoolEngine(spec(), target)
    turn = await engine.turn(saw(25), NOW)
    assert (turn.resized, turn.failure) == ((0, 5), target.refuses_afterwards)
    again = await engine.turn(saw(25, NOW + 1), NOW + 1)
    assert (again.resized, again.found, again.failure) == (None, None, target.refuses_afterwards)
    assert [event.change for event in engine.history.events] == [5]


async def test_a_size_that_cannot_be_had_yet_is_no_change() -> None:
    """A target that must wait says so; rate policies and Events count what really changed, step by step."""
    target = ListTarget(intended=10, at_least=10, waits=("a rollout is going on",))
    engine = PoolEngine(spec(behavior={"scaleDown": {"stabilizationWindowSeconds": 0}}), target)
    waiting = await engine.turn(saw(25), NOW)
    assert (waiting.resized, waiting.waits) == (None, ("a rollout is going on",))
    assert engine.history.events == ()
    target.at_least, target.draining = 7, 3
    turn = await engine.turn(saw(25, NOW + 1), NOW + 1)
    assert (turn.resized, turn.draining) == ((10, 7), 3)
    assert [event.change for event in engine.history.events] == [-3]


async def test_drains_that_lapsed_are_a_change_that_nobody_made() -> None:
    """Workers that go on because their drain ended count as added again, and no foreign hand is told of."""
    target = ListTarget()
    engine = PoolEngine(spec(), target)
    await engine.turn(saw(25), NOW)
    target.intended = 7
    turn = await engine.turn(saw(Missing("RedisUnreachable"), NOW + 1), NOW + 1)
    assert turn.found is None
    assert [event.change for event in engine.history.events] == [5, 2]


async def test_what_the_target_knows_of_pods_is_part_of_the_observation() -> None:
    """Readings by pod and the count of pods without a node reach the decision, and the turn tells what it saw."""
    target = ListTarget(intended=5, unschedulable=2, pods=(PodReading(True, 40.0, NOW),))
    turn = await PoolEngine(spec(), target).turn(saw(25), NOW)
    assert turn.sighting.observation.unschedulable == 2
    assert turn.sighting.observation.pods == target.pods
