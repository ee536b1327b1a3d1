"""The chart on a real node, in a namespace where Pod Security is `restricted`: one life of a release with a pool."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.manifests import CHART, ROOT

from tests.support.lab import Lab
from tests.support.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3_600)]

TAG = "chart-test"
CRD_NAME = "llmworkerpools.llmpool.dev"
CRD = ROOT / "crds" / "llmworkerpools.yaml"
# Requests of local storage are left out: a node needn't count it.
UNCOUNTED = {"requests": {"ephemeral-storage": None}, "limits": {"ephemeral-storage": None}}
POOL: dict[str, Any] = {
    "queues": [{"name": "llm-chat"}],
    "redis": {"service": {"name": "redis-master"}},
    "worker": {"backend": "echo", "drainSeconds": 20, "timeoutSeconds": 20},
    "scaling": {"idleSeconds": 5, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}},
}
VALUES: dict[str, Any] = {
    "image": {"tag": TAG},
    "worker": {"image": {"tag": TAG}},
    "crds": {"enabled": False},
    "resources": UNCOUNTED,
    "redis": {"enabled": True, "resources": UNCOUNTED},
    "pools": {"chat": POOL},
}


class Release:
    """Helm and kubectl for one namespace of the lab's cluster."""

    def __init__(self, lab: Lab, values: Path) -> None:
        self.namespace = f"chart-test-{secrets.token_hex(3)}"
        self._env = {**os.environ, "KUBECONFIG": str(lab.kubeconfig)}
        self._helm = str(lab.tool("helm"))
        self._values = str(values)

    def helm(self, command: str, *arguments: str) -> str:
        return self._run(self._helm, command, "try", *arguments, "--namespace", self.namespace, "--timeout", "120s")

    def put(self, command: str, *arguments: str, chart: Path = CHART) -> str:
        return self.helm(command, str(chart), "--values", self._values, "--wait", *arguments)

    def kubectl(self, *arguments: str) -> str:
        return self._run("kubectl", "--namespace", self.namespace, *arguments)

    async def knows_pools(self) -> bool:
        """Whether whoever asks the API server what there is finds pools."""
        return "llmworkerpools" in self.kubectl(
            "api-resources", "--cached=false", "--api-group", "llmpool.dev", "-o", "name"
        )

    async def is_empty(self) -> bool:
        """Whether no pool and no Deployment is left; the garbage collector comes after Helm."""
        return self.kubectl("get", "lwp,deployments", "-o", "name") == ""

    async def sized(self, replicas: int) -> None:
        """Wait until the pool's workers are so many, and ready."""

        async def there() -> bool:
            status = json.loads(self.kubectl("get", "lwp", "chat", "-o", "json")).get("status", {})
            return (status.get("replicas"), status.get("readyReplicas") or 0) == (replicas, replicas)

        await eventually(there, 120, f"the pool has {replicas} ready workers")

    def crd_fields(self) -> dict[str, Any]:
        """What the cluster's CRD allows in a spec."""
        [version] = json.loads(self.kubectl("get", "crd", CRD_NAME, "-o", "json"))["spec"]["versions"]
        fields: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        return fields

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-500:]} {done.stderr[-1_000:]}"
        return done.stdout


@pytest.fixture
def release(lab: Lab, tmp_path: Path) -> Iterator[Release]:
    lab.docker()
    lab.cluster_node()
    lab.image(f"llm-worker:{TAG}", "Dockerfile.worker")
    lab.image(f"llm-worker-operator:{TAG}", "Dockerfile.operator")
    lab.load("redis:8")
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES))
    made = Release(lab, values)
    made.kubectl("create", "namespace", made.namespace)
    yield made
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")


async def test_a_release_from_install_to_uninstall(release: Release) -> None:
    """A job, zero again, upgrade, rollback, uninstall with a live pool: nothing hangs, and the CRD is kept."""
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    release.kubectl("label", "namespace", release.namespace, restricted)
    release.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    # A kind that is new takes a moment until Helm finds it, and pools of an unknown kind are left out.
    await eventually(release.knows_pools, 60, "the kind in the API server's lists")
    release.put("install")
    assert "succeeded" in release.helm("test", "--logs")
    await release.sized(0)
    release.put("upgrade", "--set", "replicaCount=2", "--set", "pools.chat.scaling.minReplicas=1")
    await release.sized(1)
    release.helm("rollback", "1", "--wait")
    await release.sized(0)
    release.put("upgrade", "--set", "pools.chat.scaling.minReplicas=1")
    await release.sized(1)
    release.helm("uninstall", "--wait")
    assert "llmworkerpools.llmpool.dev" in release.kubectl("get", "crd", "-o", "name")
    await eventually(release.is_empty, 60, "the pool's Deployment gone after its pool")


async def test_the_crd_moves_with_the_release(release: Release, tmp_path: Path) -> None:
    """A first install brings the kind and leaves the pools out, the next upgrade makes them; one with a changed schema
    changes the cluster's; uninstalling keeps the kind and the pools that are nobody's."""
    release.kubectl("delete", "crd", CRD_NAME, "--ignore-not-found")
    ours = ["--set", "crds.enabled=true", "--set", "redis.enabled=false"]
    assert "YOUR POOLS ARE NOT THERE YET" in release.put("install", *ours)
    assert release.kubectl("get", "lwp", "-o", "name") == ""
    release.put("upgrade", *ours)
    assert release.kubectl("get", "lwp", "-o", "name").split() == ["llmworkerpool.llmpool.dev/chat"]

    newer = tmp_path / "newer"
    shutil.copytree(CHART, newer)
    file = newer / "files" / "llmworkerpools.yaml"
    crd = yaml.safe_load(file.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["novelty"] = {"type": "string", "maxLength": 8}
    file.write_text(yaml.safe_dump(crd))
    assert "novelty" not in release.crd_fields()
    release.put("upgrade", *ours, chart=newer)
    assert "novelty" in release.crd_fields()

    own = {"apiVersion": "llmpool.dev/v1alpha1", "kind": "LLMWorkerPool", "metadata": {"name": "own"}, "spec": POOL}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**own, "spec": {**POOL, "queues": [{"name": "own"}]}}))
    release.kubectl("apply", "-f", str(tmp_path / "own.yaml"))
    release.helm("uninstall", "--wait")
    assert release.kubectl("get", "lwp", "-o", "name").split() == ["llmworkerpool.llmpool.dev/own"]
    release.kubectl("delete", "crd", CRD_NAME)
