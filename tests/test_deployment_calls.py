"""What is done to a pool's Deployment, and how often: against an API that is played."""

from typing import Any, cast

import pytest

from llmpool_operator.kube import APIError, KubeAPI, Object
from llmpool_operator.store import Store
from llmpool_operator.targets.base import TargetError
from llmpool_operator.targets.deployment_calls import DeploymentCalls

KEY = ("ns", "chat")
HELD: Object = {
    "metadata": {"name": "chat", "namespace": "ns", "uid": "u", "resourceVersion": "5", "generation": 3},
    "spec": {"replicas": 2, "template": {"a": 1}},
    "status": {"observedGeneration": 3},
}
WANTED: Object = {"metadata": {"name": "chat", "namespace": "ns"}, "spec": {"template": {"a": 2}}}


class PlayedAPI:
    """Refuses what is applied while `refusal` is set; takes everything else."""

    busy = False

    def __init__(self) -> None:
        self.refusal: APIError | None = None
        self.applied = 0

    async def apply(self, _path: str, body: Object) -> Object:
        self.applied += 1
        if self.refusal is not None:
            raise self.refusal
        return {**HELD, "spec": {**HELD["spec"], **body["spec"]}}

    async def get(self, _path: str) -> Object:
        return {**HELD, "metadata": {**HELD["metadata"], "resourceVersion": "8"}}

    async def merge(self, _path: str, body: Object) -> Object:
        return {"metadata": {"resourceVersion": "6"}, "spec": body["spec"]}


@pytest.fixture
def api() -> PlayedAPI:
    return PlayedAPI()


@pytest.fixture
def calls(api: PlayedAPI) -> DeploymentCalls:
    return DeploymentCalls(cast("KubeAPI", api), Store(), key=KEY, uid="pool")


async def applied(calls: DeploymentCalls, now: float, wanted: dict[str, Any] = WANTED) -> str:
    try:
        await calls.apply(HELD, wanted, now)
    except TargetError as error:
        return error.reason
    return "ok"


async def test_a_refused_manifest_is_not_sent_each_second(calls: DeploymentCalls, api: PlayedAPI) -> None:
    """Its refusal stands for a while, longer each time; another manifest is sent at once; in the end all is well."""
    api.refusal = APIError(403, "Forbidden", "no")
    said = [await applied(calls, now) for now in range(60)]
    assert set(said) == {"Forbidden"}
    assert api.applied < 12
    sent = api.applied
    assert await applied(calls, 59.0, {**WANTED}) == "Forbidden"
    assert api.applied == sent + 1
    api.refusal = None
    assert await applied(calls, 120.0) == "ok"


async def test_a_conflict_is_tried_at_once(calls: DeploymentCalls, api: PlayedAPI) -> None:
    """Somebody else was faster: what they did is read at once, whether a watch is up or not."""
    api.refusal = APIError(409, "Conflict", "changed")
    assert [await applied(calls, now) for now in (0.0, 0.1)] == ["Conflict", "Conflict"]
    assert api.applied == 2
    assert calls.held is not None
    assert calls.held["metadata"]["resourceVersion"] == "8"


async def test_a_resize_is_a_generation_that_nobody_has_seen(calls: DeploymentCalls) -> None:
    """Until the Deployment's controller says so, nobody may go on from a size that it doesn't know yet."""
    scaled = await calls.scale(HELD, 5)
    assert (scaled["metadata"]["generation"], scaled["spec"]["replicas"]) == (4, 5)
    same = await calls.scale(HELD, 2)
    assert same["metadata"]["generation"] == 3
