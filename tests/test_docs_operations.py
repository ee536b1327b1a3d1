"""What docs/operations.md tells people to do by hand works beside a live operator."""

from pathlib import Path

import pytest

from llmpool_operator.kube import deployment_path, pool_path
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.waiting import eventually

RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` writes into the pods' template."""


@pytest.mark.control_plane
async def test_a_restart_by_hand_is_left_alone(
    pools: Pools, control_plane: ControlPlane, namespace: str, redis_url: str, tmp_path: Path
):
    """`kubectl rollout restart` of a pool's Deployment holds: later changes of the pool don't take it back."""
    with OperatorProcess(control_plane.kubeconfig, namespace, tmp_path / "operator.log"):
        await pools.make("chat", redis_url)
        await eventually(lambda: pools.deployment("chat"), 20, "the Deployment")
        restart = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: "2026-01-01T00:00:00Z"}}}}}
        await pools.api.merge(deployment_path(namespace, "chat"), restart, manager="kubectl-rollout")
        change = {"spec": {"worker": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]}}}
        await pools.api.merge(pool_path(namespace, "chat"), change)

        async def applied() -> dict | None:
            template = (await pools.deployment("chat") or {})["spec"]["template"]
            wanted = {"name": "LOG_LEVEL", "value": "debug"} in template["spec"]["containers"][0]["env"]
            return template if wanted else None

        template = await eventually(applied, 20, "the change of the pool in its Deployment")
        assert template["metadata"]["annotations"][RESTARTED] == "2026-01-01T00:00:00Z"
