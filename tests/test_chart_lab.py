"""The chart by Helm itself, and what kubeconform, kube-score and checkov say of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.manifests import CHART, DEPLOY, NAMESPACE, ROOT, manifest, rendered

from tests.support.api_schemas import write_schemas
from tests.support.lab import Lab

# The lab builds its parts in the first test that asks for them.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(3_600)]

POOLS = {"chat": {"queues": [{"name": "llm-chat"}], "redis": {"service": {"name": "redis-master"}}}}
VOLUME = {"enabled": True, "storageClass": "fast"}
EVERYTHING: dict[str, Any] = {
    "replicaCount": 2,
    "redis": {"enabled": True},
    "ollama": {"enabled": True},
    "operator": {"redisSecrets": ["redis-auth"]},
    "metrics": {kind: {"enabled": True} for kind in ("podMonitor", "prometheusRule", "grafanaDashboards")},
    "networkPolicy": {"workers": {"enabled": True}},
    "pools": POOLS,
}
VALUES: dict[str, dict[str, Any]] = {
    "none": {},
    "everything": EVERYTHING,
    "cluster-wide": {**EVERYTHING, "operator": {"clusterWide": True, "redisSecrets": ["redis-auth"]}},
    "volumes": {
        part: {"enabled": True, "persistence": {"enabled": True, "storageClass": "fast"}}
        for part in ("redis", "ollama")
    },
    "bare": {
        "networkPolicy": {"enabled": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "crds": {"enabled": False},
        "tests": {"enabled": False},
    },
    "additions": {
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "imagePullSecrets": [{"name": "s"}],
        "nodeSelector": {"e": "f"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "serviceAccount": {"annotations": {"g": "h"}},
        "operator": {"env": [{"name": "PROMETHEUS_ALLOW_LOOPBACK", "value": "true"}]},
    },
}
KNOWS_POOLS = ["--api-versions", "llmpool.dev/v1alpha1/LLMWorkerPool"]


@pytest.fixture(scope="module")
def helm(lab: Lab) -> str:
    return str(lab.tool("helm"))


def objects(helm: str, folder: Path, values: dict[str, Any], *arguments: str) -> list[dict[str, Any]]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return rendered(helm, "--values", str(file), *arguments)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_lint(helm: str, tmp_path: Path, values: dict[str, Any]) -> None:
    """Helm finds nothing to say of the chart, whatever is turned on."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    subprocess.run([helm, "lint", "--strict", "--quiet", str(CHART), "--values", str(file)], check=True)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_each_combination_renders(helm: str, tmp_path: Path, values: dict[str, Any]) -> None:
    """Each object is of the release's namespace or the cluster's, named once, and no pod does without its hardening."""
    made = objects(helm, tmp_path, values, *KNOWS_POOLS)
    names = [(each["kind"], each["metadata"]["name"]) for each in made]
    assert len(names) == len(set(names))
    cluster = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    assert all(each["metadata"].get("namespace") == NAMESPACE for each in made if each["kind"] not in cluster)
    pods = [each["spec"] for each in made if each["kind"] == "Pod"]
    pods += [each["spec"]["template"]["spec"] for each in made if each["kind"] in ("Deployment", "StatefulSet")]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsUser"] >= 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_no_wildcards(helm: str, tmp_path: Path) -> None:
    """Whoever serves the whole cluster may do the same few things there, and read the named Secrets alone."""
    for values in VALUES.values():
        for role in objects(helm, tmp_path, values):
            for rule in role.get("rules", []):
                assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
                assert "secrets" not in rule["resources"] or rule["resourceNames"] == ["redis-auth"]


def test_pools_come_with_their_kind(helm: str, tmp_path: Path) -> None:
    """A cluster that doesn't know the kind yet gets no pool, which would fail the whole install."""
    kinds = [each["kind"] for each in objects(helm, tmp_path, {"pools": POOLS})]
    assert "LLMWorkerPool" not in kinds
    [pool] = [
        each for each in objects(helm, tmp_path, {"pools": POOLS}, *KNOWS_POOLS) if each["kind"] == "LLMWorkerPool"
    ]
    assert pool["spec"] == POOLS["chat"]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "deleted"])
def test_the_crd_outlives_a_release(helm: str, tmp_path: Path, keep: bool) -> None:
    """Uninstalling takes no pool away unless that was asked for."""
    [crd] = [
        each for each in objects(helm, tmp_path, {"crds": {"keep": keep}}) if each["kind"] == "CustomResourceDefinition"
    ]
    assert (crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep") is keep


def test_the_plain_manifest_is_the_charts(helm: str) -> None:
    """deploy/ isn't behind the chart (make manifests)."""
    assert DEPLOY.read_text() == manifest(helm)


def test_misspelt_values_stop_helm(helm: str, tmp_path: Path) -> None:
    """A typo is an error with its name, not a setting that does nothing."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        objects(helm, tmp_path, {"redis": {"enabld": True}})
    assert "enabld" in refused.value.stderr


@pytest.mark.parametrize("name", [name for name in VALUES if name != "bare"])
def test_kube_score(lab: Lab, helm: str, tmp_path: Path, name: str) -> None:
    """No finding that isn't answered beside the thing. (`bare` leaves network policies to the user.)"""
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(objects(helm, tmp_path, VALUES[name])))
    command = [str(lab.tool("kube-score")), "score", "--output-format", "ci", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [line for line in said if not line.startswith(("[OK]", "[SKIPPED]"))] == []


@pytest.mark.parametrize("name", VALUES)
def test_kubeconform(lab: Lab, helm: str, tmp_path: Path, name: str) -> None:
    """Every object is of the API server's own schemas, without a field that they don't know."""
    schemas = lab.home / "run" / "schemas"
    if not schemas.is_dir():
        write_schemas(lab.cluster_node(), schemas)
    made = [each for each in objects(helm, tmp_path, VALUES[name]) if "monitoring.coreos.com" not in each["apiVersion"]]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(made))
    place = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [str(lab.tool("kubeconform")), "-strict", "-summary", "-schema-location", place, str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
    assert f"Valid: {len(made)}" in said.stdout


@pytest.mark.parametrize("name", ["everything", "cluster-wide"])
def test_checkov(helm: str, tmp_path: Path, name: str) -> None:
    """No finding that isn't answered beside the thing."""
    checkov = subprocess.run([ROOT / "tools" / "checkov"], capture_output=True, text=True, check=True).stdout.strip()
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(objects(helm, tmp_path, VALUES[name])))
    command = [checkov, "-f", str(file), "--framework", "kubernetes", "-o", "json", "--skip-download"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(said.stdout)
    failed = [f"{one['check_id']} {one['resource']}" for one in told["results"]["failed_checks"]]
    assert (failed, bool(told["summary"]["passed"])) == ([], True)
