"""What is kept of an object of the cluster: with 5,000 pools, whole objects would be most of the operator's memory."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from llmpool_contract.labels import MANAGER

from .kube import Object

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def slim_pool(obj: Object) -> Object:
    """A pool without the record of who wrote which field."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": _without_last_applied(metadata)}


def slim_deployment(obj: Object) -> Object:
    """A Deployment. Of others' managed fields it stays who owns ``replicas``, each at its place in the list.

    A patch of ours, which is kept whole, names it by its index. Of the pod template only the fingerprint stays.
    """
    metadata = _without_last_applied(obj["metadata"])
    if fields := metadata.get("managedFields"):
        metadata = {**metadata, "managedFields": [_owner(entry) for entry in fields]}
    spec = {**obj["spec"], "template": fingerprint(obj["spec"].get("template"))}
    return {**obj, "metadata": metadata, "spec": spec}


def fingerprint(template: dict[str, Any] | str | None) -> str:
    """What tells a pod template from another one; of one that is slim already, the same again."""
    if isinstance(template, str):
        return template
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _owner(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["manager"] == MANAGER and entry["operation"] == "Update" and not entry.get("subresource"):
        return entry
    scales = "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    return {**entry, "fieldsV1": {"f:spec": {"f:replicas": {}}} if scales else {}}


def _without_last_applied(metadata: dict[str, Any]) -> dict[str, Any]:
    annotations = metadata.get("annotations") or {}
    if _LAST_APPLIED not in annotations:
        return metadata
    return {**metadata, "annotations": {key: value for key, value in annotations.items() if key != _LAST_APPLIED}}
