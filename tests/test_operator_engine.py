"""One pool's turn, with a target that is a list of calls."""

from dataclasses import dataclass, field
from typing import Any

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide.types import History, Missing, Observation, QueueBacklog, Recommendation
from llmpool_operator.engine import PoolEngine
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn

NOW = 1_000_000.0


@dataclass
class ListTarget:
    """Does as it is told, unless it is told to fail."""

    intended: int = 0
    unknown: Missing | None = None
    refuses: TargetError | None = None
    refuses_afterwards: TargetError | None = None
    resized: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    async def size(self) -> Size | Missing:
        return self.unknown or Size(self.intended, self.intended, self.intended)

    async def resize(self, replicas: int) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.resized.append(replicas)
        self.intended = replicas
        if self.refuses_afterwards is not None:
            raise self.refuses_afterwards

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
    target.intended = 8
    turn = await engine.turn(saw(25, NOW + 1), NOW + 1)
    assert turn.found == (5, 8)
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
