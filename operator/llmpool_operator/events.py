"""Kubernetes Events: what they are called, what they say, and their shape. Built here and nowhere else."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal

from llmpool_contract.labels import API_VERSION, KIND, MANAGER

from .conditions import timestamp
from .kube import Object
from .targets.base import TargetError, Turn

MAX_MESSAGE = 1_024
"""The API server refuses longer notes."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line in ``kubectl describe``."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def resized(turn: Turn) -> Event | None:
    """A changed size."""
    if turn.resized is None or turn.decision is None:
        return None
    why = f"{turn.decision.reason}: {turn.decision.message}"
    return Event("Normal", "SuccessfulRescale", f"New size: {turn.resized[1]}; reason: {why}")


def failed(error: TargetError) -> Event:
    """A target that refused the size, or the manifest while the size is as it should be."""
    return Event("Warning", "FailedApply" if error.sized else "FailedRescale", f"{error.reason}: {error.message}")


def unread(turn: Turn) -> Event | None:
    """A metric that can't be had, by HPA's name for it: the size is held."""
    missing = [c for c in turn.decision.conditions if c.type == "MetricsAvailable"] if turn.decision else []
    if not missing or missing[0].status != "False":
        return None
    return Event("Warning", "FailedGetExternalMetric", f"the size is held: {missing[0].message}")


def manifest(pool: Object, event: Event, *, at: float) -> Object:
    """The object to POST. Its name is the pool's and a random end, as everybody's are."""
    metadata = pool["metadata"]
    moment = timestamp(at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:236]}.{secrets.token_hex(8)}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion"),
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:MAX_MESSAGE],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
    }
