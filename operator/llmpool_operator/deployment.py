"""A pool's Deployment as plain data: a pure function of the pool. It passes the restricted Pod Security level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpool_contract import env
from llmpool_contract.labels import API_VERSION, APP_NAME, KIND, LABEL_MANAGED_BY, LABEL_NAME, LABEL_POOL, MANAGER
from llmpool_contract.pool import LLMWorkerPool, PodTemplate, Worker

from . import sidecar as ollama
from .kube import Object

CONTAINER = "worker"
USER = 10_001
"""Not root, and above 10,000: no user of a node has it."""
GRACE_OVER_DRAIN = 30
"""Seconds that a pod gets beyond its drain, for giving back what is left."""
_PORT = int(env.DEFAULTS[env.HEALTH_PORT])


def labels(pool: str) -> dict[str, str]:
    """What Deployment and pods of a pool carry, and what its selector asks for."""
    return {LABEL_NAME: APP_NAME, LABEL_POOL: pool}


def selector(pool: str) -> str:
    """The same as a query string: the scale subresource's ``status.selector``."""
    return ",".join(f"{key}={value}" for key, value in labels(pool).items())


def is_owned_by(deployment: Object, uid: str) -> bool:
    """Whether a Deployment's controller is the pool with this uid."""
    owners = deployment["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)


def build(pool: LLMWorkerPool, uid: str, *, default_image: str) -> Object:
    """The Deployment without ``replicas``, which are never part of an apply."""
    name = pool.metadata.name
    own = labels(name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": pool.metadata.namespace,
            "labels": {**own, LABEL_MANAGED_BY: MANAGER},
            # The garbage collector deletes the Deployment with its pool: no finalizer, so an uninstall can't hang.
            "ownerReferences": [
                {"apiVersion": API_VERSION, "kind": KIND, "name": name, "uid": uid, "controller": True},
            ],
        },
        "spec": {
            "selector": {"matchLabels": own},
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(pool)},
            "template": {"metadata": _template_metadata(pool, own), "spec": _pod(pool, default_image)},
        },
    }


def _rolling(pool: LLMWorkerPool) -> dict[str, Any]:
    sidecar = pool.spec.ollama.sidecar
    if sidecar is not None and sidecar.gpus:
        # There may be no GPU to spare: a new pod waits until an old one has let go of its own. At least one does (the
        # Deployment's controller makes 1 of a share that comes to nothing).
        return {"maxSurge": 0, "maxUnavailable": "25%"}
    # A rollout never has fewer workers than asked for, and a worker that drains for long doesn't hold it up.
    return {"maxSurge": "25%", "maxUnavailable": 0}


def _template_metadata(pool: LLMWorkerPool, own: Mapping[str, str]) -> dict[str, Any]:
    given = pool.spec.worker.pod_template
    annotations = {"annotations": given.annotations} if given.annotations else {}
    return {"labels": {**given.labels, **own, LABEL_MANAGED_BY: MANAGER}, **annotations}


def _pod(pool: LLMWorkerPool, default_image: str) -> dict[str, Any]:
    sidecar = pool.spec.ollama.sidecar
    tmp = {"name": "tmp", "emptyDir": {}}
    return {
        **_placed(pool.spec.worker.pod_template),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pool.spec.worker.drain_seconds + GRACE_OVER_DRAIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
            # Else the kubelet goes through all files of a models volume at each start.
            **({} if sidecar is None else {"fsGroupChangePolicy": "OnRootMismatch"}),
        },
        **({} if sidecar is None else {"initContainers": [ollama.container(sidecar)]}),
        "containers": [_container(pool, default_image)],
        "volumes": [tmp] if sidecar is None else [tmp, *ollama.volumes(sidecar)],
    }


def _placed(template: PodTemplate) -> dict[str, Any]:
    """The fields of a pod that the pool gives, as Kubernetes names them."""
    given = template.model_dump(by_alias=True, exclude_none=True, exclude={"labels", "annotations"})
    return {field: value for field, value in given.items() if value}


def _container(pool: LLMWorkerPool, default_image: str) -> dict[str, Any]:
    worker = pool.spec.worker
    return {
        "name": CONTAINER,
        "image": worker.image or default_image,
        "command": ["llmpool-worker"],
        "env": _environment(pool),
        "ports": [{"name": "health", "containerPort": _PORT, "protocol": "TCP"}],
        "resources": _resources(worker),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the container's own, an emptyDir
        "startupProbe": _probe("live", period=1, failures=60),
        "readinessProbe": _probe("ready", period=5, failures=3),
        "livenessProbe": _probe("live", period=10, failures=6),
    }


def _probe(what: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": f"/health/{what}", "port": "health"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _resources(worker: Worker) -> dict[str, Mapping[str, Any]]:
    given = {"limits": worker.resources.limits, "requests": worker.resources.requests}
    return {kind: amounts for kind, amounts in given.items() if amounts}


def _environment(pool: LLMWorkerPool) -> list[dict[str, Any]]:
    values = {
        **pool.worker_env(),
        env.REDIS_URL: pool.spec.redis.url_from(pool.metadata.namespace),
        env.HEALTH_PORT: str(_PORT),
    }
    plain: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values.items()]
    own_name = {"name": env.WORKER_ID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [*plain, own_name, *_credentials(pool)]


def _credentials(pool: LLMWorkerPool) -> list[dict[str, Any]]:
    secret = pool.spec.redis.credentials_secret
    if secret is None:
        return []
    return [
        _from_secret(env.REDIS_USERNAME, secret.name, "username", optional=True),
        _from_secret(env.REDIS_PASSWORD, secret.name, "password", optional=False),
        *(_sentinel_login(secret.name) if "+sentinel:" in (pool.spec.redis.url or "") else ()),
    ]


def _sentinel_login(secret: str) -> tuple[dict[str, Any], ...]:
    return (
        _from_secret(env.REDIS_SENTINEL_USERNAME, secret, "sentinelUsername", optional=True),
        _from_secret(env.REDIS_SENTINEL_PASSWORD, secret, "sentinelPassword", optional=True),
    )


def _from_secret(variable: str, secret: str, key: str, *, optional: bool) -> dict[str, Any]:
    return {
        "name": variable,
        "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": optional}},
    }
