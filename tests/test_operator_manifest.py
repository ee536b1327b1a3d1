"""The Deployment that a pool becomes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from llmpool_contract import env
from llmpool_contract.pool import LLMWorkerPool, parse_pool
from llmpool_operator.deployment import build, is_owned_by, labels, selector
from llmpool_operator.kube import APIError, KubeAPI, collection, deployment_path
from tests.support.control_plane import ControlPlane

UID = "11111111-2222-3333-4444-555555555555"


def pool(**spec: Any) -> LLMWorkerPool:
    given = {"queues": [{"name": "llm-chat"}, {"name": "llm-embed"}], "redis": {"service": {"name": "redis"}}, **spec}
    metadata = {"name": "chat", "namespace": "lms"}
    return parse_pool(
        {"apiVersion": "llmpool.dev/v1alpha1", "kind": "LLMWorkerPool", "metadata": metadata, "spec": given}
    )


def manifest(**spec: Any) -> dict[str, Any]:
    return build(pool(**spec), UID, default_image="default:1")


def container_of(made: dict[str, Any]) -> dict[str, Any]:
    [container] = made["spec"]["template"]["spec"]["containers"]
    return container


def variables(made: dict[str, Any]) -> dict[str, Any]:
    listed = container_of(made)["env"]
    names = [variable["name"] for variable in listed]
    assert len(names) == len(set(names)), "a name twice makes server-side apply fail"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in listed}


def test_never_says_replicas() -> None:
    """An apply must not touch the size: the manifest has none, even where the pool's spec has."""
    assert "replicas" not in manifest(replicas=7)["spec"]


def test_belongs_to_the_pool() -> None:
    """The pool is the controller, so that its deletion takes the Deployment along; another pool's uid isn't ours."""
    made = manifest()
    assert (made["metadata"]["namespace"], made["metadata"]["name"]) == ("lms", "chat")
    assert is_owned_by(made, UID)
    assert not is_owned_by(made, UID.replace("1", "9"))
    assert not is_owned_by({"metadata": {}}, UID)
    assert made["spec"]["selector"]["matchLabels"] == labels("chat")
    assert labels("chat").items() <= made["spec"]["template"]["metadata"]["labels"].items()
    assert selector("chat") == "app.kubernetes.io/name=llm-worker,llmpool.dev/pool=chat"


def test_pods_are_restricted() -> None:
    """Each rule of the restricted Pod Security level, plus no token, no writable root and a user above 10,000."""
    made = manifest()
    spec = made["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 10_000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container_of(made)["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert container_of(made)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_worker_environment() -> None:
    """Workers learn their pool, their own name, and addresses in the pool's namespace; durations are milliseconds."""
    made = manifest(worker={"timeoutSeconds": 60, "drainSeconds": 90, "env": [{"name": "LOG_LEVEL", "value": "debug"}]})
    found = variables(made)
    assert found[env.WORKER_POOL] == "lms/chat"
    assert found[env.WORKER_ID] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert found[env.WORKER_QUEUES] == "llm-chat,llm-embed"
    assert found[env.REDIS_URL] == "redis://redis.lms.svc:6379/0"
    assert found[env.OLLAMA_BASE_URL] == "http://ollama.lms.svc:11434"
    assert (found[env.WORKER_TIMEOUT], found[env.WORKER_DRAIN]) == ("60000", "90000")
    assert found["LOG_LEVEL"] == "debug"
    assert all(isinstance(value, str | dict) for value in found.values())


def test_grace_is_longer_than_the_drain() -> None:
    """A pod that drains to its last second still gives back what is left."""
    assert manifest(worker={"drainSeconds": 400})["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 430


def test_secrets_come_by_reference_alone() -> None:
    """Credentials never appear in a manifest, and none are asked for where the pool has none."""
    found = variables(manifest(redis={"service": {"name": "redis"}, "credentialsSecret": {"name": "auth"}}))
    assert found["REDIS_PASSWORD"] == {"secretKeyRef": {"name": "auth", "key": "password", "optional": False}}
    assert found["REDIS_USERNAME"] == {"secretKeyRef": {"name": "auth", "key": "username", "optional": True}}
    assert not {"REDIS_PASSWORD", "REDIS_USERNAME"} & variables(manifest()).keys()


def test_sentinels_may_have_a_login_of_their_own() -> None:
    """Workers get it where they ask Sentinels, from the same Secret as the operator has it from, if it is there."""
    redis = {"url": "redis+sentinel://s-0,s-1/jobs", "credentialsSecret": {"name": "auth"}}
    found = variables(manifest(redis=redis))
    for variable, key in {"USERNAME": "sentinelUsername", "PASSWORD": "sentinelPassword"}.items():
        wanted = {"secretKeyRef": {"name": "auth", "key": key, "optional": True}}
        assert found[f"REDIS_SENTINEL_{variable}"] == wanted


def test_image_is_the_pools_or_the_operators() -> None:
    """A pool without an image gets the operator's."""
    assert container_of(manifest())["image"] == "default:1"
    assert container_of(manifest(worker={"image": "own:2"}))["image"] == "own:2"


def test_probes_ask_the_health_port() -> None:
    """Liveness never asks for readiness: a worker without Redis must not be killed for it."""
    container = container_of(manifest())
    assert container["ports"] == [{"name": "health", "containerPort": 3008, "protocol": "TCP"}]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {
        "startupProbe": "/health/live",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    assert "host" not in container["livenessProbe"]["httpGet"]


TEMPLATE = {
    "labels": {"team": "search", "app.kubernetes.io/name": "mine", "llmpool.dev/pool": "other"},
    "annotations": {"prometheus.io/scrape": "true"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "background",
    "runtimeClassName": "nvidia",
    "serviceAccountName": "workers",
    "imagePullSecrets": [{"name": "registry"}],
}


def test_the_pod_template_is_taken_over() -> None:
    """Each field that a pool may say about its pods is in them; labels that the pool is found by stay its own."""
    template = manifest(worker={"podTemplate": TEMPLATE})["spec"]["template"]
    assert template["metadata"]["annotations"] == TEMPLATE["annotations"]
    assert template["metadata"]["labels"]["team"] == "search"
    assert labels("chat").items() <= template["metadata"]["labels"].items()
    pod = {field: value for field, value in TEMPLATE.items() if field not in ("labels", "annotations")}
    assert pod.items() <= template["spec"].items()
    assert template["spec"]["automountServiceAccountToken"] is False
    assert not pod.keys() & manifest()["spec"]["template"]["spec"].keys()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"models": {"preload": ["gemma3:270m"]}}, id="preload"),
        pytest.param({"scaling": {"maxReplicas": 99, "metrics": [{"type": "DrainTime"}]}}, id="scaling"),
        pytest.param({"paused": "All"}, id="paused"),
        pytest.param({"replicas": 3}, id="replicas"),
        pytest.param({"prometheus": {"url": "http://p"}}, id="prometheus"),
        pytest.param({"queues": [{"name": "llm-chat", "weight": 5}, {"name": "llm-embed"}]}, id="weight"),
    ],
)
def test_what_restarts_nobody(change: dict[str, Any]) -> None:
    """What workers learn while they run, or never, isn't part of their pods: a change of it is no rollout."""
    assert manifest(**change) == manifest()


def test_models_reach_the_workers() -> None:
    """What jobs may name and what to try instead, as the worker reads it; `*` is no list."""
    models = {"allowed": ["big", "small:8b"], "fallbacks": {"big": ["small:8b"]}, "memoryThreshold": 0.5}
    found = variables(manifest(models=models))
    assert found[env.ALLOWED_MODELS] == "big,small:8b"
    assert found[env.MODEL_FALLBACKS] == '{"big": ["small:8b"]}'
    assert found[env.MODEL_MEMORY_THRESHOLD] == "0.5"
    assert variables(manifest())[env.ALLOWED_MODELS] == ""


def sidecar_of(made: dict[str, Any]) -> dict[str, Any]:
    [container] = made["spec"]["template"]["spec"]["initContainers"]
    return container


def test_a_sidecar_outlives_the_worker() -> None:
    """An init container that restarts always begins before the worker and ends after it: no drain loses its server."""
    made = manifest(ollama={"sidecar": {}})
    container = sidecar_of(made)
    assert (container["name"], container["restartPolicy"], container["command"]) == (
        "ollama",
        "Always",
        ["ollama", "serve"],
    )
    assert "initContainers" not in manifest()["spec"]["template"]["spec"]


def test_server_and_worker_of_a_pod_agree() -> None:
    """The worker asks where its own server listens, which nobody outside the pod can, and both know `parallel`."""
    made = manifest(ollama={"sidecar": {"parallel": 4}})
    theirs = {variable["name"]: variable["value"] for variable in sidecar_of(made)["env"]}
    ours = variables(made)
    assert ours[env.OLLAMA_BASE_URL] == f"http://{theirs['OLLAMA_HOST']}" == "http://127.0.0.1:11434"
    assert ours["OLLAMA_NUM_PARALLEL"] == theirs["OLLAMA_NUM_PARALLEL"] == "4"
    assert "ports" not in sidecar_of(made)
    assert "OLLAMA_NUM_PARALLEL" not in variables(manifest())


def test_gpus_of_a_sidecar() -> None:
    """GPUs are limits of the server's container alone; without any it doesn't take the node's behind the scheduler."""
    resources = {"limits": {"memory": "8Gi"}, "requests": {"cpu": 2}}
    made = manifest(ollama={"sidecar": {"gpus": 2, "resources": resources}})
    assert sidecar_of(made)["resources"] == {"limits": {"memory": "8Gi", "nvidia.com/gpu": 2}, "requests": {"cpu": 2}}
    assert container_of(made)["resources"] == {}
    bare = sidecar_of(manifest(ollama={"sidecar": {"gpus": 0}}))
    assert bare["resources"] == {}
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in bare["env"]


def test_a_rollout_needs_no_spare_gpu() -> None:
    """Pods with GPUs make room before the next one comes; all others have their successor first."""
    rolling = [
        manifest(**spec)["spec"]["strategy"]["rollingUpdate"]
        for spec in ({"ollama": {"sidecar": {}}}, {"ollama": {"sidecar": {"gpus": 0}}}, {})
    ]
    assert [(one["maxSurge"], one["maxUnavailable"]) for one in rolling] == [(0, "25%"), ("25%", 0), ("25%", 0)]


@pytest.mark.parametrize(
    ("claim", "volume", "prune"),
    [
        pytest.param({}, {"emptyDir": {}}, None, id="none"),
        pytest.param({"modelsClaim": "models"}, {"persistentVolumeClaim": {"claimName": "models"}}, "1", id="claim"),
    ],
)
def test_where_models_are(claim: dict[str, Any], volume: dict[str, Any], prune: str | None) -> None:
    """Models are on a volume, shared or the pod's own; HOME is always the pod's own, and nothing is written elsewhere.

    On a shared volume a server that starts leaves alone what another one is downloading.
    """
    made = manifest(ollama={"sidecar": claim})
    container = sidecar_of(made)
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    volumes = {entry["name"]: {k: v for k, v in entry.items() if k != "name"} for entry in _pod(made)["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounted == {variables["OLLAMA_MODELS"]: volume, variables["HOME"]: {"emptyDir": {}}}
    assert variables["TMPDIR"] in mounted
    assert variables.get("OLLAMA_NOPRUNE") == prune


def _pod(made: dict[str, Any]) -> dict[str, Any]:
    return made["spec"]["template"]["spec"]


# The API server's own opinion.

COMBINATIONS: dict[str, dict[str, Any]] = {
    "bare": {},
    "template": {"worker": {"podTemplate": {**TEMPLATE, "runtimeClassName": "none", "priorityClassName": "none"}}},
    "resources": {"worker": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}},
    "credentials": {"redis": {"service": {"name": "redis"}, "credentialsSecret": {"name": "auth"}}},
    "models": {"models": {"allowed": ["a", "b"], "fallbacks": {"a": ["b"]}, "preload": ["a"]}},
    "sidecar": {"ollama": {"sidecar": {}}},
    "sidecar without GPUs": {"ollama": {"sidecar": {"gpus": 0, "resources": {"limits": {"memory": "4Gi"}}}}},
    "sidecar with a claim": {"ollama": {"sidecar": {"gpus": 8, "modelsClaim": "models", "parallel": 4}}},
    "sidecar and template": {
        "ollama": {"sidecar": {}},
        "worker": {"podTemplate": {"nodeSelector": {"gpu": "h100"}, "annotations": {"a": "b"}}},
    },
}


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeAPI]:
    """Calls to a real API server."""
    session = KubeAPI(str(control_plane.kubeconfig))
    yield session
    await session.close()


@pytest.mark.control_plane
async def test_every_combination_applies_and_is_restricted(api: KubeAPI, namespace: str) -> None:
    """The API server takes each Deployment, new and in place of another, and its pods pass the restricted level."""
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await api.merge(f"/api/v1/namespaces/{namespace}", restricted)
    for number, spec in enumerate(COMBINATIONS.values()):
        made = manifest(**spec)
        made["spec"]["replicas"] = 0
        for name in (f"chat-{number}", "chat"):  # anew, and over the one before
            made["metadata"] |= {"namespace": namespace, "name": name}
            found = await api.apply(deployment_path(namespace, name), made)
        pod = {**found["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = {**pod["metadata"], "name": f"pod-{number}"}
        # Classes and accounts that pods name have to be there, which is the cluster's affair.
        pod["spec"] = {k: v for k, v in pod["spec"].items() if k not in CLUSTER_S}
        await api.create(collection(namespace, "pods", "v1"), pod)


CLUSTER_S = {"priorityClassName", "runtimeClassName", "serviceAccountName", "serviceAccount"}


@pytest.mark.control_plane
async def test_what_is_not_restricted_is_refused_there(api: KubeAPI, namespace: str) -> None:
    """The level is enforced in that test: a pod as it comes is refused."""
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await api.merge(f"/api/v1/namespaces/{namespace}", restricted)
    pod = {"metadata": {"name": "any"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    with pytest.raises(APIError, match="violates PodSecurity"):
        await api.create(collection(namespace, "pods", "v1"), pod)
