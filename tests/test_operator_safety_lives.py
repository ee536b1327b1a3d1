"""Operators that die at the worst moments, or are two; and what is deleted under them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmpool_operator.kube import APIError
from tests.support.api_faults import APIFaults
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import CRD_PATH, OperatorProcess, Pools, apply_crd
from tests.support.operator_scenario import MAXIMUM, SIZES, end_state, play, set_work, settled, sizes_written
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane
LONG = 60.0


@pytest.fixture
async def api(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[APIFaults]:
    """The proxy between operators and the API server."""
    async with APIFaults(control_plane.kubeconfig, tmp_path) as proxy:
        yield proxy


def as_named(state: dict, name: str) -> dict:
    """With the pool's own name taken out, so that two can be compared."""
    return json.loads(json.dumps(state).replace(f'"{name}"', '"POOL"').replace(f"/{name}", "/POOL"))


async def life(pools: Pools, server: RedisServer, name: str) -> dict:
    """Play the scenario. Gives what is left."""
    await play(pools, server, name)
    await eventually(lambda: settled(pools, name), LONG, "the end is told")
    return as_named(await end_state(pools, name), name)


async def test_killed_after_its_writes(
    pools: Pools, api: APIFaults, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """An operator that is killed after every write gets there all the same: each size once, none that nobody asked for,
    and at the end what an undisturbed one leaves."""
    operator = OperatorProcess(api.kubeconfig, pools.namespace, tmp_path / "operator.log", LEADER_ELECTION="false")

    async with operator.kept_alive():
        undisturbed = await life(pools, redis_server, "calm")
        assert operator.ends == []
        api.after_write = lambda *_: _kill(operator)
        assert await life(pools, redis_server, "chat") == undisturbed
        assert sizes_written(api, "chat") == SIZES
    assert len(operator.ends) > len(SIZES)
    assert set(operator.ends) == {-signal.SIGKILL}


def _kill(operator: OperatorProcess) -> None:
    operator.child.kill()


async def test_two_that_lead_at_once(
    pools: Pools, api: APIFaults, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """With the election off, two operators on the same pools write twice but never back and forth, and end as one."""
    logs = (tmp_path / "first.log", tmp_path / "second.log")
    first, second = (OperatorProcess(api.kubeconfig, pools.namespace, log, LEADER_ELECTION="false") for log in logs)
    with first:
        alone = await life(pools, redis_server, "calm")
        with second:
            await eventually(lambda: _serves(second), LONG, "the second serves, too")
            assert await life(pools, redis_server, "chat") == alone
            for jobs, size in ((7, 2), (1000, MAXIMUM), (11, 3)):
                set_work(redis_server, "chat", jobs)
                await pools.sized("chat", size)
                await asyncio.sleep(2)
                assert await pools.replicas("chat") == size
            await eventually(lambda: _quiet(api), LONG, "four seconds without a write: they agree")
    assert sizes_written(api, "chat") == [*SIZES, 2, MAXIMUM, 3]


async def _quiet(api: APIFaults) -> bool:
    """Of the pool with work. Of an empty one, each tells since when it has known that, as long as there are two."""

    def about_chat() -> int:
        return len([done for done in api.writes() if done.call.name == "chat"])

    before = about_chat()
    await asyncio.sleep(4)
    return about_chat() == before


async def _serves(operator: OperatorProcess) -> bool:
    try:
        _, metrics = await asyncio.to_thread(operator.get, "/metrics")
    except OSError:
        return False
    return "llm_operator_pools 1.0" in metrics


async def test_a_namespace_that_goes_with_its_pools(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Deleting a namespace with live pools never hangs, with the operator running, and the operator outlives it."""
    operator = OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log")
    set_work(redis_server, "llm-chat", 10)
    with operator:
        await pools.make("chat", redis_url)
        await pools.sized("chat", 2)
        path = f"/api/v1/namespaces/{pools.namespace}"
        await pools.api.delete(path)

        async def gone() -> bool:
            try:
                await pools.api.get(path)
            except APIError as error:
                return error.status == 404
            return False

        await eventually(gone, LONG, "the namespace is gone")
        assert operator.child.running()
        _, body = await asyncio.to_thread(operator.get, "/healthz")
        assert '"stalled"' not in body
        await pools.api.create("/api/v1/namespaces", {"metadata": {"name": pools.namespace}})


async def test_a_definition_that_goes_with_its_pools(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Deleting the CRD with live pools never hangs; once it is back, new pools are served without a restart."""
    log = tmp_path / "operator.log"
    operator = OperatorProcess(control_plane.kubeconfig, pools.namespace, log, OPERATOR_RELIST="5")
    set_work(redis_server, "llm-chat", 10)
    with operator:
        await pools.make("chat", redis_url)
        await pools.sized("chat", 2)
        await pools.api.delete(CRD_PATH)

        async def gone() -> bool:
            try:
                await pools.api.get(CRD_PATH)
            except APIError as error:
                return error.status == 404
            return False

        await eventually(gone, LONG, "the CRD is gone")

        async def told() -> bool:
            return any("no llmworkerpools" in str(line) for line in operator.said("list failed"))

        await eventually(told, LONG, "the missing CRD is told")
        await apply_crd(pools.api)
        set_work(redis_server, "other", 20)
        await pools.make("other", redis_url, queues=[{"name": "other"}])
        await pools.sized("other", 4, LONG)
        assert operator.child.running()
