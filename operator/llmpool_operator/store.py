"""What the operator knows of the cluster: pools, their Deployments and pods, as watches, lists and own writes tell it.

An object is replaced only by a newer one (resource versions of one kind are ordered), so it doesn't matter which of
the three tells it first. Deletions that a watch slept through are found by the next list: what the list should hold
and doesn't is gone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .kube import Object
from .pods import Pod, PodShelf, pod_of
from .slim import slim_deployment, slim_pool

Key: TypeAlias = tuple[str, str]
"""(namespace, name). A pool and its Deployment have the same one."""

_ASSUMED = "assumed"
"""Beside metadata and spec. The API server's objects have no such field."""


def key_of(obj: Object) -> Key:
    """Where an object lives."""
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def version_of(obj: Object) -> int:
    """An object's resource version; later ones are larger."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def assumed(obj: Object) -> Object:
    """An object as it should be after a write whose answer showed only a part of it: the real one replaces it."""
    return {**obj, _ASSUMED: True}


def _assumed(obj: Object) -> bool:
    return bool(obj.get(_ASSUMED))


@dataclass(slots=True)
class Shelf:
    """The newest known state of one kind's objects."""

    objects: dict[Key, Object] = field(default_factory=dict)
    _gone: dict[str, int] = field(default_factory=dict)
    """uid -> resource version of deletions since the last list: a list begun earlier must not bring them back.

    A watch also tells as deleted what lost the label that it selects by: the newer state of that is welcome.
    """

    def put(self, obj: Object) -> tuple[bool, Object | None]:
        """Take an object unless it is old news. Gives whether it was taken, and what it replaced."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        held = self.objects.get(key)
        version = version_of(obj)
        if version < self._gone.get(uid, 0) or (held is not None and version_of(held) >= version + _assumed(held)):
            return False, held
        self.objects[key] = obj
        return True, held

    def drop(self, obj: Object) -> bool:
        """Forget a deleted object, unless its name belongs to another one by now."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        self._gone[uid] = version_of(obj)
        held = self.objects.get(key)
        if held is None or held["metadata"]["uid"] != uid:
            return False
        del self.objects[key]
        return True

    def prune(self, listed: list[Object], version: str) -> list[Key]:
        """Forget what a list of ``version`` no longer has. Gives the keys that went."""
        at = int(version)
        uids = {obj["metadata"]["uid"] for obj in listed}
        gone = [
            key for key, obj in self.objects.items() if obj["metadata"]["uid"] not in uids and version_of(obj) <= at
        ]
        for key in gone:
            del self.objects[key]
        self._gone = {uid: seen for uid, seen in self._gone.items() if seen > at}
        return gone


class Store:
    """Pools, Deployments and pods, and which pools have changed since somebody looked."""

    def __init__(self) -> None:
        self.pools = Shelf()
        self.deployments = Shelf()
        self.pods = PodShelf()
        self.dirty: set[Key] = set()
        self.changed = asyncio.Event()
        """Set when a pool becomes dirty; cleared by :meth:`take_dirty`."""

    def take_dirty(self) -> set[Key]:
        """The pools that changed since the last call."""
        dirty, self.dirty = self.dirty, set()
        self.changed.clear()
        return dirty

    def saw_pool(self, obj: Object, *, deleted: bool = False) -> None:
        """A pool as a watch or a write told it. A change of status alone makes nothing dirty: it is our own echo."""
        if deleted:
            if self.pools.drop(obj):
                self._mark(key_of(obj))
            return
        taken, held = self.pools.put(slim_pool(obj))
        if taken and (held is None or _identity(held) != _identity(obj)):
            self._mark(key_of(obj))

    def saw_deployment(self, obj: Object, *, deleted: bool = False) -> None:
        """A Deployment as a watch or a write told it."""
        if deleted:
            if self.deployments.drop(obj):
                self._mark(key_of(obj))
            return
        obj = slim_deployment(obj)
        taken, held = self.deployments.put(obj)
        if taken and not _assumed(obj) and (held is None or _workload(held) != _workload(obj)):
            self._mark(key_of(obj))

    def saw_pod(self, obj: Object, *, deleted: bool = False) -> None:
        """A pod as a watch told it. Makes nothing dirty: no change of a pod is worth a turn before the next tick."""
        if deleted:
            self.pods.drop(pod_of(obj))
        else:
            self.pods.put(pod_of(obj))

    def listed_pools(self, items: list[Object], version: str) -> None:
        """All pools there are, as of a version."""
        for obj in items:
            self.saw_pool(obj)
        for key in self.pools.prune(items, version):
            self._mark(key)

    def listed_deployments(self, items: list[Object], version: str) -> None:
        """All Deployments with a pool's label there are, as of a version."""
        for obj in items:
            self.saw_deployment(obj)
        for key in self.deployments.prune(items, version):
            self._mark(key)

    def listed_pods(self, pods: list[Pod], version: str) -> None:
        """All pods with a pool's label there are, as of a version."""
        for pod in pods:
            self.pods.put(pod)
        self.pods.prune(pods, version)

    def _mark(self, key: Key) -> None:
        self.dirty.add(key)
        self.changed.set()


def _identity(pool: Object) -> tuple[Any, ...]:
    metadata = pool["metadata"]
    return metadata["uid"], metadata.get("generation"), metadata.get("deletionTimestamp")


def _workload(deployment: Object) -> tuple[Any, ...]:
    """What is worth a turn. Not the generation: of a resize of our own it may come later than the size."""
    metadata = deployment["metadata"]
    parts = metadata.get("labels"), metadata.get("ownerReferences"), metadata.get("deletionTimestamp")
    return metadata["uid"], deployment.get("spec"), *parts
