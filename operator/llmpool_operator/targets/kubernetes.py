"""A pool's Deployment: created once, applied when it should look different, sized by its scale subresource alone."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

import structlog

from llmpool_contract.labels import MANAGER
from llmpool_contract.pool import LLMWorkerPool
from llmpool_operator.decide.types import Missing
from llmpool_operator.deployment import build, is_owned_by
from llmpool_operator.kube import APIError, KubeAPI, Object, collection, deployment_path
from llmpool_operator.store import Store

from .base import Size, TargetError, Turn

log = structlog.get_logger(__name__)
T = TypeVar("T")
_REASONS = {0: "APIUnreachable", 403: "Forbidden", 404: "Gone", 409: "Conflict", 422: "Refused", 429: "APIBusy"}


class Reporter(Protocol):
    """Takes a turn to where the pool's owner looks."""

    async def report(self, turn: Turn) -> None:
        """Write status and events where they are due."""


class DeploymentTarget:
    """Acts on one pool's Deployment, from what the store knows of it."""

    def __init__(
        self, api: KubeAPI, store: Store, reporter: Reporter, *, pool: LLMWorkerPool, uid: str, image: str
    ) -> None:
        self._api = api
        self._store = store
        self._reporter = reporter
        self._uid = uid
        self._image = image
        self._key = pool.metadata.namespace, pool.metadata.name
        self._wanted = build(pool, uid, default_image=image)
        self._applied: tuple[Object, Any] | None = None
        """What was applied last, and what came of it: a difference in either is a reason to apply again."""
        self._intended = (pool.status or {}).get("desiredReplicas") or 0
        """The last size known: what a Deployment that somebody deleted comes back with."""

    def adopt(self, pool: LLMWorkerPool) -> None:
        """Take a changed spec."""
        self._wanted = build(pool, self._uid, default_image=self._image)

    async def size(self) -> Size | Missing:
        """As the watch last told."""
        held = self._held()
        if held is None:
            return Size(intended=self._intended, existing=0, ready=0)
        self._refuse_foreign(held)
        if held["metadata"].get("deletionTimestamp"):
            return Missing("DeploymentIsBeingDeleted")
        status = held.get("status") or {}
        self._intended = _replicas(held)
        return Size(self._intended, existing=status.get("replicas") or 0, ready=status.get("readyReplicas") or 0)

    async def resize(self, replicas: int) -> None:
        """Create, apply, scale: each only where it is needed."""
        held = self._held() or await self._create(replicas)
        if held is None:
            return
        try:
            await self._change(held, replicas)
        except TargetError as error:
            if error.reason == "Gone":
                # Deleted while no watch looked: the next turn makes a new one.
                self._store.saw_deployment(held, deleted=True)
            raise

    async def _change(self, held: Object, replicas: int) -> None:
        problem: TargetError | None = None
        if self._applied is None or self._applied != (self._wanted, _surface(held)):
            try:
                held = await self._apply(held)
            except TargetError as error:
                problem = error  # a size must not wait for a manifest
        if _replicas(held) != replicas:
            await self._scale(held, replicas)
        # A conflict is somebody else's newer state: the watch brings it, and the next turn applies to that.
        if problem is not None and problem.reason != "Conflict":
            raise TargetError(problem.reason, problem.message, sized=True) from problem

    async def report(self, turn: Turn) -> None:
        """Status and events."""
        await _told("report", self._reporter.report(turn))

    def _held(self) -> Object | None:
        return self._store.deployments.objects.get(self._key)

    def _refuse_foreign(self, deployment: Object) -> None:
        if not is_owned_by(deployment, self._uid):
            namespace, name = self._key
            raise TargetError(
                "DeploymentNotOurs",
                f"Deployment {namespace}/{name} belongs to somebody else: delete or rename it, or rename the pool",
            )

    async def _create(self, replicas: int) -> Object | None:
        """Make the Deployment. Gives the one that is there already: it is ours, but lost the label of our watch."""
        spec = {"replicas": replicas, **self._wanted["spec"]}
        path = deployment_path(*self._key)
        try:
            made = await self._api.create(
                collection(self._key[0], "deployments", "apps/v1"), {**self._wanted, "spec": spec}
            )
        except APIError as error:
            if error.reason != "AlreadyExists":
                raise _target_error("create", error) from error
            # Not in the watch, yet there: without our label, so perhaps not ours.
            there = await _told("read", self._api.get(path))
            self._refuse_foreign(there)
            self._keep(there)
            return None if there["metadata"].get("deletionTimestamp") else there
        log.info("deployment created", namespace=self._key[0], pool=self._key[1], replicas=replicas)
        self._keep(made)
        return None

    async def _apply(self, held: Object) -> Object:
        path = deployment_path(*self._key)
        if steps := _hand_over(held):
            held = await _told("hand over", self._api.json_patch(path, steps))
        # The uid makes the API server refuse to create what was deleted in the meantime.
        metadata = {**self._wanted["metadata"], "uid": held["metadata"]["uid"]}
        applied = await _told("apply", self._api.apply(path, {**self._wanted, "metadata": metadata}))
        if applied["metadata"].get("generation") != held["metadata"].get("generation"):
            log.info("deployment applied", namespace=self._key[0], pool=self._key[1])
        self._applied = self._wanted, _surface(applied)
        self._keep(applied)
        return applied

    async def _scale(self, held: Object, replicas: int) -> None:
        path = f"{deployment_path(*self._key)}/scale"
        scale = await _told("scale", self._api.merge(path, {"spec": {"replicas": replicas}}))
        # What the watch will tell in a moment; until then the next turn must not start from the old size.
        metadata = {**held["metadata"], "resourceVersion": scale["metadata"]["resourceVersion"]}
        self._keep({**held, "metadata": metadata, "spec": {**held["spec"], "replicas": replicas}})

    def _keep(self, deployment: Object) -> None:
        self._intended = _replicas(deployment)
        self._store.saw_deployment(deployment)


def _replicas(deployment: Object) -> int:
    replicas: int = deployment["spec"].get("replicas", 1)
    return replicas


def _surface(deployment: Object) -> tuple[Any, ...]:
    """The parts that the manifest has a say in."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    return metadata.get("labels"), metadata.get("ownerReferences"), spec.get("strategy"), spec.get("template")


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


def _target_error(what: str, error: APIError) -> TargetError:
    reason = _REASONS.get(error.status, "APIFailing" if error.status >= 500 else "Refused")
    return TargetError(reason, f"{what}: {error}")


async def _told(what: str, call: Awaitable[T]) -> T:
    """A call's answer, or its failure in the engine's words."""
    try:
        return await call
    except APIError as error:
        raise _target_error(what, error) from error
