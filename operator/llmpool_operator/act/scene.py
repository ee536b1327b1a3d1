"""What a Deployment's state and its pods say about acting on it. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable

from llmpool_operator.decide.types import Missing, PodReading
from llmpool_operator.kube import Object
from llmpool_operator.pods import Pod
from llmpool_operator.targets.base import Sighting


def rollout_of(deployment: Object, pods: Iterable[Pod] | Missing) -> str | None:
    """Whether pods of an older kind are still being replaced, in words; None: they aren't."""
    status = deployment.get("status") or {}
    updated, existing = status.get("updatedReplicas") or 0, status.get("replicas") or 0
    if updated < existing:
        return f"a rollout is going on, {updated} of {existing} workers are of the newest kind"
    kinds = set() if isinstance(pods, Missing) else {pod.replica_set for pod in pods if pod.active}
    return f"a rollout is going on, there are workers of {len(kinds)} ReplicaSets" if len(kinds) > 1 else None


def unsettled_of(deployment: Object) -> str | None:
    """Whether the Deployment's controller has yet to see its newest state, in words; None: it has seen it."""
    observed = (deployment.get("status") or {}).get("observedGeneration") or 0
    if observed >= (deployment["metadata"].get("generation") or 0):
        return None
    return "the Deployment's controller has not taken up its newest state yet"


def gpu_readings(pods: Iterable[Pod], sighting: Sighting, draining: Container[str]) -> tuple[PodReading, ...]:
    """GPU utilisation by pod. Who drains isn't counted."""
    return tuple(_reading(pod, sighting) for pod in pods if pod.active and pod.name not in draining)


def _reading(pod: Pod, sighting: Sighting) -> PodReading:
    percent, at = sighting.gpu_sample(pod.name) or (None, None)
    return PodReading(pod.ready, percent, at)
