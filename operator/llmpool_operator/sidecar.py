"""The Ollama in each worker's pod, as plain data.

A native sidecar: an init container that restarts always. It is up before the worker begins, and the kubelet ends it
only after the worker has ended, so that a drain keeps its model server to the last token.
"""

from __future__ import annotations

from typing import Any

from llmpool_contract.pool import Sidecar
from llmpool_contract.pool.document import OLLAMA_NUM_PARALLEL
from llmpool_contract.pool.places import GPU_RESOURCE, SIDECAR_URL

CONTAINER = "ollama"
MODELS_VOLUME = "models"
HOME_VOLUME = "ollama-home"
_MODELS = "/models"
_HOME = "/home/ollama"
_ASK = ["ollama", "ps"]


def container(sidecar: Sidecar) -> dict[str, Any]:
    """The entry of ``initContainers``.

    The official image runs as root and writes below it: a key pair into $HOME/.ollama (it ends where it can't), models
    into $OLLAMA_MODELS, and what it unpacks into $TMPDIR. With all three on volumes it runs as any user and with a root
    that can't be written to. Its entry point is ``ollama``; its libraries are readable by all.
    """
    return {
        "name": CONTAINER,
        "image": sidecar.image,
        "restartPolicy": "Always",
        "command": ["ollama", "serve"],
        "env": [{"name": name, "value": value} for name, value in _environment(sidecar).items()],
        "resources": _resources(sidecar),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": MODELS_VOLUME, "mountPath": _MODELS},
            {"name": HOME_VOLUME, "mountPath": _HOME},
        ],
        # Commands, since the server listens on the loopback alone and the kubelet is outside. `ps` needs no model.
        "startupProbe": _probe(period=2, failures=150),
        "livenessProbe": _probe(period=20, failures=6),
    }


def volumes(sidecar: Sidecar) -> list[dict[str, Any]]:
    """What the container mounts. HOME is each pod's own, also where the models are shared: it has the server's key."""
    claim = sidecar.models_claim
    models = {"emptyDir": {}} if claim is None else {"persistentVolumeClaim": {"claimName": claim}}
    return [{"name": MODELS_VOLUME, **models}, {"name": HOME_VOLUME, "emptyDir": {}}]


def _environment(sidecar: Sidecar) -> dict[str, str]:
    found = {
        "OLLAMA_HOST": SIDECAR_URL.removeprefix("http://"),
        "OLLAMA_MODELS": _MODELS,
        "HOME": _HOME,
        "TMPDIR": _HOME,
        OLLAMA_NUM_PARALLEL: str(sidecar.parallel),
    }
    if not sidecar.gpus:
        # By this variable the image asks for all of a node's GPUs, past the scheduler. Else the device plugin sets it.
        found["NVIDIA_VISIBLE_DEVICES"] = "void"
    if sidecar.models_claim is not None:
        # A starting server deletes what no manifest names: on a shared volume that's what another one is downloading.
        found["OLLAMA_NOPRUNE"] = "1"
    return found


def _resources(sidecar: Sidecar) -> dict[str, dict[str, Any]]:
    limits: dict[str, Any] = dict(sidecar.resources.limits)
    if sidecar.gpus:
        limits[GPU_RESOURCE] = sidecar.gpus  # of an extended resource the limit is the request, too
    given = {"limits": limits, "requests": dict(sidecar.resources.requests)}
    return {kind: amounts for kind, amounts in given.items() if amounts}


def _probe(*, period: int, failures: int) -> dict[str, Any]:
    return {"exec": {"command": _ASK}, "periodSeconds": period, "timeoutSeconds": 10, "failureThreshold": failures}
