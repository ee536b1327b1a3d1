"""An operator that doesn't know its cluster yet."""

import asyncio
from pathlib import Path

import pytest

from llmpool_operator.election import Terms
from llmpool_operator.kube import APIError, Object
from llmpool_operator.leader import Leader
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.waiting import eventually


async def failures(operator: OperatorProcess, kind: str) -> float:
    _, text = await asyncio.to_thread(operator.get, "/metrics")
    head = f'llm_operator_errors_total{{kind="{kind}"}} '
    return next((float(line.removeprefix(head)) for line in text.splitlines() if line.startswith(head)), 0)


@pytest.mark.control_plane
async def test_a_missing_kubeconfig_is_said_once(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """The log says what was tried, once for each use, and is quiet while nothing changes; once the file is there the
    operator begins by itself."""
    kubeconfig = tmp_path / "kubeconfig"
    await pools.make("chat", redis_url)
    with OperatorProcess(kubeconfig, pools.namespace, tmp_path / "operator.log") as operator:
        await asyncio.to_thread(operator.listens)

        async def tried() -> bool:
            return await failures(operator, "Lease") >= 3 and await failures(operator, "List") >= 2

        await eventually(tried, 30, "several tries")
        [lease], [listed] = operator.said("lease not reached"), operator.said("list failed")
        assert f"tried {kubeconfig}: no such file" in lease["error"]
        assert f"tried {kubeconfig}: no such file" in listed["error"]
        assert len(operator.lines()) == 3  # those two, and its start
        kubeconfig.write_text(control_plane.kubeconfig.read_text())
        await pools.sized("chat", 0, 60)
        assert operator.said("listed again")


class Nowhere:
    """An API server that nobody knows the address of."""

    async def get(self, path: str) -> Object:
        raise APIError(0, "NoLogin", "no cluster")

    async def create(self, path: str, body: Object) -> Object:
        raise AssertionError(path)

    async def merge(self, path: str, body: Object) -> Object:
        raise AssertionError(path)


async def test_tries_become_rare() -> None:
    """Looks for the cluster follow each other ever more slowly, but never so that `/healthz` takes it for a stop."""
    leader = Leader(
        Nowhere(), namespace="n", name="l", terms=Terms(15), identity="me", failed=lambda _: None, clock=lambda: 0.0
    )
    pauses = [await leader.campaign() for _ in range(12)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2.0, 12.0)
