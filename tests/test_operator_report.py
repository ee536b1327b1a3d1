"""What of a pool's turns is told, in which order, and what is not worth telling."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide import decide
from llmpool_operator.decide.types import History, Missing, Observation, QueueBacklog, Recommendation
from llmpool_operator.kube import APIError
from llmpool_operator.metrics import Metrics
from llmpool_operator.outbox import Outbox
from llmpool_operator.report import MOST_EVENTS, PoolReporter
from llmpool_operator.store import Store
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn

KEY, NOW = ("ns", "chat"), 1_700_000_000.0
SPEC = LLMWorkerPoolSpec.model_validate(
    {"queues": [{"name": "q"}], "redis": {"url": "redis://r"}, "scaling": {"maxReplicas": 50, "idleSeconds": 60}}
)
BUSY = APIError(503, "ServiceUnavailable", "later")


class PlayedAPI:
    """Keeps one pool, applies status patches to it, and notes all calls; or fails as it is told."""

    def __init__(self, store: Store) -> None:
        metadata = {"namespace": "ns", "name": "chat", "uid": "u", "generation": 1, "resourceVersion": "1"}
        self.pool: dict[str, Any] = {"metadata": metadata, "spec": {}}
        self.calls: list[str] = []
        self.failing: dict[str, list[APIError]] = {"event": [], "status": []}
        store.saw_pool(self.pool)

    async def create(self, _path: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._call("event")
        self.calls.append(f"{body['reason']}: {body['message'][:11]}")
        return body

    async def merge(self, _path: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._call("status")
        version = str(int(self.pool["metadata"]["resourceVersion"]) + 1)
        status = merged(self.pool.get("status") or {}, body["status"])
        self.pool = {**self.pool, "metadata": {**self.pool["metadata"], "resourceVersion": version}, "status": status}
        self.calls.append(f"status {status['desiredReplicas']}")
        return self.pool

    async def _call(self, kind: str) -> None:
        await asyncio.sleep(0)
        if self.failing[kind]:
            raise self.failing[kind].pop(0)


def merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396), one level deep."""
    return {name: value for name, value in {**old, **patch}.items() if value is not None}


class World:
    """A reporter with a clock that the test turns, and a played API server."""

    def __init__(self) -> None:
        self.now = NOW
        self.store, self.metrics = Store(), Metrics()
        self.api = PlayedAPI(self.store)
        self.outbox = Outbox(self.metrics.error)
        self.history: dict[str, Any] = {"recommendations": [{"at": NOW, "replicas": 2}]}
        self.reporter = PoolReporter(
            self.api,
            self.store,
            self.metrics,
            self.outbox,
            key=KEY,
            history=lambda: self.history,
            spec=lambda: None,
            monotonic=lambda: self.now,
        )

    async def report(self, turn: Turn) -> None:
        self.now = turn.at
        await self.reporter.report(turn)

    async def told(self) -> list[str]:
        """Calls since the last look, once all is sent that can be."""
        await self.outbox.close(5)
        calls, self.api.calls = self.api.calls, []
        return calls


def turn(at: float, jobs: int | Missing, size: int, **more: Any) -> Turn:
    backlog = jobs if isinstance(jobs, Missing) else QueueBacklog(jobs, 0, 0, None)
    seen = Observation(at, {"q": backlog})
    history = History(recommendations=(Recommendation(at - 1, size),))
    decision = decide(SPEC, size, seen, history, at)
    return Turn(at, Size(size, size, size), Sighting(seen, Missing("not read")), decision, **more)


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_pool_that_does_not_change_is_not_told_of(world: World) -> None:
    """After the first status, turn after turn with the same numbers sends nothing, however long it goes on."""
    await world.report(turn(NOW, 10, 2))
    assert await world.told() == ["status 2"]
    for second in range(1, 100):
        world.history = {"recommendations": [{"at": NOW + second, "replicas": 2}]}
        await world.report(turn(NOW + second, 10, 2))
    assert await world.told() == []


async def test_what_somebody_else_wrote_is_put_right(world: World) -> None:
    """The same turn is told again where the status isn't what it was left as."""
    await world.report(turn(NOW, 10, 2))
    await world.told()
    foreign = {**world.api.pool, "status": {}}
    foreign["metadata"] = {**foreign["metadata"], "resourceVersion": "99"}
    world.api.pool = foreign
    world.store.saw_pool(foreign)
    await world.report(turn(NOW + 11, 10, 2))
    assert await world.told() == ["status 2"]


async def test_events_come_in_order_and_the_latest_status_once(world: World) -> None:
    """Three resizes before the first could be told: three Events as they happened, then one status with the last."""
    await world.report(turn(NOW, 10, 0, resized=(0, 2)))
    await world.report(turn(NOW + 1, 20, 2, resized=(2, 4)))
    await world.report(turn(NOW + 2, 30, 4, resized=(4, 6)))
    await world.report(turn(NOW + 3, 30, 6))
    told = await world.told()
    assert [line for line in told if line.startswith("Successful")] == [
        "SuccessfulRescale: New size: 2",
        "SuccessfulRescale: New size: 4",
        "SuccessfulRescale: New size: 6",
    ]
    assert told[3:] == ["status 6"]
    assert world.api.pool["status"]["lastScaleTime"] == "2023-11-14T22:13:22Z", "of the resize, not of the turn told"


async def test_an_event_that_fails_is_sent_again_and_none_twice(world: World) -> None:
    """A busy API server delays Events and status; their order stays, and what was sent isn't repeated."""
    world.api.failing["event"] = [BUSY]
    world.api.failing["status"] = [BUSY]
    await world.report(turn(NOW, 10, 0, resized=(0, 2)))
    await asyncio.sleep(0.01)
    assert world.api.calls == [], "the Event waits for its next try, and the status for the Event"
    assert await world.told() == ["SuccessfulRescale: New size: 2"]
    await world.report(turn(NOW + 1, 10, 2))
    assert await world.told() == ["status 2"]
    await world.report(turn(NOW + 2, 10, 2))
    assert await world.told() == []


async def test_an_event_that_is_refused_is_let_go(world: World) -> None:
    """Without the right to create Events the status is written all the same, and the loss is counted."""
    world.api.failing["event"] = [APIError(403, "Forbidden", "no")]
    await world.report(turn(NOW, 10, 0, resized=(0, 2)))
    assert await world.told() == ["status 2"]
    assert b'llm_operator_errors_total{kind="Event"} 1.0' in world.metrics.render()


async def test_events_that_wait_are_bounded(world: World) -> None:
    """While nothing can be told the newest Events are kept, and the rest is counted. A pool gets 25 in a row anyway."""
    for number in range(MOST_EVENTS + 30):
        await world.report(turn(NOW + number, 5 * number, number, resized=(number, number + 1)))
    told = await world.told()
    assert len(told) == MOST_EVENTS + 1, "and the status"
    assert b'llm_operator_errors_total{kind="Event"} 5.0' in world.metrics.render()


async def test_a_failure_is_told_once(world: World) -> None:
    """The same failure turn after turn is one Event."""
    failure = TargetError("Forbidden", "no rights")
    for second in range(5):
        await world.report(replace(turn(NOW + second, 10, 2), failure=failure))
    told = await world.told()
    assert [line for line in told if line.startswith("Failed")] == ["FailedRescale: Forbidden: "]


async def test_a_brief_hold_is_not_told(world: World) -> None:
    """One reading that came late is no news; one that stays away is told after a few seconds, and its end at once."""
    late = Missing("RedisTimeout at r:6379")
    await world.report(turn(NOW, 10, 2))
    assert await world.told() == ["status 2"]
    for second in range(6, 60, 2):
        await world.report(turn(NOW + second, late if second % 4 else 10, 2))
    assert await world.told() == []
    for second in range(60, 70):
        await world.report(turn(NOW + second, late, 2))
    assert await world.told() == [
        "FailedGetExternalMetric: QueueDepth ",
        "FailedComputeMetricsReplicas: the size is",
        "status 2",
    ]
    await world.report(turn(NOW + 70, 10, 2))
    assert await world.told() == ["status 2"]
