"""deploy/ and examples/ as `kubectl apply` would have them: given to a real API server."""

import json
from pathlib import Path

import pytest
import yaml
from tools.manifests import DEPLOY, NAMESPACE

from llmpool_operator.kube import APIError, KubeAPI, Object, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane

ROOT = Path(__file__).resolve().parents[1]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
EXAMPLES: dict[str, Object] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "examples").glob("pool*.yaml"))
}
MANIFEST: list[Object] = [document for document in yaml.safe_load_all(DEPLOY.read_text()) if document]
PLACES = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Namespace": "/api/v1/namespaces",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}
REFUSALS = {"InvalidSpec", "NoImage", "AmbiguousQueue", "DeploymentNotOurs", "PoolNameTaken", "ScaledByAnother"}


async def try_out(api: KubeAPI, namespace: str, document: Object) -> None:
    """Apply it without effect, unknown fields refused.

    Raises:
        APIError: the server refused it.
    """
    path = PLACES[document["kind"]].format(namespace) + "/" + document["metadata"]["name"]
    query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "test", "force": "true"}
    await api._call("PATCH", path, query, document, "application/apply-patch+yaml")


async def try_pod(api: KubeAPI, namespace: str, template: Object) -> None:
    """Make its pod without effect: a Deployment of pods that aren't allowed is stored all the same."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {**template["spec"]}}
    pod["spec"]["serviceAccountName"] = "default"  # its own isn't made here
    await api._call("POST", f"/api/v1/namespaces/{namespace}/pods", {"dryRun": "All"}, pod)


def placed(document: Object, namespace: str) -> Object:
    """The same for another namespace, since nothing is made here."""
    text = json.dumps(document).replace(f'"namespace": "{NAMESPACE}"', f'"namespace": "{namespace}"')
    moved: Object = json.loads(text)
    return moved


async def test_the_plain_manifest_is_taken(pools: Pools, namespace: str) -> None:
    """Every object is valid to its last field, and its pods may run where Pod Security is `restricted`."""
    await pools.api.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": RESTRICTED}}, manager="test")
    documents = [placed(each, namespace) for each in MANIFEST]
    assert {each["kind"] for each in documents} >= {"Namespace", "CustomResourceDefinition", "Deployment", "Role"}
    for document in documents:
        await try_out(pools.api, namespace, document)
        if document["kind"] == "Deployment":
            await try_pod(pools.api, namespace, document["spec"]["template"])


async def test_pod_security_is_looked_at(pools: Pools, namespace: str) -> None:
    """The test above would see a pod that isn't restricted: the server of the tests refuses one."""
    await pools.api.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": RESTRICTED}}, manager="test")
    with pytest.raises(APIError, match="restricted"):
        await try_pod(pools.api, namespace, {"spec": {"containers": [{"name": "c", "image": "i"}]}})


@pytest.mark.parametrize("pool", EXAMPLES.values(), ids=EXAMPLES.keys())
async def test_examples_are_served(
    control_plane: ControlPlane, namespace: str, pools: Pools, tmp_path: Path, pool: Object
) -> None:
    """What a reader copies is taken by the operator: a Deployment of the pool's name, or in Observe mode a report."""
    name = pool["metadata"]["name"]
    with OperatorProcess(control_plane.kubeconfig, namespace, tmp_path / "operator.log"):
        await pools.api.create(pools_path(namespace), {**pool, "metadata": {"name": name, "namespace": namespace}})

        async def told() -> bool:
            return bool((await pools.condition(name, "Ready"))[1])

        await eventually(told, 60, f"the operator tells about {name}")
        conditions = (await pools.status(name))["conditions"]
        assert not REFUSALS & {each["reason"] for each in conditions}
        if pool["spec"].get("mode") == "Observe":
            assert await pools.condition(name, "Ready") == ("Unknown", "NoSuchDeployment")
            assert await pools.deployment(name) is None
        else:
            deployment = await pools.deployment(name)
            assert deployment is not None
            scaling = pool["spec"].get("scaling", {})
            ruling = (await pools.status(name)).get("bounds") or scaling  # a schedule's, at some hours
            assert deployment["spec"]["replicas"] == ruling.get("minReplicas", scaling.get("minReplicas", 0))
