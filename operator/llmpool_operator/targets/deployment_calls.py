"""The calls that make, change and size one Deployment. What comes of each is in the store before a watch tells."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable
from typing import Any, TypeVar

import structlog

from llmpool_contract.labels import ANNOTATION_DELETION_COST, MANAGER
from llmpool_operator.backoff import Backoff
from llmpool_operator.deployment import is_owned_by
from llmpool_operator.kube import APIError, KubeAPI, Object, collection, deployment_path
from llmpool_operator.pods import LOWEST_COST, Pod
from llmpool_operator.slim import fingerprint
from llmpool_operator.store import Key, Store, assumed

from .base import TargetError

log = structlog.get_logger(__name__)
T = TypeVar("T")
_REASONS = {0: "APIUnreachable", 403: "Forbidden", 404: "Gone", 409: "Conflict", 422: "Refused", 429: "APIBusy"}
_PODS_AT_ONCE = 16


class DeploymentCalls:
    """Of one pool. All raise :class:`TargetError`."""

    def __init__(self, api: KubeAPI, store: Store, *, key: Key, uid: str) -> None:
        self._api = api
        self._store = store
        self._key = key
        self._uid = uid
        self._applied: tuple[Object, Any] | None = None
        """What was applied last, and what came of it: a difference in either is a reason to apply again."""
        self._refused: tuple[Object, TargetError] | None = None
        """The manifest that was refused last, and how."""
        self._backoff = Backoff()

    @property
    def held(self) -> Object | None:
        """The Deployment as last told."""
        return self._store.deployments.objects.get(self._key)

    def refuse_foreign(self, deployment: Object) -> None:
        """Only the pool's own is touched."""
        if not is_owned_by(deployment, self._uid):
            namespace, name = self._key
            raise TargetError(
                "DeploymentNotOurs",
                f"Deployment {namespace}/{name} belongs to somebody else: delete or rename it, or rename the pool",
            )

    async def create(self, wanted: Object, replicas: int) -> Object:
        """Make the Deployment. Gives the one that is there already: it is ours, but lost the label of our watch."""
        spec = {"replicas": replicas, **wanted["spec"]}
        try:
            made = await self._api.create(collection(self._key[0], "deployments", "apps/v1"), {**wanted, "spec": spec})
        except APIError as error:
            if error.reason != "AlreadyExists":
                raise target_error("create", error) from error
            # Not in the watch, yet there: without our label, so perhaps not ours.
            made = await told("read", self._api.get(deployment_path(*self._key)))
            self.refuse_foreign(made)
        else:
            log.info("deployment created", namespace=self._key[0], pool=self._key[1], replicas=replicas)
        self._store.saw_deployment(made)
        return made

    async def apply(self, held: Object, wanted: Object, now: float) -> Object:
        """Make it look as wanted, where it doesn't. Gives what it looks like then. ``now`` is in seconds.

        Where many Deployments are applied at once, this one comes later: a size must not wait for a manifest. One that
        was refused is sent again after a while, longer each time; until then the refusal stands.
        """
        if self._api.busy or (self._applied is not None and self._applied == (wanted, _surface(held))):
            return held
        if self._refused is not None and self._refused[0] is wanted and now < self._backoff.until:
            raise self._refused[1]
        try:
            applied = await self._apply(held, wanted)
        except TargetError as error:
            if error.reason == "Conflict":  # somebody was faster, and no watch may be up yet to tell what they did
                self._store.saw_deployment(await told("read", self._api.get(deployment_path(*self._key))))
            else:
                self._refused = wanted, error
                self._backoff.failed(now, random.random())
            raise
        self._refused = None
        self._backoff.clear()
        return applied

    async def _apply(self, held: Object, wanted: Object) -> Object:
        path = deployment_path(*self._key)
        if steps := _hand_over(held):
            held = await told("hand over", self._api.json_patch(path, steps))
        # The uid makes the API server refuse to create what was deleted in the meantime.
        metadata = {**wanted["metadata"], "uid": held["metadata"]["uid"]}
        applied = await told("apply", self._api.apply(path, {**wanted, "metadata": metadata}))
        if applied["metadata"].get("generation") != held["metadata"].get("generation"):
            log.info("deployment applied", namespace=self._key[0], pool=self._key[1])
        self._applied = wanted, _surface(applied)
        self._store.saw_deployment(applied)
        return applied

    async def scale(self, held: Object, replicas: int) -> Object:
        """Ask for so many. Gives the Deployment as the watch will tell it in a moment."""
        path = f"{deployment_path(*self._key)}/scale"
        scale = await told("scale", self._api.merge(path, {"spec": {"replicas": replicas}}))
        metadata = {**held["metadata"], "resourceVersion": scale["metadata"]["resourceVersion"]}
        if replicas_of(held) != replicas:  # a new generation: the Deployment's controller has yet to see it
            metadata["generation"] = metadata.get("generation", 0) + 1
        scaled = assumed({**held, "metadata": metadata, "spec": {**held["spec"], "replicas": replicas}})
        self._store.saw_deployment(scaled)
        return scaled

    async def mark(self, pods: tuple[Pod, ...], *, lowest: bool) -> None:
        """Give pods the lowest deletion cost, or take it from them; a pod that is gone needs neither."""
        places = asyncio.Semaphore(_PODS_AT_ONCE)
        results = await asyncio.gather(
            *(self._mark(pod, places, lowest=lowest) for pod in pods), return_exceptions=True
        )
        for failure in (result for result in results if isinstance(result, BaseException)):
            raise failure

    async def _mark(self, pod: Pod, places: asyncio.Semaphore, *, lowest: bool) -> None:
        cost = str(LOWEST_COST) if lowest else None
        # The uid is a precondition: another pod of the name must not get it.
        body = {"metadata": {"uid": pod.uid, "annotations": {ANNOTATION_DELETION_COST: cost}}}
        path = f"{collection(self._key[0], 'pods', 'v1')}/{pod.name}"
        async with places:
            try:
                self._store.saw_pod(await self._api.merge(path, body))
            except APIError as error:
                if error.status not in (404, 409):
                    raise target_error(f"pod {pod.name}", error) from error


def replicas_of(deployment: Object) -> int:
    """What it asks for."""
    replicas: int = deployment["spec"].get("replicas", 1)
    return replicas


def _surface(deployment: Object) -> tuple[Any, ...]:
    """The parts that the manifest has a say in."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = fingerprint(spec.get("template"))
    return metadata.get("labels"), metadata.get("ownerReferences"), spec.get("strategy"), template


def _hand_over(deployment: Object) -> list[Object]:
    """JSON patch steps that turn the ownership by our POST into one by apply, or none if that is done.

    Fields of a POST belong to an operation "Update". An apply that stops naming one would leave it there for ever, so
    that an env variable could never be removed. The same as client-go's ``csaupgrade``, less ``replicas``, which are
    the scale subresource's.
    """
    fields = deployment["metadata"].get("managedFields") or []
    for index, entry in enumerate(fields):
        if entry["manager"] == MANAGER and entry["operation"] == "Update" and not entry.get("subresource"):
            ours = json.loads(json.dumps(entry["fieldsV1"]))
            ours.get("f:spec", {}).pop("f:replicas", None)
            path = f"/metadata/managedFields/{index}"
            return [
                # Not a change: a precondition, whose failure is a conflict.
                {
                    "op": "replace",
                    "path": "/metadata/resourceVersion",
                    "value": deployment["metadata"]["resourceVersion"],
                },
                {"op": "replace", "path": f"{path}/operation", "value": "Apply"},
                {"op": "replace", "path": f"{path}/fieldsV1", "value": ours},
            ]
    return []


def target_error(what: str, error: APIError) -> TargetError:
    """A refused or failed call in the engine's words."""
    reason = _REASONS.get(error.status, "APIFailing" if error.status >= 500 else "Refused")
    return TargetError(reason, f"{what}: {error}")


async def told(what: str, call: Awaitable[T]) -> T:
    """A call's answer, or its failure in the engine's words."""
    try:
        return await call
    except APIError as error:
        raise target_error(what, error) from error
