"""A Deployment that somebody else sizes, for ``mode: Observe``: looked at, and never touched."""

from __future__ import annotations

from collections.abc import Callable

from llmpool_contract.pool import LLMWorkerPool
from llmpool_operator.decide.types import Missing
from llmpool_operator.kube import APIError, KubeAPI, Object, deployment_path

from .base import Resized, Sighting, Size, Turn
from .deployment_calls import replicas_of, target_error, told
from .kubernetes import Reporter

LOOK_EVERY = 5.0
"""Seconds between two readings of the Deployment: it need not be ours, so no watch tells of it."""


class ObservedTarget:
    """One pool's ``spec.target``, or the Deployment of its own name. Its size is what it is, whoever changed it."""

    def __init__(
        self, api: KubeAPI, reporter: Reporter, *, pool: LLMWorkerPool, monotonic: Callable[[], float]
    ) -> None:
        self._api = api
        self._reporter = reporter
        self._monotonic = monotonic
        self._found: Size | Missing = Missing("not read")
        self._look_at = float("-inf")
        self._path = ""
        self.adopt(pool)

    def adopt(self, pool: LLMWorkerPool) -> None:
        """Take a changed spec."""
        target = pool.spec.target
        path = deployment_path(pool.metadata.namespace, target.name if target else pool.metadata.name)
        if path != self._path:
            self._path, self._look_at = path, float("-inf")

    async def size(self, sighting: Sighting, now: float) -> Size | Missing:  # noqa: ARG002 - a target's
        """As it was at the last look. Missing where there is no such Deployment."""
        if self._monotonic() >= self._look_at:
            self._found = await self._look()
            self._look_at = self._monotonic() + LOOK_EVERY
        return self._found

    async def _look(self) -> Size | Missing:
        try:
            found: Object = await self._api.get(self._path)
        except APIError as error:
            if error.status == 404:
                return Missing("NoSuchDeployment")
            raise target_error("read", error) from error
        status = found.get("status") or {}
        return Size(replicas_of(found), existing=status.get("replicas") or 0, ready=status.get("readyReplicas") or 0)

    async def resize(self, replicas: int) -> Resized:  # noqa: ARG002 - a target's
        """Nothing: what was decided is only told."""
        assert isinstance(self._found, Size)
        return Resized(self._found.intended)

    async def report(self, turn: Turn) -> None:
        """Status and events, which are the pool's own."""
        await told("report", self._reporter.report(turn))
