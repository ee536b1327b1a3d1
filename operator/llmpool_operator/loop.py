"""The loop's timing: every pool each tick, changed pools at once, and now and then a list of all there is.

One process runs it today. Two at once are harmless: decisions come from the same readings, sizes are absolute, and
status and Events are only told twice. Leader election will go around :meth:`Loop.run`.
"""

from __future__ import annotations

import asyncio

import structlog

from llmpool_contract.labels import LABEL_POOL

from .kube import APIError, KubeAPI, collection, pools_path
from .metrics import Metrics
from .reconciler import Clocks, Reconciler
from .store import Store
from .watch import Watcher

log = structlog.get_logger(__name__)
_SPACING = 0.02
"""Seconds between passes over changed pools, so that a burst of events is one pass."""
_BRIEFLY = 0.1
"""Seconds that a pass over changed pools is waited for: more changes may come."""
_NO_CRD = "the cluster has no llmworkerpools.llmpool.dev: kubectl apply -f crds/llmworkerpools.yaml"
_RELIST_SOON = 5.0
"""Seconds to the next list while no watch is up, after one came up, and after the API server was in trouble."""


class Loop:
    """All pools of one namespace, or of all (None). ``tick`` and ``relist`` are seconds."""

    def __init__(
        self,
        api: KubeAPI,
        store: Store,
        reconciler: Reconciler,
        watcher: Watcher,
        metrics: Metrics,
        clocks: Clocks,
        *,
        namespace: str | None,
        tick: float,
        relist: float,
    ) -> None:
        self._api = api
        self._store = store
        self._reconciler = reconciler
        self._watcher = watcher
        self._metrics = metrics
        self._monotonic = clocks.monotonic
        self._namespace = namespace
        self._tick = tick
        self._relist = relist
        self._listed = False
        self._ticked_at = clocks.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last tick ended: the loop's own progress."""
        return self._monotonic() - self._ticked_at

    async def run(self) -> None:
        """Tick until cancelled. Raises what broke it, if anything did."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._relist_forever(), name="relist")
                group.create_task(self._tick_forever(), name="tick")
        finally:
            await self._reconciler.close()

    async def _tick_forever(self) -> None:
        due = self._monotonic()
        while True:
            now = self._monotonic()
            if now >= due:
                due = max(due + self._tick, now)
                await self.tick()
            else:
                await self._serve_changes(due - now)

    async def tick(self) -> None:
        """One pass over all pools."""
        started = self._monotonic()
        self._store.take_dirty()
        known = self._reconciler.known if self._listed else set()
        await self._reconciler.serve(known, changed=False, patience=self._tick)
        await self._reconciler.forget_unused()
        self._ticked_at = self._monotonic()
        self._metrics.tick(self._ticked_at - started, len(self._reconciler.known))

    async def _serve_changes(self, timeout: float) -> None:
        """Wait for changes until the next tick is due, and serve the changed pools."""
        try:
            async with asyncio.timeout(timeout):
                await self._store.changed.wait()
                await asyncio.sleep(_SPACING)
        except TimeoutError:
            return
        if self._listed:
            await self._reconciler.serve(self._store.take_dirty(), changed=True, patience=_BRIEFLY)

    async def _relist_forever(self) -> None:
        while True:
            try:
                await self.relist()
            except APIError as error:
                self._metrics.error("List")
                why = _NO_CRD if error.status == 404 else str(error)
                log.warning("list failed", error=why, retry_in=_RELIST_SOON)
                await asyncio.sleep(_RELIST_SOON)
            else:
                await self._until_next_list()

    async def relist(self) -> None:
        """Read all pools and Deployments, which corrects whatever a watch missed; then see that one is up."""
        pools, version = await self._api.list(pools_path(self._namespace))
        deployments, as_of = await self._api.list(
            collection(self._namespace, "deployments", "apps/v1"), selector=LABEL_POOL
        )
        self._store.listed_deployments(deployments, as_of)
        self._store.listed_pools(pools, version)
        self._listed = True
        self._watcher.start()

    async def _until_next_list(self) -> None:
        """A while; but soon again where a watch may have missed something, or is not up at all."""
        sure = self._watcher.starts, self._api.troubles
        waited = 0.0
        while waited < self._relist:
            await asyncio.sleep(_RELIST_SOON)
            waited += _RELIST_SOON
            if not self._watcher.running or sure != (self._watcher.starts, self._api.troubles):
                return
