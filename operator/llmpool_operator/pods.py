"""The pods of the pools: of each only what choosing among them needs, since 5,000 pools have many."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from llmpool_contract.labels import ANNOTATION_DELETION_COST, LABEL_POOL

from .kube import Object

PoolKey: TypeAlias = tuple[str, str]
"""(namespace, name) of a pool."""

LOWEST_COST = -(2**31)
"""``pod-deletion-cost`` of a pod that is to go next: the least there is, so that nobody's own value is below it."""
_NO_NODE_AT_ALL = "no nodes available"
"""The scheduler's words (``ErrNoNodesAvailable``); else it says ``0/N nodes are available`` and why."""
_START_BLUR = 10.0
"""Seconds: a pod that became unready so soon after it began has not been ready in between."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. Times are Unix seconds."""

    name: str
    """Also its worker's name."""
    uid: str
    version: int
    pool: PoolKey
    replica_set: str
    """uid of the ReplicaSet of the pool's Deployment, or empty: it is somebody else's pod."""
    assigned: bool
    """Whether it has a node."""
    phase: str
    ready: bool
    ready_since: float
    """Since when it is, or is not, ready. 0: not told."""
    ever_ready: bool
    """Whether it was ready at any time, as far as anybody knows: then it may hold jobs."""
    deleting: bool
    unschedulable: bool
    """Whether the scheduler has said that no node takes it."""
    created: float
    restarts: int
    cost: int

    @property
    def active(self) -> bool:
        """Whether its ReplicaSet counts it."""
        return not self.deleting and self.phase not in ("Succeeded", "Failed")

    @property
    def begun(self) -> bool:
        """Whether a process of it may run."""
        return self.assigned and self.phase != "Pending"


def pod_of(obj: Object) -> Pod:
    """The pod in a Kubernetes object with the pool's label."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    ready, scheduled = conditions.get("Ready") or {}, conditions.get("PodScheduled") or {}
    created = _seconds(metadata.get("creationTimestamp"))
    ready_since = _seconds(ready.get("lastTransitionTime"))
    is_ready = ready.get("status") == "True"
    # A kubelet writes "not ready" once when a pod begins: a later time says that it was ready in between.
    began = _seconds(status.get("startTime")) or _seconds(scheduled.get("lastTransitionTime")) or created
    phase = sys.intern(status.get("phase") or "Pending")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        version=int(metadata.get("resourceVersion") or 0),
        pool=(sys.intern(metadata["namespace"]), sys.intern((metadata.get("labels") or {}).get(LABEL_POOL, ""))),
        replica_set=sys.intern(_owner(metadata)),
        assigned=bool(spec.get("nodeName")),
        phase=phase,
        ready=is_ready,
        ready_since=ready_since,
        ever_ready=is_ready or (phase == "Running" and ready_since - began > _START_BLUR),
        deleting=metadata.get("deletionTimestamp") is not None,
        unschedulable=_is_unschedulable(scheduled),
        created=created,
        restarts=sum(container.get("restartCount") or 0 for container in status.get("containerStatuses") or ()),
        cost=_cost((metadata.get("annotations") or {}).get(ANNOTATION_DELETION_COST)),
    )


def _is_unschedulable(scheduled: Mapping[str, Any]) -> bool:
    """Whether there are nodes, and none takes it. In a cluster without any, pods are what asks for the first one."""
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return refused and not (scheduled.get("message") or "").startswith(_NO_NODE_AT_ALL)


def _owner(metadata: Mapping[str, Any]) -> str:
    """The ReplicaSet of the pool's Deployment that made it; empty: somebody else did."""
    prefix = f"{(metadata.get('labels') or {}).get(LABEL_POOL, '')}-"
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") == "ReplicaSet" and owner.get("name", "").startswith(prefix):
            return owner.get("uid") or ""
    return ""


def _seconds(written: str | None) -> float:
    """An API server's time as Unix seconds; 0 where there is none."""
    if not written:
        return 0.0
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        return 0.0


def _cost(written: str | None) -> int:
    """As a ReplicaSet reads it: what isn't a number counts as none."""
    try:
        return int(written or 0)
    except ValueError:
        return 0


@dataclass(slots=True)
class PodShelf:
    """The newest known state of each pod, by pool."""

    _pods: dict[PoolKey, dict[str, Pod]] = field(default_factory=dict)
    _gone: dict[str, int] = field(default_factory=dict)
    """uid -> version of deletions since the last list: a list begun earlier must not bring them back."""
    listed: bool = False
    """Whether a list ever came. Before, a pool without pods is one that nobody has looked at."""

    def of(self, pool: PoolKey) -> tuple[Pod, ...]:
        """All that is known of a pool's."""
        return tuple(self._pods.get(pool, {}).values())

    def put(self, pod: Pod) -> None:
        """Take a pod unless it is old news, or only carries the label: such a one is nobody's worker."""
        if not pod.replica_set:
            return
        held = self._pods.get(pod.pool, {}).get(pod.name)
        if pod.version < self._gone.get(pod.uid, 0) or (held is not None and held.version >= pod.version):
            return
        if held is not None and held.uid == pod.uid and held.ever_ready and not pod.ever_ready:
            pod = replace(pod, ever_ready=True)
        self._pods.setdefault(pod.pool, {})[pod.name] = pod

    def drop(self, pod: Pod) -> None:
        """Forget a deleted pod, unless its name belongs to another one by now."""
        self._gone[pod.uid] = pod.version
        self._remove(pod)

    def prune(self, listed: list[Pod], version: str) -> None:
        """Forget what a list of ``version`` no longer has."""
        at = int(version)
        uids = {pod.uid for pod in listed}
        for pod in [pod for pods in self._pods.values() for pod in pods.values()]:
            if pod.uid not in uids and pod.version <= at:
                self._remove(pod)
        self._gone = {uid: seen for uid, seen in self._gone.items() if seen > at}
        self.listed = True

    def _remove(self, pod: Pod) -> None:
        pods = self._pods.get(pod.pool, {})
        if (held := pods.get(pod.name)) is not None and held.uid == pod.uid:
            del pods[pod.name]
            if not pods:
                del self._pods[pod.pool]
