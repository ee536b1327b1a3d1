"""The Deployment that a pool becomes."""

from typing import Any

from llmpool_contract import env
from llmpool_contract.pool import LLMWorkerPool, parse_pool
from llmpool_operator.deployment import build, is_owned_by, labels, selector

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
